//! What a new terminal shows before its login shell: when the user was here last, the message of the
//! day, the output of a command, what PAM had to say. The terminal makes `\r\n` of our `\n`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use gateway_wire::session::Setup;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use service::regular_file;
use sys::signals::Signals;
use sys::spawn::Spawn;

/// Most bytes of a file, and of the command's output, that are shown.
const MAX_TEXT: u64 = 64 * 1024;
/// Longest that the command may take.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// What is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    last_login: Option<String>,
    files: Vec<PathBuf>,
    command: String,
    home: PathBuf,
    notices: Vec<String>,
}

/// The greeting of a login; none for a user who has a `.hushlogin`.
pub fn of(setup: &Setup) -> Option<Greeting> {
    if setup.home.join(".hushlogin").exists() {
        return None;
    }
    Some(Greeting {
        last_login: setup.last_login.clone(),
        files: setup.policy.motd_files.clone(),
        command: setup.policy.motd_command.clone(),
        home: setup.home.clone(),
        notices: setup.notices.clone(),
    })
}

impl Greeting {
    /// Shows it on standard output. What cannot be shown is left out; nothing here fails a login.
    pub fn show(&self, env: &[(OsString, OsString)]) {
        let mut out = io::stdout();
        if let Some(line) = &self.last_login {
            print(&mut out, line.as_bytes());
        }
        for file in &self.files {
            if let Ok(text) = read(file) {
                print(&mut out, &text);
            }
        }
        if !self.command.is_empty() {
            let end = command(&self.command, &self.home, env, COMMAND_TIME, &mut out);
            if matches!(end, Ok(End::HungUp)) {
                std::process::exit(1);
            }
        }
        for notice in &self.notices {
            print(&mut out, notice.as_bytes());
        }
        let _ = out.flush();
    }
}

/// Prints a text and ends its last line.
fn print(out: &mut impl Write, text: &[u8]) {
    let end: &[u8] = match text.last() {
        None | Some(b'\n') => b"",
        Some(_) => b"\n",
    };
    let _ = out.write_all(&[text, end].concat());
}

/// The start of a regular file.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let (file, _) = regular_file::open(path)?;
    file.take(MAX_TEXT).read_to_end(&mut text)?;
    Ok(text)
}

/// How the command came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By itself.
    Ended,
    /// It said too much, took too long, or the user pressed the interrupt key.
    Stopped,
    /// The terminal is gone, or this process is to end.
    HungUp,
}

/// Runs a command and shows its output as it comes. What is left of it at its end is killed, but
/// for what it put into the background when it ended by itself.
fn command(
    line: &str,
    home: &Path,
    env: &[(OsString, OsString)],
    limit: Duration,
    out: &mut impl Write,
) -> io::Result<End> {
    let signals = Signals::of(&[
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGTERM,
    ])?;
    let (reader, writer) = io::pipe()?;
    let mut reader = File::from(OwnedFd::from(reader));
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut child = Spawn::new(Path::new("/bin/sh"))
        .args(["-c", line])
        .env(env.iter().cloned())
        .folder(home)
        .fd(1, writer.into())
        .new_session()
        .start()?;
    let end = watch(&mut reader, &signals, &child, limit, out);
    if !matches!(end, Ok(End::Ended)) {
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    }
    let _ = child.wait();
    // What was pressed during the command was meant for it.
    while signals.next()?.is_some() {}
    SigSet::empty().thread_set_mask()?;
    end
}

