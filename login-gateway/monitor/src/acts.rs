//! What the user does, as the session tells it, on its way to the audit log. The session is our
//! program, but it runs as the user: what it says is bounded, and believed as far as SECURITY.md says.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use gateway_wire::session::{Act, ExitStatus, MAX_ACT};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Lines of one login that may come at once.
const BURST: f64 = 2000.0;
/// Lines a second after those.
const RATE: f64 = 20.0;
/// Messages taken before others have their turn.
const TURN: usize = 64;

/// The monitor's end.
pub struct Acts {
    socket: Option<OwnedFd>,
    room: f64,
    last: Instant,
    dropped: u64,
}

impl Acts {
    /// Both ends; the second is the session's.
    ///
    /// # Errors
    /// Those of `socketpair(2)`.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = sys::fds::seqpacket_pair()?;
        for end in [&ours, &theirs] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let acts = Self {
            socket: Some(ours),
            room: BURST,
            last: Instant::now(),
            dropped: 0,
        };
        Ok((acts, theirs))
    }

    /// The descriptor to wait for; `None` after its end.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Logs what has arrived.
    pub fn drain(&mut self) {
        let mut buffer = [0; MAX_ACT];
        for _ in 0..TURN {
            let Some(socket) = &self.socket else {
                return;
            };
            match sys::fds::recv_with_fds(socket, &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) | Ok((0, _)) => self.socket = None,
                Ok((length, _)) => match gateway_wire::decode(&buffer[..length]) {
                    Ok(act) => self.take(&act, Instant::now()),
                    Err(error) => {
                        tracing::error!(event = "session.malformed", %error);
                        self.socket = None;
                    }
                },
            }
        }
    }

    /// The last words, when the session has ended.
    pub fn close(&mut self) {
        while self.socket.is_some() {
            let before = self.room;
            self.drain();
            if self.room >= before {
                break;
            }
        }
        self.say_dropped();
    }

    fn take(&mut self, act: &Act, now: Instant) {
        let refill = now.saturating_duration_since(self.last).as_secs_f64() * RATE;
        self.room = (self.room + refill).min(BURST);
        self.last = now;
        if self.room < 1.0 {
            self.dropped += 1;
            return;
        }
        self.room -= 1.0;
        self.say_dropped();
        log(act);
    }

    fn say_dropped(&mut self) {
        let records = std::mem::take(&mut self.dropped);
        if records > 0 {
            tracing::warn!(target: "audit", event = "record.dropped", records);
        }
    }
}

fn log(act: &Act) {
    match act {
        Act::Started {
            channel,
            kind,
            asked,
            terminal,
        } => {
            let terminal = terminal.map(|number| format!("pts/{number}"));
            tracing::info!(target: "audit", event = "program.started", channel, kind, asked, terminal);
        }
        Act::Ended { channel, status } => {
            let (code, signal) = match status {
                ExitStatus::Code(code) => (Some(code), None),
                ExitStatus::Signal { name, .. } => (None, Some(name)),
            };
            tracing::info!(target: "audit", event = "program.ended", channel, code, signal);
        }
        Act::Connecting { channel, to } => {
            tracing::info!(target: "audit", event = "forward.connecting", channel, to);
        }
        Act::Listening { channel, on } => {
            tracing::info!(target: "audit", event = "forward.listening", channel, on);
        }
        Act::Accepted { listener, from } => {
            tracing::info!(target: "audit", event = "forward.accepted", listener, from);
        }
        Act::Refused(reason) => {
            tracing::warn!(target: "audit", event = "request.refused", reason);
        }
        Act::Lost(records) => {
            tracing::warn!(target: "audit", event = "record.dropped", records);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_bounded_and_said() {
        let (mut acts, _theirs) = Acts::pair().unwrap();
        let start = acts.last;
        for _ in 0..2 * BURST as usize {
            acts.take(&Act::Lost(1), start);
        }
        assert_eq!(acts.dropped, BURST as u64);
        acts.take(&Act::Lost(1), start + Duration::from_secs(1));
        assert_eq!(acts.dropped, 0);
        assert!((acts.room - (RATE - 1.0)).abs() < 0.01, "{}", acts.room);
    }

    #[test]
    fn what_is_no_message_ends_it() {
        let (mut acts, theirs) = Acts::pair().unwrap();
        sys::fds::send_with_fds(&theirs, &[0xff; 10], &[]).unwrap();
        acts.drain();
        assert!(acts.fd().is_none());
        acts.close();
    }
}
