//! What the user does, as the session tells it, on its way to the audit log. The session is our
//! program, but it runs as the user: what it says is bounded, and believed as far as SECURITY.md says.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use gateway_wire::monitor::Line;
use gateway_wire::session::{Act, ExitStatus, MAX_ACT};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{Shutdown, shutdown};

/// Lines of one login that may come at once, and those a second after them.
const LINES: (f64, f64) = (2000.0, 20.0);
/// The same of its files, which have their own: whoever floods the one does not silence the other.
const FILES: (f64, f64) = (5000.0, 100.0);
/// Shells of one login that are known to be kept.
const MAX_KEPT: usize = 256;
/// Messages taken before others have their turn.
const TURN: usize = 64;

/// The monitor's end.
pub struct Acts {
    socket: Option<OwnedFd>,
    /// Something came that is no message: nothing that the session says is to be believed.
    is_malformed: bool,
    lines: Budget,
    files: Budget,
    /// Shells that live on without their line, by channel.
    kept: BTreeMap<u32, Kept>,
}

struct Kept {
    /// N of `/dev/pts/N`.
    terminal: u32,
    /// Somebody looks at it.
    attached: bool,
    /// From another login.
    elsewhere: bool,
}

/// Lines that may still be written.
struct Budget {
    of: &'static str,
    burst: f64,
    rate: f64,
    room: f64,
    last: Instant,
    dropped: u64,
}

impl Budget {
    fn new(of: &'static str, (burst, rate): (f64, f64)) -> Self {
        Self {
            of,
            burst,
            rate,
            room: burst,
            last: Instant::now(),
            dropped: 0,
        }
    }

    /// Whether there is room for one more.
    fn take(&mut self, now: Instant) -> bool {
        let refill = now.saturating_duration_since(self.last).as_secs_f64() * self.rate;
        self.room = (self.room + refill).min(self.burst);
        self.last = now;
        if self.room < 1.0 {
            self.dropped += 1;
            return false;
        }
        self.room -= 1.0;
        self.say_dropped();
        true
    }

