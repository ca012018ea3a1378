//! One accept process and the socket to it. There may be two for a moment: after a reload the old
//! one finishes what it has begun.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use gateway_wire::accept::{FromAccept, Health, MAX_SAID};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use sys::fds::{recv_with_fds, send_with_fds, seqpacket_pair};
use sys::memfd::Shared;

use crate::programs::Programs;
use crate::sockets::Sockets;

/// Time for an old accept to finish; a header has 3 s.
const RETIREMENT: Duration = Duration::from_secs(10);
/// Longest message: two addresses, what the balancer says beside them, and some bytes.
const MAX_MESSAGE: usize = 256 + 2 * MAX_SAID;

/// What accept sent is not what it sends; it is ended.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The socket failed.
    #[error("socket of accept")]
    Socket(#[from] io::Error),
    /// Not a message, or not with one descriptor where one belongs.
    #[error("malformed message of accept")]
    Malformed,
}

/// An accept process.
#[derive(Debug)]
pub struct AcceptChild {
    pub pid: i32,
    pub socket: Option<OwnedFd>,
    pub started: Instant,
    /// Its sandbox is in place.
    pub ready: bool,
    /// It is to end by then, having been told so.
    pub retired: Option<Instant>,
    /// It has been told to end.
    ending: bool,
    /// It was there before a re-execution.
    inherited: bool,
    /// What it was last told.
    told: Option<Health>,
}

impl AcceptChild {
    /// Starts one with these sockets.
    pub fn start(programs: &Programs, settings: &Shared, sockets: &Sockets) -> io::Result<Self> {
        let (ours, theirs) = seqpacket_pair()?;
        let ssh = sockets.ssh.iter().map(|s| s.share());
        let health = sockets.health.as_ref().map(|s| s.share()).transpose()?;
        let pid = programs.start_accept(
            settings.reader()?,
            theirs,
            ssh.collect::<io::Result<_>>()?,
            health,
        )?;
        non_blocking(&ours)?;
        Ok(Self {
            inherited: false,
            ready: false,
            ..Self::known(pid, Some(ours))
        })
    }

    /// One from before a re-execution.
    pub fn known(pid: i32, socket: Option<OwnedFd>) -> Self {
        Self {
            pid,
            socket,
            started: Instant::now(),
            ready: true,
            retired: None,
            ending: false,
            inherited: true,
            told: None,
        }
    }

    /// Whether it is to serve on: no other need be started.
    pub fn is_current(&self) -> bool {
        !self.inherited && !self.ending && self.retired.is_none()
    }

    /// Its next message, `None` if there is none now or ever.
    pub fn next(&mut self) -> Result<Option<(FromAccept, Option<OwnedFd>)>, AcceptError> {
        let Some(socket) = &self.socket else {
            return Ok(None);
        };
        let mut buffer = [0; MAX_MESSAGE];
        let (length, mut fds) = match recv_with_fds(socket, &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            other => other?,
        };
        if length == 0 {
            self.socket = None;
            return Ok(None);
        }
        let message =
            gateway_wire::decode(&buffer[..length]).map_err(|_| AcceptError::Malformed)?;
        let has_socket = matches!(
            message,
            FromAccept::Connection(_) | FromAccept::Balanced(..)
        );
        if fds.len() != usize::from(has_socket) {
            return Err(AcceptError::Malformed);
        }
        if matches!(message, FromAccept::Counted(_)) {
            // It waits for an answer.
            self.told = None;
        }
        Ok(Some((message, fds.pop())))
    }

    /// Tells it the numbers, if they are news to it; when it is behind it hears the next ones.
    pub fn tell(&mut self, health: Health) {
        let (Some(socket), true) = (&self.socket, self.told != Some(health)) else {
            return;
        };
        let sent =
            gateway_wire::encode(&health).is_ok_and(|m| send_with_fds(socket, &m, &[]).is_ok());
        if sent {
            self.told = Some(health);
        }
    }

    /// Tells it to take no more connections, to pass on what it has, and to end.
    pub fn retire(&mut self, now: Instant) {
        if let Some(socket) = &self.socket
            && self.retired.is_none()
        {
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
            self.retired = Some(now + RETIREMENT);
        }
    }

    /// Ends it at once.
    pub fn end(&mut self) {
        self.socket = None;
        self.ending = true;
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
    }
}

/// The listener waits in one place only.
pub fn non_blocking(socket: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The descriptor to wait on, if there is one.
pub fn awaited(socket: &Option<OwnedFd>) -> Option<BorrowedFd<'_>> {
    socket.as_ref().map(|s| s.as_fd())
}
