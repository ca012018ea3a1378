//! The exchange with munged: encode a payload into a credential, decode a credential.
//! Only the codec: who connects to the socket, and when, is decided elsewhere.

use crate::{Packer, Unpacker, WireError, pack::length};

/// `restrict` value: any uid or gid may decode.
pub const ANYBODY: u32 = u32::MAX;
/// Bytes of the header that starts every message.
pub const HEADER_LENGTH: usize = 11;
/// Most bytes of a body: munged takes payloads up to 1 MiB.
pub const BODY_LIMIT: usize = 2 * 1024 * 1024;

const MAGIC: u32 = 0x0060_6d4b;
const VERSION: u8 = 4;
const DEFAULT: u8 = 1;
/// Cipher, mac and zip of an encode request, and no realm.
const DEFAULT_ALGORITHMS: [u8; 4] = [DEFAULT, DEFAULT, DEFAULT, 0];

/// Which message follows a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Client: make a credential.
    EncodeRequest = 2,
    /// munged: the credential.
    EncodeReply = 3,
    /// Client: open a credential.
    DecodeRequest = 4,
    /// munged: what was in it.
    DecodeReply = 5,
}

/// The 11 bytes before each body: magic, version, kind, retry count, body length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which message follows.
    pub kind: Kind,
    /// How often the client tried before.
    pub retry: u8,
    /// Bytes of the body.
    pub body_length: u32,
}

impl Header {
    /// Packs the header.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Packer::new();
        bytes
            .u32(MAGIC)
            .u8(VERSION)
            .u8(self.kind as u8)
            .u8(self.retry)
            .u32(self.body_length);
        bytes.finish()
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`WireError::Value`] for another magic, version or kind; [`WireError::TooLong`] above
    /// [`BODY_LIMIT`]; [`WireError::Truncated`].
    pub fn decode(received: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Unpacker::new(received);
        expect("magic", bytes.u32("magic")?, MAGIC)?;
        expect(
            "version",
            u32::from(bytes.u8("version")?),
            u32::from(VERSION),
        )?;
        let kind = match bytes.u8("kind")? {
            2 => Kind::EncodeRequest,
            3 => Kind::EncodeReply,
            4 => Kind::DecodeRequest,
            5 => Kind::DecodeReply,
            other => {
                return Err(WireError::Value {
                    field: "kind",
                    value: u64::from(other),
                });
            }
        };
        let retry = bytes.u8("retry")?;
        let body_length = bytes.u32("body length")?;
        if body_length as usize > BODY_LIMIT {
            return Err(WireError::TooLong {
                field: "body length",
                length: u64::from(body_length),
                limit: BODY_LIMIT as u64,
            });
        }
        Ok(Self {
            kind,
            retry,
            body_length,
        })
    }
}

/// Ask munged for a credential with the default cipher, mac and compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeRequest {
    /// Seconds the credential lives; 0: munged's default.
    pub ttl: u32,
    /// Who may decode it, or [`ANYBODY`].
    pub uid: u32,
    /// Which group may decode it, or [`ANYBODY`].
    pub gid: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl EncodeRequest {
    /// Header and body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Packer::new();
        body.raw(&DEFAULT_ALGORITHMS)
            .u32(self.ttl)
            .u32(self.uid)
            .u32(self.gid)
            .block(&self.payload);
        framed(Kind::EncodeRequest, body)
    }
}

/// Ask munged to open a credential.
#[must_use]
pub fn decode_request(credential: &str) -> Vec<u8> {
    let mut body = Packer::new();
    body.string(Some(credential.as_bytes()));
    framed(Kind::DecodeRequest, body)
}

/// munged's answer to an encode request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeReply {
    /// 0, or munge's error number.
    pub error: u8,
    /// munged's words about the error.
    pub message: String,
    /// The credential, as text.
    pub credential: String,
}

impl EncodeReply {
    /// Reads the body: `u8` error, `u8` length and text, `u32` length and credential with NUL.
    ///
    /// # Errors
    /// Those of the fields.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Unpacker::new(body);
        let error = bytes.u8("error")?;
        let message = short_text(&mut bytes, "message")?;
        let credential = bytes
            .text(BODY_LIMIT, "credential")?
            .unwrap_or_default()
            .to_owned();
        bytes.end()?;
        Ok(Self {
            error,
            message,
            credential,
        })
    }
}

