//! What munged answers: header and both bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slurm_wire::munge::{DecodeReply, EncodeReply, HEADER_LENGTH, Header};

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = Header::decode(data) {
        assert_eq!(header.encode(), data[..HEADER_LENGTH]);
    }
    let _ = EncodeReply::decode(data);
    let _ = DecodeReply::decode(data);
});
