//! What a stranger sends to accept: a PROXY header or an HTTP request. No panic, and what is behind
//! a header does not change how it is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use login_gateway_accept::{http, proxy_header};

fuzz_target!(|data: &[u8]| {
    let read = proxy_header::parse(data);
    if let Ok(proxy_header::Progress::Whole { .. }) = &read {
        let longer = [data, b"SSH-2.0-x"].concat();
        assert_eq!(proxy_header::parse(&longer), read);
    }
    let _ = http::parse(data);
});
