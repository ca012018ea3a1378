//! Outgoing connections: a name to addresses, each tried in turn without waiting long for the last,
//! or a socket in the file system. Runs in a thread of its own, since names and hosts may be slow.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use gateway_wire::session::Target;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect,
    getsockopt, setsockopt, socket, sockopt,
};

/// Time for all addresses of a name, once it is resolved.
const LIMIT: Duration = Duration::from_secs(60);
/// Head start of an address before the next one is tried beside it, RFC 8305 section 8.
const HEAD_START: Duration = Duration::from_millis(250);
/// Time for a local server whose queue is full.
const LOCAL_LIMIT: Duration = Duration::from_secs(10);
/// Most addresses of one name.
const MAX_ADDRESSES: usize = 16;

/// A connection that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name leads nowhere.
    #[error("resolve '{host}'")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        #[source]
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("connect to '{to}'")]
    Connect {
        /// The address.
        to: String,
        /// What the kernel says of the last attempt.
        #[source]
        source: io::Error,
    },
}

/// Connects to `target`; relative paths start at `home`.
///
/// # Errors
/// [`ConnectError`].
pub fn to(target: &Target, home: &Path) -> Result<OwnedFd, ConnectError> {
    match target {
        Target::Tcp { host, port } => {
            let found = (host.as_str(), *port).to_socket_addrs();
            let addresses = found.map_err(|source| ConnectError::Resolve {
                host: host.clone(),
                source,
            })?;
            race(&in_turn(addresses.collect())).map_err(|source| ConnectError::Connect {
                to: format!("{host}:{port}"),
                source,
            })
        }
        Target::Unix(path) => unix(&home.join(path)).map_err(|source| ConnectError::Connect {
            to: path.clone(),
            source,
        }),
    }
}

/// Families by turns, as RFC 8305 section 4 has it, in the resolver's order otherwise.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let longer = first.len().max(second.len());
    (0..longer)
        .flat_map(|at| [first.get(at), second.get(at)])
        .flatten()
        .copied()
        .take(MAX_ADDRESSES)
        .collect()
}

/// The first of the addresses that answers.
fn race(addresses: &[SocketAddr]) -> io::Result<OwnedFd> {
    let end = Instant::now() + LIMIT;
    let mut rest = addresses.iter();
    let mut attempts: Vec<OwnedFd> = Vec::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        if now >= end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if now >= next || attempts.is_empty() {
            match rest.next() {
                Some(address) => {
                    next = now + HEAD_START;
                    match begin(address) {
                        Ok((socket, true)) => return finished(socket),
                        Ok((socket, false)) => attempts.push(socket),
                        Err(error) => failure = error,
                    }
                    continue;
                }
                None if attempts.is_empty() => return Err(failure),
                None => next = end,
            }
        }
        let mut ready: Vec<_> = attempts
            .iter()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLOUT))
            .collect();
        match poll(&mut ready, timeout(next.min(end) - now)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let done = ready.iter().position(|fd| fd.any().unwrap_or(false));
        if let Some(at) = done {
            let socket = attempts.remove(at);
            match getsockopt(&socket, sockopt::SocketError)? {
                0 => return finished(socket),
                errno => failure = io::Error::from_raw_os_error(errno),
            }
        }
    }
}

/// Rounded up, so that nothing is asked a moment too early again and again.
fn timeout(duration: Duration) -> PollTimeout {
    PollTimeout::try_from(duration + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}

/// Starts to connect; the second value says whether it has already succeeded.
fn begin(address: &SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    start(family, &SockaddrStorage::from(*address))
}

fn start(family: AddressFamily, address: &dyn SockaddrLike) -> io::Result<(OwnedFd, bool)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), address) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::EINPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error.into()),
    }
}

fn finished(socket: OwnedFd) -> io::Result<OwnedFd> {
    let _ = setsockopt(&socket, sockopt::TcpNoDelay, &true);
    Ok(socket)
}

/// A non-blocking connect, again and again while the server's queue is full.
fn unix(path: &Path) -> io::Result<OwnedFd> {
    let address = UnixAddr::new(path)?;
    let end = Instant::now() + LOCAL_LIMIT;
    loop {
        match start(AddressFamily::Unix, &address) {
            Err(error)
                if error.raw_os_error() == Some(Errno::EAGAIN as i32) && Instant::now() < end =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other.map(|(socket, _)| socket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    fn tcp(host: &str, port: u16) -> Result<OwnedFd, ConnectError> {
        let host = host.to_owned();
        to(&Target::Tcp { host, port }, Path::new("/"))
    }

    #[test]
    fn families_take_turns() {
        let parse = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|a| a.parse().unwrap()).collect()
        };
        let given = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"]);
        let turns = parse(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(in_turn(given), turns);
        assert_eq!(in_turn(Vec::new()), []);
    }

    #[test]
    fn takes_the_address_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = SocketAddr::from(([127, 0, 0, 2], port));
        let open = SocketAddr::from(([127, 0, 0, 1], port));
        race(&[closed, open]).unwrap();
        listener.accept().unwrap();
        let error = race(&[closed]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        tcp("127.0.0.1", port).unwrap();
    }

    #[test]
    fn says_what_failed() {
        let text = |result: Result<OwnedFd, _>| service::exit::chain(&result.unwrap_err());
        let said = text(tcp("", 1));
        assert!(
            said.starts_with("resolve ''") || said.starts_with("connect to"),
            "{said}"
        );
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let said = text(tcp("127.0.0.1", port));
        let refused = format!("connect to '127.0.0.1:{port}': Connection refused");
        assert!(said.starts_with(&refused), "{said}");
    }

    #[test]
    fn sockets_in_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::Unix("s".into());
        let missing = to(&target, folder.path()).unwrap_err();
        assert!(service::exit::chain(&missing).starts_with("connect to 's': No such file"));
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        to(&target, folder.path()).unwrap();
        listener.accept().unwrap();
    }
}
