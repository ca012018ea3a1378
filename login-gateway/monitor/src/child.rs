//! One question to a short-lived program with fewer rights than the monitor's: files that belong to
//! a user are read as that user, bytes from strangers are parsed in a sandbox.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use gateway_wire::MAX_MESSAGE;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use serde::{Serialize, de::DeserializeOwned};
use sys::identity::Identity;
use sys::memfd::Shared;
use sys::spawn::Spawn;

use crate::relay::Relay;

/// How long it may take; a home on a file server that hangs must not hold up the login.
const TIME: Duration = Duration::from_secs(5);

/// Starts `program` with this argument and asks it; `None` if it fails, says too much or takes too
/// long. With an identity it runs as that.
///
/// # Errors
/// If it cannot be started.
pub fn ask<Answer: DeserializeOwned>(
    program: &Path,
    argument: &'static str,
    identity: Option<&Identity>,
    question: &impl Serialize,
) -> io::Result<Option<Answer>> {
    let bytes = gateway_wire::encode(question).map_err(io::Error::other)?;
    let question = Shared::new("question", &bytes)?.reader()?;
    let (answer, theirs) = io::pipe()?;
    fcntl(&answer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let (mut log, stderr) = Relay::pipe(argument)?;
    let mut spawn = Spawn::new(program)
        .args([argument])
        .fd(0, question)
        .fd(1, theirs.into())
        .fd(2, stderr);
    if let Some(identity) = identity {
        spawn = spawn.identity(identity.clone());
    }
    let mut child = spawn.start()?;
    let deadline = Instant::now() + TIME;
    let said = listen(answer.into(), &mut log, deadline);
    let signals = SigSet::from(Signal::SIGCHLD);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if said.is_err() || left.is_zero() {
            // A child that hangs in the kernel ends when the file server answers.
            child.kill()?;
            break None;
        }
        // Not for long: the signal may have come while the answer was being read.
        sys::signals::wait_for(&signals, left.min(Duration::from_millis(50)))?;
    };
    log.drain();
    match (said, status) {
        (Ok(bytes), Some(status)) if status.success() => Ok(gateway_wire::decode(&bytes).ok()),
        (Err(error), _) => {
            tracing::warn!(event = "child.failed", child = argument, %error);
            Ok(None)
        }
        _ => {
            tracing::warn!(event = "child.failed", child = argument);
            Ok(None)
        }
    }
}

/// What it says until it closes the pipe.
fn listen(answer: OwnedFd, log: &mut Relay, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut answer = std::fs::File::from(answer);
    let mut bytes = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let mut ready = vec![PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
        ready.extend(log.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut ready, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if ready.get(1).and_then(PollFd::any).unwrap_or(false) {
            log.drain();
        }
        match answer.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&part[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if bytes.len() > MAX_MESSAGE {
            return Err(io::Error::other("it says too much"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn asked(script: &str) -> Option<String> {
        // Closed before it is run: a file that is open for writing is no program.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("child");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        ask(&path, "test", None, &"question").unwrap()
    }

    #[test]
    fn answers_larger_than_a_pipe_are_taken_and_larger_than_a_message_are_not() {
        // 100,000 as a postcard length, then as many letters.
        let long = "printf '\\240\\215\\006'; head -c 100000 /dev/zero | tr '\\0' x";
        assert_eq!(asked(long), Some("x".repeat(100_000)));
        assert_eq!(asked("head -c 1000000 /dev/zero"), None);
        assert_eq!(asked("printf '\\001x'"), Some("x".into()));
        assert_eq!(asked("printf '\\001x'; exit 1"), None);
        assert_eq!(asked("printf '\\002x'"), None);
        // Its log does not hold it up.
        assert_eq!(
            asked("head -c 200000 /dev/zero >&2; printf '\\001x'"),
            Some("x".into())
        );
    }
}
