//! The RPC frame: length, header, credential, body. One message per direction and connection.
//! Forwarded messages and return lists are refused: a login node never handles them.

use crate::{Packer, ProtocolVersion, Unpacker, WireError, pack::length};

/// Flag of a message without a credential; set in every reply.
pub const NO_CREDENTIAL: u16 = 0x0040;
/// Most bytes of a token inside an RPC.
pub const TOKEN_LIMIT: usize = 256 * 1024;
/// Bytes of the length field that starts each frame.
pub const LENGTH_FIELD: usize = 4;

/// What a message is about. The numbers are the same in all releases with SACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageType(pub u16);

impl MessageType {
    /// slurmctld pushes a new configuration to a registered login node.
    pub const RECONFIGURE_SACKD: Self = Self(1006);
    /// Empty body; answered by [`MessageType::RETURN_CODE`].
    pub const PING: Self = Self(1008);
    /// Ask for the configuration files.
    pub const REQUEST_CONFIG: Self = Self(2015);
    /// The configuration files.
    pub const RESPONSE_CONFIG: Self = Self(2016);
    /// Ask for a bearer token of auth/jwt.
    pub const REQUEST_AUTH_TOKEN: Self = Self(5039);
    /// The bearer token.
    pub const RESPONSE_AUTH_TOKEN: Self = Self(5040);
    /// A bare number as the answer.
    pub const RETURN_CODE: Self = Self(8001);
}

/// Who says so: the credential between header and body, by Slurm's plugin numbers.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// auth/slurm, 103: a token in JWS compact form.
    Slurm(String),
    /// auth/jwt, 102: a bearer token and, seldom, the user it is used for.
    Jwt {
        /// The token in JWS compact form.
        token: String,
        /// Another user, whom only root and SlurmUser may name.
        user: Option<String>,
    },
    /// auth/munge, 101: what munged gave.
    Munge(String),
    /// auth/none, 100.
    None,
}

// A token is good for its whole lifetime, so it never reaches a log through `{:?}`.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Slurm(_) => "Slurm(<token>)",
            Self::Jwt { .. } => "Jwt(<token>)",
            Self::Munge(_) => "Munge(<credential>)",
            Self::None => "None",
        })
    }
}

/// One whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Protocol version that the body is packed in.
    pub version: ProtocolVersion,
    /// Header flags without [`NO_CREDENTIAL`], which follows from `credential`.
    pub flags: u16,
    /// What the body is.
    pub message_type: MessageType,
    /// Absent in replies.
    pub credential: Option<Credential>,
    /// Packed body.
    pub body: Vec<u8>,
}

impl Message {
    /// Packs the message with its length field. A 16-byte header follows the length: `u16`
    /// version, `u16` flags, `u16` type, `u32` body length, `u16` forwards, `u16` return list,
    /// `u16` original address family; then credential and body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut rest = Packer::new();
        let absent = if self.credential.is_none() {
            NO_CREDENTIAL
        } else {
            0
        };
        rest.u16(self.version.0)
            .u16(self.flags & !NO_CREDENTIAL | absent)
            .u16(self.message_type.0)
            .u32(length(self.body.len()))
            .u16(0)
            .u16(0)
            .u16(0);
        match &self.credential {
            None => &mut rest,
            Some(Credential::Slurm(token)) => rest.u32(103).string(Some(token.as_bytes())),
            Some(Credential::Jwt { token, user }) => rest
                .u32(102)
                .string(Some(token.as_bytes()))
                .string(user.as_ref().map(String::as_bytes)),
            Some(Credential::Munge(text)) => rest.u32(101).string(Some(text.as_bytes())),
            Some(Credential::None) => rest.u32(100),
        };
        rest.raw(&self.body);
        let rest = rest.finish();
        let mut frame = Packer::new();
        frame.block(&rest);
        frame.finish()
    }

    /// Reads a message from the bytes after the length field.
    ///
    /// # Errors
    /// [`WireError::Version`] for a version not spoken here, [`WireError::Refused`] for
    /// forwards and return lists, and the errors of the fields. The body length must be exactly
    /// what is left.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Unpacker::new(frame);
        let (mut message, body_length) = Self::head(&mut bytes)?;
        message.body = bytes.take(body_length, "body")?.to_vec();
        bytes.end()?;
        Ok(message)
    }

    /// Reads the message up to its body from the start of a frame, so that a reader knows whom it is from
    /// before it takes all of it. The body is empty here.
    ///
    /// # Errors
    /// As [`Self::decode`]; [`WireError::Truncated`] if header and credential are not all there.
    pub fn decode_head(start: &[u8]) -> Result<Self, WireError> {
        Self::head(&mut Unpacker::new(start)).map(|(message, _)| message)
    }

    /// With the length of the body.
    fn head(bytes: &mut Unpacker<'_>) -> Result<(Self, usize), WireError> {
        let version = ProtocolVersion(bytes.u16("version")?).spoken()?;
        let flags = bytes.u16("flags")?;
        let message_type = MessageType(bytes.u16("message type")?);
        let body_length = bytes.u32("body length")? as usize;
        if bytes.u16("forward count")? != 0 {
            return Err(WireError::Refused("forwards"));
        }
        if bytes.u16("return-list count")? != 0 {
            return Err(WireError::Refused("return lists"));
        }
        skip_original_address(bytes)?;
        let credential = if flags & NO_CREDENTIAL != 0 {
            None
        } else {
            Some(credential(bytes)?)
        };
        let message = Self {
            version,
            flags: flags & !NO_CREDENTIAL,
            message_type,
            credential,
            body: Vec::new(),
        };
        Ok((message, body_length))
    }
}

