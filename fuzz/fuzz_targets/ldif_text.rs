//! LDIF: no panic, each record begins where the last has ended, and what is read from plain lines is in them.
#![no_main]

#[path = "../../crates/directoryd/src/people/ldif_text.rs"]
mod ldif_text;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut last = None;
    for record in ldif_text::records(data) {
        let record = match record {
            Ok(record) => record,
            Err((offset, why)) => {
                assert!(offset <= data.len() && !why.is_empty());
                continue;
            }
        };
        assert!(last < Some(record.offset) && record.offset < data.len());
        last = Some(record.offset);
        let size: usize = record.values.values().flatten().map(Vec::len).sum();
        assert!(size <= data.len());
        for name in record.values.keys() {
            assert!(!name.is_empty() && *name == name.to_ascii_lowercase());
        }
    }
});
