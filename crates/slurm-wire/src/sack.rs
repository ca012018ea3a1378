//! SACK frames: what a Slurm client and the local key holder say to each other on
//! `/run/slurm/sack.socket`. One request, one reply, then the connection ends.
//! Whether a request is granted is not decided here.

use crate::{Packer, ProtocolVersion, Unpacker, WireError, pack::length};

/// Opcode "make a token for me".
pub const CREATE: u32 = 64001;
/// Opcode "is this token good, for me".
pub const VERIFY: u32 = 64002;
/// Most bytes of a whole create request. Real clients send at most 33 bytes of payload.
pub const CREATE_LIMIT: usize = 4 * 1024;
/// Most bytes of a whole verify request. A token grows with the number of the user's groups.
pub const VERIFY_LIMIT: usize = 64 * 1024;
/// `ruid` of a token that anybody may decode.
pub const ANYBODY: u32 = u32::MAX;

/// The version before the length field, which does not count it.
const VERSION_LENGTH: usize = 2;

/// A request, as the signer receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Make a token.
    Create {
        /// The client's protocol version, copied into the token. Any value is taken.
        version: ProtocolVersion,
        /// Who may decode the token: one uid or [`ANYBODY`].
        ruid: u32,
        /// What the token is bound to, as a rule a message hash; may be empty.
        payload: Vec<u8>,
    },
    /// Check a token.
    Verify {
        /// The client's protocol version.
        version: ProtocolVersion,
        /// The token in JWS compact form.
        token: String,
    },
}

