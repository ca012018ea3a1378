//! The net process of this connection: started before the connection comes, spoken to in messages.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use gateway_wire::MAX_MESSAGE;
use gateway_wire::monitor::{FromNet, Serve, ToNet};
use gateway_wire::numbers::Traffic;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use sys::spawn::Spawn;
use zeroize::Zeroize;

use crate::relay::Relay;

/// Time for its last words; it takes one second at most.
const FAREWELL: Duration = Duration::from_millis(1500);

/// Time to see that it has ended, when what ends with it has.
const GOING: Duration = Duration::from_secs(1);

/// A running `login-gateway-net`.
pub struct NetProcess {
    /// Its log lines.
    pub log: Relay,
    socket: OwnedFd,
    child: Child,
    /// Made once: only the pages that a message has touched take memory.
    buffer: Vec<u8>,
}

impl NetProcess {
    /// Starts it. It closes its sandbox by itself and says [`FromNet::Sandboxed`].
    pub fn start() -> io::Result<Self> {
        let (socket, theirs) = sys::fds::seqpacket_pair()?;
        let (log, stderr) = Relay::pipe("net")?;
        let settings = io::stdin().as_fd().try_clone_to_owned()?;
        let child = Spawn::new(&service::sibling("login-gateway-net")?)
            .arg0("login-gateway-net")
            .fd(0, settings)
            .fd(2, stderr)
            .fd(3, theirs)
            .start()?;
        Ok(Self {
            log,
            socket,
            child,
            buffer: vec![0; MAX_MESSAGE],
        })
    }

    /// One whose messages a test writes and reads.
    #[cfg(test)]
    pub fn played_by_a_test() -> (Self, OwnedFd) {
        let (socket, theirs) = sys::fds::seqpacket_pair().unwrap();
        let (log, _) = Relay::pipe("net").unwrap();
        let net = Self {
            log,
            socket,
            child: std::process::Command::new("true").spawn().unwrap(),
            buffer: vec![0; MAX_MESSAGE],
        };
        (net, theirs)
    }

    /// Gives it the connection.
    pub fn serve(&self, serve: &Serve, socket: BorrowedFd<'_>) -> io::Result<()> {
        let bytes = gateway_wire::encode(serve).map_err(io::Error::other)?;
        sys::fds::send_with_fds(&self.socket, &bytes, &[socket])
    }

    /// Answers it.
    pub fn answer(&self, answer: ToNet, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = gateway_wire::encode(&answer).map_err(io::Error::other)?;
        sys::fds::send_with_fds(&self.socket, &bytes, fds)
    }

    /// Its next message; `None` at its end. Descriptors from it are not taken.
    pub fn receive(&mut self) -> io::Result<Option<FromNet>> {
        match sys::fds::recv_with_fds(&self.socket, &mut self.buffer)? {
            (0, _) => Ok(None),
            (n, fds) if fds.is_empty() => {
                let message = gateway_wire::decode(&self.buffer[..n]);
                // It may have been a password.
                self.buffer[..n].zeroize();
                message.map(Some).map_err(io::Error::other)
            }
            _ => Err(io::Error::other("descriptor from net")),
        }
    }

    /// Lets it tell the client why the connection ends, and gives it a moment for that. The result
    /// is what the connection has carried, if it has said that.
    pub fn farewell(&mut self, words: &str) -> Option<Traffic> {
        let until = Instant::now() + FAREWELL;
        let ready = |socket: &OwnedFd, events: PollFlags, left: Duration| {
            let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            poll(&mut [PollFd::new(socket.as_fd(), events)], left).is_ok_and(|n| n > 0)
        };
        if !ready(&self.socket, PollFlags::POLLOUT, Duration::ZERO) {
            return None;
        }
        self.answer(ToNet::Farewell(words.to_owned()), &[]).ok()?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !ready(&self.socket, PollFlags::POLLIN, left) {
                return None;
            }
            match self.receive() {
                Ok(Some(FromNet::Ended { traffic, .. })) => return Some(traffic),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Whether it has ended without a word, or is about to: one that is killed closes its sockets one after
    /// the other.
    pub fn has_gone(&self) -> bool {
        let ready = PollFd::new(self.socket.as_fd(), PollFlags::POLLIN);
        let patience = PollTimeout::try_from(GOING).unwrap_or(PollTimeout::MAX);
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        poll(&mut [ready], patience).is_ok_and(|n| n > 0)
            && !matches!(recv(self.socket.as_raw_fd(), &mut [0], flags), Ok(1..))
    }

    /// Ends it, at once.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.drain();
    }
}

impl AsFd for NetProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
