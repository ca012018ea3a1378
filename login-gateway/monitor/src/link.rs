//! What the monitor listens to: net, the listener, signals, and log lines that it passes on
//! meanwhile. What a message means is told elsewhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use gateway_wire::monitor::FromNet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use sys::signals::Signals;

use crate::net_process::NetProcess;
use crate::user_session::UserSession;

/// Why a connection ends that a signal ends.
pub const TERMINATED: &str = "terminated";

/// Why one ends whose net has.
pub const NET_ENDED: &str = "login-gateway-net ended";

/// Why one ends whose session says what it never says.
const MALFORMED: &str = "malformed message from the session";

/// The monitor's ends of everything.
pub struct Link {
    /// Socket to the listener.
    pub listener: OwnedFd,
    /// `SIGCHLD` and `SIGTERM`.
    pub signals: Signals,
    /// The sandboxed half.
    pub net: NetProcess,
}

/// What woke the monitor.
#[derive(Debug)]
pub enum Event {
    /// A message of net's.
    Net(FromNet),
    /// The listener has closed its socket, or sent something.
    Listener,
    /// The session has told something.
    Told,
    /// The session program has ended.
    SessionEnded,
    /// The deadline is over.
    Deadline,
    /// Time to go: a signal, the end of net.
    End(&'static str),
}

impl Link {
    /// Waits until the listener has said something, or has gone.
    ///
    /// # Errors
    /// If it does not until `deadline`.
    pub fn wait_for_listener(&self, deadline: Instant) -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
            let mut ready = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, timeout) {
                Err(Errno::EINTR) => {}
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                other => return other.map(drop).map_err(Into::into),
            }
        }
    }

    /// Waits for the next event of a login that has no net any more. `listener`: it is there.
    pub fn wait_without_net(
        &mut self,
        session: &mut UserSession,
        deadline: Option<Instant>,
        listener: bool,
    ) -> io::Result<Event> {
        loop {
            let Some(timeout) = until(deadline) else {
                return Ok(Event::Deadline);
            };
            let its = [session.log.fd(), session.acts.fd()];
            let fds = [
                Some(self.signals.as_fd()),
                Some(self.listener.as_fd()).filter(|_| listener),
            ];
            let mut ready: Vec<_> = fds
                .into_iter()
                .chain(its)
                .flatten()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            match poll(&mut ready, timeout) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let ready: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            let (fixed, its) = ready.split_at(1 + usize::from(listener));
            if its.contains(&true) {
                session.log.drain();
                session.acts.drain();
                if session.acts.are_malformed() {
                    return Ok(Event::End(MALFORMED));
                }
            }
            while let Some(signal) = self.signals.next()? {
                if signal == Signal::SIGTERM {
                    return Ok(Event::End(TERMINATED));
                }
            }
            if session.child.try_wait()?.is_some() {
                return Ok(Event::SessionEnded);
            }
            if fixed.get(1) == Some(&true) {
                return Ok(Event::Listener);
            }
            if its.contains(&true) {
                return Ok(Event::Told);
            }
        }
    }

    /// Waits for the next event. Log lines are passed on meanwhile. `only_net` leaves the listener
    /// out: what it says then is for later, or for nobody.
    pub fn wait(
        &mut self,
        mut session: Option<&mut UserSession>,
        deadline: Option<Instant>,
        only_net: bool,
    ) -> io::Result<Event> {
        loop {
            let Some(timeout) = until(deadline) else {
                return Ok(Event::Deadline);
            };
            let mut ready = vec![
                PollFd::new(self.net.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            if !only_net {
                ready.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
            }
            let fixed = ready.len();
            let logs = [
                self.net.log.fd(),
                session.as_ref().and_then(|s| s.log.fd()),
                session.as_ref().and_then(|s| s.acts.fd()),
            ];
            ready.extend(
                logs.into_iter()
                    .flatten()
                    .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
            );
            match poll(&mut ready, timeout) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let ready: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            if ready[fixed..].contains(&true) {
                self.net.log.drain();
                if let Some(session) = &mut session {
                    session.log.drain();
                    session.acts.drain();
                    if session.acts.are_malformed() {
                        return Ok(Event::End(MALFORMED));
                    }
                }
            }
            if ready[0] {
                return Ok(match self.net.receive() {
                    Ok(Some(message)) => Event::Net(message),
                    Ok(None) => Event::End(NET_ENDED),
                    Err(error) => {
                        tracing::error!(event = "net.malformed", %error);
                        Event::End("malformed message from net")
                    }
                });
            }
            if ready[1] {
                while let Some(signal) = self.signals.next()? {
                    if signal == Signal::SIGTERM {
                        return Ok(Event::End(TERMINATED));
                    }
                }
                if let Some(session) = &mut session
                    && let Some(status) = session.child.try_wait()?
                {
                    // Without a signal it ends when net has.
                    return Ok(if status.success() && self.net.has_gone() {
                        Event::End(NET_ENDED)
                    } else {
                        Event::SessionEnded
                    });
                }
            }
            if !only_net && ready[2] {
                return Ok(Event::Listener);
            }
        }
    }
}

/// The time that is left, rounded up; `None` when there is none.
fn until(deadline: Option<Instant>) -> Option<PollTimeout> {
    let Some(deadline) = deadline else {
        return Some(PollTimeout::NONE);
    };
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero())
        .then(|| PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX))
}
