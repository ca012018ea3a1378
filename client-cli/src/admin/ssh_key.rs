//! One public key as it stands in `sshPublicKey`: parsed, judged and printed. Certificates, private
//! keys and key options are refused here; who may log in with a key is the gateway's matter.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// Longest line that is taken, in bytes: an RSA key of 16384 bits has about 2,750.
pub const MAX_LINE: usize = 8192;
/// Longest comment, in bytes.
const MAX_COMMENT: usize = 256;
/// RSA sizes that are taken, in bits (OpenSSH's default minimum since 9.1 is lower: 1024).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=16384;

/// A key that was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    kind: &'static str,
    bits: usize,
    blob: Vec<u8>,
    comment: String,
}

/// Why a key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("there is no key in it")]
    Empty,
    /// Above [`MAX_LINE`], or more than one line, or control characters.
    #[error("it is not one line of text of at most {MAX_LINE} bytes")]
    Shape,
    /// Somebody is about to publish what must stay secret.
    #[error("it is a private key; never hand that out")]
    Private,
    /// Broken since 2015, removed from OpenSSH 10.
    #[error("DSA keys are too weak and no longer taken by OpenSSH")]
    Dsa,
    /// Goes to the CA's list, not to an account.
    #[error("it is a certificate, not a key")]
    Certificate,
    /// `command="…"` and relatives.
    #[error("it begins with options ({0:?}); keys in the directory carry none")]
    Options(String),
    /// Neither a known type nor something before one.
    #[error("{0:?} is no key type that the gateway knows")]
    UnknownType(String),
    /// The second word.
    #[error("the key after its type is not base64")]
    Base64,
    /// The bytes inside name another type.
    #[error("it says '{said}' but the key inside is {inside:?}")]
    Mismatch {
        /// The first word of the line.
        said: String,
        /// The type inside the blob.
        inside: String,
    },
    /// The bytes inside are cut off, too long or out of range.
    #[error("the key is damaged: {0}")]
    Damaged(&'static str),
    /// Out of [`RSA_BITS`].
    #[error("an RSA key of {0} bits; {min} to {max} are taken", min = RSA_BITS.start(), max = RSA_BITS.end())]
    RsaBits(usize),
    /// Above [`MAX_COMMENT`].
    #[error("the comment is longer than {MAX_COMMENT} bytes")]
    Comment,
}

impl KeyError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Private => Some(
                "give the file that ends in .pub; if the private key was sent around, make a new pair",
            ),
            Self::Dsa | Self::RsaBits(_) => Some("ask for a new key: ssh-keygen -t ed25519"),
            Self::Options(_) => Some("give the key without what stands before its type"),
            Self::Certificate => Some("give the .pub file that was signed, not the -cert.pub file"),
            _ => None,
        }
    }
}

const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

