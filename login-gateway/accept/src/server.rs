//! The loop: waits for whatever can go on, and goes on with it. All limits on numbers and time of
//! unfinished connections are kept here.

mod accepting;
mod waiting;

use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use gateway_wire::accept::{Counts, Endpoints, FromAccept, Health};
use gateway_wire::settings::ProxyProtocol;

use crate::health_check::HealthCheck;
use crate::link::{Link, LinkError, Said};
use crate::pending::{Begin, Close, Pending, Step};
use crate::refusal::{DRAINING, Refusal};

/// Least time between two log lines about refused connections.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Connections that have been turned away and not ended, at one time; above that the oldest is closed.
const MAX_REFUSALS: usize = 256;

/// Time that the listener has for an answer. One that takes longer gives nobody a login: it is stopped,
/// or waits for whoever reads its log.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// All that this process has.
#[derive(Debug)]
pub struct Server {
    link: Link,
    ssh: Vec<TcpListener>,
    health: Vec<TcpListener>,
    proxy: ProxyProtocol,
    pending: VecDeque<Pending>,
    checks: VecDeque<HealthCheck>,
    /// Connections that have been turned away and have not ended yet.
    refusals: VecDeque<Refusal>,
    /// What the listener had no room for.
    outbox: VecDeque<(FromAccept, TcpStream)>,
    numbers: Health,
    /// What has been counted and the listener has not been told.
    untold: Counts,
    /// Since when the listener owes an answer.
    asked: Option<Instant>,
    retiring: bool,
    paused_until: Option<Instant>,
    logged: Option<Instant>,
    unlogged: u64,
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
            refusals: VecDeque::new(),
            outbox: VecDeque::new(),
            numbers: Health::default(),
            untold: Counts::default(),
            asked: None,
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
                self.tell(Instant::now());
                return Ok(());
            }
            let ready = self.wait()?;
            if ready.link {
                self.hear()?;
            }
            self.read_headers(&ready.pending);
            self.answer_checks(&ready.checks);
            self.end_refusals(&ready.refusals);
            if ready.ssh {
                self.accept_ssh();
            }
            if ready.health {
                self.accept_health();
            }
            self.pass_on()?;
            if self.untold != Counts::default() && self.asked.is_none() {
                self.tell(Instant::now());
            }
        }
    }

    /// Tells the listener what has been counted, which it must answer. A listener that is so far behind
    /// that it has no room for this owes an answer as well.
    fn tell(&mut self, now: Instant) {
        if self.link.counted(&self.untold) {
            self.untold = Counts::default();
        }
        self.asked.get_or_insert(now);
    }

    /// Takes all that the listener has said.
    fn hear(&mut self) -> Result<(), LinkError> {
        loop {
            match self.link.next()? {
                Said::Health(numbers) => {
                    self.numbers = *numbers;
                    self.asked = None;
                }
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
                Step::PassOn(endpoints, begin, said) => {
                    match begin {
                        Begin::Proxied => self.untold.proxied += 1,
                        Begin::Local => self.untold.local += 1,
                        Begin::Bare => self.untold.bare += 1,
                    }
                    self.admit(endpoints, said, pending.stream);
                }
                Step::Close(why) => {
                    match why {
                        Close::Malformed(_) => self.untold.malformed += 1,
                        Close::Unfinished => self.untold.unfinished += 1,
                    }
                    self.log_closed("proxy.closed", pending.peer(), &why.to_string());
                }
            }
        }
    }

    fn answer_checks(&mut self, ready: &[bool]) {
        let now = Instant::now();
        if self.checks.is_empty() {
            return;
        }
        // The next check hears what becomes of this question.
        if self.asked.is_none() && !self.retiring {
            self.tell(now);
        }
        let is_answered = self.asked.is_none_or(|asked| now < asked + ANSWER_TIME);
        let numbers = Health {
            ready: self.numbers.ready && is_answered,
            ..self.numbers
        };
        let mut ready = ready.iter();
        self.checks.retain_mut(|check| {
            let goes_on = ready.next().is_none_or(|ready| *ready);
            (!goes_on || check.step(&numbers)) && check.deadline > now
        });
    }

    /// A connection whose source is known goes to the listener, or gets words.
    fn admit(&mut self, endpoints: Endpoints, said: Vec<(String, String)>, stream: TcpStream) {
        if !self.numbers.draining {
            let message = if said.is_empty() {
                FromAccept::Connection(endpoints)
            } else {
                FromAccept::Balanced(endpoints, said)
            };
            self.outbox.push_back((message, stream));
            return;
        }
        self.untold.drained += 1;
        self.log_closed("connection.refused", endpoints.source, "draining");
        if self.refusals.len() >= MAX_REFUSALS {
            self.refusals.pop_front();
        }
        let refusal = Refusal::begin(stream, DRAINING, Instant::now());
        self.refusals.extend(refusal);
    }

    fn end_refusals(&mut self, ready: &[bool]) {
        let now = Instant::now();
        let mut ready = ready.iter();
        self.refusals.retain_mut(|refusal| {
            let goes_on = ready.next().is_some_and(|ready| *ready);
            (!goes_on || refusal.step()) && refusal.deadline > now
        });
    }

    fn pass_on(&mut self) -> Result<(), LinkError> {
        while let Some((message, stream)) = self.outbox.front() {
            match self.link.pass_on(message, stream) {
                Ok(true) => {}
                Ok(false) => break,
                // Too many descriptors are on their way, say: it is tried again.
                Err(LinkError::Socket(error)) if accepting::out_of_room(&error) => {
                    self.pause_if(true, Instant::now());
                    break;
                }
                Err(error) => return Err(error),
            }
            self.outbox.pop_front();
        }
        Ok(())
    }

    /// Strangers make these lines, so there is a limit to them.
    fn log_closed(&mut self, event: &str, peer: std::net::SocketAddr, reason: &str) {
        let now = Instant::now();
        if self.logged.is_some_and(|last| now < last + LOG_INTERVAL) {
            self.unlogged += 1;
            return;
        }
        let unlogged = std::mem::take(&mut self.unlogged);
        tracing::info!(event, %peer, reason, unlogged);
        self.logged = Some(now);
    }
}
