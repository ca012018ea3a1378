//! The loop: waits for whatever can go on, and goes on with it. All limits on numbers and time of
//! unfinished connections are kept here.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gateway_wire::accept::{Endpoints, Health};
use gateway_wire::settings::ProxyProtocol;
use login_gateway_accept::metrics::Counts;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::health_check::HealthCheck;
use crate::link::{Link, LinkError, Said};
use crate::pending::{Begin, Close, Pending, Step};

/// Connections whose header is awaited, at one time; above that the oldest is closed.
const MAX_PENDING: usize = 256;
/// Connections to the health endpoint, at one time; above that the oldest is closed.
const MAX_CHECKS: usize = 32;
/// Connections accepted before other work has its turn again.
const BURST: usize = 64;
/// Pause after the system had no descriptor or memory for another connection.
const PAUSE: Duration = Duration::from_millis(100);
/// Least time between two log lines about refused connections.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// All that this process has.
#[derive(Debug)]
pub struct Server {
    link: Link,
    ssh: Vec<TcpListener>,
    health: Vec<TcpListener>,
    proxy: ProxyProtocol,
    pending: VecDeque<Pending>,
    checks: VecDeque<HealthCheck>,
    /// What the listener had no room for.
    outbox: VecDeque<(Endpoints, TcpStream)>,
    numbers: Health,
    counts: Counts,
    retiring: bool,
    paused_until: Option<Instant>,
    logged: Option<Instant>,
    unlogged: u64,
}

/// Which of the descriptors can go on.
#[derive(Debug, Default)]
struct Ready {
    link: bool,
    ssh: bool,
    health: bool,
    /// One entry per pending connection: readable, and whether its peer has ended.
    pending: Vec<(bool, bool)>,
    checks: Vec<bool>,
}

impl Server {
    /// A server of these sockets.
    pub fn new(
        link: Link,
        ssh: Vec<TcpListener>,
        health: Vec<TcpListener>,
        proxy: ProxyProtocol,
    ) -> Self {
        Self {
            link,
            ssh,
            health,
            proxy,
            pending: VecDeque::new(),
            checks: VecDeque::new(),
            outbox: VecDeque::new(),
            numbers: Health::default(),
            counts: Counts::default(),
            retiring: false,
            paused_until: None,
            logged: None,
            unlogged: 0,
        }
    }

