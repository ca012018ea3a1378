//! The keeper: holds a shell's terminal, shows it on the terminal of one visitor at a time, and waits
//! for the next when that has gone. It ends with the shell, with its time, and with its session.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gateway_wire::session::ExitStatus;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, isatty, read, tcgetpgrp, ttyname, write};
use serde::{Deserialize, Serialize};
use service::Failure;
use sys::memfd::Shared;
use sys::signals::Signals;
use sys::spawn::Spawn;

use super::scrollback::Scrollback;
use super::{FromKeeper, Keep, Kept, ToKeeper, Told, is_ours, listen_as, now, receive, send};
use crate::stage::Stage;
use crate::start::{number, winsize};

/// Descriptors: the plan, the session, the first visitor, both sides of the terminal.
const PLAN: i32 = 3;
const SESSION: i32 = 4;
const VISITOR: i32 = 5;
const MASTER: i32 = 6;
const TERMINAL: i32 = 7;

/// Largest plan, in bytes.
const MAX_PLAN: usize = 1 << 20;
/// Bytes that are carried at one time.
const PIECE: usize = 32 * 1024;
/// Visitors that have connected and not yet said that they want the shell.
const MAX_ARRIVALS: usize = 16;
/// After the shell's end, how long its last output may take when a background process keeps the terminal
/// open, and at all.
const QUIET: Duration = Duration::from_millis(50);
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// What a keeper is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The shell.
    pub stage: Stage,
    /// How it is kept.
    pub keep: Keep,
}

/// Starts a keeper for the shell on this terminal. `session` hears of it.
///
/// # Errors
/// Those of starting a program.
pub fn begin(
    plan: &Plan,
    session: OwnedFd,
    visitor: OwnedFd,
    (master, terminal): (OwnedFd, OwnedFd),
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(plan).map_err(io::Error::other)?;
    let plan = Shared::new("kept", &bytes)?.reader()?;
    Spawn::new(&service::sibling("login-gateway-session")?)
        .arg0("login-gateway-session")
        .args(["keep"])
        .fd(PLAN, plan)
        .fd(SESSION, session)
        .fd(VISITOR, visitor)
        .fd(MASTER, master)
        .fd(TERMINAL, terminal)
        .new_session()
        .start()
        .map(drop)
}

/// The process of [`begin`].
pub fn run() -> Result<(), Failure> {
    let plan = sys::fds::take_inherited(PLAN)?;
    let plan = sys::fds::read_shared(&plan, MAX_PLAN)?;
    let Plan { stage, keep } = postcard::from_bytes(&plan)?;
    let take = sys::fds::take_inherited;
    let (session, visitor, master, terminal) = (
        take(SESSION)?,
        take(VISITOR)?,
        take(MASTER)?,
        take(TERMINAL)?,
    );
    let signals = Signals::of(&[Signal::SIGCHLD])?;
    let path: PathBuf = ttyname(&terminal)?;
    let (output, error) = (terminal.try_clone()?, terminal.try_clone()?);
    let shell = stage
        .spawn(None, None)?
        .fd(0, terminal)
        .fd(1, output)
        .fd(2, error)
        .new_terminal_session()
        .start()?;
    let shell = Pid::from_raw(shell.id().cast_signed());
    nonblocking(&master)?;
    nonblocking(&visitor)?;
    let id = format!("{}-{}", keep.login, std::process::id());
    let mut keeper = Keeper {
        // Without it the shell lives as long as its line, as without a keeper.
        listener: listen_as(&id)
            .inspect_err(|error| eprintln!("warn: a shell cannot be kept: {error}"))
            .ok()
            .map(UnixListener::from),
        session,
        signals,
        master,
        shell,
        begun: now(),
        source: keep.source.clone(),
        time: keep.time,
        left: None,
        visitor: None,
        arrivals: vec![visitor],
        input: Vec::new(),
        scrollback: Scrollback::default(),
        silent: false,
    };
    keeper.tell(&Told::Begun(number(&path).unwrap_or(u32::MAX)));
    let status = keeper.serve()?;
    keeper.finish(status);
    Ok(())
}

struct Keeper {
    listener: Option<UnixListener>,
    session: OwnedFd,
    signals: Signals,
    master: OwnedFd,
    shell: Pid,
    begun: u64,
    source: String,
    time: Duration,
    /// When the last visitor has gone.
    left: Option<(Instant, u64)>,
    visitor: Option<Visitor>,
    arrivals: Vec<OwnedFd>,
    /// From the visitor to the shell.
    input: Vec<u8>,
    scrollback: Scrollback,
    /// Nobody has the shell's terminal open any more.
    silent: bool,
}

