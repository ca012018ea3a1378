//! Packets out of the stream from the client. Their fields are read in `request`.

use std::io::{self, BufReader, ErrorKind, Read};

use crate::packet::{MAX_PACKET, Packet};
use crate::stream::Stream;

/// Bytes that are read ahead. What is left of a large packet goes to its own buffer directly.
const BUFFER: usize = 32 * 1024;

/// Where packets come from.
#[derive(Debug)]
pub struct Input(BufReader<Stream>);

/// The stream is of no use any more: nothing tells where the next packet begins.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Reading failed.
    #[error("read from the client")]
    Read(#[from] io::Error),
    /// A length above [`MAX_PACKET`].
    #[error("a packet of {0} bytes is too long")]
    TooLong(usize),
    /// Too short for an id, so that it cannot be answered.
    #[error("a packet of {0} bytes is too short")]
    TooShort(usize),
    /// A request in front of `SSH_FXP_INIT`.
    #[error("a request before the version is agreed on")]
    TooEarly,
}

impl StreamError {
    /// The exit codes of OpenSSH's server.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Read(_) => 1,
            Self::TooLong(_) => 11,
            Self::TooShort(_) | Self::TooEarly => 255,
        }
    }
}

impl Input {
    /// From this stream.
    pub fn of(stream: Stream) -> Self {
        Self(BufReader::with_capacity(BUFFER, stream))
    }

    /// If the client has sent more already.
    pub fn has_more(&self) -> bool {
        !self.0.buffer().is_empty() || self.0.get_ref().is_readable()
    }

    /// If the next packet can be had without asking the kernel.
    pub fn has_packet(&self) -> bool {
        let buffer = self.0.buffer();
        buffer
            .split_first_chunk()
            .is_some_and(|(length, rest)| u32::from_be_bytes(*length) as usize <= rest.len())
    }

    /// The next packet without its length; `None` at the end of the stream, also inside a packet.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn packet(&mut self) -> Result<Option<Packet>, StreamError> {
        let mut length = [0; 4];
        if !self.fill(&mut length)? {
            return Ok(None);
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_PACKET {
            return Err(StreamError::TooLong(length));
        }
        let mut packet = Packet::with_room(length);
        Ok(self.fill(&mut packet)?.then_some(packet))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, StreamError> {
        match self.0.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            // The other end of a socket was closed with answers in it: the end, too.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