impl Request {
    /// Reads a request from all bytes received so far. `Ok(None)` asks for more bytes.
    ///
    /// Shape, big-endian: `u16` version, `u32` length (counts itself and all after it), `u32`
    /// opcode, body. Body of create: `u32` ruid, block payload; of verify: string token.
    ///
    /// As the original server does, the end of the body is found by its fields: a length that is
    /// too small is forgiven, bytes after the body are ignored. A length that is larger than the
    /// body makes the server wait for those bytes (here within its limit and deadline).
    ///
    /// # Errors
    /// [`WireError::Value`] for an unknown opcode, [`WireError::TooLong`] above the limit of the
    /// opcode, [`WireError::NotAString`] for a token that is null or no text.
    pub fn parse(received: &[u8]) -> Result<Option<Self>, WireError> {
        match Self::parse_whole(received) {
            Ok(request) => Ok(Some(request)),
            Err(WireError::Truncated(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse_whole(received: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Unpacker::new(received);
        let version = ProtocolVersion(bytes.u16("version")?);
        let length = bytes.u32("length")?;
        within(length, VERIFY_LIMIT)?;
        let opcode = bytes.u32("opcode")?;
        let limit = match opcode {
            CREATE => CREATE_LIMIT,
            VERIFY => VERIFY_LIMIT,
            other => {
                return Err(WireError::Value {
                    field: "opcode",
                    value: u64::from(other),
                });
            }
        };
        let claimed = within(length, limit)?;
        let request = if opcode == CREATE {
            let ruid = bytes.u32("ruid")?;
            let payload = bytes.block(limit, "payload")?.to_vec();
            Self::Create {
                version,
                ruid,
                payload,
            }
        } else {
            let token = bytes
                .text(limit, "token")?
                .ok_or(WireError::NotAString("token"))?;
            Self::Verify {
                version,
                token: token.to_owned(),
            }
        };
        let used = received.len() - bytes.remaining();
        if used > limit {
            return Err(WireError::TooLong {
                field: "request",
                length: used as u64,
                limit: limit as u64,
            });
        }
        if received.len() < claimed {
            return Err(WireError::Truncated("request"));
        }
        Ok(request)
    }

    /// The request as a client sends it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Packer::new();
        let (version, opcode) = match self {
            Self::Create {
                version,
                ruid,
                payload,
            } => {
                body.u32(*ruid).block(payload);
                (*version, CREATE)
            }
            Self::Verify { version, token } => {
                body.string(Some(token.as_bytes()));
                (*version, VERIFY)
            }
        };
        let body = body.finish();
        let mut frame = Packer::new();
        frame
            .u16(version.0)
            .u32(length(body.len() + 8))
            .u32(opcode)
            .raw(&body);
        frame.finish()
    }
}

/// Bytes that answer a create: the token as a string. A refusal has no bytes: close.
#[must_use]
pub fn token_reply(token: &str) -> Vec<u8> {
    let mut reply = Packer::new();
    reply.string(Some(token.as_bytes()));
    reply.finish()
}

/// Reads the answer to a create. `Ok(None)` asks for more bytes; the end of the stream before
/// that is a refusal.
///
/// # Errors
/// [`WireError::TooLong`], [`WireError::NotAString`].
pub fn parse_token_reply(received: &[u8]) -> Result<Option<String>, WireError> {
    match Unpacker::new(received).text(VERIFY_LIMIT, "token") {
        Ok(Some(token)) => Ok(Some(token.to_owned())),
        Ok(None) => Err(WireError::NotAString("token")),
        Err(WireError::Truncated(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes that answer a verify: 0, or all ones for a token that is not good. Newer originals
/// close instead of the latter; every client takes both for a refusal.
#[must_use]
pub fn verdict_reply(good: bool) -> [u8; 4] {
    if good { [0; 4] } else { [0xff; 4] }
}

/// Reads the answer to a verify. `Ok(None)` asks for more bytes; the end of the stream before
/// that is a refusal.
#[must_use]
pub fn parse_verdict_reply(received: &[u8]) -> Option<bool> {
    received
        .first_chunk::<4>()
        .map(|verdict| *verdict == [0; 4])
}

/// Checks a claimed length against a limit on the whole request and gives the claimed end.
fn within(length: u32, limit: usize) -> Result<usize, WireError> {
    let claimed = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .saturating_add(VERSION_LENGTH);
    if claimed > limit {
        return Err(WireError::TooLong {
            field: "request",
            length: claimed as u64,
            limit: limit as u64,
        });
    }
    Ok(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(payload: &[u8]) -> Request {
        Request::Create {
            version: ProtocolVersion::V24_11,
            ruid: ANYBODY,
            payload: payload.to_vec(),
        }
    }

    fn verify(token: &str) -> Request {
        Request::Verify {
            version: ProtocolVersion::V26_05,
            token: token.to_owned(),
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex
            .chars()
            .filter_map(|c| c.to_digit(16))
            .map(|d| d as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    /// The smallest create of a real client, as captured from Slurm 24.11.5.
    #[test]
    fn golden_create() {
        let golden = bytes("2a00 00000010 0000fa01 ffffffff 00000000");
        assert_eq!(create(b"").encode(), golden);
        assert_eq!(Request::parse(&golden), Ok(Some(create(b""))));
    }

    #[test]
    fn split_anywhere_asks_for_more() {
        for request in [create(b""), create(&[7; 33]), verify("a.b.c")] {
            let whole = request.encode();
            for end in 0..whole.len() {
                assert_eq!(
                    Request::parse(&whole[..end]),
                    Ok(None),
                    "{request:?} cut at {end}"
                );
            }
            assert_eq!(Request::parse(&whole), Ok(Some(request)));
        }
    }

    #[test]
    fn trailing_bytes_and_small_lengths_are_forgiven() {
        let mut twice = create(b"x").encode();
        twice.extend_from_slice(&create(b"y").encode());
        assert_eq!(Request::parse(&twice), Ok(Some(create(b"x"))));
        let zero_length = bytes("2a00 00000000 0000fa01 ffffffff 00000000");
        assert_eq!(Request::parse(&zero_length), Ok(Some(create(b""))));
    }

    #[test]
    fn what_is_refused() {
        let check = |hex: &str| Request::parse(&bytes(hex)).expect_err(hex);
        let opcode = WireError::Value {
            field: "opcode",
            value: 64003,
        };
        assert_eq!(check("2a00 00000010 0000fa03 ffffffff 00000000"), opcode);
        // Garbage that claims a gigabyte is known as such by its sixth byte.
        assert!(matches!(check("4745 54202f20"), WireError::TooLong { .. }));
        assert!(matches!(
            check("2a00 00001000 0000fa01"),
            WireError::TooLong { .. }
        ));
        assert!(matches!(
            check("2a00 00000010 0000fa01 ffffffff 00010000"),
            WireError::TooLong { .. }
        ));
        assert_eq!(
            check("2a00 0000000c 0000fa02 00000000"),
            WireError::NotAString("token")
        );
        assert_eq!(
            check("2a00 0000000e 0000fa02 00000002 6161"),
            WireError::NotAString("token")
        );
    }

    #[test]
    fn limits_are_exact() {
        let largest = CREATE_LIMIT - 18;
        let fits = create(&vec![0; largest]);
        assert_eq!(Request::parse(&fits.encode()), Ok(Some(fits)));
        assert!(Request::parse(&create(&vec![0; largest + 1]).encode()).is_err());
        // A small length field does not open a way around the limit.
        let mut liar = create(&vec![0; largest + 1]).encode();
        liar[2..6].fill(0);
        assert!(Request::parse(&liar).is_err());
        let largest = VERIFY_LIMIT - 15;
        let fits = verify(&"t".repeat(largest));
        assert_eq!(Request::parse(&fits.encode()), Ok(Some(fits)));
        assert!(Request::parse(&verify(&"t".repeat(largest + 1)).encode()).is_err());
    }

    #[test]
    fn replies() {
        let reply = token_reply("a.b.c");
        assert_eq!(reply, bytes("00000006 612e622e6300"));
        for end in 0..reply.len() {
            assert_eq!(parse_token_reply(&reply[..end]), Ok(None));
        }
        assert_eq!(parse_token_reply(&reply), Ok(Some("a.b.c".to_owned())));
        assert!(parse_token_reply(&[0; 4]).is_err());
        assert_eq!(parse_verdict_reply(&verdict_reply(true)), Some(true));
        assert_eq!(parse_verdict_reply(&verdict_reply(false)), Some(false));
        assert_eq!(parse_verdict_reply(&[0; 3]), None);
    }
}
