//! One client's connection: bytes in until a request is whole, bytes out until the answer is
//! gone. It knows no keys and decides nothing.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use slurm_wire::WireError;
use slurm_wire::sack::{Request, VERIFY_LIMIT};
use sys::peer::PeerCredentials;

/// From the whole request to the end: look-up and answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read at a time; a request is seldom longer.
const CHUNK: usize = 4096;

/// Where a connection stands.
#[derive(Debug)]
pub enum State {
    /// Its request is not whole yet.
    Reading,
    /// Its request came too fast and waits for its turn.
    Paced(Request, Instant),
    /// Its request waits for an identity.
    Waiting(crate::signer::Create),
    /// Its answer is being sent.
    Writing(Vec<u8>),
}

/// What reading brought.
#[derive(Debug)]
pub enum Progress {
    /// Nothing more at present.
    Later,
    /// The request is whole.
    Request(Request),
    /// The connection has ended; malformed bytes are the error.
    Ended(Option<WireError>),
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Who is at the other end, from the kernel.
    pub peer: PeerCredentials,
    /// Whose socket it came to, by its place in the settings.
    pub cluster: usize,
    /// When its request was whole.
    pub asked: Instant,
    /// When it was accepted.
    pub opened: Instant,
    /// When it must be over.
    pub deadline: Instant,
    /// Where it stands.
    pub state: State,
    received: Vec<u8>,
}

impl Connection {
    /// Takes over an accepted stream.
    ///
    /// # Errors
    /// If the peer cannot be named or the stream not be made non-blocking.
    pub fn new(
        stream: UnixStream,
        cluster: usize,
        request_timeout: Duration,
    ) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            peer: sys::peer::credentials(&stream)?,
            cluster,
            asked: Instant::now(),
            stream,
            opened: Instant::now(),
            deadline: Instant::now() + request_timeout,
            state: State::Reading,
            received: Vec::new(),
        })
    }

    /// The stream, for `poll`.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether it has not yet said what it wants.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Reading)
    }

    /// Whether it has asked and waits for a turn or an identity.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Paced(..))
    }

    /// Reads what is there. A client that has closed its half after a whole request is answered.
    pub fn read(&mut self) -> Progress {
        let mut chunk = [0; CHUNK];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Progress::Ended(None),
                Ok(n) => {
                    self.received.extend_from_slice(&chunk[..n]);
                    match Request::parse(&self.received) {
                        Ok(Some(request)) => {
                            self.received = Vec::new();
                            self.asked = Instant::now();
                            self.deadline = self.asked + ANSWER_TIMEOUT;
                            return Progress::Request(request);
                        }
                        Ok(None) if self.received.len() > VERIFY_LIMIT => {
                            return Progress::Ended(Some(WireError::Truncated("request")));
                        }
                        Ok(None) => {}
                        Err(error) => return Progress::Ended(Some(error)),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Later,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Progress::Ended(None),
            }
        }
    }

    /// Sends an answer; `true` once it is all sent or the client is gone.
    pub fn answer(&mut self, bytes: Vec<u8>) -> bool {
        self.state = State::Writing(bytes);
        self.write()
    }

    /// Sends what is left of the answer; `true` once it is all sent or the client is gone.
    pub fn write(&mut self) -> bool {
        let State::Writing(rest) = &mut self.state else {
            return false;
        };
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(n) => {
                    rest.drain(..n);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        self.discard();
        true
    }

    /// Reads away what came after the request: closing with unread bytes would reach the client
    /// as a connection reset.
    fn discard(&mut self) {
        let mut chunk = [0; CHUNK];
        for _ in 0..VERIFY_LIMIT / CHUNK {
            if !matches!(self.stream.read(&mut chunk), Ok(n) if n > 0) {
                return;
            }
        }
    }
}
