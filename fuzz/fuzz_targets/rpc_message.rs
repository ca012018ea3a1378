//! RPC messages after their length field, and the bodies that a login node reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slurm_wire::configuration::{ConfigRequest, Configuration};
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::{LENGTH_FIELD, Message, frame_length};

fuzz_target!(|data: &[u8]| {
    let _ = frame_length(data, 1 << 20);
    let head = Message::decode_head(data);
    if let Ok(message) = Message::decode(data) {
        let head = head.expect("the head of a message that is whole");
        assert_eq!(head.credential, message.credential);
        let packed = message.encode();
        assert_eq!(
            Message::decode(&packed[LENGTH_FIELD..]).as_ref(),
            Ok(&message)
        );
        let _ = Configuration::decode(&message.body);
        let _ = ConfigRequest::decode(&message.body, message.version);
        let _ = ReturnCode::decode(&message.body);
    }
});
