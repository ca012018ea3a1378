//! The socket to the listener: connections go out, numbers come in. Back-pressure is told apart
//! from the listener's end.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gateway_wire::accept::{Counts, FromAccept, Health, MAX_HEALTH};

/// The listener's end is gone, or it sent what it never sends; the process must end.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket failed.
    #[error("socket of the listener")]
    Socket(#[from] io::Error),
    /// A message that is not of this direction.
    #[error("message of the listener")]
    Message(#[from] gateway_wire::WireError),
}

/// The socket, non-blocking.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// What the listener has to say.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// These numbers hold now.
    Health(Box<Health>),
    /// Take no further connections; pass on what is here, then end.
    Retire,
    /// Nothing at the moment.
    Nothing,
}

impl Link {
    /// Takes the socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self(socket))
    }

    /// Says that the sandbox is in place.
    pub fn ready(&self) -> Result<(), LinkError> {
        let message = gateway_wire::encode(&FromAccept::Ready)?;
        Ok(sys::fds::send_with_fds(&self.0, &message, &[])?)
    }

    /// Passes a connection on; `false` if the listener is behind and it must be tried again.
    pub fn pass_on(&self, message: &FromAccept, socket: &TcpStream) -> Result<bool, LinkError> {
        let message = gateway_wire::encode(message)?;
        match sys::fds::send_with_fds(&self.0, &message, &[socket.as_fd()]) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells what has been counted; `false` if the listener is behind. That its end is gone is seen by
    /// [`Link::next`].
    pub fn counted(&self, counts: &Counts) -> bool {
        let message = gateway_wire::encode(&FromAccept::Counted(*counts));
        message.is_ok_and(|message| sys::fds::send_with_fds(&self.0, &message, &[]).is_ok())
    }

    /// The next message.
    pub fn next(&self) -> Result<Said, LinkError> {
        let mut buffer = [0; MAX_HEALTH];
        match sys::fds::recv_with_fds(&self.0, &mut buffer) {
            Ok((0, _)) => Ok(Said::Retire),
            Ok((length, _)) => Ok(Said::Health(Box::new(gateway_wire::decode(
                &buffer[..length],
            )?))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Said::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