/// munged's answer to a decode request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeReply {
    /// 0, or munge's error number (15 expired, 16 rewound, 17 replayed).
    pub error: u8,
    /// munged's words about the error.
    pub message: String,
    /// Seconds the credential lives.
    pub ttl: u32,
    /// IPv4 or IPv6 address of the encoding host, 4 or 16 bytes.
    pub address: Vec<u8>,
    /// Unix time of encoding.
    pub encoded: u32,
    /// Unix time of decoding.
    pub decoded: u32,
    /// Who encoded it.
    pub uid: u32,
    /// With which group.
    pub gid: u32,
    /// Who may decode it, or [`ANYBODY`].
    pub restrict_uid: u32,
    /// Which group may decode it, or [`ANYBODY`].
    pub restrict_gid: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl DecodeReply {
    /// Reads the body: error and text as above, cipher, mac, zip, realm, `u32` ttl, `u8` length
    /// and address, then eight `u32`-sized fields down to the payload block.
    ///
    /// # Errors
    /// Those of the fields.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Unpacker::new(body);
        let error = bytes.u8("error")?;
        let message = short_text(&mut bytes, "message")?;
        bytes.take(3, "algorithms")?;
        short_text(&mut bytes, "realm")?;
        let ttl = bytes.u32("ttl")?;
        let address_length = usize::from(bytes.u8("address")?);
        let reply = Self {
            error,
            message,
            ttl,
            address: bytes.take(address_length, "address")?.to_vec(),
            encoded: bytes.u32("encode time")?,
            decoded: bytes.u32("decode time")?,
            uid: bytes.u32("uid")?,
            gid: bytes.u32("gid")?,
            restrict_uid: bytes.u32("restricted uid")?,
            restrict_gid: bytes.u32("restricted gid")?,
            payload: bytes.block(BODY_LIMIT, "payload")?.to_vec(),
        };
        bytes.end()?;
        Ok(reply)
    }
}

fn framed(kind: Kind, body: Packer) -> Vec<u8> {
    let body = body.finish();
    let mut frame = Header {
        kind,
        retry: 0,
        body_length: length(body.len()),
    }
    .encode();
    frame.extend_from_slice(&body);
    frame
}

/// munge's short strings: `u8` length, then the bytes, with a NUL or without.
fn short_text(bytes: &mut Unpacker<'_>, field: &'static str) -> Result<String, WireError> {
    let length = usize::from(bytes.u8(field)?);
    let text = bytes.take(length, field)?;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    String::from_utf8(text.to_vec()).map_err(|_| WireError::NotAString(field))
}

fn expect(field: &'static str, found: u32, wanted: u32) -> Result<(), WireError> {
    if found == wanted {
        Ok(())
    } else {
        Err(WireError::Value {
            field,
            value: u64::from(found),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One exchange with munged 0.5.16.
    fn vector(name: &str) -> Vec<u8> {
        let all: serde_json::Value =
            serde_json::from_str(include_str!("../vectors/munge.json")).unwrap();
        let text = all[name].as_str().unwrap();
        if name == "credential" {
            return text.as_bytes().to_vec();
        }
        let digits: Vec<u8> = text
            .chars()
            .map(|c| c.to_digit(16).unwrap() as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    #[test]
    fn encode_exchange() {
        let request = EncodeRequest {
            ttl: 0,
            uid: ANYBODY,
            gid: ANYBODY,
            payload: b"hi".to_vec(),
        };
        assert_eq!(request.encode(), vector("encode_request_hex"));
        let header = Header::decode(&vector("encode_reply_header_hex")).unwrap();
        let credential = vector("credential");
        let mut body = vector("encode_reply_body_prefix_hex");
        body.extend_from_slice(&credential);
        body.push(0);
        assert_eq!(header.body_length as usize, body.len());
        assert_eq!(header.kind, Kind::EncodeReply);
        let reply = EncodeReply::decode(&body).unwrap();
        assert_eq!((reply.error, reply.message.as_str()), (0, ""));
        assert_eq!(reply.credential.as_bytes(), credential);
        for end in 0..body.len() {
            assert!(EncodeReply::decode(&body[..end]).is_err());
        }
    }

    #[test]
    fn decode_exchange() {
        let credential = String::from_utf8(vector("credential")).unwrap();
        // The captured lengths count one byte more than credential and NUL: the line feed that
        // ends the credential where it was read from a file.
        let line = format!("{credential}\n");
        let mut golden = vector("decode_request_header_hex");
        golden.extend(vector("decode_request_body_prefix_hex"));
        golden.extend_from_slice(line.as_bytes());
        golden.push(0);
        assert_eq!(decode_request(&line), golden);

        let frame = vector("decode_reply_hex");
        let header = Header::decode(&frame).unwrap();
        assert_eq!(header.encode(), frame[..HEADER_LENGTH]);
        let body = &frame[HEADER_LENGTH..];
        assert_eq!(header.body_length as usize, body.len());
        let reply = DecodeReply::decode(body).unwrap();
        assert_eq!(
            (reply.error, reply.uid, reply.gid, reply.ttl),
            (0, 0, 0, 300)
        );
        assert_eq!(reply.address, [127, 0, 0, 1]);
        assert_eq!((reply.restrict_uid, reply.restrict_gid), (ANYBODY, ANYBODY));
        assert_eq!(reply.encoded, 0x6b03_b2e5);
        assert_eq!(reply.payload, b"hi");
        for end in 0..body.len() {
            assert!(DecodeReply::decode(&body[..end]).is_err());
        }
    }

    #[test]
    fn headers_are_checked() {
        let good = Header {
            kind: Kind::DecodeReply,
            retry: 0,
            body_length: 1,
        }
        .encode();
        for end in 0..good.len() {
            assert!(Header::decode(&good[..end]).is_err());
        }
        for (at, value) in [(0, 1), (4, 5), (5, 6), (7, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(Header::decode(&bad).is_err(), "byte {at} = {value}");
        }
    }
}
