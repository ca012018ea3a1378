//! OpenSSH's key revocation lists, PROTOCOL.krl of OpenSSH: is this key, or this certificate, in
//! one? Lists of plain keys and the files themselves are read elsewhere.
//!
//! A list is read to its end even after a hit: one that is damaged says nothing that can be relied
//! on. Signatures on lists are passed over, as OpenSSH does since 9.4; the file's owner is who
//! vouches for it.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::wire_form::Reader;

const MAGIC: &[u8] = b"SSHKRL\n\0";
const FORMAT: u32 = 1;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The key in SSH wire form; for a certificate, the key inside.
    pub key: &'a [u8],
    /// The certificate around it.
    pub certificate: Option<Issued<'a>>,
}

/// What an authority says of a certificate.
#[derive(Debug, Clone, Copy)]
pub struct Issued<'a> {
    /// Its number; 0 is none.
    pub serial: u64,
    /// Its name.
    pub key_id: &'a [u8],
    /// The authority's key in SSH wire form.
    pub authority: &'a [u8],
}

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KrlError {
    /// It does not begin as one.
    #[error("not a key revocation list")]
    Magic,
    /// It is of a later format.
    #[error("key revocation list of unknown format {0}")]
    Format(u32),
    /// It ends inside a field, or goes on after one.
    #[error("key revocation list with a broken {0}")]
    Broken(&'static str),
    /// It says something that this program does not know, and that must not be overlooked.
    #[error("key revocation list with unknown {0}")]
    Unknown(String),
}

/// Whether these bytes begin as such a list.
pub fn is_krl(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Whether the list holds the key, the certificate or its authority.
///
/// # Errors
/// [`KrlError`]; the caller must then take everything for revoked.
pub fn revokes(list: &[u8], subject: &Subject<'_>) -> Result<bool, KrlError> {
    let body = list.strip_prefix(MAGIC).ok_or(KrlError::Magic)?;
    let mut reader = Reader::new(body);
    let broken = KrlError::Broken("header");
    let format = reader.u32().ok_or(broken.clone())?;
    if format != FORMAT {
        return Err(KrlError::Format(format));
    }
    // Version, time and flags of the list, a reserved field, a comment.
    let header = (
        reader.u64(),
        reader.u64(),
        reader.u64(),
        reader.string(),
        reader.string(),
    );
    let (Some(_), Some(_), Some(_), Some(_), Some(_)) = header else {
        return Err(broken);
    };
    let keys = Keys::of(subject);
    let mut hit = false;
    while !reader.is_empty() {
        let broken = KrlError::Broken("section");
        let kind = reader.byte().ok_or(broken.clone())?;
        let content = reader.string().ok_or(broken)?;
        hit |= match kind {
            1 => certificates(content, subject)?,
            2 => strings(content, |key| keys.blobs.contains(&key))?,
            3 => strings(content, |hash| keys.sha1.iter().any(|known| known == hash))?,
            // A signature: its key first, then itself in a field of its own.
            4 => {
                reader.string().ok_or(KrlError::Broken("signature"))?;
                false
            }
            5 => strings(content, |hash| {
                keys.sha256.iter().any(|known| known == hash)
            })?,
            255 => extension(content)?,
            kind => return Err(KrlError::Unknown(format!("section {kind}"))),
        };
    }
    Ok(hit)
}

/// The keys that must not be listed: the subject's own and its authority's.
struct Keys<'a> {
    blobs: Vec<&'a [u8]>,
    sha1: Vec<[u8; 20]>,
    sha256: Vec<[u8; 32]>,
}

impl<'a> Keys<'a> {
    fn of(subject: &Subject<'a>) -> Self {
        let authority = subject.certificate.map(|issued| issued.authority);
        let blobs: Vec<&[u8]> = std::iter::once(subject.key).chain(authority).collect();
        Self {
            sha1: blobs.iter().map(|blob| Sha1::digest(blob).into()).collect(),
            sha256: blobs
                .iter()
                .map(|blob| Sha256::digest(blob).into())
                .collect(),
            blobs,
        }
    }
}

fn strings(content: &[u8], mut matches: impl FnMut(&[u8]) -> bool) -> Result<bool, KrlError> {
    let mut reader = Reader::new(content);
    let mut hit = false;
    while !reader.is_empty() {
        let string = reader.string().ok_or(KrlError::Broken("list of keys"))?;
        hit |= matches(string);
    }
    Ok(hit)
}

/// Certificates of one authority, or of any if none is named.
fn certificates(content: &[u8], subject: &Subject<'_>) -> Result<bool, KrlError> {
    let broken = KrlError::Broken("list of certificates");
    let mut reader = Reader::new(content);
    let authority = reader.string().ok_or(broken.clone())?;
    let _reserved = reader.string().ok_or(broken.clone())?;
    let issued = subject
        .certificate
        .filter(|issued| authority.is_empty() || authority == issued.authority);
    let serial = issued
        .map(|issued| issued.serial)
        .filter(|serial| *serial != 0);
    let mut hit = false;
    while !reader.is_empty() {
        let kind = reader.byte().ok_or(broken.clone())?;
        let content = reader.string().ok_or(broken.clone())?;
        hit |= match kind {
            0x20 => serials(content, serial)?,
            0x21 => {
                let mut range = Reader::new(content);
                match (range.u64(), range.u64(), range.is_empty()) {
                    (Some(first), Some(last), true) if first <= last => {
                        serial.is_some_and(|serial| (first..=last).contains(&serial))
                    }
                    _ => return Err(KrlError::Broken("range of numbers")),
                }
            }
            0x22 => bitmap(content, serial)?,
            0x23 => strings(content, |id| {
                issued.is_some_and(|issued| issued.key_id == id)
            })?,
            0x39 => extension(content)?,
            kind => return Err(KrlError::Unknown(format!("list of certificates {kind:#x}"))),
        };
    }
    Ok(hit)
}

fn serials(content: &[u8], serial: Option<u64>) -> Result<bool, KrlError> {
    let mut reader = Reader::new(content);
    let mut hit = false;
    while !reader.is_empty() {
        let listed = reader.u64().ok_or(KrlError::Broken("list of numbers"))?;
        hit |= serial == Some(listed);
    }
    Ok(hit)
}

/// A number, and an integer whose bit N stands for that number plus N.
fn bitmap(content: &[u8], serial: Option<u64>) -> Result<bool, KrlError> {
    let mut reader = Reader::new(content);
    let (Some(offset), Some(bits), true) = (reader.u64(), reader.string(), reader.is_empty())
    else {
        return Err(KrlError::Broken("bitmap of numbers"));
    };
    if bits.first().is_some_and(|top| top & 0x80 != 0) {
        return Err(KrlError::Broken("bitmap of numbers"));
    }
    let Some(at) = serial.and_then(|serial| serial.checked_sub(offset)) else {
        return Ok(false);
    };
    // The last byte holds the lowest bits.
    let byte = usize::try_from(at / 8)
        .ok()
        .and_then(|back| bits.len().checked_sub(back.checked_add(1)?))
        .and_then(|index| bits.get(index));
    Ok(byte.is_some_and(|byte| byte >> (at % 8) & 1 == 1))
}

/// A name, whether it must be understood, and content. None is known here.
fn extension(content: &[u8]) -> Result<bool, KrlError> {
    let mut reader = Reader::new(content);
    let fields = (
        reader.string(),
        reader.byte(),
        reader.string(),
        reader.is_empty(),
    );
    match fields {
        (Some(_), Some(0), Some(_), true) => Ok(false),
        (Some(name), Some(_), Some(_), true) => {
            let name = String::from_utf8_lossy(name);
            Err(KrlError::Unknown(format!(
                "extension '{}'",
                name.escape_debug()
            )))
        }
        _ => Err(KrlError::Broken("extension")),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    // Made by ssh-keygen 9.2 -k from the specifications named in each test; the keys' comments are
    // their names: two authorities and five users.
    const SERIALS: &[u8] = include_bytes!("../testdata/serials.krl");
    const KEYS: &[u8] = include_bytes!("../testdata/keys.krl");
    const ANY: &[u8] = include_bytes!("../testdata/any-authority.krl");

    fn key(name: &str) -> Vec<u8> {
        let lines = include_str!("../testdata/keys.pub").lines();
        let words = lines.map(|line| line.split(' ').collect::<Vec<_>>());
        let line = words.into_iter().find(|words| words[2] == name).unwrap();
        STANDARD.decode(line[1]).unwrap()
    }

    fn certificate(list: &[u8], authority: &str, serial: u64, key_id: &str) -> bool {
        let (key, authority) = (key("u1"), key(authority));
        let subject = Subject {
            key: &key,
            certificate: Some(Issued {
                serial,
                key_id: key_id.as_bytes(),
                authority: &authority,
            }),
        };
        revokes(list, &subject).unwrap()
    }

    #[test]
    fn numbers_and_names_of_one_authority() {
        // serial: 7, 100-200, 1000, 1002, 1005, 1010, 1013, 1017; id: id-three, id-four
        for (serial, expected) in [
            (0, false),
            (7, true),
            (8, false),
            (99, false),
            (100, true),
            (150, true),
            (200, true),
            (201, false),
            (999, false),
            (1000, true),
            (1001, false),
            (1002, true),
            (1005, true),
            (1010, true),
            (1013, true),
            (1016, false),
            (1017, true),
            (1018, false),
            (1024, false),
            (u64::MAX, false),
        ] {
            assert_eq!(
                certificate(SERIALS, "ca", serial, "id"),
                expected,
                "{serial}"
            );
            assert!(!certificate(SERIALS, "ca2", serial, "id"), "{serial}");
        }
        assert!(certificate(SERIALS, "ca", 1, "id-three"));
        assert!(certificate(SERIALS, "ca", 1, "id-four"));
        assert!(!certificate(SERIALS, "ca", 1, "id-thre"));
        assert!(!certificate(SERIALS, "ca2", 1, "id-four"));
        // serial: 9, of any authority
        assert!(certificate(ANY, "ca", 9, "id") && certificate(ANY, "ca2", 9, "id"));
        assert!(!certificate(ANY, "ca", 10, "id"));
    }

    #[test]
    fn keys_and_their_hashes() {
        // key: u3; sha1: u4; sha256: u5; hash: that of u1
        for (name, expected) in [
            ("u1", true),
            ("u2", false),
            ("u3", true),
            ("u4", true),
            ("u5", true),
            ("ca", false),
        ] {
            let key = key(name);
            let plain = Subject {
                key: &key,
                certificate: None,
            };
            assert_eq!(revokes(KEYS, &plain), Ok(expected), "{name}");
            let inner = self::key("u2");
            let issued = Subject {
                key: &inner,
                certificate: Some(Issued {
                    serial: 1,
                    key_id: b"id",
                    authority: &key,
                }),
            };
            assert_eq!(revokes(KEYS, &issued), Ok(expected), "authority {name}");
        }
    }

    #[test]
    fn damaged_lists_are_not_believed() {
        let key = key("u1");
        let subject = Subject {
            key: &key,
            certificate: None,
        };
        for list in [SERIALS, KEYS, ANY] {
            // A list may end after any of its sections, and nowhere else.
            let ends = (0..list.len())
                .filter(|cut| revokes(&list[..*cut], &subject).is_ok())
                .count();
            assert!(ends <= 3, "{ends}");
            assert!(revokes(&[list, b"\x01"].concat(), &subject).is_err());
        }
        let with = |section: &[u8]| {
            let header = &ANY[..44];
            revokes(&[header, section].concat(), &subject)
        };
        assert_eq!(with(b""), Ok(false));
        assert_eq!(
            with(b"\x07\0\0\0\0"),
            Err(KrlError::Unknown("section 7".into()))
        );
        assert_eq!(with(b"\xff\0\0\0\x0a\0\0\0\x01x\0\0\0\0\0"), Ok(false));
        let critical = b"\xff\0\0\0\x0a\0\0\0\x01x\x01\0\0\0\0";
        assert_eq!(
            with(critical),
            Err(KrlError::Unknown("extension 'x'".into()))
        );
        assert_eq!(with(b"\x04\0\0\0\x01k\0\0\0\x01s"), Ok(false));
        assert_eq!(with(b"\x04\0\0\0\x01k"), Err(KrlError::Broken("signature")));
        assert_eq!(revokes(b"ssh-ed25519 AAAA", &subject), Err(KrlError::Magic));
        let later = [MAGIC, b"\0\0\0\x02"].concat();
        assert_eq!(revokes(&later, &subject), Err(KrlError::Format(2)));
    }
}
