//! Both directions of directoryd's control socket: what is taken is encoded to the same bytes again.
#![no_main]

use directory_client::codec::{Answer, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(&request.encode()[4..], bytes);
    }
    if let Ok(answer) = Answer::decode(bytes) {
        assert_eq!(Answer::decode(&answer.encode()[4..]), Ok(answer));
    }
});
