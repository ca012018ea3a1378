//! Starting a program with exactly the descriptors, environment and identity it is to have.
//!
//! The parent is small wherever this is used (listener, monitor, session), so `fork` is cheap; what
//! runs between `fork` and `exec` makes system calls only and allocates nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::Gid;

use crate::identity::{Identity, drop_to};

/// A program to start. The environment is empty unless given.
#[derive(Debug)]
pub struct Spawn {
    command: Command,
    fds: Vec<(OwnedFd, RawFd)>,
    identity: Option<Identity>,
    folder: Option<PathBuf>,
    umask: Option<u32>,
    session: Leader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leader {
    No,
    Session,
    Terminal,
}

impl Spawn {
    /// Starts from a program with an empty environment; descriptors 0 to 2 are `/dev/null` unless
    /// given or inherited.
    pub fn new(program: &Path) -> Self {
        let mut command = Command::new(program);
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            command,
            fds: Vec::new(),
            identity: None,
            folder: None,
            umask: None,
            session: Leader::No,
        }
    }

    /// Sets the name the program sees as its own.
    #[must_use]
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.arg0(name);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds environment variables.
    #[must_use]
    pub fn env(mut self, vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.command.envs(vars);
        self
    }

    /// Gives `fd` to the program as its descriptor number `number`.
    #[must_use]
    pub fn fd(mut self, number: RawFd, fd: OwnedFd) -> Self {
        self.fds.push((fd, number));
        self
    }

    /// Leaves our standard error to the program.
    #[must_use]
    pub fn inherit_stderr(mut self) -> Self {
        self.command.stderr(Stdio::inherit());
        self
    }

    /// Leaves our standard output and error to the program.
    #[must_use]
    pub fn inherit_outputs(mut self) -> Self {
        self.command
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit());
        self
    }

    /// Runs it as this user. Needs the capabilities to change ids.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Starts it in `folder`, entered with the new identity (a home may be closed to root); if
    /// that fails, in `/`.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets its file mode creation mask.
    #[must_use]
    pub fn umask(mut self, mask: u32) -> Self {
        self.umask = Some(mask);
        self
    }

    /// Makes it the leader of a new session without a terminal.
    #[must_use]
    pub fn new_session(mut self) -> Self {
        self.session = Leader::Session;
        self
    }

    /// Makes it the leader of a new session whose terminal is its descriptor 0.
    #[must_use]
    pub fn new_terminal_session(mut self) -> Self {
        self.session = Leader::Terminal;
        self
    }

    /// Starts the program. Its signal handlers and mask are the defaults, and no descriptor of
    /// ours above the given ones reaches it.
    ///
    /// # Errors
    /// If any step up to `execve` fails; the child has then ended.
    pub fn start(self) -> io::Result<Child> {
        let (mut command, fds) = self.prepared()?;
        let child = command.spawn();
        drop(fds);
        child
    }

    /// Becomes the program, with our own descriptors 0 to 2 in the place of `/dev/null`. It returns
    /// only if that failed; the process is then fit for nothing but its end.
    pub fn replace_us(mut self) -> io::Error {
        self.command
            .stdin(Stdio::inherit())
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit());
        match self.prepared() {
            Ok((mut command, _fds)) => command.exec(),
            Err(error) => error,
        }
    }

    fn prepared(self) -> io::Result<(Command, Vec<(OwnedFd, RawFd)>)> {
        let Self {
            mut command,
            fds,
            identity,
            folder,
            umask,
            session,
        } = self;
        let groups: Vec<Gid> = identity
            .iter()
            .flat_map(|i| i.groups.iter().map(|g| Gid::from_raw(*g)))
            .collect();
        let ids = identity.map(|i| (i.uid, i.gid));
        let plan: Vec<(RawFd, RawFd)> = fds.iter().map(|(fd, to)| (fd.as_raw_fd(), *to)).collect();
        let highest = plan.iter().map(|(_, to)| *to).max().unwrap_or(2).max(2);
        let mut moved = vec![0; plan.len()];
        let folder = match folder {
            Some(folder) => Some(std::ffi::CString::new(
                folder.into_os_string().into_encoded_bytes(),
            )?),
            None => None,
        };
        let prepare = move || {
            place(&plan, &mut moved, highest)?;
            if session != Leader::No {
                nix::unistd::setsid()?;
            }
            if session == Leader::Terminal {
                // SAFETY: one call on descriptor 0, which `place` has just filled.
                if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            default_signals();
            if let Some(mask) = umask {
                nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
            }
            if let Some((uid, gid)) = ids {
                drop_to(uid, gid, &groups)?;
            }
            if let Some(folder) = &folder
                && nix::unistd::chdir(folder.as_c_str()).is_err()
            {
                nix::unistd::chdir(c"/")?;
            }
            Ok(())
        };
        // SAFETY: `prepare` makes system calls on values made before the fork; it takes no lock and
        // allocates nothing.
        unsafe { command.pre_exec(prepare) };
        Ok((command, fds))
    }
}

