//! Answers of a name server: no panic, bounded, places in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slurm_wire::dns::{Answer, answer, question};

fuzz_target!(|data: &[u8]| {
    if let Some(id) = data.first_chunk::<2>()
        && let Ok(Answer::Places(places)) = answer(u16::from_be_bytes(*id), data)
    {
        assert!(places.is_sorted_by_key(|place| place.priority));
        for place in places {
            assert!(!place.target.is_empty() && place.target.len() < 512);
        }
    }
    if let Ok(name) = std::str::from_utf8(data) {
        assert!(question(1, name).is_none_or(|packet| packet.len() < 512));
    }
});