    /// Serves until the listener ends, or has told us to retire and nothing is left to do.
    ///
    /// # Errors
    /// If the listener's socket fails.
    pub fn run(mut self) -> Result<(), LinkError> {
        self.link.ready()?;
        loop {
            if self.retiring && self.pending.is_empty() && self.outbox.is_empty() {
                return Ok(());
            }
            let ready = self.wait()?;
            if ready.link {
                self.hear()?;
            }
            self.read_headers(&ready.pending);
            self.answer_checks(&ready.checks);
            if ready.ssh {
                self.accept_ssh();
            }
            if ready.health {
                self.accept_health();
            }
            self.pass_on()?;
        }
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        let deadlines = self.pending.iter().map(|p| p.deadline);
        let next = deadlines
            .chain(self.checks.iter().map(|c| c.deadline))
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
        if !self.outbox.is_empty() {
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
        let checks = said.map(|events| !events.is_empty()).collect();
        Ok(Ready {
            link: link.intersects(read | ended),
            ssh,
            health,
            pending,
            checks,
        })
    }

    /// Takes all that the listener has said.
    fn hear(&mut self) -> Result<(), LinkError> {
        loop {
            match self.link.next()? {
                Said::Health(numbers) => self.numbers = numbers,
                Said::Nothing => return Ok(()),
                Said::Retire => {
                    self.retiring = true;
                    self.ssh.clear();
                    self.health.clear();
                    return Ok(());
                }
            }
        }
    }

    fn read_headers(&mut self, ready: &[(bool, bool)]) {
        let waiting = std::mem::take(&mut self.pending);
        for (mut pending, &(readable, ended)) in waiting.into_iter().zip(ready) {
            let step = if readable {
                pending.step(ended, self.proxy.required)
            } else {
                Step::Wait
            };
            match step {
                Step::Wait => self.pending.push_back(pending),
                Step::PassOn(endpoints, begin) => {
                    match begin {
                        Begin::Proxied => self.counts.proxied += 1,
                        Begin::Local => self.counts.local += 1,
                        Begin::Bare => self.counts.bare += 1,
                    }
                    self.outbox.push_back((endpoints, pending.stream));
                }
                Step::Close(why) => {
                    match why {
                        Close::Malformed(_) => self.counts.malformed += 1,
                        Close::Unfinished => self.counts.unfinished += 1,
                    }
                    self.log_closed(pending.peer(), &why.to_string());
                }
            }
        }
    }

    fn answer_checks(&mut self, ready: &[bool]) {
        let now = Instant::now();
        let (numbers, counts) = (self.numbers, self.counts);
        let mut ready = ready.iter();
        self.checks.retain_mut(|check| {
            let goes_on = ready.next().is_none_or(|ready| *ready);
            (!goes_on || check.step(&numbers, &counts)) && check.deadline > now
        });
    }

    fn accept_ssh(&mut self) {
        let now = Instant::now();
        let mut accepted = Vec::new();
        let out_of_room = self.ssh.iter().any(|l| !accept(l, &mut accepted));
        self.pause_if(out_of_room, now);
        for (stream, endpoints) in accepted {
            let peer = endpoints.source.ip();
            if !self.proxy.from.iter().any(|net| net.contains(&peer)) {
                self.outbox.push_back((endpoints, stream));
                continue;
            }
            if self.pending.len() >= MAX_PENDING
                && let Some(oldest) = self.pending.pop_front()
            {
                self.counts.crowded_out += 1;
                self.log_closed(oldest.peer(), "too many PROXY headers awaited");
            }
            self.pending.push_back(Pending::new(stream, endpoints, now));
        }
    }

    fn accept_health(&mut self) {
        let now = Instant::now();
        let mut accepted = Vec::new();
        let out_of_room = self.health.iter().any(|l| !accept(l, &mut accepted));
        self.pause_if(out_of_room, now);
        for (stream, _) in accepted {
            if self.checks.len() >= MAX_CHECKS {
                self.checks.pop_front();
            }
            self.checks.push_back(HealthCheck::new(stream, now));
        }
    }

    fn pause_if(&mut self, out_of_room: bool, now: Instant) {
        if out_of_room {
            tracing::warn!(
                event = "accept.paused",
                "no descriptor or memory for a connection"
            );
            self.paused_until = Some(now + PAUSE);
        }
    }

    fn pass_on(&mut self) -> Result<(), LinkError> {
        while let Some((endpoints, stream)) = self.outbox.front() {
            if !self.link.pass_on(*endpoints, stream)? {
                break;
            }
            self.outbox.pop_front();
        }
        Ok(())
    }

    /// Strangers make these lines, so there is a limit to them.
    fn log_closed(&mut self, peer: std::net::SocketAddr, reason: &str) {
        let now = Instant::now();
        if self.logged.is_some_and(|last| now < last + LOG_INTERVAL) {
            self.unlogged += 1;
            return;
        }
        let unlogged = std::mem::take(&mut self.unlogged);
        tracing::info!(event = "proxy.closed", %peer, reason, unlogged);
        self.logged = Some(now);
    }
}

/// Takes what waits at a listening socket; `false` if the system has no room for it.
fn accept(listener: &TcpListener, accepted: &mut Vec<(TcpStream, Endpoints)>) -> bool {
    for _ in 0..BURST {
        let (stream, source) = match listener.accept() {
            Ok(new) => new,
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or_default();
                return !matches!(
                    errno,
                    libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM
                );
            }
        };
        // Either fails only for a connection that has already ended.
        let (Ok(destination), Ok(())) = (stream.local_addr(), stream.set_nonblocking(true)) else {
            continue;
        };
        let canonical = |mut address: std::net::SocketAddr| {
            address.set_ip(address.ip().to_canonical());
            address
        };
        let endpoints = Endpoints {
            source: canonical(source),
            destination: canonical(destination),
        };
        accepted.push((stream, endpoints));
    }
    true
}
