//! The user's running programs: started for a channel, resized, signalled, reported when they end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use gateway_wire::MAX_MESSAGE;
use gateway_wire::session::{Act, ExitStatus, FromSession, Program, Pty, Setup, ToSession, X11};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::signals::Signals;

use crate::auth_file::AuthFile;
use crate::files::Files;
use crate::forwards::Forwards;
use crate::keepers::Keepers;
use crate::record::{Record, asked, cut};
use crate::start::{StartError, Started, Wanted, start, winsize};

/// Time for file servers to say what became of files when their client has gone.
const LAST_FILES: Duration = Duration::from_secs(3);

/// A program of a channel that is still open or still running.
struct Running {
    /// `None` once it has ended.
    pid: Option<Pid>,
    /// Its keeper tells of the shell's end.
    kept: bool,
    /// The terminal's master side, kept for resizing; `None` for pipes or after a hang-up.
    terminal: Option<OwnedFd>,
}

/// Serves net until its socket closes; terminals hang up then.
pub fn serve(
    net: BorrowedFd<'_>,
    signals: &Signals,
    setup: &Setup,
    record: Arc<Record>,
) -> io::Result<()> {
    let mut programs = Programs {
        net,
        setup,
        running: HashMap::new(),
        variables: HashMap::new(),
        auth_file: auth_file(setup),
        forwards: Forwards::new(net, setup, record.clone())?,
        files: Files::default(),
        keepers: Keepers::default(),
        record,
    };
    let ended = until_the_end(&mut programs, signals);
    programs.running.clear();
    if matches!(ended, Ok(End::Net)) {
        programs.forwards.close_all();
        programs.until_the_last_shell(signals)?;
    }
    let patience = match ended {
        Ok(End::Net) => LAST_FILES,
        _ => Duration::ZERO,
    };
    programs.files.finish(&programs.record, patience);
    ended.map(drop)
}

/// Why the session ends.
enum End {
    /// Its connection has.
    Net,
    /// It was told to.
    Signal,
}

fn until_the_end(programs: &mut Programs<'_>, signals: &Signals) -> io::Result<End> {
    let net = programs.net;
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let pause = programs.forwards.pause().map(PollTimeout::try_from);
        let mut files = programs.files.awaited(&programs.record);
        let incoming = |fd| (fd, PollFlags::POLLIN);
        files.extend(programs.keepers.awaited().map(incoming));
        let files_number = files.len();
        let mut ready: Vec<_> = [net, signals.as_fd()]
            .into_iter()
            .map(incoming)
            .chain(files)
            .chain(programs.forwards.waiting().map(incoming))
            .map(|(fd, what)| PollFd::new(fd, what))
            .collect();
        match poll(
            &mut ready,
            pause.and_then(Result::ok).unwrap_or(PollTimeout::NONE),
        ) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let mut ready = ready.iter().map(|fd| fd.any().unwrap_or(false));
        let (from_net, from_children) = (ready.next() == Some(true), ready.next() == Some(true));
        // All of them, so that only the forwards are left.
        let from_files = ready.by_ref().take(files_number).filter(|waits| *waits);
        let from_files = from_files.count() > 0;
        if ready.any(|waits| waits) {
            programs.forwards.accept()?;
        }
        if from_files {
            programs.files.take(&programs.record);
            programs.hear_keepers();
        }
        if from_children {
            while let Some(signal) = signals.next()? {
                if signal != Signal::SIGCHLD {
                    return Ok(End::Signal);
                }
            }
            programs.reap()?;
        }
        if from_net {
            let (n, _) = sys::fds::recv_with_fds(&net, &mut buffer)?;
            if n == 0 {
                return Ok(End::Net);
            }
            programs.handle(gateway_wire::decode(&buffer[..n]).map_err(io::Error::other)?)?;
        }
    }
}

struct Programs<'a> {
    net: BorrowedFd<'a>,
    setup: &'a Setup,
    running: HashMap<u32, Running>,
    /// Of channels whose program is asked for next.
    variables: HashMap<u32, Vec<(String, String)>>,
    auth_file: Option<AuthFile>,
    forwards: Forwards<'a>,
    files: Files,
    keepers: Keepers,
    record: Arc<Record>,
}

