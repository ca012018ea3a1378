//! Values of entries: DNs, public keys, SIDs and times. No panic; what is taken for a key is a plain one and is
//! taken again; ids from SIDs stay in their range and are the same each time.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/directoryd/src/dn.rs"]
mod dn;
#[path = "../../crates/directoryd/src/marks.rs"]
mod marks;
#[path = "../../crates/directoryd/src/sid.rs"]
mod sid;
#[path = "../../crates/directoryd/src/ssh_key.rs"]
mod ssh_key;

use libfuzzer_sys::fuzz_target;
use sid::{Range, Slices};

fuzz_target!(|data: &[u8]| {
    let (keys, _) = ssh_key::keys(&[data.to_vec()]);
    for key in &keys {
        assert_eq!(key.split(' ').count(), 2);
        assert!(
            key.bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' ')
        );
        let again = ssh_key::keys(&[key.clone().into_bytes()]);
        assert_eq!(again, (vec![key.clone()], 0));
    }
    let mut slices = Slices::new(Range::default());
    if let Some(sid) = sid::text(data) {
        assert!(sid.starts_with("S-1-") && sid.is_ascii());
        let id = slices.id(&sid);
        assert_eq!(slices.id(&sid), id);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let id = slices.id(text);
    assert_eq!(slices.id(text), id);
    assert!(id.is_none_or(|id| (200_000..2_000_200_000).contains(&id)));
    let _ = (
        dn::normal(text),
        dn::first_value(text, "uid"),
        dn::domain(text),
        dn::filter_value(text),
    );
    let _ = (marks::generalized_time(text), marks::windows_time(text));
    let _ = marks::Lock::parse(text);
});