impl SshKey {
    /// Parses `type base64 [comment]` (sshd(8), AUTHORIZED_KEYS FILE FORMAT, without options). The
    /// blob is read to its last byte: RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4, OpenSSH PROTOCOL.u2f.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        let line = line.trim();
        if line.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        if line.is_empty() {
            return Err(KeyError::Empty);
        }
        if line.len() > MAX_LINE || line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(KeyError::Shape);
        }
        let (said, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let kind = *TYPES
            .iter()
            .find(|kind| **kind == said)
            .ok_or_else(|| not_a_type(line, said))?;
        let rest = rest.trim_start();
        let (encoded, comment) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let comment = comment.trim().replace('\t', " ");
        if comment.len() > MAX_COMMENT {
            return Err(KeyError::Comment);
        }
        let blob = STANDARD.decode(encoded).map_err(|_| KeyError::Base64)?;
        let bits = measure(kind, &blob)?;
        Ok(Self {
            kind,
            bits,
            blob,
            comment,
        })
    }

    /// The type's name, as in `ssh-ed25519`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The size, in bits.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// The comment, possibly empty.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// `SHA256:` and the hash of the key in base64, as ssh-keygen prints it.
    pub fn fingerprint(&self) -> String {
        format!(
            "SHA256:{}",
            STANDARD_NO_PAD.encode(Sha256::digest(&self.blob))
        )
    }

    /// The line that is stored: one blank between the parts.
    pub fn line(&self) -> String {
        let key = format!("{} {}", self.kind, STANDARD.encode(&self.blob));
        if self.comment.is_empty() {
            key
        } else {
            format!("{key} {}", self.comment)
        }
    }

    /// Whether it is the same key, whatever the comments say.
    pub fn is(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

fn not_a_type(line: &str, said: &str) -> KeyError {
    let known = |word: &str| TYPES.contains(&word) || word.starts_with("ssh-");
    if said == "ssh-dss" {
        KeyError::Dsa
    } else if said.contains("-cert-v0") {
        KeyError::Certificate
    } else if line.split([' ', '\t']).skip(1).any(known) {
        KeyError::Options(said.chars().take(40).collect())
    } else {
        KeyError::UnknownType(said.chars().take(40).collect())
    }
}

/// Checks the blob against the type and returns the size in bits.
fn measure(kind: &str, blob: &[u8]) -> Result<usize, KeyError> {
    let mut rest = Fields(blob);
    let inside = rest.next()?;
    if inside != kind.as_bytes() {
        return Err(KeyError::Mismatch {
            said: kind.into(),
            inside: String::from_utf8_lossy(inside).into_owned(),
        });
    }
    let bits = match kind {
        "ssh-rsa" => {
            let exponent = rest.positive()?;
            let modulus = rest.positive()?;
            if exponent.last().is_none_or(|low| low & 1 == 0) || exponent == [1] {
                return Err(KeyError::Damaged("the RSA exponent is even or one"));
            }
            let bits =
                modulus.len() * 8 - modulus.first().map_or(0, |high| high.leading_zeros()) as usize;
            if !RSA_BITS.contains(&bits) {
                return Err(KeyError::RsaBits(bits));
            }
            bits
        }
        "ssh-ed25519" | "sk-ssh-ed25519@openssh.com" => {
            if rest.next()?.len() != 32 {
                return Err(KeyError::Damaged("an Ed25519 key has 32 bytes"));
            }
            256
        }
        _ => {
            let curve = rest.next()?;
            let (name, bits): (&[u8], usize) = match kind {
                "ecdsa-sha2-nistp384" => (b"nistp384", 384),
                "ecdsa-sha2-nistp521" => (b"nistp521", 521),
                _ => (b"nistp256", 256),
            };
            let point = rest.next()?;
            if curve != name {
                return Err(KeyError::Damaged("the curve is not the one of its type"));
            }
            // SEC 1, 2.3.3: 04, then both coordinates; sshd takes no compressed points.
            if point.len() != 1 + 2 * bits.div_ceil(8) || point.first() != Some(&4) {
                return Err(KeyError::Damaged(
                    "the point is not an uncompressed one of its curve",
                ));
            }
            bits
        }
    };
    if kind.starts_with("sk-") && rest.next()?.is_empty() {
        return Err(KeyError::Damaged("the application is empty"));
    }
    if !rest.0.is_empty() {
        return Err(KeyError::Damaged("bytes follow its end"));
    }
    Ok(bits)
}

/// Length-prefixed fields, RFC 4251 section 5.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<&'a [u8], KeyError> {
        const CUT: KeyError = KeyError::Damaged("it is cut off");
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(CUT)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (field, rest) = rest.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(field)
    }

    /// An `mpint` above zero without its sign byte.
    fn positive(&mut self) -> Result<&'a [u8], KeyError> {
        match self.next()? {
            [0, number @ ..] if matches!(number, [0x80..=0xff, ..]) => Ok(number),
            number @ [0x01..=0x7f, ..] => Ok(number),
            _ => Err(KeyError::Damaged(
                "a number in it is not positive or not minimal",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
    }

    fn line(kind: &str, fields: &[&[u8]]) -> String {
        let blob: Vec<u8> = fields.iter().flat_map(|f| field(f)).collect();
        format!("{kind} {}", STANDARD.encode(blob))
    }

    fn rsa(bytes: usize, exponent: &[u8]) -> String {
        let modulus = [&[0][..], &vec![0xff; bytes]].concat();
        line("ssh-rsa", &[b"ssh-rsa", exponent, &modulus])
    }

    /// A published pair: RFC 8410 section 10.3 has this public key.
    const ED25519: [u8; 32] = [
        0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b,
        0x96, 0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31,
        0x66, 0xe1,
    ];

    #[test]
    fn good_keys() {
        let check = |line: &str, bits: usize| {
            let key = SshKey::parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(key.bits(), bits);
            assert_eq!(SshKey::parse(&key.line()).unwrap(), key);
        };
        check(&line("ssh-ed25519", &[b"ssh-ed25519", &ED25519]), 256);
        check(&rsa(256, &[1, 0, 1]), 2048);
        check(&rsa(512, &[3]), 4096);
        for (curve, bytes, bits) in [
            ("nistp256", 65, 256),
            ("nistp384", 97, 384),
            ("nistp521", 133, 521),
        ] {
            let kind = format!("ecdsa-sha2-{curve}");
            let point = [&[4][..], &vec![7; bytes - 1]].concat();
            check(
                &line(&kind, &[kind.as_bytes(), curve.as_bytes(), &point]),
                bits,
            );
        }
        let sk = "sk-ssh-ed25519@openssh.com";
        check(&line(sk, &[sk.as_bytes(), &ED25519, b"ssh:"]), 256);
    }

    #[test]
    fn comment_and_blanks() {
        let plain = line("ssh-ed25519", &[b"ssh-ed25519", &ED25519]);
        let key = SshKey::parse(&format!(
            "  {}\t two  words \u{fc} \n",
            plain.replace(' ', "   ")
        ))
        .unwrap();
        assert_eq!(key.comment(), "two  words \u{fc}");
        assert!(key.is(&SshKey::parse(&plain).unwrap()));
        assert_eq!(key.line(), format!("{plain} two  words \u{fc}"));
    }

    #[test]
    fn bad_keys() {
        let check = |line: &str, expected: &str| {
            let said = SshKey::parse(line).map_or_else(|e| e.to_string(), |_| "ok".into());
            assert!(said.contains(expected), "{line}: {said}");
        };
        let good = line("ssh-ed25519", &[b"ssh-ed25519", &ED25519]);
        check("", "no key");
        check("ssh-ed25519", "damaged: it is cut off");
        check("ssh-ed25519 !!!!", "not base64");
        check(
            &good.replace("ssh-ed25519 ", "ssh-rsa "),
            "says 'ssh-rsa' but the key inside is \"ssh-ed25519\"",
        );
        check("ssh-dss AAAAB3NzaC1kc3M=", "DSA");
        check("ssh-ed25519-cert-v01@openssh.com AAAA", "certificate");
        check(
            &format!("command=\"echo hi\" {good}"),
            "begins with options",
        );
        check(
            &format!("no-pty,from=\"10.0.0.1\" {good}"),
            "begins with options",
        );
        check("hello world", "no key type");
        check("-----BEGIN OPENSSH PRIVATE KEY-----", "private key");
        check(&format!("{good}\nssh-rsa AAAA"), "one line");
        check(&format!("{good} evil\u{1b}[2J"), "one line");
        check(&format!("{good} {}", "c".repeat(257)), "comment is longer");
        check(&format!("{good} {}", "c".repeat(9000)), "one line");
        check(&rsa(128, &[1, 0, 1]), "RSA key of 1024 bits");
        check(&rsa(256, &[2]), "exponent");
        check(&rsa(256, &[1]), "exponent");
        check(&rsa(256, &[]), "not positive");
        check(&rsa(256, &[0x81]), "not positive");
        check(
            &line("ssh-ed25519", &[b"ssh-ed25519", &ED25519[1..]]),
            "32 bytes",
        );
        check(
            &line("ssh-ed25519", &[b"ssh-ed25519", &ED25519, b"more"]),
            "bytes follow",
        );
        let p256 = "ecdsa-sha2-nistp256";
        let compressed = [&[2][..], &[7; 32]].concat();
        check(
            &line(p256, &[p256.as_bytes(), b"nistp256", &compressed]),
            "uncompressed",
        );
        check(
            &line(p256, &[p256.as_bytes(), b"nistp384", &compressed]),
            "curve",
        );
    }

    #[test]
    fn every_cut_is_refused() {
        let blob: Vec<u8> = [field(b"ssh-ed25519"), field(&ED25519)].concat();
        for length in 0..blob.len() {
            let cut = format!("ssh-ed25519 {}", STANDARD.encode(&blob[..length]));
            assert!(SshKey::parse(&cut).is_err(), "{length}");
        }
    }
}
