//! Socket options that no safe crate offers.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Acknowledges what has been received now, and what comes next without delay, until data is sent:
/// `TCP_QUICKACK`, tcp(7).
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn acknowledge_now(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the borrow, and the kernel reads one `int`.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_QUICKACK,
            (&raw const on).cast(),
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
    fn is_an_option_of_tcp_alone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(super::acknowledge_now(&tcp).is_ok());
        let (local, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(super::acknowledge_now(&local).is_err());
    }
}
