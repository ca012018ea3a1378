//! Pseudo-terminals: `pty(7)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

pub use nix::pty::Winsize;
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// Opens a pty of this size; both ends are close-on-exec.
///
/// # Errors
/// Those of `openpty(3)`.
pub fn open(size: Winsize) -> io::Result<(OwnedFd, OwnedFd)> {
    let OpenptyResult { master, slave } = openpty(&size, None)?;
    for end in [&master, &slave] {
        nix::fcntl::fcntl(
            end,
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
        )?;
    }
    Ok((master, slave))
}

/// Changes the window size; the foreground process group gets `SIGWINCH`.
///
/// # Errors
/// Those of `ioctl(TIOCSWINSZ)`.
pub fn resize(master: &impl AsFd, size: Winsize) -> io::Result<()> {
    // SAFETY: the descriptor is open for the borrow, and the kernel reads one `winsize`.
    let done = unsafe {
        libc::ioctl(
            master.as_fd().as_raw_fd(),
            libc::TIOCSWINSZ,
            &raw const size,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The window size of a terminal, by either end.
///
/// # Errors
/// Those of `ioctl(TIOCGWINSZ)`.
pub fn size(terminal: &impl AsFd) -> io::Result<Winsize> {
    let mut size = Winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open for the borrow, and the kernel writes one `winsize`.
    let done = unsafe {
        libc::ioctl(
            terminal.as_fd().as_raw_fd(),
            libc::TIOCGWINSZ,
            &raw mut size,
        )
    };
    if done == 0 {
        Ok(size)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Edits the terminal's settings in place.
///
/// # Errors
/// Those of `tcgetattr(3)` and `tcsetattr(3)`.
pub fn edit_settings(terminal: &impl AsFd, edit: impl FnOnce(&mut Termios)) -> io::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    edit(&mut settings);
    Ok(tcsetattr(terminal, SetArg::TCSANOW, &settings)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_size_it_was_given_and_a_new_one() {
        let first = Winsize {
            ws_col: 132,
            ws_row: 43,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (master, slave) = open(first).unwrap();
        let size = || {
            let size = super::size(&slave).unwrap();
            (size.ws_col, size.ws_row)
        };
        assert_eq!(size(), (132, 43));
        resize(
            &master,
            Winsize {
                ws_col: 80,
                ws_row: 24,
                ..first
            },
        )
        .unwrap();
        assert_eq!(size(), (80, 24));
    }
}
