//! One question to the running service over one of its sockets, for the subcommands. What is asked is not
//! known here; what keeps an answer away is told with what to do about it.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use service::Failure;

use crate::error::ShimError;

/// Sends a question and reads the answer to its end, `limit` bytes of it at most. `patience` is for each of
/// its pieces.
///
/// # Errors
/// [`Failure`] with a hint.
pub fn ask(
    socket: &Path,
    question: &[u8],
    patience: Duration,
    limit: u64,
) -> Result<Vec<u8>, Failure> {
    exchange(socket, question, patience, limit).map_err(|source| {
        let hint = hint(source.kind());
        let doing = format!("ask '{}'", socket.display());
        ShimError::system(doing)(source).into_failure().hint(hint)
    })
}

/// The same, with the system's own words.
///
/// # Errors
/// Those of the socket.
pub fn exchange(
    socket: &Path,
    question: &[u8],
    patience: Duration,
    limit: u64,
) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(question)?;
    let mut reply = Vec::new();
    stream.take(limit).read_to_end(&mut reply)?;
    Ok(reply)
}

/// What to do where nothing answers.
pub fn hint(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => {
            "is sackd-shim running, with this run directory? systemctl status sackd, or the container's state"
        }
        ErrorKind::ConnectionRefused => {
            "sackd-shim is not running, its socket is from before: start it"
        }
        ErrorKind::PermissionDenied => {
            "this socket, or its folder, is not for you: status is for root and SlurmUser"
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            "sackd-shim did not answer in time: is it stopped (ps), does nobody read its log? Else restart it"
        }
        _ => "see the log of sackd-shim",
    }
}
