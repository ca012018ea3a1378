//! What russh is told: algorithms, limits, windows. russh's defaults are not for the open network;
//! the numbers of its traps (T6 and so on) are those of docs/gateway.md.

use std::borrow::Cow;
use std::time::Duration;

use gateway_wire::Settings;
use gateway_wire::crypto::CryptoPolicy;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::Config;
use russh::{Limits, Preferred, SshId, cipher, compression, kex, mac};

use crate::authentication::first_methods;
use crate::host_key::Identity;
use crate::window::FIRST;

/// Bytes below which new session keys would be all that a connection does.
const MIN_REKEY_BYTES: u32 = 64 * 1024;
/// The same in time.
const MIN_REKEY_INTERVAL: Duration = Duration::from_secs(1);

/// Time that a refused key takes, whatever the reason was: about what the slowest ordinary refusal
/// needs (a look-up and a child that reads authorized keys).
pub const REFUSAL_TIME: Duration = Duration::from_millis(50);

/// Algorithms of host keys, and those that users' clients are told of. No `ssh-rsa`, which signs with
/// SHA-1 (T15).
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

/// A preset's algorithms, the preferred ones first.
struct Preset {
    kex: &'static [kex::Name],
    ciphers: &'static [cipher::Name],
    macs: &'static [mac::Name],
}

/// No finite-field Diffie-Hellman in any of them: one group18 handshake costs over a second of CPU
/// (T6). The last two names of each list of key exchanges are not algorithms but turn on strict key
/// exchange and `server-sig-algs`.
const MODERN: Preset = Preset {
    kex: &[
        kex::MLKEM768X25519_SHA256,
        kex::CURVE25519,
        kex::CURVE25519_PRE_RFC_8731,
        kex::EXTENSION_SUPPORT_AS_SERVER,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    ],
    ciphers: &[
        cipher::AES_256_GCM,
        cipher::AES_128_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ],
    macs: &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM],
};

/// Adds what clients of 2013 speak: the curves of NIST, MACs over the plain text.
const COMPATIBLE: Preset = Preset {
    kex: &[
        kex::MLKEM768X25519_SHA256,
        kex::CURVE25519,
        kex::CURVE25519_PRE_RFC_8731,
        kex::ECDH_SHA2_NISTP256,
        kex::ECDH_SHA2_NISTP384,
        kex::ECDH_SHA2_NISTP521,
        kex::EXTENSION_SUPPORT_AS_SERVER,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    ],
    ciphers: MODERN.ciphers,
    macs: &[
        mac::HMAC_SHA512_ETM,
        mac::HMAC_SHA256_ETM,
        mac::HMAC_SHA512,
        mac::HMAC_SHA256,
    ],
};

/// SP 800-56A (curves), SP 800-38A and D (AES), FIPS 198 (HMAC). All keys of [`KEYS`] are those of
/// FIPS 186-5.
const FIPS_140_3: Preset = Preset {
    kex: &[
        kex::ECDH_SHA2_NISTP256,
        kex::ECDH_SHA2_NISTP384,
        kex::ECDH_SHA2_NISTP521,
        kex::EXTENSION_SUPPORT_AS_SERVER,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    ],
    ciphers: &[
        cipher::AES_256_GCM,
        cipher::AES_128_GCM,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ],
    macs: COMPATIBLE.macs,
};

impl Preset {
    fn of(policy: CryptoPolicy) -> Self {
        match policy {
            CryptoPolicy::Modern => MODERN,
            CryptoPolicy::Compatible => COMPATIBLE,
            CryptoPolicy::Fips140 => FIPS_140_3,
        }
    }
}

/// russh's configuration for one connection.
pub fn server_config(settings: &Settings, identity: Identity) -> Config {
    let preset = Preset::of(settings.crypto_policy);
    // russh counts in both directions by itself; more than 1 GiB it does not take.
    let bytes = settings.rekey_bytes.clamp(MIN_REKEY_BYTES, 1 << 30) as usize;
    let interval = settings.rekey_interval.max(MIN_REKEY_INTERVAL);
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-slurm-login")),
        methods: first_methods(settings),
        // russh waits until this time is over before a refusal goes out (T9).
        auth_rejection_time: REFUSAL_TIME,
        auth_rejection_time_initial: Some(Duration::ZERO),
        limits: Limits::new(bytes, bytes, interval),
        window_size: FIRST,
        maximum_packet_size: 32 * 1024,
        channel_buffer_size: 256,
        // What is queued here goes out before the answer to a key; it only has to keep the socket busy.
        event_buffer_size: 4,
        preferred: Preferred {
            kex: Cow::Borrowed(preset.kex),
            key: Cow::Owned(signatures(settings, &identity.keys)),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(preset.ciphers),
            mac: Cow::Borrowed(preset.macs),
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
        keys: identity.keys,
        certificates: identity.certificates,
    }
}