/// Puts each descriptor at its number and marks all above `highest` close-on-exec.
fn place(plan: &[(RawFd, RawFd)], moved: &mut [RawFd], highest: RawFd) -> io::Result<()> {
    // First out of the way of all targets: a target may be another entry's source.
    for (at, (from, _)) in plan.iter().enumerate() {
        // SAFETY: duplicates an open descriptor to a number above all targets.
        moved[at] = unsafe { libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, highest + 1) };
        if moved[at] < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    for (at, (_, to)) in plan.iter().enumerate() {
        // SAFETY: both numbers are ours in this child; the copy is not close-on-exec.
        if unsafe { libc::dup2(moved[at], *to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: only sets a flag; the pipe by which std reports errors stays open until exec.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            highest as libc::c_uint + 1,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ignored signals survive `exec`; a user's program starts with the defaults.
fn default_signals() {
    for number in 1..=64 {
        // SAFETY: SIG_DFL is valid for every signal; the kernel refuses SIGKILL and SIGSTOP.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // So do blocked ones: `std` leaves the mask alone, and whoever reads a signalfd has blocked some.
    let none = nix::sys::signal::SigSet::empty();
    let _ = none.thread_set_mask();
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    fn shell(script: &str, setup: impl FnOnce(Spawn) -> Spawn) -> String {
        let (reader, writer) = io::pipe().unwrap();
        let spawn = Spawn::new(Path::new("/bin/sh"))
            .args(["-c", script])
            .fd(1, writer.into());
        let mut child = setup(spawn).start().unwrap();
        let mut text = String::new();
        File::from(OwnedFd::from(reader))
            .read_to_string(&mut text)
            .unwrap();
        child.wait().unwrap();
        text
    }

    #[test]
    fn gets_only_what_it_was_given() {
        let keep = File::open("/dev/null").unwrap();
        nix::fcntl::fcntl(
            &keep,
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
        )
        .unwrap();
        let swapped = shell("cat <&3; cat <&4; ls /proc/self/fd | wc -l; env", |spawn| {
            let file = |text: &str| {
                let mut file = tempfile::tempfile().unwrap();
                io::Write::write_all(&mut file, text.as_bytes()).unwrap();
                io::Seek::rewind(&mut file).unwrap();
                OwnedFd::from(file)
            };
            spawn.fd(4, file("four\n")).fd(3, file("three\n"))
        });
        // 0 to 4 and the folder that ls has open; PWD is set by the shell itself.
        let lines: Vec<&str> = swapped.lines().collect();
        assert_eq!(lines[..3], ["three", "four", "6"]);
        assert!(
            lines[3..].iter().all(|l| l.starts_with("PWD=")
                || l.starts_with("OLDPWD")
                || l.starts_with("_=")
                || l.starts_with("SHLVL=")),
            "{lines:?}"
        );
    }

    #[test]
    fn starts_with_no_signal_blocked() {
        let blocked = nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGTERM);
        blocked.thread_block().unwrap();
        let said = shell("grep SigBlk /proc/self/status", |spawn| spawn);
        blocked.thread_unblock().unwrap();
        assert_eq!(said, "SigBlk:\t0000000000000000\n");
    }

    #[test]
    fn drops_for_good() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: spawn::drops_for_good needs root");
            return;
        }
        let said = shell(
            "id -u; id -g; id -G; pwd; grep -c . /etc/shadow 2>/dev/null; umask",
            |spawn| {
                let identity = Identity {
                    uid: 12345,
                    gid: 12346,
                    groups: vec![12346, 12347],
                };
                spawn.identity(identity).folder("/nonexistent").umask(0o077)
            },
        );
        assert_eq!(said, "12345\n12346\n12346 12347\n/\n0077\n");
    }
}
