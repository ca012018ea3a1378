//! What russh is told: algorithms, limits, windows. russh's defaults are not for the open network;
//! the numbers of its traps (T6 and so on) are those of docs/gateway.md.

use std::borrow::Cow;
use std::time::Duration;

use gateway_wire::Settings;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::Config;
use russh::{Preferred, SshId, cipher, compression, kex, mac};

use crate::authentication::first_methods;

/// Receive window of a channel in bytes. Large, since it bounds the speed of an upload over a long
/// line: russh gives it back when half is used, so 8 MiB in 40 ms are 200 MiB/s.
pub const WINDOW: u32 = 16 << 20;

/// Time that a refused key takes, whatever the reason was: about what the slowest ordinary refusal
/// needs (a look-up and a child that reads authorized keys).
pub const REFUSAL_TIME: Duration = Duration::from_millis(50);

/// No finite-field Diffie-Hellman: one group18 handshake costs over a second of CPU (T6). The last
/// two names are not algorithms but turn on strict key exchange and `server-sig-algs`.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Host and user key algorithms. No `ssh-rsa`, which signs with SHA-1 (T15).
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// russh's configuration for one connection.
pub fn server_config(settings: &Settings, keys: Vec<PrivateKey>) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-slurm-login")),
        methods: first_methods(settings),
        // russh waits until this time is over before a refusal goes out (T9).
        auth_rejection_time: REFUSAL_TIME,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        window_size: WINDOW,
        maximum_packet_size: 32 * 1024,
        channel_buffer_size: 256,
        event_buffer_size: 64,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Borrowed(KEYS),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            // zlib before authentication is attack surface, and links are not slow (T15).
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        // The question which methods there are (`none`) counts as an attempt in russh.
        max_auth_attempts: settings.max_auth_tries + 1,
        // An idle shell is not an error (T8); a dead client is found by keepalives.
        inactivity_timeout: None,
        keepalive_interval: Some(settings.keepalive_interval),
        keepalive_max: settings.keepalive_count_max,
        nodelay: false,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_weak_is_offered() {
        let config = server_config(&Settings::default(), Vec::new());
        let names: Vec<String> = config
            .preferred
            .kex
            .iter()
            .map(|n| n.as_ref().to_owned())
            .chain(config.preferred.key.iter().map(|a| a.to_string()))
            .chain(
                config
                    .preferred
                    .cipher
                    .iter()
                    .map(|n| n.as_ref().to_owned()),
            )
            .chain(config.preferred.mac.iter().map(|n| n.as_ref().to_owned()))
            .chain(
                config
                    .preferred
                    .compression
                    .iter()
                    .map(|n| n.as_ref().to_owned()),
            )
            .collect();
        for name in &names {
            for weak in ["diffie-hellman", "sha1", "cbc", "zlib", "3des", "md5"] {
                assert!(!name.contains(weak), "{name}");
            }
            assert_ne!(name, "ssh-rsa");
        }
        assert!(names.contains(&"kex-strict-s-v00@openssh.com".to_owned()));
        assert_eq!(config.inactivity_timeout, None);
    }
}
