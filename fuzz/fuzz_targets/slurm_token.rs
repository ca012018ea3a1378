//! Tokens from strangers. The input is also signed, so that what lies behind the signature is
//! reached.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use slurm_auth::{Keyring, Verifier, jwt, read_unverified, sign, signature_digest, verify};

static KEYS: LazyLock<Keyring> = LazyLock::new(|| {
    Keyring::from_slurm_key(b"a key of the fuzzer").unwrap_or_else(|_| std::process::abort())
});

fuzz_target!(|token: &str| {
    let reader = Verifier { uid: 1001, now: 0 };
    // A stranger has no key: nothing verifies.
    assert!(verify(token, &KEYS, reader).is_err());
    let _ = jwt::verify(token, b"key", 0);
    let _ = signature_digest(token);
    if let Ok(claims) = read_unverified(token)
        && let Ok(signed) = sign(&claims, &KEYS)
    {
        let reader = Verifier {
            uid: claims.ruid,
            now: claims.exp,
        };
        if let Ok(verified) = verify(&signed, &KEYS, reader) {
            assert_eq!(verified, claims);
        }
    }
});
