//! A visitor: lends its terminal to a keeper and waits for the end, which becomes its own.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use gateway_wire::session::{ExitStatus, WindowSize};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use sys::signals::Signals;

use super::{FromKeeper, ToKeeper, receive, send};

/// Signals that the client may send (RFC 4254, section 6.10), which are the shell's.
const FORWARDED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Visits until the shell ends, or another visitor comes, or the line drops; then this process ends as
/// the shell has.
///
/// # Errors
/// If the terminal is none, or the keeper has gone.
pub fn visit(keeper: &OwnedFd, login: &str, source: &str) -> io::Result<()> {
    let terminal = io::stdin();
    let before = tcgetattr(&terminal)?;
    let ended = wait(keeper, &terminal, &before, login, source);
    let _ = tcsetattr(&terminal, SetArg::TCSANOW, &before);
    match ended? {
        Some(ExitStatus::Code(code)) => std::process::exit(i32::try_from(code).unwrap_or(255)),
        Some(ExitStatus::Signal { name, .. }) => {
            if let Ok(signal) = format!("SIG{name}").parse::<Signal>() {
                let _ = SigSet::all().thread_unblock();
                let _ = raise(signal);
            }
            std::process::exit(255);
        }
        None => {
            let _ = io::stdout().write_all(b"\r\nThis shell is shown elsewhere now.\r\n");
            std::process::exit(255);
        }
    }
}

/// `None`: another visitor has come.
fn wait(
    keeper: &OwnedFd,
    terminal: &impl AsFd,
    before: &Termios,
    login: &str,
    source: &str,
) -> io::Result<Option<ExitStatus>> {
    let mut wanted = FORWARDED.to_vec();
    wanted.extend([Signal::SIGWINCH, Signal::SIGHUP]);
    let signals = Signals::of(&wanted)?;
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    tcsetattr(terminal, SetArg::TCSANOW, &raw)?;
    let attach = ToKeeper::Attach {
        size: size(terminal)?,
        login: login.to_owned(),
        source: source.to_owned(),
    };
    send(keeper, &attach, &[terminal.as_fd()])?;
    loop {
        let mut ready = [
            PollFd::new(keeper.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(signal) = signals.next()? {
            let message = match signal {
                Signal::SIGWINCH => ToKeeper::Resize(size(terminal)?),
                // The line has dropped.
                Signal::SIGHUP => std::process::exit(255),
                other => ToKeeper::Signal(other.as_str().trim_start_matches("SIG").to_owned()),
            };
            send(keeper, &message, &[])?;
        }
        match receive(keeper) {
            Ok(Some((FromKeeper::Ended(status), _))) => return Ok(Some(status)),
            Ok(Some((FromKeeper::Taken, _))) => return Ok(None),
            Ok(Some((FromKeeper::Kept(_), _))) => {}
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn size(terminal: &impl AsFd) -> io::Result<WindowSize> {
    let size = sys::pty::size(terminal)?;
    Ok(WindowSize {
        columns: size.ws_col,
        rows: size.ws_row,
        width: size.ws_xpixel,
        height: size.ws_ypixel,
    })
}