/// russh has one list for host keys and for `server-sig-algs` (RFC 8308): of what no user may sign
/// with, only the kinds of our own host keys are in it.
fn signatures(settings: &Settings, host_keys: &[PrivateKey]) -> Vec<Algorithm> {
    let shown = |one: &&Algorithm| {
        let own = host_keys.iter().map(PrivateKey::algorithm).any(|own| {
            own == **one || matches!((&own, one), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }))
        });
        own || settings.takes_signatures(one.as_str())
    };
    KEYS.iter().filter(shown).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(policy: CryptoPolicy) -> Vec<String> {
        let settings = Settings {
            crypto_policy: policy,
            ..Settings::default()
        };
        let offered = server_config(&settings, Identity::default()).preferred;
        let kex = offered.kex.iter().map(|n| n.as_ref().to_owned());
        kex.chain(offered.key.iter().map(|a| a.to_string()))
            .chain(offered.cipher.iter().map(|n| n.as_ref().to_owned()))
            .chain(offered.mac.iter().map(|n| n.as_ref().to_owned()))
            .chain(offered.compression.iter().map(|n| n.as_ref().to_owned()))
            .collect()
    }

    #[test]
    fn nothing_weak_is_offered() {
        for policy in [
            CryptoPolicy::Modern,
            CryptoPolicy::Compatible,
            CryptoPolicy::Fips140,
        ] {
            let names = names(policy);
            for name in &names {
                for weak in ["diffie-hellman", "sha1", "cbc", "zlib", "3des", "md5"] {
                    assert!(!name.contains(weak), "{name}");
                }
                assert_ne!(name, "ssh-rsa");
            }
            assert!(names.contains(&"kex-strict-s-v00@openssh.com".to_owned()));
        }
    }

    #[test]
    fn what_the_presets_differ_in() {
        let has = |policy, name: &str| names(policy).iter().any(|n| n == name);
        for (name, modern, compatible, fips) in [
            ("mlkem768x25519-sha256", true, true, false),
            ("curve25519-sha256@libssh.org", true, true, false),
            ("ecdh-sha2-nistp256", false, true, true),
            ("chacha20-poly1305@openssh.com", true, true, false),
            ("aes256-gcm@openssh.com", true, true, true),
            ("hmac-sha2-256", false, true, true),
            ("hmac-sha2-256-etm@openssh.com", true, true, true),
            ("ssh-ed25519", true, true, true),
        ] {
            assert_eq!(has(CryptoPolicy::Modern, name), modern, "{name}");
            assert_eq!(has(CryptoPolicy::Compatible, name), compatible, "{name}");
            assert_eq!(has(CryptoPolicy::Fips140, name), fips, "{name}");
        }
    }

    #[test]
    fn signatures_that_no_user_may_use_are_not_shown() {
        let shown = |taken: Option<&[&str]>| {
            let taken = taken.map(|taken| taken.iter().map(|name| name.to_string()).collect());
            let settings = Settings {
                public_key_algorithms: taken,
                ..Settings::default()
            };
            let algorithms = signatures(&settings, &[]);
            let names = algorithms.iter().map(Algorithm::to_string);
            names.collect::<Vec<String>>().join(",")
        };
        assert_eq!(
            shown(None),
            "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,\
             rsa-sha2-256,sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com"
        );
        let only = ["rsa-sha2-512*", "sk-*", "!sk-ecdsa*"];
        assert_eq!(
            shown(Some(&only)),
            "rsa-sha2-512,sk-ssh-ed25519@openssh.com"
        );
    }

    #[test]
    fn limits_are_in_bounds() {
        let mut settings = Settings::default();
        let limits = |settings: &Settings| {
            let config = server_config(settings, Identity::default());
            // An idle shell is no error (T8).
            assert_eq!(config.inactivity_timeout, None);
            (
                config.limits.rekey_read_limit,
                config.limits.rekey_time_limit,
            )
        };
        assert_eq!(limits(&settings), (1 << 30, Duration::from_secs(3600)));
        settings.rekey_bytes = u32::MAX;
        settings.rekey_interval = Duration::ZERO;
        assert_eq!(limits(&settings), (1 << 30, MIN_REKEY_INTERVAL));
        settings.rekey_bytes = 0;
        assert_eq!(limits(&settings).0, MIN_REKEY_BYTES as usize);
    }
}
