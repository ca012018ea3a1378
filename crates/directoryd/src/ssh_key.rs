//! Public keys as people store them, reduced to what a login may trust: type and blob.
//!
//! Lines with options are refused, not stripped: a key that was limited by `from=` or `command=`
//! would become an unlimited one.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Most keys taken of one user.
const MAX_KEYS: usize = 64;
/// Longest key line, in bytes.
const MAX_LINE: usize = 8192;
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];
/// Shortest RSA modulus, in bits.
const MIN_RSA: usize = 2048;

/// The keys of all values, as `type base64`, in their order, each once; and how many lines were
/// refused.
pub fn keys(values: &[Vec<u8>]) -> (Vec<String>, usize) {
    let mut keys: Vec<String> = Vec::new();
    let mut refused = 0;
    let lines = values
        .iter()
        .flat_map(|value| value.split(|byte| matches!(byte, b'\n' | b'\r')));
    for line in lines {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match std::str::from_utf8(line).ok().and_then(key) {
            Some(key) if keys.len() < MAX_KEYS => {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            _ => refused += 1,
        }
    }
    (keys, refused)
}

fn key(line: &str) -> Option<String> {
    if line.len() > MAX_LINE {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let (kind, blob) = (words.next()?, words.next()?);
    if !TYPES.contains(&kind) {
        return None;
    }
    let bytes = STANDARD.decode(blob).ok()?;
    let (inner, rest) = string(&bytes)?;
    if inner != kind.as_bytes() || rest.is_empty() {
        return None;
    }
    if kind == "ssh-rsa" {
        // RFC 4253 6.6: string type, mpint e, mpint n.
        let (_, rest) = string(rest)?;
        let (modulus, rest) = string(rest)?;
        let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
        let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
        if bits < MIN_RSA || !rest.is_empty() {
            return None;
        }
    }
    Some(format!("{kind} {blob}"))
}

/// One `string` of RFC 4251 and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";

    fn rsa(bits: usize) -> String {
        let mut blob = Vec::new();
        let mut modulus = vec![0xff; bits / 8];
        modulus.insert(0, 0);
        for part in [&b"ssh-rsa"[..], &[1, 0, 1], &modulus] {
            blob.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            blob.extend_from_slice(part);
        }
        format!("ssh-rsa {}", STANDARD.encode(blob))
    }

    #[test]
    fn lines() {
        fn check(value: &str, taken: &[&str], refused: usize) {
            let (keys, count) = keys(&[value.as_bytes().to_vec()]);
            assert_eq!(keys, taken, "{value:?}");
            assert_eq!(count, refused, "{value:?}");
        }
        check(ED25519, &[ED25519], 0);
        check(
            &format!("  {ED25519} bob@home \r\n\n# note\n"),
            &[ED25519],
            0,
        );
        check(&format!("{ED25519} a\n{ED25519} b"), &[ED25519], 0);
        check(&format!("from=\"10.0.0.1\" {ED25519}"), &[], 1);
        check(&format!("command=\"true\",restrict {ED25519} x"), &[], 1);
        check(&rsa(2048), &[&rsa(2048)], 0);
        check(&rsa(1024), &[], 1);
        check("ssh-dss AAAAB3NzaC1kc3M=", &[], 1);
        check("ssh-ed25519 AAAAB3NzaC1yc2E=", &[], 1);
        check("ssh-ed25519", &[], 1);
        check("ssh-ed25519 !!!!", &[], 1);
        check("\u{fffd}", &[], 1);
        check("", &[], 0);
    }
}
