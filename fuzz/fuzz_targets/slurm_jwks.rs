//! slurm.jwks: a set that is taken has a key that signs what it verifies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slurm_auth::Keyring;

fuzz_target!(|data: &[u8]| {
    if let Ok(keys) = Keyring::from_jwks(data) {
        assert!(keys.shortest() >= 16);
        assert!(keys.signing_kid(0).is_some());
    }
});
