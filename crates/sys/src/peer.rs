//! Who is at the other end of a local socket: `SO_PEERCRED`, `unix(7)`.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};

/// The peer's identity as the kernel took it at `connect(2)`; no byte of the peer's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id in our pid namespace, 0 if it lives in another one.
    pub pid: i32,
}

/// Reads the credentials of the connected peer.
///
/// # Errors
/// If the descriptor is not a connected Unix socket.
pub fn credentials(socket: &impl AsFd) -> io::Result<PeerCredentials> {
    let found = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok(PeerCredentials {
        uid: found.uid(),
        gid: found.gid(),
        pid: found.pid(),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_this_process() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = super::credentials(&a).unwrap();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.pid, std::process::id() as i32);
    }
}
