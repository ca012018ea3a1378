//! Sockets that wait for connections on the user's behalf, and what `gateway-ports` makes of the
//! address that a client asks for.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use gateway_wire::policy::GatewayPorts;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use nix::sys::stat::{Mode, umask};

use crate::display::PORTS;

/// Permissions that a socket of the user's never gets: `StreamLocalBindMask` of sshd_config(5).
const MASK: Mode = Mode::from_bits_truncate(0o177);

/// Displays that are tried.
const DISPLAYS: std::ops::Range<u16> = 10..1000;

/// A listener that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The kernel refuses.
    #[error("listen on '{on}'")]
    Listen {
        /// The address.
        on: String,
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// The client's address is a name.
    #[error("listen on '{0}': not an address")]
    Name(String),
    /// No folder for the agent's socket.
    #[error("make a folder in '{folder}'")]
    Folder {
        /// Where.
        folder: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// What waits for connections.
pub struct Listener {
    tcp: Vec<TcpListener>,
    unix: Option<UnixSocket>,
    /// Whether the first connection is the last.
    single: bool,
}

impl Listener {
    /// The TCP port, 0 for others.
    pub fn port(&self) -> u16 {
        let address = self.tcp.first().and_then(|socket| socket.local_addr().ok());
        address.map_or(0, |address| address.port())
    }

    /// Descriptors to wait for.
    pub fn waiting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let unix = self.unix.iter().map(|unix| unix.socket.as_fd());
        self.tcp.iter().map(AsFd::as_fd).chain(unix)
    }

    /// The next connection that waits, with the address and port of whoever made it; `None` if there
    /// is none.
    ///
    /// # Errors
    /// Those of `accept(2)`, but for connections that have gone again.
    pub fn accept(&mut self) -> io::Result<Option<(OwnedFd, String, u16)>> {
        for socket in &self.tcp {
            if let Some((stream, from)) = taken(socket.accept())? {
                if self.single {
                    self.tcp.clear();
                }
                let _ = stream.set_nodelay(true);
                let ip = from.ip().to_canonical().to_string();
                return Ok(Some((stream.into(), ip, from.port())));
            }
        }
        if let Some(unix) = &self.unix
            && let Some((stream, _)) = taken(unix.socket.accept())?
        {
            return Ok(Some((stream.into(), String::new(), 0)));
        }
        Ok(None)
    }
}

fn taken<T>(accepted: io::Result<T>) -> io::Result<Option<T>> {
    match accepted {
        Ok(connection) => Ok(Some(connection)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted => Ok(None),
            _ => Err(error),
        },
    }
}

/// Listens on the address that a client asks for, as far as `policy` follows it. Both families get
/// the same port.
///
/// # Errors
/// [`ListenError`], if no family has the address.
pub fn tcp(address: &str, port: u16, policy: GatewayPorts) -> Result<Listener, ListenError> {
    let addresses =
        addresses(address, policy).ok_or_else(|| ListenError::Name(address.to_owned()))?;
    let mut listener = Listener {
        tcp: Vec::new(),
        unix: None,
        single: false,
    };
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for ip in addresses {
        // A free port of the first family is taken in the second as well.
        let port = if port == 0 { listener.port() } else { port };
        match bound(SocketAddr::new(ip, port)) {
            Ok(socket) => listener.tcp.push(socket),
            Err(error) => failure = error,
        }
    }
    if listener.tcp.is_empty() {
        let on = format!("{address}:{port}");
        let source = failure;
        return Err(ListenError::Listen { on, source });
    }
    Ok(listener)
}

/// `GatewayPorts` of sshd_config(5). `None` if the address is a name that would have to be looked up.
fn addresses(address: &str, policy: GatewayPorts) -> Option<Vec<IpAddr>> {
    let loopback = || vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let all = || vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    match policy {
        GatewayPorts::Yes => Some(all()),
        GatewayPorts::No => match address {
            "127.0.0.1" => Some(vec![Ipv4Addr::LOCALHOST.into()]),
            "::1" => Some(vec![Ipv6Addr::LOCALHOST.into()]),
            _ => Some(loopback()),
        },
        GatewayPorts::ClientSpecified => match address {
            "" | "*" => Some(all()),
            "localhost" => Some(loopback()),
            address => Some(vec![address.parse().ok()?]),
        },
    }
}

/// Listens as the first free display from 10 on, on loopback: `X11DisplayOffset` and
/// `X11UseLocalhost` of sshd_config(5).
///
/// # Errors
/// [`ListenError`], if there is none.
pub fn display(single: bool) -> Result<Listener, ListenError> {
    let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
    for number in DISPLAYS {
        let port = PORTS + number;
        let first = match bound(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)) {
            Ok(socket) => socket,
            Err(error) => {
                failure = error;
                continue;
            }
        };
        let tcp = match bound(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)) {
            Ok(second) => vec![first, second],
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
            // There may be no IPv6.
            Err(_) => vec![first],
        };
        return Ok(Listener {
            tcp,
            unix: None,
            single,
        });
    }
    Err(ListenError::Listen {
        on: "a display".to_owned(),
        source: failure,
    })
}

