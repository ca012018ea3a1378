//! What any local program may send to the nscd socket: no head makes the reader panic, and no key
//! longer than the cap is asked for.
#![no_main]

use directory_map::protocol::{self, MAX_KEY};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(head) = bytes.first_chunk()
        && let Ok((_, length)) = protocol::request(*head)
    {
        assert!((1..=MAX_KEY).contains(&length));
    }
});
