//! Socket options that no safe crate offers.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Acknowledges what has been received now, and what comes next without delay, until data is sent:
/// `TCP_QUICKACK`, tcp(7).
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn acknowledge_now(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::TCP_QUICKACK, 1)
}

/// Takes no more than about so many bytes for sending beyond what the peer has room for:
/// `TCP_NOTSENT_LOWAT`, tcp(7). What is on its way does not count.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn limit_unsent(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set(socket, libc::TCP_NOTSENT_LOWAT, bytes)
}

fn set(socket: &impl AsFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the borrow, and the kernel reads one `int`.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn are_options_of_tcp_alone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(super::acknowledge_now(&tcp).is_ok());
        assert!(super::limit_unsent(&tcp, 1 << 17).is_ok());
        let (local, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(super::acknowledge_now(&local).is_err());
        assert!(super::limit_unsent(&local, 1 << 17).is_err());
    }
}
