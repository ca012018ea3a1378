//! Which keys policy takes, by what stands in the key itself. Whose key it is does not matter here.

use gateway_wire::Policy;
use gateway_wire::policy::listed;
use login_gateway_monitor::wire_form::Reader;

/// Names by which an RSA key may be admitted besides its own: those of its signatures.
const RSA_SIGNATURES: [&str; 2] = ["rsa-sha2-512", "rsa-sha2-256"];
const RSA_CERTIFICATE: &str = "ssh-rsa-cert-v01@openssh.com";
const RSA_CERTIFICATE_SIGNATURES: [&str; 2] = [
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
];

/// Whether policy takes this key, in SSH wire form, under this name: its own type's, or that of the
/// certificate around it.
///
/// # Errors
/// Why not, for the log.
pub fn check(policy: &Policy, key: &[u8], name: &str) -> Result<(), String> {
    let mut names = vec![name];
    match name {
        "ssh-rsa" => names.extend(RSA_SIGNATURES),
        RSA_CERTIFICATE => names.extend(RSA_CERTIFICATE_SIGNATURES),
        _ => {}
    }
    let excluded = |name: &&str| {
        let mut patterns = policy.public_key_algorithms.iter();
        patterns.any(|p| {
            p.strip_prefix('!')
                .is_some_and(|p| gateway_wire::policy::fits(p, name))
        })
    };
    let admitted = names
        .iter()
        .any(|name| listed(&policy.public_key_algorithms, name));
    if !admitted || names.iter().any(excluded) {
        return Err(format!("policy does not take keys of type '{name}'"));
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
        Some(bits) if bits < policy.required_rsa_size as usize => {
            Err(format!("RSA key of {bits} bits is too short"))
        }
        _ => Ok(()),
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
        let check = |more: &str, key: &[u8], expected: bool| {
            let settings: Settings = toml::from_str(more).unwrap();
            let policy = settings.policy(&Who {
                user: "a",
                groups: &[],
                source: [127, 0, 0, 1].into(),
                destination: None,
            });
            let found = check(&policy, key, key_type(key).unwrap());
            assert_eq!(found.is_ok(), expected, "{more}: {found:?}");
        };
        check("", &ed25519, true);
        check("", &rsa(3072), true);
        check("", &rsa(2048), false);
        check("required-rsa-size = 2048", &rsa(2048), true);
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
        check("public-key-algorithms = [\"rsa-sha2-*\"]", &rsa(4096), true);
        check(
            "public-key-algorithms = [\"*\", \"!ssh-rsa\"]",
            &rsa(4096),
            false,
        );
        check(
            "public-key-algorithms = [\"*\", \"!sk-*\"]",
            &hardware,
            false,
        );
        assert_eq!(rsa_bits(&key(&[b"ssh-rsa", b"\x03", b"\x01\x00"])), Some(9));
        assert_eq!(rsa_bits(&key(&[b"ssh-rsa", b"\x03"])), None);
    }
}
