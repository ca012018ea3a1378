//! What the login does, told to the monitor for the audit log. Nobody waits for it: what finds no room
//! is counted, and the number is told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use gateway_wire::session::{Act, MAX_ACT, Program};

/// Longest text of a command or a target in a record, in characters.
const MAX_TEXT: usize = 1024;

/// The monitor's ear.
pub struct Record {
    monitor: OwnedFd,
    lost: AtomicU64,
}

impl Record {
    /// Takes the socket, which does not block.
    pub fn new(monitor: OwnedFd) -> Self {
        Self {
            monitor,
            lost: AtomicU64::new(0),
        }
    }

    /// Tells one act.
    pub fn tell(&self, act: &Act) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && !self.send(&Act::Lost(lost)) {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if !self.send(act) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&self, act: &Act) -> bool {
        let bytes = gateway_wire::encode(act)
            .ok()
            .filter(|b| b.len() <= MAX_ACT);
        bytes.is_some_and(|bytes| sys::fds::send_with_fds(&self.monitor, &bytes, &[]).is_ok())
    }
}

impl AsFd for Record {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }
}

/// The text, cut to what a record has room for.
pub fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Kind of program, and what the client asked for.
pub fn asked(program: &Program) -> (&'static str, String) {
    match program {
        Program::Shell => ("shell", String::new()),
        Program::Exec(command) => ("command", cut(&String::from_utf8_lossy(command))),
        Program::Subsystem(name) => ("subsystem", cut(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_and_what_is_lost_is_said() {
        let (ours, theirs) = sys::fds::seqpacket_pair().unwrap();
        nix::fcntl::fcntl(
            &ours,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .unwrap();
        let record = Record::new(ours);
        let act = Act::Refused(cut(&"x".repeat(1 << 20)));
        for _ in 0..10_000 {
            record.tell(&act);
        }
        let mut buffer = [0; MAX_ACT];
        let mut hear = || {
            let (n, _) = sys::fds::recv_with_fds(&theirs, &mut buffer).unwrap();
            gateway_wire::decode::<Act>(&buffer[..n]).unwrap()
        };
        assert_eq!(hear(), act);
        hear();
        let lost = record.lost.load(Ordering::Relaxed);
        assert!(lost > 0);
        record.tell(&act);
        let told = std::iter::from_fn(|| Some(hear())).find(|act| matches!(act, Act::Lost(_)));
        assert_eq!(told, Some(Act::Lost(lost)));
    }
}
