//! What stands between the start of a program's process and the program: the greeting of a new
//! terminal, the way into the home, `~/.ssh/rc`. It runs in the program's own process, so that
//! nothing here can hold up another channel, and then becomes the program by `execve`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use gateway_wire::session::Setup;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use nix::unistd::ttyname;
use serde::{Deserialize, Serialize};
use service::Failure;
use sys::memfd::Shared;
use sys::spawn::Spawn;

use crate::command::{self, Command};
use crate::display::Display;
use crate::greeting::Greeting;
use crate::kept::offer::{self, Answer};
use crate::kept::{Keep, keeper, visit};
use crate::rc::Rc;

/// Descriptors of the plan and of the pipe on which a byte is the permission to begin.
const PLAN: i32 = 3;
const GO: i32 = 4;
/// And of the socket that becomes the program's [`command::RECORD`].
const RECORD: i32 = 5;
/// And, for a shell that is kept, of the keeper's socket to the session.
const KEEPER: i32 = 6;

/// Largest plan, in bytes: a command of 128 KiB and its environment.
const MAX_PLAN: usize = 1 << 20;

/// How long the program waits for its terminal's entry in the login records. It is there after a
/// fraction of a millisecond; a login without it is better than none. One without the recording
/// that the policy wants is not: such a program waits as long as its login lasts.
const PATIENCE: Duration = Duration::from_secs(2);

/// All that the process does before it is the program.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stage {
    program: PathBuf,
    arg0: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    /// The login shell, which starts the user's rc.
    shell: PathBuf,
    home: PathBuf,
    greeting: Option<Greeting>,
    rc: Option<Rc>,
    display: Option<Display>,
    keep: Option<Keep>,
    is_recorded: bool,
}

impl Stage {
    /// Puts it together.
    pub fn new(
        setup: &Setup,
        command: &Command,
        env: Vec<(OsString, OsString)>,
        greeting: Option<Greeting>,
        rc: Option<Rc>,
        display: Option<Display>,
    ) -> Self {
        Self {
            program: command.program.clone(),
            arg0: command.arg0.clone(),
            args: command.args.clone(),
            shell: setup.shell.clone(),
            env,
            home: setup.home.clone(),
            greeting,
            rc,
            display,
            keep: None,
            is_recorded: setup.policy.record_terminals,
        }
    }

    /// The shell gets a keeper, and this process becomes its first visitor.
    #[must_use]
    pub fn kept(self, keep: Option<Keep>) -> Self {
        Self { keep, ..self }
    }

