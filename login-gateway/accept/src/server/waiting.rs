//! The one place where this process waits.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Server;

/// Which of the descriptors can go on.
#[derive(Debug, Default)]
pub struct Ready {
    pub link: bool,
    pub ssh: bool,
    pub health: bool,
    /// One entry per pending connection: readable, and whether its peer has ended.
    pub pending: Vec<(bool, bool)>,
    pub checks: Vec<bool>,
    pub refusals: Vec<bool>,
}

impl Server {
    /// Waits until something can go on.
    pub(super) fn wait(&mut self) -> io::Result<Ready> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        let deadlines = self.pending.iter().map(|p| p.deadline);
        let next = deadlines
            .chain(self.checks.iter().map(|c| c.deadline))
            .chain(self.refusals.iter().map(|r| r.deadline))
            .chain(self.paused_until)
            .min();
        let timeout = next.map_or(PollTimeout::NONE, |next| {
            // Rounded up, or the loop would spin through the last millisecond.
            let wait = next.saturating_duration_since(now) + Duration::from_millis(1);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });

        let read = PollFlags::POLLIN;
        let ended = PollFlags::POLLHUP | PollFlags::POLLERR;
        let mut link = PollFlags::empty();
        if !self.retiring {
            link |= read;
        }
        if !self.outbox.is_empty() && self.paused_until.is_none() {
            link |= PollFlags::POLLOUT;
        }
        // With connections that cannot be passed on, further ones wait in the kernel's queue.
        let accepts = !self.retiring && self.outbox.is_empty() && self.paused_until.is_none();
        let ssh = if accepts { &self.ssh[..] } else { &[] };
        let answers = !self.retiring && self.paused_until.is_none();
        let health = if answers { &self.health[..] } else { &[] };

        let mut fds = vec![PollFd::new(self.link.as_fd(), link)];
        fds.extend(ssh.iter().map(|l| PollFd::new(l.as_fd(), read)));
        fds.extend(health.iter().map(|l| PollFd::new(l.as_fd(), read)));
        fds.extend(self.pending.iter().map(|p| PollFd::new(p.as_fd(), read)));
        fds.extend(self.checks.iter().map(|check| {
            let for_what = if check.writes() {
                PollFlags::POLLOUT
            } else {
                read
            };
            PollFd::new(check.as_fd(), for_what)
        }));
        fds.extend(self.refusals.iter().map(|r| PollFd::new(r.as_fd(), read)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }

        let now = Instant::now();
        let mut said = fds.iter().map(|fd| fd.revents().unwrap_or(ended));
        let link = said.next().unwrap_or(ended);
        let ssh = said.by_ref().take(ssh.len()).filter(|e| !e.is_empty());
        let ssh = ssh.count() > 0;
        let health = said.by_ref().take(health.len()).filter(|e| !e.is_empty());
        let health = health.count() > 0;
        let pending = self.pending.iter().zip(said.by_ref());
        let pending = pending
            .map(|(p, events)| {
                let over = p.deadline <= now;
                (over || !events.is_empty(), over || events.intersects(ended))
            })
            .collect();
        let checks = said.by_ref().take(self.checks.len());
        let checks = checks.map(|events| !events.is_empty()).collect();
        let refusals = said.map(|events| !events.is_empty()).collect();
        Ok(Ready {
            link: link.intersects(read | ended),
            ssh,
            health,
            pending,
            checks,
            refusals,
        })
    }
}