impl Programs<'_> {
    fn hear_keepers(&mut self) {
        self.keepers.take(&self.record);
        for (channel, program) in &mut self.running {
            program.kept |= self.keepers.tells_of(*channel);
        }
    }

    /// The connection has gone; shells that are kept have not. They end with the monitor's word, or
    /// its end, and each in its own time.
    fn until_the_last_shell(&mut self, signals: &Signals) -> io::Result<()> {
        loop {
            self.files.take(&self.record);
            self.hear_keepers();
            if self.keepers.is_empty() {
                return Ok(());
            }
            let incoming = |fd| (fd, PollFlags::POLLIN);
            let mut awaited = vec![incoming(signals.as_fd()), incoming(self.record.as_fd())];
            awaited.extend(self.files.awaited(&self.record));
            awaited.extend(self.keepers.awaited().map(incoming));
            let awaited = awaited.into_iter().map(|(fd, what)| PollFd::new(fd, what));
            let mut ready: Vec<_> = awaited.collect();
            match poll(&mut ready, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            // The monitor says nothing; it ends.
            if ready.get(1).and_then(PollFd::any) == Some(true) {
                return Ok(());
            }
            while let Some(signal) = signals.next()? {
                if signal != Signal::SIGCHLD {
                    return Ok(());
                }
            }
            while matches!(
                waitpid(None, Some(WaitPidFlag::WNOHANG)),
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
            ) {}
        }
    }

    fn handle(&mut self, message: ToSession) -> io::Result<()> {
        match message {
            ToSession::Variables { channel, env } => {
                self.variables.entry(channel).or_default().extend(env);
                Ok(())
            }
            ToSession::Start {
                channel,
                program,
                pty,
                env: last,
                x11,
            } => {
                let mut env = self.variables.remove(&channel).unwrap_or_default();
                env.extend(last);
                let started = self.start(&program, pty.as_ref(), &env, x11.as_ref());
                self.started(channel, &program, started)
            }
            ToSession::Connect { channel, target } => self.forwards.connect(channel, target),
            ToSession::Listen { channel, on } => self.forwards.listen(channel, &on),
            ToSession::Resize { channel, size } => {
                if let Some(Running {
                    terminal: Some(terminal),
                    ..
                }) = self.running.get(&channel)
                {
                    // Fails only if the terminal has just gone.
                    let _ = sys::pty::resize(terminal, winsize(size));
                }
                self.send(&FromSession::Resized { channel }, &[])
            }
            ToSession::Signal { channel, name } => {
                let signal = format!("SIG{name}").parse::<Signal>();
                if let (Some(Running { pid: Some(pid), .. }), Ok(signal)) =
                    (self.running.get(&channel), signal)
                {
                    let _ = killpg(*pid, signal);
                }
                Ok(())
            }
            ToSession::Closed { channel } => {
                self.variables.remove(&channel);
                if let Some(program) = self.running.get_mut(&channel) {
                    program.terminal = None;
                    if program.pid.is_none() {
                        self.running.remove(&channel);
                    }
                }
                self.forwards.close(channel);
                Ok(())
            }
        }
    }

    fn start(
        &self,
        program: &Program,
        pty: Option<&Pty>,
        env: &[(String, String)],
        x11: Option<&X11>,
    ) -> Result<Started, StartError> {
        let policy = &self.setup.policy;
        let running = self.running.values().filter(|p| p.pid.is_some()).count();
        if running >= policy.max_sessions as usize {
            return Err(StartError::Sessions(policy.max_sessions));
        }
        let display = x11.and_then(|x11| self.forwards.display(x11));
        let mut extra = self.extra();
        extra.extend(display.iter().map(|d| ("DISPLAY".into(), d.name())));
        let wanted = Wanted {
            program,
            pty: pty.filter(|_| policy.permit_tty),
            env,
            x11: x11.filter(|_| display.is_some()),
            display,
            extra: &extra,
        };
        start(self.setup, &wanted)
    }

    fn started(
        &mut self,
        channel: u32,
        program: &Program,
        started: Result<Started, StartError>,
    ) -> io::Result<()> {
        match started {
            Ok(Started {
                pid,
                terminal,
                number,
                keeper,
                files,
                fds,
            }) => {
                if let Some(keeper) = keeper {
                    self.keepers.add(channel, keeper);
                }
                if let Some(files) = files {
                    self.files.add(channel, files);
                }
                let pid = Some(pid);
                let kept = false;
                self.running.insert(
                    channel,
                    Running {
                        pid,
                        kept,
                        terminal,
                    },
                );
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                let terminal = number;
                let (kind, asked) = asked(program);
                self.record.tell(&Act::Started {
                    channel,
                    kind: kind.to_owned(),
                    asked,
                    terminal,
                });
                self.send(&FromSession::Started { channel, terminal }, &fds)
            }
            Err(reason) => {
                let kind = reason.kind();
                let reason = service::exit::chain(&reason);
                self.record.tell(&Act::Refused(cut(&reason)));
                let refused = FromSession::Refused {
                    channel,
                    kind,
                    reason,
                };
                self.send(&refused, &[])
            }
        }
    }

    /// Variables that the programs of this login have besides the usual ones.
    fn extra(&self) -> Vec<(OsString, OsString)> {
        let file = self.auth_file.as_ref();
        file.map(|file| ("SSH_USER_AUTH".into(), file.path().into()))
            .into_iter()
            .chain(self.forwards.variables())
            .collect()
    }

    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code as u32)),
                Ok(WaitStatus::Signaled(pid, signal, core)) => {
                    let name = signal.as_str().trim_start_matches("SIG").to_owned();
                    (pid, ExitStatus::Signal { name, core })
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let ended = self
                .running
                .iter_mut()
                .find(|(_, program)| program.pid == Some(pid));
            if let Some((channel, program)) = ended {
                let channel = *channel;
                program.pid = None;
                if !program.kept {
                    self.record.tell(&Act::Ended {
                        channel,
                        status: status.clone(),
                    });
                }
                self.send(&FromSession::Exited { channel, status }, &[])?;
            }
        }
    }

    fn send(&self, message: &FromSession, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = gateway_wire::encode(message).map_err(io::Error::other)?;
        sys::fds::send_with_fds(&self.net, &bytes, fds)
    }
}

/// The file for `SSH_USER_AUTH`, where the policy wants one.
fn auth_file(setup: &Setup) -> Option<AuthFile> {
    if !setup.policy.expose_auth_info {
        return None;
    }
    let made = AuthFile::new(&std::env::temp_dir(), &setup.factors);
    made.inspect_err(|error| eprintln!("warn: write the file for SSH_USER_AUTH: {error}"))
        .ok()
}