struct Visitor {
    socket: OwnedFd,
    terminal: OwnedFd,
    /// What it is still to be shown.
    output: Vec<u8>,
}

/// What a visitor's descriptor gave.
#[derive(Debug, PartialEq, Eq)]
enum Went {
    Some,
    /// Nothing for now.
    None,
    /// It has come to its end.
    End,
}

impl Keeper {
    fn tell(&self, told: &Told) {
        // A session that has gone ends us anyway.
        let _ = send(&self.session, told, &[]);
    }

    /// Until the shell has ended, or is to end.
    fn serve(&mut self) -> io::Result<ExitStatus> {
        loop {
            let left = self.left.map(|(at, _)| at + self.time);
            let left = left.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(hung_up());
            }
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            });
            let mut awaited = self.awaited();
            match poll(&mut awaited, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            // The session says nothing; it ends.
            if awaited.first().and_then(PollFd::any) == Some(true) {
                return Ok(hung_up());
            }
            drop(awaited);
            self.carry();
            self.hear_visitors();
            self.welcome();
            // The first one may go before it has asked for anything.
            if self.visitor.is_none() && self.left.is_none() && self.arrivals.is_empty() {
                self.left = Some((Instant::now(), now()));
                self.tell(&Told::Detached);
            }
            while self.signals.next()?.is_some() {}
            if let Some(status) = self.ended() {
                return Ok(status);
            }
        }
    }

    /// The session is the first.
    fn awaited(&self) -> Vec<PollFd<'_>> {
        let incoming = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut all = vec![
            incoming(self.session.as_fd()),
            incoming(self.signals.as_fd()),
        ];
        all.extend(self.listener.as_ref().map(|fd| incoming(fd.as_fd())));
        all.extend(self.arrivals.iter().map(|fd| incoming(fd.as_fd())));
        let mut shell = PollFlags::empty();
        shell.set(PollFlags::POLLOUT, !self.input.is_empty());
        if let Some(visitor) = &self.visitor {
            all.push(incoming(visitor.socket.as_fd()));
            let mut its = PollFlags::empty();
            its.set(PollFlags::POLLIN, self.input.is_empty());
            its.set(PollFlags::POLLOUT, !visitor.output.is_empty());
            all.push(PollFd::new(visitor.terminal.as_fd(), its));
        }
        // What a visitor does not take in time holds the shell up, as a terminal does.
        let room = self.visitor.as_ref().is_none_or(|v| v.output.is_empty());
        shell.set(PollFlags::POLLIN, room);
        if !self.silent && !shell.is_empty() {
            all.push(PollFd::new(self.master.as_fd(), shell));
        }
        all
    }

    /// Carries bytes both ways as far as they go.
    fn carry(&mut self) {
        self.show();
        if self.visitor.as_ref().is_none_or(|v| v.output.is_empty())
            && self.hear_shell() == Went::Some
        {
            self.show();
        }
        if let Some(visitor) = &self.visitor
            && self.input.is_empty()
            && take(visitor.terminal.as_fd(), &mut self.input) == Went::End
        {
            self.leave();
        }
        if give(self.master.as_fd(), &mut self.input) == Went::End {
            self.input.clear();
        }
    }

    fn hear_shell(&mut self) -> Went {
        let mut piece = Vec::new();
        if self.silent {
            return Went::End;
        }
        let went = take(self.master.as_fd(), &mut piece);
        self.silent |= went == Went::End;
        self.scrollback.take(&piece);
        if let Some(visitor) = &mut self.visitor {
            visitor.output.extend(piece);
        }
        went
    }

    fn show(&mut self) {
        if let Some(visitor) = &mut self.visitor
            && give(visitor.terminal.as_fd(), &mut visitor.output) == Went::End
        {
            self.leave();
        }
    }

    /// The visitor has gone.
    fn leave(&mut self) {
        if self.visitor.take().is_some() {
            self.input.clear();
            self.left = Some((Instant::now(), now()));
            self.tell(&Told::Detached);
        }
    }

    fn hear_visitors(&mut self) {
        while let Some(visitor) = &self.visitor {
            match receive(&visitor.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(Some((ToKeeper::Resize(size), _))) => {
                    // Fails only if the terminal has just gone.
                    let _ = sys::pty::resize(&self.master, winsize(size));
                }
                Ok(Some((ToKeeper::Signal(name), _))) => {
                    if let Ok(signal) = format!("SIG{name}").parse::<Signal>() {
                        let _ = killpg(self.shell, signal);
                    }
                }
                _ => self.leave(),
            }
        }
        let mut at = 0;
        while at < self.arrivals.len() {
            match receive(&self.arrivals[at]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => at += 1,
                Ok(Some((
                    ToKeeper::Attach {
                        size,
                        login,
                        source,
                    },
                    fds,
                ))) => {
                    let socket = self.arrivals.remove(at);
                    let terminal = fds.into_iter().next().filter(|fd| isatty(fd) == Ok(true));
                    if let Some(terminal) = terminal.filter(|t| nonblocking(t).is_ok()) {
                        let _ = sys::pty::resize(&self.master, winsize(size));
                        self.attach(socket, terminal, login, source);
                    }
                }
                _ => drop(self.arrivals.remove(at)),
            }
        }
    }

    fn attach(&mut self, socket: OwnedFd, terminal: OwnedFd, login: String, source: String) {
        let first = self.visitor.is_none() && self.left.is_none();
        if let Some(before) = self.visitor.take() {
            let _ = send(&before.socket, &FromKeeper::Taken, &[]);
        }
        self.left = None;
        self.input.clear();
        let output = if first {
            Vec::new()
        } else {
            self.scrollback.replay()
        };
        self.visitor = Some(Visitor {
            socket,
            terminal,
            output,
        });
        if !first {
            self.source = source;
            self.tell(&Told::Attached(login));
            // Who draws a prompt or a screen draws it anew, also where the size has not changed.
            if let Ok(group) = tcgetpgrp(&self.master) {
                let _ = killpg(group, Signal::SIGWINCH);
            }
        }
    }

    /// Takes connections of this user's.
    fn welcome(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        while let Ok((socket, _)) = listener.accept() {
            if socket.set_nonblocking(true).is_err() || !is_ours(&socket).unwrap_or(false) {
                continue;
            }
            let socket = OwnedFd::from(socket);
            let kept = FromKeeper::Kept(Kept {
                begun: self.begun,
                detached: self.left.map(|(_, at)| at),
                source: self.source.clone(),
            });
            if send(&socket, &kept, &[]).is_ok() {
                if self.arrivals.len() >= MAX_ARRIVALS {
                    self.arrivals.remove(0);
                }
                self.arrivals.push(socket);
            }
        }
    }

    fn ended(&self) -> Option<ExitStatus> {
        match waitpid(self.shell, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::Code(code as u32)),
            Ok(WaitStatus::Signaled(_, signal, core)) => {
                let name = signal.as_str().trim_start_matches("SIG").to_owned();
                Some(ExitStatus::Signal { name, core })
            }
            _ => None,
        }
    }

    /// Shows the last output, and tells how it ended.
    fn finish(&mut self, status: ExitStatus) {
        let end = Instant::now() + LAST_OUTPUT;
        while self.visitor.is_some() && Instant::now() < end {
            self.show();
            let full = self.visitor.as_ref().is_some_and(|v| !v.output.is_empty());
            if !full && self.hear_shell() == Went::Some {
                continue;
            }
            let full = self.visitor.as_ref().is_some_and(|v| !v.output.is_empty());
            if !full && self.silent {
                break;
            }
            let mut ready = Vec::new();
            match &self.visitor {
                Some(visitor) if full => {
                    ready.push(PollFd::new(visitor.terminal.as_fd(), PollFlags::POLLOUT));
                }
                _ => ready.push(PollFd::new(self.master.as_fd(), PollFlags::POLLIN)),
            }
            let quiet = PollTimeout::try_from(QUIET.as_millis()).unwrap_or(PollTimeout::ZERO);
            if !poll(&mut ready, quiet).is_ok_and(|n| n > 0) && !full {
                break;
            }
        }
        self.tell(&Told::Ended(status.clone()));
        if let Some(visitor) = &self.visitor {
            let _ = send(&visitor.socket, &FromKeeper::Ended(status), &[]);
        }
    }
}

/// How a shell ends whose terminal goes.
fn hung_up() -> ExitStatus {
    ExitStatus::Signal {
        name: "HUP".into(),
        core: false,
    }
}

/// Calls on it do not wait from here on.
///
/// # Errors
/// Those of `fcntl(2)`.
pub fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Reads a piece.
fn take(from: BorrowedFd<'_>, into: &mut Vec<u8>) -> Went {
    let mut piece = [0; PIECE];
    match read(from, &mut piece) {
        Ok(0) => Went::End,
        Ok(n) => {
            into.extend_from_slice(&piece[..n]);
            Went::Some
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Went::None,
        Err(_) => Went::End,
    }
}

/// Writes what goes.
fn give(to: BorrowedFd<'_>, from: &mut Vec<u8>) -> Went {
    while !from.is_empty() {
        match write(to, from) {
            Ok(n) => drop(from.drain(..n)),
            Err(Errno::EAGAIN | Errno::EINTR) => return Went::None,
            Err(_) => return Went::End,
        }
    }
    Went::Some
}
