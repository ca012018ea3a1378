//! Requests for bearer tokens and their answers: no panic, and what is read packs to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slurm_wire::auth_token::{AuthTokenRequest, decode_response, encode_response};

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = AuthTokenRequest::decode(data) {
        assert_eq!(AuthTokenRequest::decode(&request.encode()), Ok(request));
    }
    if let Ok(token) = decode_response(data) {
        assert_eq!(decode_response(&encode_response(&token)), Ok(token));
    }
});
