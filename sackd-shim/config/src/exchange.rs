//! One request and one reply over TCP, all of it under one deadline.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use slurm_wire::rpc::{LENGTH_FIELD, Message, frame_length};
use slurm_wire::{ProtocolVersion, WireError};

use crate::address::Controller;
use crate::error::ConfigError;

/// Largest message that is read, in bytes.
pub const MESSAGE_LIMIT: usize = 20 << 20;
/// Bytes of a message that are read of anybody: header and token are within them.
const START: usize = 128 << 10;
/// From the connection to the end of the reply: Slurm's MessageTimeout.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for one address of several.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends a message and reads the reply.
///
/// # Errors
/// [`ConfigError::Version`] if the controller closes without a word or answers in HTTP, which is
/// how newer ones say that they do not speak the version; [`ConfigError::System`],
/// [`ConfigError::Wire`].
pub fn exchange(controller: &Controller, request: &Message) -> Result<Message, ConfigError> {
    let addresses = controller.resolve()?;
    let deadline = Instant::now() + TIMEOUT;
    let mut stream = connect(&controller.name, &addresses, deadline)?;
    let name = &controller.name;
    let sending = || ConfigError::system(format!("send to '{name}'"));
    stream.set_write_timeout(Some(TIMEOUT)).map_err(sending())?;
    stream.write_all(&request.encode()).map_err(sending())?;
    match read_frame(&mut stream, MESSAGE_LIMIT, deadline, &|_| true) {
        Ok(Some(frame)) => match Message::decode(&frame) {
            Err(WireError::Version(version)) => {
                let speaks = Some(ProtocolVersion(version));
                Err(ConfigError::Version {
                    server: name.clone(),
                    speaks,
                })
            }
            other => other.map_err(ConfigError::wire(name)),
        },
        Ok(None) | Err(FrameError::Http | FrameError::Unwanted) => Err(ConfigError::Version {
            server: name.clone(),
            speaks: None,
        }),
        Err(FrameError::Io(source)) => Err(ConfigError::System {
            doing: format!("read from '{name}'"),
            source,
        }),
        Err(FrameError::Wire(source)) => Err(ConfigError::Wire {
            peer: name.clone(),
            source,
        }),
    }
}

fn connect(
    name: &str,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<TcpStream, ConfigError> {
    let doing = format!("connect to '{name}'");
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, left.min(CONNECT_TIMEOUT)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(ConfigError::System {
        doing,
        source: last,
    })
}

/// Why no frame was read.
#[derive(Debug)]
pub enum FrameError {
    /// The stream failed or was too slow.
    Io(std::io::Error),
    /// The length is beyond the limit.
    Wire(WireError),
    /// The other side speaks HTTP.
    Http,
    /// Its start is not such that the rest should be read.
    Unwanted,
}

/// Reads one length-prefixed frame; `None` if the stream ends before its first byte. Memory
/// grows with what arrives, not with what is claimed. A long one is read on if `is_wanted` says so of its
/// start, of [`START`] bytes.
///
/// # Errors
/// [`FrameError`].
pub fn read_frame(
    stream: &mut TcpStream,
    limit: usize,
    deadline: Instant,
    is_wanted: &dyn Fn(&[u8]) -> bool,
) -> Result<Option<Vec<u8>>, FrameError> {
    let mut received = Vec::new();
    let mut is_known = false;
    let mut chunk = [0; 16 * 1024];
    loop {
        if received.starts_with(b"HTTP") {
            return Err(FrameError::Http);
        }
        let whole = frame_length(&received, limit).map_err(FrameError::Wire)?;
        if let Some(length) = whole
            && received.len() >= LENGTH_FIELD + length
        {
            received.truncate(LENGTH_FIELD + length);
            received.drain(..LENGTH_FIELD);
            return Ok(Some(received));
        }
        if !is_known && received.len() >= LENGTH_FIELD + START {
            if !is_wanted(&received[LENGTH_FIELD..]) {
                return Err(FrameError::Unwanted);
            }
            is_known = true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(FrameError::Io(std::io::ErrorKind::TimedOut.into()));
        }
        stream
            .set_read_timeout(Some(left))
            .map_err(FrameError::Io)?;
        match stream.read(&mut chunk) {
            Ok(0) if received.is_empty() => return Ok(None),
            Ok(0) => return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => received.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // A controller that refuses may reset the connection instead of closing it.
            Err(error)
                if received.is_empty() && error.kind() == std::io::ErrorKind::ConnectionReset =>
            {
                return Ok(None);
            }
            // What a read that took too long says, in words that nobody understands.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
}
