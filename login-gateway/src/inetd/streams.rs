//! What standard input and output are: one socket that can be handed on as it is, or anything else,
//! for which a relay stands in.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use gateway_wire::accept::Endpoints;
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getpeername, getsockname, getsockopt,
    sockopt,
};
use nix::sys::stat::fstat;
use nix::unistd::{dup2_stdin, dup2_stdout};

use super::relay::Relay;

/// Nobody's port; `sshd -i` shows the same number.
const NO_PORT: u16 = 65535;

/// The two streams of the connection.
pub enum Streams {
    /// One TCP or Unix socket.
    Socket(OwnedFd, Endpoints),
    /// Two pipes, or whatever else can be read and written.
    Pair(OwnedFd, OwnedFd),
}

impl Streams {
    /// Takes standard input and output over; what is left in their place is `/dev/null`.
    ///
    /// # Errors
    /// If one of them is closed.
    pub fn of_this_process() -> io::Result<Self> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let (input, output) = (stdin.as_fd(), stdout.as_fd());
        let one = same(input, output) && stream_family(input).is_some();
        let (input, output) = (input.try_clone_to_owned()?, output.try_clone_to_owned()?);
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        Ok(match one.then(|| endpoints(&input)).flatten() {
            Some(endpoints) => Self::Socket(input, endpoints),
            None => Self::Pair(input, output),
        })
    }

    /// Where the connection comes from and goes to.
    pub fn endpoints(&self) -> Endpoints {
        match self {
            Self::Socket(_, endpoints) => *endpoints,
            Self::Pair(..) => unknown(),
        }
    }

    /// The socket for net, and what feeds it if that is somebody else's task.
    ///
    /// # Errors
    /// Those of `socketpair(2)` and of new threads.
    pub fn into_socket(self) -> io::Result<(OwnedFd, Option<Relay>)> {
        match self {
            Self::Socket(socket, _) => Ok((socket, None)),
            Self::Pair(input, output) => {
                let (ours, theirs) = UnixStream::pair()?;
                let relay = Relay::start(input.into(), output.into(), ours)?;
                Ok((theirs.into(), Some(relay)))
            }
        }
    }
}

/// Whether standard error goes to the client as well, as inetd(8) has it. Ask before
/// [`Streams::of_this_process`].
pub fn stderr_is_the_connection() -> bool {
    let (stdin, stderr) = (io::stdin(), io::stderr());
    stream_family(stderr.as_fd()).is_some() && same(stdin.as_fd(), stderr.as_fd())
}

fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// The family of a stream socket that net can speak on.
fn stream_family(fd: BorrowedFd<'_>) -> Option<AddressFamily> {
    let kind = getsockopt(&fd, sockopt::SockType).ok()?;
    let family = getsockname::<SockaddrStorage>(fd.as_raw_fd())
        .ok()?
        .family()?;
    let known = matches!(
        family,
        AddressFamily::Inet | AddressFamily::Inet6 | AddressFamily::Unix
    );
    (kind == SockType::Stream && known).then_some(family)
}

/// `None` for a TCP socket that is not connected.
fn endpoints(socket: &OwnedFd) -> Option<Endpoints> {
    if stream_family(socket.as_fd())? == AddressFamily::Unix {
        return Some(unknown());
    }
    let peer: SockaddrStorage = getpeername(socket.as_raw_fd()).ok()?;
    let here: SockaddrStorage = getsockname(socket.as_raw_fd()).ok()?;
    Some(Endpoints {
        source: address(&peer)?,
        destination: address(&here)?,
    })
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = from.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
    v4.or_else(|| from.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
}

/// Who holds the other end of a pipe or a Unix socket has no address, which is 0.0.0.0 here: a rule
/// that lets somebody in from 127.0.0.1 must not let in whoever a relay connects.
fn unknown() -> Endpoints {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, NO_PORT));
    Endpoints {
        source: nowhere,
        destination: nowhere,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn where_a_socket_leads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, from) = listener.accept().unwrap();
        let found = endpoints(&server.into()).unwrap();
        assert_eq!(found.source, from);
        assert_eq!(found.destination, client.peer_addr().unwrap());
        let (unix, _other) = UnixStream::pair().unwrap();
        assert_eq!(endpoints(&unix.into()).unwrap(), unknown());
        assert!(endpoints(&listener.into()).is_none());
        let (datagram, _other) = UnixDatagram::pair().unwrap();
        assert!(stream_family(datagram.as_fd()).is_none());
        let (pipe, _writer) = io::pipe().unwrap();
        assert!(stream_family(pipe.as_fd()).is_none());
    }
}
