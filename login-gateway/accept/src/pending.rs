//! A connection from a network that may send a PROXY header, until the header is there. Bytes are
//! looked at without being taken, so that what is not a header stays the client's.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use gateway_wire::accept::Endpoints;
use login_gateway_accept::proxy_header::{self, Header, HeaderError, MAX_HEADER, Progress};

/// Time from accept to the end of the header.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// Such a connection.
#[derive(Debug)]
pub struct Pending {
    pub stream: TcpStream,
    socket: Endpoints,
    pub deadline: Instant,
    /// Bytes for which the socket wakes us.
    wanted: usize,
}

/// What becomes of it.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Wait for more.
    Wait,
    /// It goes to the listener with these endpoints, and with what the balancer says beside them.
    PassOn(Endpoints, Begin, Vec<(String, String)>),
    /// It is closed.
    Close(Close),
}

/// What a connection that is passed on began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// A header about a client.
    Proxied,
    /// A header of the balancer's own.
    Local,
    /// No header.
    Bare,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Close {
    /// What it sent is not a header.
    #[error("{0}")]
    Malformed(HeaderError),
    /// It ended, or time ran out, before the header was whole.
    #[error("no whole PROXY header")]
    Unfinished,
}

impl Pending {
    /// A connection that has just been accepted; its socket is non-blocking.
    pub fn new(stream: TcpStream, socket: Endpoints, now: Instant) -> Self {
        Self {
            stream,
            socket,
            deadline: now + DEADLINE,
            wanted: 1,
        }
    }

    /// Where the connection comes from by its socket.
    pub fn peer(&self) -> std::net::SocketAddr {
        self.socket.source
    }

    /// Looks at what has arrived. `ended` says that no more will come: the peer has ended or the
    /// deadline is over. `required` says whether a connection may do without a header.
    pub fn step(&mut self, ended: bool, required: bool) -> Step {
        let mut buffer = [0; MAX_HEADER];
        let seen = match self.stream.peek(&mut buffer) {
            Ok(seen) => seen,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Some clients wait for the server to speak first; they send nothing till then.
                return match (ended, required) {
                    (true, false) => self.bare(),
                    (true, true) => Step::Close(Close::Unfinished),
                    (false, _) => Step::Wait,
                };
            }
            Err(_) => return Step::Close(Close::Unfinished),
        };
        match proxy_header::parse(&buffer[..seen]) {
            Ok(Progress::Whole { header, length }) => self.take(header, length),
            // Below the mark the socket is readable only once its peer has ended. A health check
            // that opens and closes the port ends here, with 0 bytes seen.
            Ok(Progress::NeedsMore(_)) if ended || seen < self.wanted => {
                Step::Close(Close::Unfinished)
            }
            Ok(Progress::NeedsMore(total)) => self.wake_at(total),
            Err(HeaderError::Signature) if !required => self.bare(),
            Err(error) => Step::Close(Close::Malformed(error)),
        }
    }

    /// Takes the header, and not one byte more, off the socket.
    fn take(&mut self, header: Header, length: usize) -> Step {
        let mut taken = [0; MAX_HEADER];
        // All of it was there a moment ago, so one read takes it.
        if !matches!(self.stream.read(&mut taken[..length]), Ok(n) if n == length) {
            return Step::Close(Close::Unfinished);
        }
        let begin = match header {
            Header::Local => Begin::Local,
            Header::Unspecified | Header::Proxied { .. } => Begin::Proxied,
        };
        let said = proxy_header::said(&taken[..length]);
        self.pass_on(header.endpoints(self.socket), begin, said)
    }

    fn bare(&mut self) -> Step {
        self.pass_on(self.socket, Begin::Bare, Vec::new())
    }

    fn pass_on(&mut self, endpoints: Endpoints, begin: Begin, said: Vec<(String, String)>) -> Step {
        match self.wake_at(1) {
            Step::Wait => Step::PassOn(endpoints, begin, said),
            other => other,
        }
    }

    fn wake_at(&mut self, bytes: usize) -> Step {
        let set = |bytes| sys::fds::readable_at(&self.stream, bytes).is_ok();
        if self.wanted != bytes && !u16::try_from(bytes).is_ok_and(set) {
            return Step::Close(Close::Unfinished);
        }
        self.wanted = bytes;
        Step::Wait
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
