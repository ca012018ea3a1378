//! Standard input and output as they are found: pipes, sockets or terminals, blocking or not. What
//! flows through them is known to `input` and `output`.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes that a pipe is asked to hold: a large packet, so that one end can work on it while the next
/// is under way. More of them leave the processor's cache before they are read. A user may have
/// 64 MiB in pipes before new ones become small (pipe(7)).
const PIPE: i32 = 256 * 1024;

/// One direction.
#[derive(Debug)]
pub struct Stream(File);

impl Stream {
    /// Of a descriptor of this process.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        let fd = fd.as_fd().try_clone_to_owned()?;
        // Convenience: what is no pipe, or may not grow, is used as it is.
        let _ = fcntl(&fd, FcntlArg::F_SETPIPE_SZ(PIPE));
        Ok(Self(fd.into()))
    }

    /// If something can be read without waiting.
    pub fn is_readable(&self) -> bool {
        self.wait(PollFlags::POLLIN, PollTimeout::ZERO)
            .unwrap_or(false)
    }

    fn wait(&self, what: PollFlags, limit: PollTimeout) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), what)];
        match poll(&mut fds, limit) {
            Err(nix::errno::Errno::EINTR) => Ok(false),
            other => Ok(other? > 0),
        }
    }

    /// Tries again where the descriptor was left non-blocking by whoever made it.
    fn patiently<T>(
        &self,
        what: PollFlags,
        mut step: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match step() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(what, PollTimeout::NONE)?;
                }
                other => return other,
            }
        }
    }
}

impl From<OwnedFd> for Stream {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(PollFlags::POLLIN, || (&self.0).read(buffer))
    }
}

impl Write for &Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buffer)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.patiently(PollFlags::POLLOUT, || (&self.0).write_vectored(parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
