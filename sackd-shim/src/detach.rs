//! Going into the background, as sackd does without `-D`: the service is started once more as a
//! session of its own, and we end when it serves, or with its failure.

use std::ffi::OsString;
use std::io::{Read, Write, pipe};
use std::os::fd::OwnedFd;

use service::{Exit, Failure};
use sys::spawn::Spawn;

/// Tells the background process that somebody waits for its first word.
const WAITED_FOR: &str = "SACKD_SHIM_WAITED_FOR";

/// Starts the service in the background and waits until it serves.
///
/// # Errors
/// [`Failure`] if it ends before that; what was wrong is on standard error already.
pub fn run() -> Result<(), Failure> {
    let (mut word, writer) = pipe()?;
    let arguments = std::env::args_os().skip(1).chain([OsString::from("-D")]);
    let environment = std::env::vars_os().chain([(WAITED_FOR.into(), "1".into())]);
    let mut child = Spawn::new(&std::env::current_exe()?)
        .arg0("sackd")
        .args(arguments)
        .env(environment)
        .fd(1, OwnedFd::from(writer))
        .inherit_stderr()
        .new_session()
        .start()?;
    let mut first = [0; 1];
    if word.read(&mut first)? == 1 {
        return Ok(());
    }
    let ended = child.wait()?;
    Err(Failure::new(
        Exit::Failure,
        format!("the service ended at its start: {ended}"),
    ))
}

/// Says the first word, if somebody waits for it.
pub fn ready() {
    if std::env::var_os(WAITED_FOR).is_some() {
        let mut output = std::io::stdout();
        let _ = output.write_all(b"r").and_then(|()| output.flush());
    }
}
