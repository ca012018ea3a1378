//! Which keys policy takes, by what stands in the key itself. Whose key it is does not matter here.

use gateway_wire::Policy;
use gateway_wire::crypto::certificate_name;
use gateway_wire::monitor::RsaHash;
use gateway_wire::policy::listed;
use login_gateway_monitor::wire_form::Reader;

/// Type of an RSA key, and of a certificate of one: the names of their signatures are others.
const RSA: &str = "ssh-rsa";
const RSA_CERTIFICATE: &str = "ssh-rsa-cert-v01@openssh.com";

/// Whether policy takes this key, in SSH wire form, under this type: its own, or that of the
/// certificate around it. An RSA key signs with this hash.
///
/// # Errors
/// Why not, for the log.
pub fn check(policy: &Policy, key: &[u8], kind: &str, rsa: Option<RsaHash>) -> Result<(), String> {
    let signature = match rsa {
        Some(RsaHash::Sha256) => "rsa-sha2-256",
        Some(RsaHash::Sha512) => "rsa-sha2-512",
        None => kind,
    };
    let name = match kind {
        RSA | RSA_CERTIFICATE if rsa.is_none() => {
            return Err("an RSA key signs with SHA-1".into());
        }
        RSA => signature.to_owned(),
        RSA_CERTIFICATE => certificate_name(signature),
        _ => kind.to_owned(),
    };
    let taken = policy.public_key_algorithms.as_deref().unwrap_or_default();
    if !listed(taken, &name) {
        return Err(format!("policy does not take signatures by '{name}'"));
    }
    let hardware = key_type(key).is_some_and(|kind| kind.starts_with("sk-"));
    if hardware && (policy.touch_required || policy.verify_required) {
        return Err("policy demands a touch or a PIN, which cannot be checked here".into());
    }
    long_enough(policy, key)
}

/// Whether a key is not RSA, or is long enough.
///
/// # Errors
/// That it is not.
pub fn long_enough(policy: &Policy, key: &[u8]) -> Result<(), String> {
    match rsa_bits(key) {
        Some(bits) => match policy.required_rsa_size {
            Some(least) if bits >= least as usize => Ok(()),
            _ => Err(format!("RSA key of {bits} bits is too short")),
        },
        None => Ok(()),
    }
}

/// The type's name, with which the wire form starts (RFC 4253 section 6.6).
pub fn key_type(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(Reader::new(key).string()?).ok()
}

/// Length of the modulus of an RSA key: type, exponent, modulus.
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(key);
    if reader.string()? != b"ssh-rsa" {
        return None;
    }
    let _exponent = reader.string()?;
    let modulus = reader.string()?;
    let start = modulus.iter().position(|byte| *byte != 0)?;
    let top = modulus[start].leading_zeros() as usize;
    Some(8 * (modulus.len() - start) - top)
}

#[cfg(test)]
mod tests {
    use gateway_wire::Settings;
    use gateway_wire::policy::Who;

    use super::*;

    fn key(parts: &[&[u8]]) -> Vec<u8> {
        let part = |part: &&[u8]| [&(part.len() as u32).to_be_bytes()[..], part].concat();
        parts.iter().flat_map(part).collect()
    }

    #[test]
    fn types_lengths_and_flags() {
        let rsa = |bits: usize| {
            let mut modulus = vec![0];
            modulus.extend(std::iter::repeat_n(0xff, bits / 8));
            key(&[b"ssh-rsa", b"\x01\x00\x01", &modulus])
        };
        let ed25519 = key(&[b"ssh-ed25519", &[7; 32]]);
        let hardware = key(&[b"sk-ssh-ed25519@openssh.com", &[7; 32], b"ssh:"]);
        let judged = |more: &str, key: &[u8], kind: &str, rsa: Option<RsaHash>| {
            let settings: Settings = toml::from_str(more).unwrap();
            let policy = settings.policy(&Who {
                user: "a",
                groups: &[],
                source: [127, 0, 0, 1].into(),
                destination: None,
            });
            check(&policy, key, kind, rsa)
        };
        let (sha256, sha512) = (Some(RsaHash::Sha256), Some(RsaHash::Sha512));
        let check = |more: &str, key: &[u8], expected: bool| {
            let kind = key_type(key).unwrap();
            let rsa = sha512.filter(|_| kind == RSA);
            let found = judged(more, key, kind, rsa);
            assert_eq!(found.is_ok(), expected, "{more}: {found:?}");
        };
        check("", &ed25519, true);
        check("", &rsa(3072), true);
        check("", &rsa(2048), false);
        check("required-rsa-size = 2048", &rsa(2048), true);
        for preset in ["compatible", "fips-140-3"] {
            let preset = format!("crypto-policy = \"{preset}\"\n");
            check(&preset, &rsa(2048), true);
            check(&preset, &rsa(2040), false);
            check(&preset, &ed25519, true);
            check(&preset, &hardware, true);
            check(
                &format!("{preset}required-rsa-size = 4096"),
                &rsa(3072),
                false,
            );
        }
        check("", &hardware, true);
        // Nobody shows whether it was touched (T13).
        check("touch-required = true", &hardware, false);
        check("verify-required = true", &hardware, false);
        check("verify-required = true", &ed25519, true);
        check("public-key-algorithms = [\"ssh-ed25519*\"]", &ed25519, true);
        check(
            "public-key-algorithms = [\"ssh-ed25519*\"]",
            &rsa(4096),
            false,
        );
        check(
            "public-key-algorithms = [\"*\", \"!sk-*\"]",
            &hardware,
            false,
        );
        // The hash counts, for keys and certificates each by its own name; SHA-1 in no case.
        let only = "public-key-algorithms = [\"rsa-sha2-512\"]";
        assert!(judged(only, &rsa(4096), RSA, sha512).is_ok());
        assert!(judged(only, &rsa(4096), RSA, sha256).is_err());
        assert!(judged(only, &rsa(4096), RSA_CERTIFICATE, sha512).is_err());
        let only = "public-key-algorithms = [\"rsa-sha2-256-cert-v01@openssh.com\"]";
        assert!(judged(only, &rsa(4096), RSA_CERTIFICATE, sha256).is_ok());
        for all in ["", "public-key-algorithms = [\"*\", \"ssh-rsa\"]"] {
            for kind in [RSA, RSA_CERTIFICATE] {
                let said = judged(all, &rsa(4096), kind, None).unwrap_err();
                assert!(said.contains("SHA-1"), "{said}");
            }
        }
        assert_eq!(rsa_bits(&key(&[b"ssh-rsa", b"\x03", b"\x01\x00"])), Some(9));
        assert_eq!(rsa_bits(&key(&[b"ssh-rsa", b"\x03"])), None);
    }
}
