//! Messages of a captured process: no panic, and what decodes encodes to the same message again.
#![no_main]

use gateway_wire::monitor::{FromNet, ToNet};
use gateway_wire::session::{FromSession, ToSession};
use gateway_wire::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    macro_rules! again {
        ($($message:ty),*) => {$(
            if let Ok(message) = decode::<$message>(data) {
                let bytes = encode(&message).expect("no larger than what it came from");
                assert_eq!(decode::<$message>(&bytes), Ok(message));
            }
        )*};
    }
    again!(FromNet, ToNet, FromSession, ToSession);
});
