//! SACK requests: no panic, bounded, and what is read packs to the same request again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slurm_wire::sack::{Request, VERIFY_LIMIT, parse_token_reply, parse_verdict_reply};

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(request)) = Request::parse(data) {
        let packed = request.encode();
        assert!(packed.len() <= VERIFY_LIMIT);
        assert_eq!(Request::parse(&packed), Ok(Some(request)));
    }
    let _ = parse_token_reply(data);
    let _ = parse_verdict_reply(data);
});
