//! One client's connection: bytes in until a request is whole, bytes out until the answer is
//! gone. It knows no keys and decides nothing.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
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
    /// Whether `epoll` knows it.
    pub is_watched: bool,
    received: Vec<u8>,
}

impl Connection {
    /// Takes over an accepted stream.
    ///
    /// # Errors
    /// If the peer cannot be named.
    pub fn new(
        stream: UnixStream,
        cluster: usize,
        request_timeout: Duration,
    ) -> std::io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            peer: sys::peer::credentials(&stream)?,
            cluster,
            asked: now,
            stream,
            opened: now,
            deadline: now + request_timeout,
            is_watched: false,
            state: State::Reading,
            received: Vec::new(),
        })
    }

    /// The stream. It blocks by itself; here nothing waits (`MSG_DONTWAIT`), which saves a call.
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
    ///
    /// A request that came in one piece is only looked at and read with [`Self::discard`]: taking the
    /// bytes away wakes a client that waits for its answer, in vain, before there is one.
    pub fn read(&mut self) -> Progress {
        let mut chunk = [0; CHUNK];
        if self.received.is_empty() {
            match self.receive(&mut chunk, MsgFlags::MSG_PEEK) {
                Err(ended) => return ended,
                Ok(n) => match Request::parse(&chunk[..n]) {
                    Ok(Some(request)) => return self.asked(request),
                    Ok(None) => {}
                    Err(error) => return Progress::Ended(Some(error)),
                },
            }
        }
        loop {
            let n = match self.receive(&mut chunk, MsgFlags::empty()) {
                Ok(n) => n,
                Err(ended) => return ended,
            };
            self.received.extend_from_slice(&chunk[..n]);
            match Request::parse(&self.received) {
                Ok(Some(request)) => return self.asked(request),
                Ok(None) if self.received.len() > VERIFY_LIMIT => {
                    return Progress::Ended(Some(WireError::Truncated("request")));
                }
                Ok(None) => {}
                Err(error) => return Progress::Ended(Some(error)),
            }
        }
    }

    fn asked(&mut self, request: Request) -> Progress {
        self.received = Vec::new();
        self.asked = Instant::now();
        self.deadline = self.asked + ANSWER_TIMEOUT;
        Progress::Request(request)
    }

    /// Bytes that are there; what to make of none is the error.
    fn receive(&self, chunk: &mut [u8], flags: MsgFlags) -> Result<usize, Progress> {
        loop {
            match recv(
                self.stream.as_raw_fd(),
                chunk,
                flags | MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(0) => return Err(Progress::Ended(None)),
                Ok(n) => return Ok(n),
                Err(Errno::EAGAIN) => return Err(Progress::Later),
                Err(Errno::EINTR) => {}
                Err(_) => return Err(Progress::Ended(None)),
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
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.stream.as_raw_fd(), rest, flags) {
                Ok(n) => {
                    rest.drain(..n);
                }
                Err(Errno::EAGAIN) => return false,
                Err(Errno::EINTR) => {}
                Err(_) => return true,
            }
        }
        self.discard();
        true
    }

    /// Reads away the request, and what came after it: closing with unread bytes would reach the
    /// client as a connection reset.
    pub fn discard(&self) {
        let mut chunk = [0; CHUNK];
        for _ in 0..VERIFY_LIMIT / CHUNK {
            match self.receive(&mut chunk, MsgFlags::empty()) {
                Ok(n) if n == CHUNK => {}
                _ => return,
            }
        }
    }
}