    /// The process of a shell that is kept. The keeper tells `keeper`'s other end how it goes.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_kept(&self, wait: OwnedFd, keeper: OwnedFd) -> io::Result<Spawn> {
        Ok(self.spawn(Some(wait), None)?.fd(KEEPER, keeper))
    }

    /// Goes back to a shell, or begins one; ends this process as the shell has ended.
    fn visit(mut self, keep: Keep) -> io::Result<()> {
        let session = sys::fds::take_inherited(KEEPER)?;
        let (login, source) = (keep.login.clone(), keep.source.clone());
        let typed = match offer::ask() {
            Answer::Back(keeper) => {
                drop(session);
                return visit::visit(&keeper, &login, &source);
            }
            Answer::New(typed) => typed,
        };
        let here = io::stdin();
        let (master, terminal) = sys::pty::open(sys::pty::size(&here)?)?;
        tcsetattr(&terminal, SetArg::TCSANOW, &tcgetattr(&here)?)?;
        nix::unistd::write(&master, typed.as_bytes())?;
        let path = ttyname(&terminal)?;
        let known = self.env.iter_mut().find(|(name, _)| name == "SSH_TTY");
        if let Some((_, value)) = known {
            *value = path.into();
        }
        let (ours, theirs) = sys::fds::seqpacket_pair()?;
        keeper::nonblocking(&ours)?;
        let plan = keeper::Plan { stage: self, keep };
        keeper::begin(&plan, session, theirs, (master, terminal))?;
        visit::visit(&ours, &login, &source)
    }

    /// The process, to be given its descriptors 0 to 2. It begins when a byte comes from `wait`, and
    /// hands `record` on to the program.
    pub fn spawn(&self, wait: Option<OwnedFd>, record: Option<OwnedFd>) -> io::Result<Spawn> {
        let plan = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let plan = Shared::new("program", &plan)?.reader()?;
        let mut spawn = Spawn::new(&service::sibling("login-gateway-session")?)
            .arg0("login-gateway-session")
            .args(["stage"])
            .fd(PLAN, plan);
        if let Some(wait) = wait {
            spawn = spawn.fd(GO, wait);
        }
        if let Some(record) = record {
            spawn = spawn.fd(RECORD, record);
        }
        Ok(spawn)
    }

    fn run(self) -> io::Error {
        if let Some(greeting) = &self.greeting {
            greeting.show(&self.env);
        }
        if let Err(error) = std::env::set_current_dir(&self.home) {
            let home = self.home.display();
            let reason = reason(&error);
            complain(&format!(
                "Could not chdir to home directory {home}: {reason}"
            ));
            let _ = std::env::set_current_dir("/");
        }
        if let Some(rc) = &self.rc {
            // It gets the cookie, and may know better what to do with it: sshd(8) "SSHRC".
            rc.run(&self.shell, &self.env);
        } else if let Some(display) = &self.display {
            display.authorise(&self.env);
        }
        let mut program = Spawn::new(&self.program)
            .arg0(&self.arg0)
            .args(&self.args)
            .env(self.env);
        if let Ok(record) = sys::fds::take_inherited(RECORD) {
            program = program.fd(command::RECORD, record);
        }
        program.replace_us()
    }
}

/// The program did not run after all.
#[derive(Debug, thiserror::Error)]
#[error("run '{program}'", program = program.display())]
struct StageError {
    program: PathBuf,
    #[source]
    source: io::Error,
}

/// The permission did not come: the login ended, perhaps since its terminal cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[error("the login ended before its program began")]
struct NotBegun;

/// The process of [`Stage::spawn`].
pub fn run() -> Result<(), Failure> {
    let plan = sys::fds::take_inherited(PLAN)?;
    let plan = sys::fds::read_shared(&plan, MAX_PLAN)?;
    let stage: Stage = postcard::from_bytes(&plan)?;
    if let Ok(go) = sys::fds::take_inherited(GO) {
        let patience = (!stage.is_recorded).then_some(PATIENCE);
        if !may_begin(go, patience) {
            return Err(NotBegun.into());
        }
    }
    let program = stage.program.clone();
    let mut stage = stage;
    let source = match stage.keep.take() {
        Some(keep) => match stage.visit(keep) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        },
        None => stage.run(),
    };
    Err(StageError { program, source }.into())
}

/// Waits for the permission, which is not there if the login ends first. After `patience` the program
/// begins without.
fn may_begin(go: OwnedFd, patience: Option<Duration>) -> bool {
    let limit = patience.map_or(PollTimeout::NONE, |time| {
        PollTimeout::try_from(time.as_millis()).unwrap_or(PollTimeout::MAX)
    });
    let mut ready = [PollFd::new(go.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut ready, limit) {
            Ok(0) => return true,
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    matches!(File::from(go).read(&mut [0]), Ok(1))
}

/// The system's words without the number that Rust puts behind them.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// A line on standard error; nobody may be there to read it.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_begins_by_permission_and_not_by_the_end_of_its_login() {
        let (wait, mut go) = io::pipe().unwrap();
        go.write_all(b"\n").unwrap();
        drop(go);
        assert!(may_begin(wait.into(), None));

        let (wait, go) = io::pipe().unwrap();
        let late = std::thread::spawn(move || may_begin(wait.into(), None));
        drop(go);
        assert!(!late.join().unwrap());

        // Only what is not recorded begins without an answer.
        let (wait, _go) = io::pipe().unwrap();
        assert!(may_begin(wait.into(), Some(Duration::ZERO)));
    }
}
