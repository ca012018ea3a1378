//! By what a recording is known in the audit log, which leaves the machine: its length and its SHA-256.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Number of bytes up to the end, and their SHA-256 in hexadecimal.
///
/// # Errors
/// Those of reading.
pub fn of(mut from: impl Read) -> io::Result<(u64, String)> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
    let hex = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok((bytes, hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_sha256sum_has_it() {
        let check = |bytes: &[u8], start: &str| {
            let (length, hex) = of(bytes).unwrap();
            assert_eq!(length, bytes.len() as u64);
            assert!(hex.len() == 64 && hex.starts_with(start), "{hex}");
        };
        check(b"", "e3b0c44298fc1c149afbf4c8996fb924");
        check(b"x", "2d711642b726b04401627ca9fbac32f5");
        check(&[0; 100_000], "9192c25b734fcbad");
    }
}