/// Listens on this address alone; an IPv6 one does not take IPv4.
///
/// # Errors
/// Those of `bind(2)` and `listen(2)`.
pub fn bound(address: SocketAddr) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(128)?)?;
    Ok(socket.into())
}

/// Listens at a path where nothing is yet, for the user alone. The path goes with the listener.
///
/// # Errors
/// [`ListenError`]; an existing path is one (`StreamLocalBindUnlink no`).
pub fn unix(path: &Path) -> Result<Listener, ListenError> {
    let socket = UnixSocket::bind(path).map_err(|source| ListenError::Listen {
        on: path.display().to_string(),
        source,
    })?;
    Ok(Listener {
        tcp: Vec::new(),
        unix: Some(socket),
        single: false,
    })
}

/// A socket in the file system, removed when dropped.
struct UnixSocket {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode: what has taken its place since is not ours to remove.
    id: (u64, u64),
}

impl UnixSocket {
    fn bind(path: &Path) -> io::Result<Self> {
        // The mask is the process's; only this thread makes files.
        let before = umask(MASK);
        let socket = UnixListener::bind(path);
        umask(before);
        let socket = socket?;
        socket.set_nonblocking(true)?;
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            id: (found.dev(), found.ino()),
        })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn gateway_ports() {
        use GatewayPorts::{ClientSpecified, No, Yes};
        for (policy, address, expected) in [
            (No, "", Some(&["127.0.0.1", "::1"][..])),
            (No, "localhost", Some(&["127.0.0.1", "::1"])),
            (No, "*", Some(&["127.0.0.1", "::1"])),
            (No, "192.0.2.1", Some(&["127.0.0.1", "::1"])),
            (No, "127.0.0.1", Some(&["127.0.0.1"])),
            (No, "::1", Some(&["::1"])),
            (Yes, "127.0.0.1", Some(&["0.0.0.0", "::"])),
            (ClientSpecified, "", Some(&["0.0.0.0", "::"])),
            (ClientSpecified, "*", Some(&["0.0.0.0", "::"])),
            (ClientSpecified, "0.0.0.0", Some(&["0.0.0.0"])),
            (ClientSpecified, "localhost", Some(&["127.0.0.1", "::1"])),
            (ClientSpecified, "192.0.2.1", Some(&["192.0.2.1"])),
            (ClientSpecified, "some.name", None),
        ] {
            let found = addresses(address, policy)
                .map(|list| list.iter().map(IpAddr::to_string).collect::<Vec<_>>());
            let expected = expected.map(|list| list.iter().map(|a| (*a).to_owned()).collect());
            assert_eq!(found, expected, "{policy:?} {address}");
        }
    }

    #[test]
    fn a_free_port_is_the_same_in_both_families() {
        let mut listener = tcp("localhost", 0, GatewayPorts::No).unwrap();
        let port = listener.port();
        assert_ne!(port, 0);
        for socket in &listener.tcp {
            assert_eq!(socket.local_addr().unwrap().port(), port);
        }
        assert!(listener.accept().unwrap().is_none());
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_socket, address, from) = listener.accept().unwrap().unwrap();
        assert_eq!(address, "127.0.0.1");
        assert_eq!(from, stream.local_addr().unwrap().port());
        assert!(tcp("localhost", port, GatewayPorts::No).is_err());
    }

    #[test]
    fn displays_differ_and_a_single_one_takes_one_connection() {
        let (mut first, second) = (display(true).unwrap(), display(false).unwrap());
        assert_ne!(first.port(), second.port());
        assert!(first.port() >= 6010);
        let port = first.port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert!(first.accept().unwrap().is_some());
        // Not by connecting: the port is free for others now.
        assert!(first.tcp.is_empty());
        assert!(first.accept().unwrap().is_none());
    }

    #[test]
    fn a_path_is_the_users_alone_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut listener = unix(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert_eq!(listener.accept().unwrap().unwrap().1, "");
        let taken = unix(&path).err().unwrap();
        assert!(service::exit::chain(&taken).contains("Address already in use"));
        drop(listener);
        assert!(!path.exists());
        // What has taken its place stays.
        let listener = unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(listener);
        assert!(path.exists());
    }
}
