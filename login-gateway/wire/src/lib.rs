//! Messages between the gateway's processes, one enum per direction, and the settings that all of
//! them share. Encode and decode, and what the settings say for one login: no I/O.
//!
//! Each message is one record of a `SOCK_SEQPACKET` socket, in postcard form. A message that does
//! not decode, or has bytes left over, ends the connection it came on.
#![forbid(unsafe_code)]

pub mod accept;
pub mod address;
pub mod certificate;
pub mod control;
pub mod crypto;
pub mod digest;
pub mod doors;
pub mod monitor;
pub mod numbers;
pub mod policy;
pub mod session;
pub mod settings;
pub mod timeout;
pub mod user_name;

pub use settings::{Policy, Settings};
pub use user_name::UserName;

use serde::{Serialize, de::DeserializeOwned};

/// Largest message in bytes: a command of 128 KiB (the kernel's limit of one argument) and its
/// environment.
pub const MAX_MESSAGE: usize = 160 * 1024;

/// A message that cannot be sent or understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are not a message of this direction.
    #[error("malformed message")]
    Malformed,
    /// The message is larger than [`MAX_MESSAGE`].
    #[error("message larger than {MAX_MESSAGE} bytes")]
    TooLarge,
}

/// The bytes of a message.
///
/// # Errors
/// [`WireError::TooLarge`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, WireError> {
    // Room enough for a password at once: a buffer that grows leaves copies behind.
    let room = Vec::with_capacity(2048);
    let bytes = postcard::to_extend(message, room).map_err(|_| WireError::Malformed)?;
    if bytes.len() > MAX_MESSAGE {
        Err(WireError::TooLarge)
    } else {
        Ok(bytes)
    }
}

/// The message of these bytes, all of them.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(WireError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Program, Pty, ToSession};

    fn start() -> ToSession {
        ToSession::Start {
            channel: 7,
            program: Program::Exec(b"echo \xff".to_vec()),
            pty: Some(Pty {
                term: "xterm".into(),
                size: Default::default(),
                modes: vec![(1, 3)],
            }),
            env: vec![("LANG".into(), "C".into())],
            x11: None,
        }
    }

    #[test]
    fn round_trip_and_truncation_at_every_length() {
        let bytes = encode(&start()).unwrap();
        assert_eq!(decode::<ToSession>(&bytes), Ok(start()));
        for cut in 0..bytes.len() {
            assert_eq!(
                decode::<ToSession>(&bytes[..cut]),
                Err(WireError::Malformed),
                "{cut}"
            );
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(decode::<ToSession>(&longer), Err(WireError::Malformed));
    }

    #[test]
    fn a_huge_length_is_refused_without_an_allocation() {
        // Variant Start, channel 1, program Exec, then a length of 2^32 - 1.
        let bytes = [0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(decode::<ToSession>(&bytes), Err(WireError::Malformed));
        let big = ToSession::Start {
            channel: 1,
            program: Program::Exec(vec![0; MAX_MESSAGE]),
            pty: None,
            env: Vec::new(),
            x11: None,
        };
        assert_eq!(encode(&big), Err(WireError::TooLarge));
    }
}
