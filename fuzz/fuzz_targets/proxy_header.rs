//! What a stranger sends to accept: a PROXY header or an HTTP request. No panic, and what is behind
//! a header does not change how it is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use login_gateway_accept::{http, proxy_header};

fuzz_target!(|data: &[u8]| {
    let read = proxy_header::parse(data);
    if let Ok(proxy_header::Progress::Whole { length, .. }) = &read {
        let said = proxy_header::said(&data[..*length]);
        let bytes: usize = said.iter().map(|(n, v)| n.len() + v.len()).sum();
        assert!(bytes <= gateway_wire::accept::MAX_SAID);
        let longer = [data, b"SSH-2.0-x"].concat();
        assert_eq!(proxy_header::parse(&longer), read);
    }
    let _ = http::parse(data);
});
