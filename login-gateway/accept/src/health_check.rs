//! One connection to the health endpoint: reads a request, perhaps behind a PROXY header (a
//! balancer that sends one sends it to the health port as well), writes the answer, ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use gateway_wire::accept::Health;
use login_gateway_accept::http::MAX_REQUEST;
use login_gateway_accept::metrics::respond;
use login_gateway_accept::proxy_header::{self, HeaderError, MAX_HEADER, Progress};

/// Time from accept to the end of the answer.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// Such a connection.
#[derive(Debug)]
pub struct HealthCheck {
    stream: TcpStream,
    pub deadline: Instant,
    received: Vec<u8>,
    /// What of the answer is not yet written, once there is one.
    answer: Option<Vec<u8>>,
}

impl HealthCheck {
    /// A connection that has just been accepted; its socket is non-blocking.
    pub fn new(stream: TcpStream, now: Instant) -> Self {
        Self {
            stream,
            deadline: now + DEADLINE,
            received: Vec::new(),
            answer: None,
        }
    }

    /// Whether it waits to write rather than to read.
    pub fn writes(&self) -> bool {
        self.answer.is_some()
    }

    /// Goes as far as the socket lets it; `false` when the connection is over.
    pub fn step(&mut self, health: &Health) -> bool {
        if self.answer.is_none() {
            let ended = match self.read() {
                Ok(ended) => ended,
                Err(_) => return false,
            };
            self.answer = request(&self.received).and_then(|part| respond(part, health));
            if ended && self.answer.is_none() {
                return false;
            }
        }
        let Some(answer) = &mut self.answer else {
            return true;
        };
        match self.stream.write(answer) {
            Ok(written) if written == answer.len() => {
                let _ = self.stream.shutdown(Shutdown::Write);
                false
            }
            Ok(written) => {
                answer.drain(..written);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Reads what is there, up to the limit; `true` if no more will come.
    fn read(&mut self) -> std::io::Result<bool> {
        let mut buffer = [0; 1024];
        while self.received.len() < MAX_HEADER + MAX_REQUEST {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The bytes behind the PROXY header, if there is one; `None` while it is not whole. The addresses
/// in it are of no use here, so anybody may send it.
fn request(received: &[u8]) -> Option<&[u8]> {
    match proxy_header::parse(received) {
        Ok(Progress::Whole { length, .. }) => received.get(length..),
        Ok(Progress::NeedsMore(_)) => None,
        Err(HeaderError::Signature) => Some(received),
        // Answered as the bad request that it is.
        Err(_) => Some(b"\0"),
    }
}

impl AsFd for HealthCheck {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