/// Reads the length field of a frame and holds it against `limit`, so that a reader knows how
/// many bytes to wait for. `Ok(None)` asks for more bytes.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn frame_length(received: &[u8], limit: usize) -> Result<Option<usize>, WireError> {
    let Some(field) = received.first_chunk::<LENGTH_FIELD>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*field);
    match usize::try_from(length) {
        Ok(n) if n <= limit => Ok(Some(n)),
        _ => Err(WireError::TooLong {
            field: "message",
            length: u64::from(length),
            limit: limit as u64,
        }),
    }
}

/// The address a forwarded message came from at first. Nothing here needs it.
fn skip_original_address(bytes: &mut Unpacker<'_>) -> Result<(), WireError> {
    match bytes.u16("address family")? {
        0 => {}
        2 => {
            bytes.take(6, "IPv4 address")?;
        }
        10 => {
            bytes.block(16, "IPv6 address")?;
            bytes.u16("port")?;
        }
        other => {
            return Err(WireError::Value {
                field: "address family",
                value: u64::from(other),
            });
        }
    }
    Ok(())
}

fn credential(bytes: &mut Unpacker<'_>) -> Result<Credential, WireError> {
    let plugin = bytes.u32("credential plugin")?;
    let token = |bytes: &mut Unpacker<'_>| {
        bytes
            .text(TOKEN_LIMIT, "credential")?
            .map(str::to_owned)
            .ok_or(WireError::NotAString("credential"))
    };
    match plugin {
        100 => Ok(Credential::None),
        101 => Ok(Credential::Munge(token(bytes)?)),
        102 => Ok(Credential::Jwt {
            token: token(bytes)?,
            user: bytes.text(1024, "user name")?.map(str::to_owned),
        }),
        103 => Ok(Credential::Slurm(token(bytes)?)),
        other => Err(WireError::Value {
            field: "credential plugin",
            value: u64::from(other),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(credential: Option<Credential>) -> Message {
        Message {
            version: ProtocolVersion::V24_11,
            flags: 0,
            message_type: MessageType::PING,
            credential,
            body: vec![],
        }
    }

    #[test]
    fn golden_reply() {
        // A controller's answer to a ping (Slurm 24.11.5).
        let golden = b"\0\0\0\x14\x2a\0\0\x44\x1f\x41\0\0\0\x04\0\0\0\0\0\0\0\0\0\0";
        let message = Message::decode(&golden[4..]).unwrap();
        assert_eq!(message.message_type, MessageType::RETURN_CODE);
        assert_eq!(message.flags, 4);
        assert_eq!(message.body, [0; 4]);
        assert_eq!(message.encode(), golden);
    }

    #[test]
    fn every_credential_round_trips_and_every_cut_is_refused() {
        let text = || "a.b.c".to_owned();
        for credential in [
            None,
            Some(Credential::None),
            Some(Credential::Slurm(text())),
            Some(Credential::Munge(text())),
            Some(Credential::Jwt {
                token: text(),
                user: None,
            }),
            Some(Credential::Jwt {
                token: text(),
                user: Some("alice".to_owned()),
            }),
        ] {
            for body in [vec![], vec![1, 2, 3]] {
                let message = Message {
                    body,
                    ..ping(credential.clone())
                };
                let frame = message.encode();
                assert_eq!(frame_length(&frame, 1000), Ok(Some(frame.len() - 4)));
                assert_eq!(Message::decode(&frame[4..]), Ok(message.clone()));
                for end in 4..frame.len() {
                    assert!(Message::decode(&frame[4..end]).is_err(), "cut at {end}");
                }
                let head = Message::decode_head(&frame[4..frame.len() - message.body.len()]);
                let bare = Message {
                    body: vec![],
                    ..message.clone()
                };
                assert_eq!(head, Ok(bare));
                let short = &frame[4..frame.len() - message.body.len() - 1];
                assert!(Message::decode_head(short).is_err());
                let longer = [&frame[4..], &[0]].concat();
                assert!(Message::decode(&longer).is_err());
            }
        }
    }

    #[test]
    fn original_addresses_are_skipped() {
        let plain = ping(None).encode();
        let with = |address: &[u8]| [&plain[4..plain.len() - 2], address].concat();
        assert_eq!(
            Message::decode(&with(b"\0\x02\x01\0\0\x7f\x12\x34")),
            Ok(ping(None))
        );
        let six = [&b"\0\x0a\0\0\0\x10"[..], &[0; 16], &[0; 2]].concat();
        assert_eq!(Message::decode(&with(&six)), Ok(ping(None)));
        assert!(Message::decode(&with(b"\0\x01")).is_err());
    }

    #[test]
    fn what_is_refused() {
        let frame = ping(None).encode();
        let check = |at: usize, value: u8| {
            let mut bytes = frame[4..].to_vec();
            bytes[at] = value;
            Message::decode(&bytes).expect_err("refused")
        };
        assert_eq!(check(0, 0x27), WireError::Version(0x2700));
        assert_eq!(check(0, 0x2e), WireError::Version(0x2e00));
        assert_eq!(check(11, 1), WireError::Refused("forwards"));
        assert_eq!(check(13, 1), WireError::Refused("return lists"));
        assert_eq!(check(9, 1), WireError::Truncated("body"));
        assert!(frame_length(b"HTTP/1.1 405", 1 << 24).is_err());
        assert_eq!(frame_length(b"\0\0\0", 16), Ok(None));
    }
}