/// Carries the output until the end.
fn watch(
    reader: &mut File,
    signals: &Signals,
    child: &Child,
    limit: Duration,
    out: &mut impl Write,
) -> io::Result<End> {
    let deadline = Instant::now() + limit;
    let mut text = Text {
        left: MAX_TEXT,
        last: b'\n',
    };
    let ended = sys::process::end_of(child)?;
    let mut open = true;
    let end = loop {
        let wait = deadline.saturating_duration_since(Instant::now());
        if wait.is_zero() || text.left == 0 {
            break End::Stopped;
        }
        let wait = PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let mut ready = vec![
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if open {
            ready.push(PollFd::new(reader.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut ready, wait) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let mut stop = (ready[0].any() == Some(true)).then_some(End::Ended);
        open = open && text.carry(reader, out)?;
        while let Some(signal) = signals.next()? {
            match signal {
                Signal::SIGHUP | Signal::SIGTERM => stop = Some(End::HungUp),
                _ => stop = Some(End::Stopped),
            }
        }
        if let Some(stop) = stop {
            // A background process that keeps the pipe is not waited for.
            break stop;
        }
    };
    if text.last != b'\n' {
        out.write_all(b"\n")?;
    }
    Ok(end)
}

/// What may still be shown.
struct Text {
    left: u64,
    last: u8,
}

impl Text {
    /// Shows all that is in the pipe now; whether more may come.
    fn carry(&mut self, reader: &mut File, out: &mut impl Write) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        while self.left > 0 {
            let room = buffer
                .len()
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            match reader.read(&mut buffer[..room]) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    out.write_all(&buffer[..n])?;
                    out.flush()?;
                    self.left -= n as u64;
                    self.last = buffer[n - 1];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::setup;

    fn run(line: &str, limit: Duration) -> (End, String) {
        let mut out = Vec::new();
        let path = [("PATH".into(), "/usr/bin:/bin".into())];
        let end = command(line, Path::new("/"), &path, limit, &mut out).unwrap();
        (end, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_command_is_shown_bounded_in_size_and_time() {
        let minute = Duration::from_secs(60);
        let check = |line: &str, limit: Duration, end: End, text: &str| {
            assert_eq!(run(line, limit), (end, text.to_owned()), "{line}");
        };
        check("echo a; echo b", minute, End::Ended, "a\nb\n");
        check("printf a; echo no >&2; exit 3", minute, End::Ended, "a\n");
        check("no-such-program", minute, End::Ended, "");
        check("exec >&-; sleep 0.2", minute, End::Ended, "");
        check("cat", minute, End::Ended, "");
        // What it leaves behind is not waited for.
        check("sleep 100 & echo a", minute, End::Ended, "a\n");
        let (end, text) = run("yes", minute);
        assert_eq!((end, text.len() as u64), (End::Stopped, MAX_TEXT));
        let short = Duration::from_millis(300);
        check("echo a; sleep 100 | sleep 100", short, End::Stopped, "a\n");
    }

    #[test]
    fn a_command_that_is_stopped_leaves_nothing_running() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let line = format!("sh -c 'echo $$ >{}; exec sleep 100' & yes", file.display());
        run(&line, Duration::from_secs(60));
        // `yes` fills the limit before or after the other has written.
        if let Ok(pid) = std::fs::read_to_string(&file) {
            let pid = Pid::from_raw(pid.trim().parse().unwrap());
            let gone = || {
                let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                state.map_or(true, |stat| stat.contains(") Z "))
            };
            while !gone() {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn hushlogin_hushes() {
        let home = tempfile::tempdir().unwrap();
        let mut setup = setup();
        setup.home = home.path().into();
        assert!(of(&setup).is_some());
        std::fs::write(home.path().join(".hushlogin"), "").unwrap();
        assert!(of(&setup).is_none());
    }

    #[test]
    fn texts_end_their_lines_and_files_are_bounded() {
        let mut out = Vec::new();
        for text in ["a", "b\n", ""] {
            print(&mut out, text.as_bytes());
        }
        assert_eq!(out, b"a\nb\n");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("motd");
        std::fs::write(&file, vec![b'x'; 100_000]).unwrap();
        assert_eq!(read(&file).unwrap().len() as u64, MAX_TEXT);
        assert!(read(folder.path()).is_err());
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&folder.path().join("fifo")).is_err());
    }
}
