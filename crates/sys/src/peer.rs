//! Who is at the other end of a local socket: `SO_PEERCRED`, `unix(7)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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

/// Supplementary groups of the connected peer, as the kernel took them at `connect(2)`:
/// `SO_PEERGROUPS`, `unix(7)`.
///
/// # Errors
/// If the descriptor is not a connected Unix socket.
pub fn groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut list: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut bytes = size_of_val(list.as_slice()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes, which is the length of the list.
        let done = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                list.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if done == 0 {
            list.truncate(count);
            return Ok(list);
        }
        let error = io::Error::last_os_error();
        // Too short: the kernel has said how long it must be.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= list.len() {
            return Err(error);
        }
        list.resize(count, 0);
    }
}

/// A descriptor for the process that connected: it stays that process's even when the number is
/// given to another one (`SO_PEERPIDFD`, since Linux 6.5).
///
/// # Errors
/// On older kernels, and for a peer that has ended.
pub fn pidfd(socket: &impl AsFd) -> io::Result<OwnedFd> {
    /// Not in libc yet (`asm-generic/socket.h`).
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut bytes = size_of_val(&fd) as libc::socklen_t;
    // SAFETY: the kernel writes one int.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut bytes,
        )
    };
    if done != 0 || fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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

    #[test]
    fn groups_and_a_lasting_name() {
        use std::os::fd::AsFd;
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut own: Vec<u32> = nix::unistd::getgroups()
            .unwrap()
            .iter()
            .map(|gid| gid.as_raw())
            .collect();
        let mut found = super::groups(&a).unwrap();
        own.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, own);
        match super::pidfd(&a) {
            Ok(fd) => {
                let mut fds = [nix::poll::PollFd::new(
                    fd.as_fd(),
                    nix::poll::PollFlags::POLLIN,
                )];
                assert_eq!(nix::poll::poll(&mut fds, 0_u16).unwrap(), 0, "we live");
            }
            Err(error) => println!("skipped: SO_PEERPIDFD is not known here: {error}"),
        }
    }
}
