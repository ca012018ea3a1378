//! The user's running programs: started for a channel, resized, signalled, reported when they end.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use gateway_wire::MAX_MESSAGE;
use gateway_wire::session::{ExitStatus, FromSession, Program, Pty, Setup, ToSession, WindowSize};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, ttyname};
use sys::pty::Winsize;
use sys::signals::Signals;
use sys::spawn::Spawn;

use crate::{environment, terminal_modes};

/// Room in a pipe between a program and the client, in bytes; the default of 64 KiB makes bulk
/// data wait for a process switch twice as often.
const PIPE_SIZE: i32 = 256 * 1024;

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
}

impl Programs<'_> {
    fn handle(&mut self, message: ToSession) -> io::Result<()> {
        match message {
            ToSession::Start {
                channel,
                program,
                pty,
                env,
                x11: _,
            } => match start(self.setup, &program, pty.as_ref(), &env) {
                Ok(Started { pid, terminal, fds }) => {
                    let pid = Some(pid);
                    self.running.insert(channel, Running { pid, terminal });
                    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                    let terminal = None;
                    self.send(&FromSession::Started { channel, terminal }, &fds)
                }
                Err(reason) => {
                    let reason = service::exit::chain(&reason);
                    eprintln!("warn: {reason}");
                    self.send(&FromSession::Refused { channel, reason }, &[])
                }
            },
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

struct Started {
    pid: Pid,
    terminal: Option<OwnedFd>,
    fds: Vec<OwnedFd>,
}

/// A program that did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("open a terminal")]
    Terminal(#[source] io::Error),
    #[error("open pipes")]
    Pipes(#[source] io::Error),
    #[error("run '{shell}'", shell = shell.display())]
    Run {
        shell: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("unknown subsystem '{0}'")]
    Subsystem(String),
}

fn start(
    setup: &Setup,
    program: &Program,
    pty: Option<&Pty>,
    env: &[(String, String)],
) -> Result<Started, StartError> {
    let (arg0, args) = arguments(setup, program)?;
    let spawn = Spawn::new(&setup.shell)
        .arg0(arg0)
        .args(args)
        .folder(&setup.home);
    let run = |spawn: Spawn| {
        let child = spawn.start().map_err(|source| StartError::Run {
            shell: setup.shell.clone(),
            source,
        })?;
        Ok(Pid::from_raw(child.id() as i32))
    };
    if let Some(pty) = pty {
        let (master, slave) = sys::pty::open(winsize(pty.size)).map_err(StartError::Terminal)?;
        let prepare = || -> io::Result<_> {
            sys::pty::edit_settings(&slave, |s| terminal_modes::apply(s, &pty.modes))?;
            let path = ttyname(&slave)?;
            let copies = (slave.try_clone()?, slave.try_clone()?, master.try_clone()?);
            Ok((path, copies))
        };
        let (path, (output, error, for_net)) = prepare().map_err(StartError::Terminal)?;
        let vars = environment::of(setup, env, Some((&pty.term, &path)));
        let spawn = spawn
            .env(vars)
            .fd(0, slave)
            .fd(1, output)
            .fd(2, error)
            .new_terminal_session();
        let pid = run(spawn)?;
        return Ok(Started {
            pid,
            terminal: Some(master),
            fds: vec![for_net],
        });
    }
    let ((input, to_input), (from_output, output), (from_error, error)) =
        pipes().map_err(StartError::Pipes)?;
    let spawn = spawn
        .env(environment::of(setup, env, None))
        .fd(0, input)
        .fd(1, output)
        .fd(2, error)
        .new_session();
    let pid = run(spawn)?;
    Ok(Started {
        pid,
        terminal: None,
        fds: vec![to_input, from_output, from_error],
    })
}

/// `-bash` for a login shell; `bash -c command` for everything else, as sshd(8) does.
fn arguments(setup: &Setup, program: &Program) -> Result<(OsString, Vec<OsString>), StartError> {
    let name = setup.shell.file_name().unwrap_or(OsStr::new("sh"));
    let command = match program {
        Program::Shell => {
            let mut arg0 = OsString::from("-");
            arg0.push(name);
            return Ok((arg0, Vec::new()));
        }
        Program::Exec(command) => OsString::from_vec(command.clone()),
        Program::Subsystem(name) => setup
            .policy
            .subsystems
            .get(name)
            .map(OsString::from)
            .ok_or_else(|| StartError::Subsystem(name.clone()))?,
    };
    Ok((name.to_owned(), vec!["-c".into(), command]))
}

type Pipe = (OwnedFd, OwnedFd);

/// Read and write ends for standard input, output and error.
fn pipes() -> io::Result<(Pipe, Pipe, Pipe)> {
    let pipe = |size: Option<i32>| -> io::Result<Pipe> {
        let (reader, writer) = io::pipe()?;
        if let Some(size) = size {
            // Refused when the user has many pipes; the default size works as well.
            let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size));
        }
        Ok((reader.into(), writer.into()))
    };
    Ok((pipe(Some(PIPE_SIZE))?, pipe(Some(PIPE_SIZE))?, pipe(None)?))
}

fn winsize(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.width,
        ws_ypixel: size.height,
    }
}
