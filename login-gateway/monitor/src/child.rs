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
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;
use serde::{Serialize, de::DeserializeOwned};
use sys::identity::Identity;
use sys::memfd::Shared;
use sys::spawn::Spawn;

use crate::relay::Relay;

/// How long it may take; a home on a file server that hangs must not hold up the login.
const TIME: Duration = Duration::from_secs(5);

/// Starts `program` with this argument and asks it; `None` if it fails, says too much or takes too
/// long. With an identity it runs as that; `text` is its descriptor 3.
///
/// # Errors
/// If it cannot be started.
pub fn ask<Answer: DeserializeOwned>(
    program: &Path,
    argument: &'static str,
    identity: Option<&Identity>,
    question: &impl Serialize,
    text: Option<&[u8]>,
) -> io::Result<Option<Answer>> {
    let bytes = gateway_wire::encode(question).map_err(io::Error::other)?;
    let question = Shared::new("question", &bytes)?.reader()?;
    let mut spawn = Spawn::new(program).args([argument]).fd(0, question);
    if let Some(text) = text {
        spawn = spawn.fd(3, Shared::new("text", text)?.reader()?);
    }
    if let Some(identity) = identity {
        spawn = spawn.identity(identity.clone());
    }
    let said = output(spawn, argument, TIME, MAX_MESSAGE)?;
    Ok(said.and_then(|bytes| gateway_wire::decode(&bytes).ok()))
}

/// What a program says on its standard output, at most `limit` bytes, until it closes it and ends;
/// `None` if it fails, says too much or takes too long. What it says on standard error is logged
/// under `name`. It leads a process group, which ends with the answer.
///
/// # Errors
/// If it cannot be started.
pub fn output(
    spawn: Spawn,
    name: &'static str,
    time: Duration,
    limit: usize,
) -> io::Result<Option<Vec<u8>>> {
    let (answer, theirs) = io::pipe()?;
    fcntl(&answer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let (mut log, stderr) = Relay::pipe(name)?;
    let spawn = spawn.fd(1, theirs.into()).fd(2, stderr).new_session();
    let mut child = spawn.start()?;
    let deadline = Instant::now() + time;
    let said = listen(answer.into(), &mut log, deadline, limit);
    let signals = SigSet::from(Signal::SIGCHLD);
    let status = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let over = said.is_err() || left.is_zero();
        if over {
            // A child that hangs in the kernel ends when the file server answers.
            end_group(&child);
            break None;
        }
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        // Not for long: the signal may have come while the answer was being read.
        sys::signals::wait_for(&signals, left.min(Duration::from_millis(50)))?;
    };
    log.drain();
    match (said, status) {
        (Ok(bytes), Some(status)) if status.success() => Ok(Some(bytes)),
        (Err(error), _) => {
            tracing::warn!(event = "child.failed", child = name, %error);
            Ok(None)
        }
        (Ok(_), status) => {
            let status = status.map(|status| status.to_string());
            tracing::warn!(event = "child.failed", child = name, status);
            Ok(None)
        }
    }
}

/// Ends all that it has started and that has not left its group. It has not been waited for, so
/// that the number is still its own.
fn end_group(child: &std::process::Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// What it says until it closes the pipe.
fn listen(
    answer: OwnedFd,
    log: &mut Relay,
    deadline: Instant,
    limit: usize,
) -> io::Result<Vec<u8>> {
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
        if bytes.len() > limit {
            return Err(io::Error::other("it says too much"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(script: &str) -> Option<String> {
        // The shell reads it: a file that another test's child still has open for writing is no program.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("child");
        std::fs::write(&path, script).unwrap();
        let path: &'static str = path.to_str().unwrap().to_owned().leak();
        ask(Path::new("/bin/sh"), path, None, &"question", None).unwrap()
    }

    #[test]
    fn who_takes_too_long_is_ended_with_all_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("left");
        let script = format!(
            "sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & wait",
            left.display()
        );
        let spawn = Spawn::new(Path::new("/bin/sh"))
            .args(["-c", &script])
            .env([("PATH".into(), "/usr/bin:/bin".into())]);
        // Long enough for a shell on a busy machine; the end of the child is what is waited for.
        let said = output(spawn, "test", Duration::from_secs(3), 100).unwrap();
        assert_eq!(said, None);
        let pid = std::fs::read_to_string(&left).unwrap();
        let gone = || {
            let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            status.map_or(true, |status| status.contains(") Z "))
        };
        while !gone() {
            std::thread::sleep(Duration::from_millis(10));
        }
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
