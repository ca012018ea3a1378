//! A connection that is turned away with words: a client that speaks SSH shows them to its user. No
//! key is needed for that, since a DISCONNECT may come before the key exchange (RFC 4253, 11.1).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Time from the words to the end. Without it a reset, for what the client has sent meanwhile, could
/// overtake them.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What is said while the gateway takes no more logins.
pub const DRAINING: &str =
    "This login node takes no more logins, since it is about to stop. Please try again.";

/// Our side of the version exchange, as `login-gateway-net` says it too.
const VERSION: &[u8] = b"SSH-2.0-slurm-login\r\n";
/// `SSH_MSG_DISCONNECT` and `SSH_DISCONNECT_BY_APPLICATION`, RFC 4253 sections 11.1 and 12.
const DISCONNECT: u8 = 1;
const BY_APPLICATION: u32 = 11;

/// Such a connection, after the words.
#[derive(Debug)]
pub struct Refusal {
    stream: TcpStream,
    pub deadline: Instant,
}

impl Refusal {
    /// Says the words; `None` if the peer has already ended.
    pub fn begin(mut stream: TcpStream, words: &str, now: Instant) -> Option<Self> {
        let text = message(words);
        // A fresh socket has room for two hundred bytes.
        let whole = stream.write(&text).is_ok_and(|n| n == text.len());
        (whole && stream.shutdown(Shutdown::Write).is_ok()).then_some(Self {
            stream,
            deadline: now + PATIENCE,
        })
    }

    /// Throws away what the client sends; `false` when it has ended.
    pub fn step(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(read) => read > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

impl AsFd for Refusal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The version line and one packet, RFC 4253 section 6, as it is before there are keys: length,
/// length of the padding, payload, padding to a multiple of eight.
fn message(words: &str) -> Vec<u8> {
    let mut payload = vec![DISCONNECT];
    payload.extend(BY_APPLICATION.to_be_bytes());
    payload.extend((words.len() as u32).to_be_bytes());
    payload.extend(words.as_bytes());
    // No language.
    payload.extend(0u32.to_be_bytes());

    let mut padding = 8 - (4 + 1 + payload.len()) % 8;
    if padding < 4 {
        padding += 8;
    }
    let mut bytes = VERSION.to_vec();
    bytes.extend((1 + payload.len() as u32 + padding as u32).to_be_bytes());
    bytes.push(padding as u8);
    bytes.extend(payload);
    bytes.resize(bytes.len() + padding, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_one_of_rfc_4253() {
        for words in ["", "x", "seven b", "eight by", DRAINING] {
            let bytes = message(words);
            let packet = bytes.strip_prefix(VERSION).unwrap();
            assert_eq!(packet.len() % 8, 0, "{words}");
            let (length, rest) = packet.split_at(4);
            let length = u32::from_be_bytes(length.try_into().unwrap());
            assert_eq!(length as usize, rest.len());
            let padding = usize::from(rest[0]);
            assert!((4..=11).contains(&padding), "{padding}");
            let payload = &rest[1..rest.len() - padding];
            assert_eq!(&payload[..5], &[1, 0, 0, 0, 11]);
            let text = &payload[9..9 + words.len()];
            assert_eq!(text, words.as_bytes());
        }
    }
}