    fn say_dropped(&mut self) {
        let records = std::mem::take(&mut self.dropped);
        if records > 0 {
            tracing::warn!(target: "audit", event = "record.dropped", of = self.of, records);
        }
    }
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
            is_malformed: false,
            lines: Budget::new("acts", LINES),
            files: Budget::new("files", FILES),
            kept: BTreeMap::new(),
        };
        Ok((acts, theirs))
    }

    /// How the shells that are kept are reached, now that the login's own line has gone; `None` if
    /// there is none.
    pub fn line(&self) -> Option<Line> {
        let reached = self
            .kept
            .values()
            .any(|kept| kept.attached && kept.elsewhere);
        (!self.kept.is_empty()).then_some(if reached {
            Line::Reattached
        } else {
            Line::Detached
        })
    }

    /// Terminals of those shells.
    pub fn terminals(&self) -> impl Iterator<Item = u32> {
        self.kept.values().map(|kept| kept.terminal)
    }

    /// Tells the session to end, whatever it keeps.
    pub fn end(&self) {
        if let Some(socket) = &self.socket {
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
        }
    }

    /// The descriptor to wait for; `None` after its end.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Logs what has arrived; `true` if there may be more.
    pub fn drain(&mut self) -> bool {
        let mut buffer = [0; MAX_ACT];
        for _ in 0..TURN {
            let Some(socket) = &self.socket else {
                return false;
            };
            match sys::fds::recv_with_fds(socket, &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) | Ok((0, _)) => self.socket = None,
                Ok((length, _)) => match gateway_wire::decode(&buffer[..length]) {
                    Ok(act) => self.take(&act, Instant::now()),
                    Err(error) => {
                        tracing::error!(event = "session.malformed", %error);
                        self.socket = None;
                        self.is_malformed = true;
                    }
                },
            }
        }
        true
    }

    /// Whether the session has said what it never says: what it does from then on is on no record, so
    /// the login must end.
    pub fn are_malformed(&self) -> bool {
        self.is_malformed
    }

    /// The last words, when the session has ended.
    pub fn close(&mut self) {
        while self.drain() {}
        self.lines.say_dropped();
        self.files.say_dropped();
    }

    fn take(&mut self, act: &Act, now: Instant) {
        self.follow(act);
        let budget = match act {
            Act::File(_) => &mut self.files,
            _ => &mut self.lines,
        };
        if budget.take(now) {
            log(act);
        }
    }

    /// Follows the shells that are kept.
    fn follow(&mut self, act: &Act) {
        let kept = &mut self.kept;
        match act {
            Act::Kept { channel, terminal } if kept.len() < MAX_KEPT => {
                let new = Kept {
                    terminal: *terminal,
                    attached: true,
                    elsewhere: false,
                };
                kept.insert(*channel, new);
            }
            Act::Ended { channel, .. } => drop(kept.remove(channel)),
            Act::Detached { channel } => {
                if let Some(kept) = kept.get_mut(channel) {
                    kept.attached = false;
                }
            }
            Act::Reattached { channel, .. } => {
                if let Some(kept) = kept.get_mut(channel) {
                    (kept.attached, kept.elsewhere) = (true, true);
                }
            }
            _ => {}
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
        Act::Kept { channel, terminal } => {
            let terminal = format!("pts/{terminal}");
            tracing::info!(target: "audit", event = "shell.kept", channel, terminal);
        }
        Act::Detached { channel } => {
            tracing::info!(target: "audit", event = "shell.detached", channel);
        }
        Act::Reattached { channel, by } => {
            tracing::info!(target: "audit", event = "shell.reattached", channel, by);
        }
        Act::File(file) => {
            let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            tracing::info!(
                target: "audit",
                event = file.operation.event(),
                channel = file.channel,
                path = file.path,
                to = said(&file.to),
                detail = said(&file.detail),
                bytes_read = file.bytes.map(|(read, _)| read),
                bytes_written = file.bytes.map(|(_, written)| written),
                refused = file.refused,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gateway_wire::session::{FileAct, FileOperation};

    use super::*;

    #[test]
    fn a_flood_is_bounded_and_said() {
        let (mut acts, _theirs) = Acts::pair().unwrap();
        let start = acts.lines.last;
        let (burst, rate) = LINES;
        for _ in 0..2 * burst as usize {
            acts.take(&Act::Lost(1), start);
        }
        assert_eq!(acts.lines.dropped, burst as u64);
        acts.take(&Act::Lost(1), start + Duration::from_secs(1));
        assert_eq!(acts.lines.dropped, 0);
        let room = acts.lines.room;
        assert!((room - (rate - 1.0)).abs() < 0.01, "{room}");
    }

    #[test]
    fn a_flood_of_files_silences_nothing_else() {
        let (mut acts, theirs) = Acts::pair().unwrap();
        let file = Act::File(FileAct {
            channel: 1,
            operation: FileOperation::Remove,
            path: "/x".into(),
            to: String::new(),
            detail: String::new(),
            bytes: None,
            refused: None,
        });
        let start = acts.files.last;
        for _ in 0..FILES.0 as usize + 7 {
            acts.take(&file, start);
        }
        assert_eq!((acts.files.dropped, acts.lines.dropped), (7, 0));
        acts.take(&Act::Lost(1), start);
        assert_eq!(acts.lines.dropped, 0);
        // The last words are heard to their end, room or not.
        for _ in 0..TURN + 10 {
            let bytes = gateway_wire::encode(&file).unwrap();
            sys::fds::send_with_fds(&theirs, &bytes, &[]).unwrap();
        }
        drop(theirs);
        acts.close();
        assert!(acts.fd().is_none());
    }

    #[test]
    fn what_is_no_message_ends_it() {
        let (mut acts, theirs) = Acts::pair().unwrap();
        sys::fds::send_with_fds(&theirs, &[0xff; 10], &[]).unwrap();
        acts.drain();
        assert!(acts.fd().is_none() && acts.are_malformed());
        acts.close();
    }
}
