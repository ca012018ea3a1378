//! Lists of plain public keys, a key per line: authorities that are trusted, keys that are revoked.
//! Lines with options belong to `authorized_keys`, which the session program reads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::wire_form::Reader;

/// A line that is no key, by number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not a public key")]
pub struct NotAKey(pub usize);

/// The keys in SSH wire form; of a certificate, the key inside. Empty lines and those that begin
/// with `#` are passed over.
///
/// # Errors
/// [`NotAKey`]: a list of which a part cannot be read is not one to rely on.
pub fn parse(text: &[u8]) -> Result<Vec<Vec<u8>>, NotAKey> {
    let mut keys = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        keys.push(key(line).ok_or(NotAKey(number + 1))?);
    }
    Ok(keys)
}

fn key(line: &[u8]) -> Option<Vec<u8>> {
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let kind = words.next()?;
    let blob = STANDARD.decode(words.next()?).ok()?;
    if Reader::new(&blob).string()? != kind {
        return None;
    }
    match kind.strip_suffix(b"-cert-v01@openssh.com") {
        Some(plain) => inner(plain, &blob),
        None => Some(blob),
    }
}

/// The key inside a certificate: type, nonce, the key's own fields, and more (PROTOCOL.certkeys).
fn inner(plain: &[u8], certificate: &[u8]) -> Option<Vec<u8>> {
    let (kind, fields): (Vec<u8>, usize) = match plain {
        b"ssh-ed25519" => (plain.to_vec(), 1),
        b"ssh-rsa" => (plain.to_vec(), 2),
        b"sk-ssh-ed25519" => ([plain, b"@openssh.com"].concat(), 2),
        b"sk-ecdsa-sha2-nistp256" => ([plain, b"@openssh.com"].concat(), 3),
        _ if plain.starts_with(b"ecdsa-sha2-nistp") => (plain.to_vec(), 2),
        _ => return None,
    };
    let mut reader = Reader::new(certificate);
    let _ = (reader.string()?, reader.string()?);
    let mut key = Vec::new();
    let mut put = |field: &[u8]| -> Option<()> {
        key.extend(u32::try_from(field.len()).ok()?.to_be_bytes());
        key.extend(field);
        Some(())
    };
    put(&kind)?;
    for _ in 0..fields {
        put(reader.string()?)?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let text = include_bytes!("../testdata/keys.pub");
        let keys = parse(text).unwrap();
        assert_eq!(keys.len(), 7);
        let with_more = [b"# authorities\n\n", &text[..], b"\n  \n"].concat();
        assert_eq!(parse(&with_more).unwrap(), keys);
        assert_eq!(parse(b"").unwrap(), Vec::<Vec<u8>>::new());
        for (bad, line) in [
            (&b"ssh-ed25519"[..], 1),
            (b"\nssh-ed25519 AAAA", 2),
            (b"ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl", 1),
            (b"no-pty ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl", 1),
            (b"\xff\xfe", 1),
        ] {
            assert_eq!(parse(bad), Err(NotAKey(line)));
        }
    }

    #[test]
    fn the_key_inside_a_certificate() {
        let certificate = include_bytes!("../testdata/u1-cert.pub");
        let text = include_bytes!("../testdata/keys.pub");
        assert_eq!(parse(certificate).unwrap(), parse(text).unwrap()[2..3]);
    }
}
