//! The user's running programs: started for a channel, resized, signalled, reported when they end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gateway_wire::MAX_MESSAGE;
use gateway_wire::session::{ExitStatus, FromSession, Setup, ToSession};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::signals::Signals;

use crate::auth_file::AuthFile;
use crate::start::{StartError, Started, Wanted, start, winsize};

/// A program of a channel that is still open or still running.
struct Running {
    /// `None` once it has ended.
    pid: Option<Pid>,
    /// The terminal's master side, kept for resizing; `None` for pipes or after a hang-up.
    terminal: Option<OwnedFd>,
}

/// Serves net until its socket closes; terminals hang up then.
pub fn serve(net: BorrowedFd<'_>, signals: &Signals, setup: &Setup) -> io::Result<()> {
    let mut programs = Programs {
        net,
        setup,
        running: HashMap::new(),
        auth_file: auth_file(setup),
    };
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let mut ready = [
            PollFd::new(net, PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let [from_net, from_children] = ready.map(|fd| fd.any().unwrap_or(false));
        if from_children {
            while signals.next()?.is_some() {}
            programs.reap()?;
        }
        if from_net {
            let (n, _) = sys::fds::recv_with_fds(&net, &mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            programs.handle(gateway_wire::decode(&buffer[..n]).map_err(io::Error::other)?)?;
        }
    }
}

struct Programs<'a> {
    net: BorrowedFd<'a>,
    setup: &'a Setup,
    running: HashMap<u32, Running>,
    auth_file: Option<AuthFile>,
}

impl Programs<'_> {
    fn handle(&mut self, message: ToSession) -> io::Result<()> {
        match message {
            ToSession::Start {
                channel,
                program,
                pty,
                env,
                x11,
            } => {
                let wanted = Wanted {
                    program: &program,
                    pty: pty.as_ref(),
                    env: &env,
                    x11: x11.as_ref(),
                    extra: &self.extra(),
                };
                self.started(channel, start(self.setup, &wanted))
            }
            ToSession::Connect { channel, .. } | ToSession::Listen { channel, .. } => {
                let reason = "forwarding is not permitted".to_owned();
                self.send(&FromSession::Refused { channel, reason }, &[])
            }
            ToSession::Resize { channel, size } => {
                if let Some(Running {
                    terminal: Some(terminal),
                    ..
                }) = self.running.get(&channel)
                {
                    // Fails only if the terminal has just gone.
                    let _ = sys::pty::resize(terminal, winsize(size));
                }
                Ok(())
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
                if let Some(program) = self.running.get_mut(&channel) {
                    program.terminal = None;
                    if program.pid.is_none() {
                        self.running.remove(&channel);
                    }
                }
                Ok(())
            }
        }
    }

    fn started(&mut self, channel: u32, started: Result<Started, StartError>) -> io::Result<()> {
        match started {
            Ok(Started {
                pid,
                terminal,
                number,
                fds,
            }) => {
                let pid = Some(pid);
                self.running.insert(channel, Running { pid, terminal });
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                let terminal = number;
                self.send(&FromSession::Started { channel, terminal }, &fds)
            }
            Err(reason) => {
                let reason = service::exit::chain(&reason);
                eprintln!("warn: {reason}");
                self.send(&FromSession::Refused { channel, reason }, &[])
            }
        }
    }

    /// Variables that the programs of this login have besides the usual ones.
    fn extra(&self) -> Vec<(OsString, OsString)> {
        let file = self.auth_file.as_ref();
        file.map(|file| ("SSH_USER_AUTH".into(), file.path().into()))
            .into_iter()
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
