//! Key revocation lists and lists of keys: no panic, and the key inside is found by no list twice
//! differently.
#![no_main]

use libfuzzer_sys::fuzz_target;
use login_gateway_monitor::key_list;
use login_gateway_monitor::krl::{Issued, Subject, revokes};

fuzz_target!(|data: &[u8]| {
    let _ = key_list::parse(data);
    // The end of the input is what is looked for, so that hits are found.
    let key = &data[data.len().saturating_sub(51)..];
    let plain = Subject {
        key,
        certificate: None,
    };
    let issued = Subject {
        key,
        certificate: Some(Issued {
            serial: 7,
            key_id: b"id",
            authority: key,
        }),
    };
    let (alone, within) = (revokes(data, &plain), revokes(data, &issued));
    assert_eq!(alone.is_ok(), within.is_ok());
    if alone == Ok(true) {
        assert_eq!(within, Ok(true));
    }
});
