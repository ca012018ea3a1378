//! Shells that live on when their line drops. Each has a keeper, a process of the user's that holds
//! its terminal. Whoever looks at it is a visitor: the program of a channel, which lends the keeper
//! its own terminal and waits. The keeper listens on a socket without a file, so nothing is left behind,
//! and speaks to processes of its own user alone.

pub mod keeper;
pub mod offer;
pub mod scrollback;
pub mod visit;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use gateway_wire::session::{ExitStatus, WindowSize};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Begins the names of keepers' sockets, `unix(7)` "abstract". The number is that of these messages.
const PREFIX: &str = "login-gateway-shell-1-";
/// Largest message: some names and numbers.
const MAX_MESSAGE: usize = 4096;

/// How a shell is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Keep {
    /// How long it lives without a visitor.
    pub time: Duration,
    /// Name of its login in the audit log.
    pub login: String,
    /// Where that came from.
    pub source: String,
}

/// What a keeper says of its shell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// When it began, in seconds since the epoch.
    pub begun: u64,
    /// Since when nobody has looked at it; `None`: somebody does.
    pub detached: Option<u64>,
    /// Where its visitor came from, or the last one.
    pub source: String,
}

/// From a keeper to whoever connects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum FromKeeper {
    /// At once.
    Kept(Kept),
    /// The shell has ended.
    Ended(ExitStatus),
    /// Another visitor has come.
    Taken,
}

/// From a visitor to the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum ToKeeper {
    /// Show the shell on the terminal that comes along.
    Attach {
        size: WindowSize,
        login: String,
        source: String,
    },
    Resize(WindowSize),
    /// For the shell, its name without `SIG`.
    Signal(String),
}

/// From a keeper to its session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Told {
    /// The shell begins, on `/dev/pts/N`.
    Begun(u32),
    /// Its visitor has gone.
    Detached,
    /// There is one again, of this login.
    Attached(String),
    /// It has ended.
    Ended(ExitStatus),
}

/// Sends a message; one that finds no room is as good as none.
fn send(socket: &impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    sys::fds::send_with_fds(socket, &bytes, fds)
}

/// A message and what came with it; `None` at the end.
pub fn receive<M: DeserializeOwned>(socket: &impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut buffer = [0; MAX_MESSAGE];
    let (length, fds) = sys::fds::recv_with_fds(socket, &mut buffer)?;
    if length == 0 {
        return Ok(None);
    }
    let message = postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)?;
    Ok(Some((message, fds)))
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        flags,
        None,
    )?)
}

/// Listens under the name of this user and `id`.
fn listen_as(id: &str) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    let name = UnixAddr::new_abstract(format!("{}{id}", prefix()).as_bytes())?;
    bind(socket.as_raw_fd(), &name)?;
    listen(&socket, Backlog::new(8)?)?;
    Ok(socket)
}

/// How names of this user's keepers begin, in this container: where networks are shared, such names
/// are seen in others as well, and a shell there is another place.
fn prefix() -> String {
    let namespace = std::fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    let namespace = namespace.to_string_lossy();
    let number: String = namespace.chars().filter(char::is_ascii_digit).collect();
    format!("{PREFIX}{number}-{}-", nix::unistd::getuid())
}

/// Names of sockets that may be keepers' of this user. Anybody can take a name.
fn names() -> Vec<String> {
    let mine = format!("@{}", prefix());
    let all = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let names = all
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7));
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with(&mine))
        .map(|name| name[1..].to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Connects to a socket of this user's.
fn connect_to(name: &str) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    connect(
        socket.as_raw_fd(),
        &UnixAddr::new_abstract(name.as_bytes())?,
    )?;
    if is_ours(&socket)? {
        Ok(socket)
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Whether the other end is a process of this user's: as the kernel says, not as the name does.
fn is_ours(socket: &impl AsFd) -> io::Result<bool> {
    let peer = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
    Ok(peer.uid() == nix::unistd::getuid().as_raw())
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
