//! The loop: one thread, every connection under a deadline. Only user look-ups and the writing of the
//! log happen elsewhere, since they may block.

use std::io;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use slurm_wire::sack::{Request, token_reply, verdict_reply};
use sys::signals::Signals;

use crate::access::Caller;
use crate::admission::{Connections, Verdict, dispensable, judge};
use crate::audit::{self, Asker};
use crate::child::Child;
use crate::clock::Clock;
use crate::config::{Limits, Settings};
use crate::connection::{Connection, Progress, State};
use crate::error::ShimError;
use crate::identity::{Answer, Identities};
use crate::metrics::{Class, Metrics, Reason};
use crate::options::Options;
use crate::origin::Origins;
use crate::pace::{Pace, Turn};
use crate::privileges;
use crate::readiness::{Readiness, Source};
use crate::reload::Reload;
use crate::signer::{Create, Refusal, Signer, unix_now};
use crate::socket::{Found, Place};
use crate::tally::Tally;

/// How often files are looked at without being asked.
const TICK: Duration = Duration::from_secs(1);
/// Connections accepted before the ones that are there get their turn again.
const BATCH: usize = 64;
/// How far off the time is at which something is due, while there is nothing.
const FAR: Duration = Duration::from_secs(3600);
/// The shortest turn on the processor that the kernel gives: a request takes a fraction of it.
const PROCESSOR_TURN: Duration = Duration::from_micros(100);
/// Longest wait of a request that came too fast.
const PATIENCE: Duration = Duration::from_secs(5);

/// The signals that are read instead of being handled; to be blocked before threads exist.
///
/// # Errors
/// [`ShimError::System`].
pub fn signals() -> Result<Signals, ShimError> {
    let list = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGCHLD,
        Signal::SIGUSR2,
        Signal::SIGPIPE,
        Signal::SIGPROF,
    ];
    Signals::of(&list).map_err(ShimError::system("read signals"))
}

/// Makes the calling thread, which is to be the loop's, quick to answer where others keep the processors
/// busy, as users of a login node do. Before the filter.
pub fn be_quick() {
    if let Err(error) = sys::process::short_turns(PROCESSOR_TURN) {
        tracing::debug!(event = "shim.turns", %error, "the scheduler keeps its own turns");
    }
}

/// One cluster: its socket and what answers there.
#[derive(Debug)]
pub struct Desk {
    /// The SACK socket.
    pub listener: UnixListener,
    /// Its file.
    pub place: Place,
    /// What was there at the last look.
    pub found: Found,
    /// Keys and rules.
    pub signer: Signer,
    /// The way to its configuration process, if it has one.
    pub config: Option<Child>,
}

impl Desk {
    /// Whether all of it is there that only a restart brings back.
    fn is_whole(&self) -> bool {
        self.found != Found::Nothing && self.config.as_ref().is_none_or(Child::runs)
    }
}

/// The signer at work.
#[derive(Debug)]
pub struct Server {
    desks: Vec<Desk>,
    signals: Signals,
    identities: Identities,
    readiness: Readiness,
    reload: Reload,
    limits: Limits,
    pace: Pace,
    connections: Connections,
    next: u64,
    origins: Origins,
    metrics: Metrics,
    tally: Tally,
    clock: Clock,
    /// What the service manager was told last.
    told: String,
    /// Nothing is due before it.
    due: Instant,
    /// Out of descriptors: the listeners are left alone until then.
    accept_after: Option<Instant>,
}

impl Server {
    /// Puts the parts together; `desks` in the order of the clusters in `settings`.
    ///
    /// # Errors
    /// [`ShimError::System`] if there is no `epoll` to be had.
    pub fn new(
        desks: Vec<Desk>,
        signals: Signals,
        identities: Identities,
        metrics: Metrics,
        options: &Options,
        settings: Settings,
    ) -> Result<Self, ShimError> {
        let readiness = Readiness::new(&signals, &identities, &desks)
            .map_err(ShimError::system("watch sockets"))?;
        let now = Instant::now();
        Ok(Self {
            desks,
            signals,
            identities,
            readiness,
            limits: privileges::within_descriptors(settings.limits),
            reload: Reload::new(options, settings),
            pace: Pace::new(PATIENCE),
            connections: Connections::new(),
            next: 0,
            origins: Origins::default(),
            metrics,
            tally: Tally::new(),
            clock: Clock::now(),
            told: String::new(),
            due: now,
            accept_after: None,
        })
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// [`ShimError::System`] if `epoll` or the signal descriptor fails.
    pub fn run(mut self) -> Result<(), ShimError> {
        let mut next_tick = Instant::now() + TICK;
        self.publish();
        loop {
            let waiting = || ShimError::system("wait for requests");
            let until = next_tick.min(self.due);
            let ready = self.readiness.wait(until).map_err(waiting())?;
            for desk in &mut self.desks {
                desk.signer.forget_look();
            }
            for source in &ready {
                match *source {
                    Source::Signals => {
                        if self
                            .signalled()
                            .map_err(ShimError::system("read a signal"))?
                        {
                            return Ok(());
                        }
                    }
                    Source::Identities => self.identities_arrived(),
                    Source::Listener(desk) => self.accept(desk),
                    Source::Connection(number) => self.progress(number),
                }
            }
            self.readiness.done(ready);
            let now = Instant::now();
            if self.accept_after.is_some_and(|then| then <= now) {
                self.accept_after = None;
                let listening = self.readiness.listen(&self.desks, true);
                listening.map_err(waiting())?;
            }
            if now >= self.due {
                self.expire(now);
            }
            if now >= next_tick {
                self.refresh(false);
                self.origins.forget();
                self.tally.report();
                self.clock.look();
                self.look_at_the_sockets();
                self.publish();
                self.tell_manager();
                if self.desks.iter().all(Desk::is_whole) {
                    service::ready::alive();
                }
                next_tick = now + TICK;
            }
        }
    }

    /// `true` if it is time to end.
    fn signalled(&mut self) -> io::Result<bool> {
        while let Some(signal) = self.signals.next()? {
            match signal {
                Signal::SIGTERM | Signal::SIGINT => {
                    tracing::info!(event = "shim.ending", signal = signal.as_str());
                    return Ok(true);
                }
                Signal::SIGHUP => {
                    tracing::info!(event = "shim.reloading");
                    service::ready::reloading();
                    self.refresh(true);
                    self.publish();
                    service::ready();
                }
                Signal::SIGCHLD => self.reap(),
                // As sackd 26.05: tell how we are.
                Signal::SIGPROF => {
                    self.publish();
                    tracing::info!(event = "shim.state", state = %self.metrics.json());
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Looks for changed files; `forced` reads them in any case and has configurations fetched.
    fn refresh(&mut self, forced: bool) {
        if let Some(settings) = self.reload.look(forced) {
            self.limits = privileges::within_descriptors(settings.limits);
            for (desk, cluster) in self.desks.iter_mut().zip(&settings.clusters) {
                desk.signer.set(cluster);
            }
        }
        for desk in &mut self.desks {
            desk.signer.refresh(forced);
            if forced && let Some(config) = &mut desk.config {
                config.fetch_now();
            }
        }
    }

    /// The configuration process keeps itself running; if it is gone all the same, whoever watches over us
    /// has to start us anew.
    fn reap(&mut self) {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(status) => status,
            };
            let pid = status
                .pid()
                .and_then(|pid| u32::try_from(pid.as_raw()).ok());
            for desk in &mut self.desks {
                let ended = |config: &mut Child| pid.is_some_and(|pid| config.has_ended(pid));
                if desk.config.as_mut().is_some_and(ended) {
                    tracing::error!(
                        event = "config.ended",
                        cluster = desk.signer.policy().cluster(),
                        ?status,
                        "the configuration is no longer kept; tokens still are made: restart"
                    );
                }
            }
        }
    }

    /// Puts what is not counted but looked at into the metrics.
    fn publish(&self) {
        let now = unix_now();
        self.metrics.lock().connections = self.connections.len();
        for (number, desk) in self.desks.iter().enumerate() {
            let run_dir = &self.reload.settings().clusters[number].run_dir;
            let report = desk.config.is_some().then(|| crate::child::report(run_dir));
            let (keys, expires, loaded, bad) = desk.signer.keys().state(now);
            self.metrics.of(number, |numbers| {
                numbers.cluster = desk.signer.policy().cluster().unwrap_or("-").to_owned();
                numbers.socket = crate::socket::path(run_dir).display().to_string();
                numbers.kid = desk.signer.keys().kid(now).map(str::to_owned);
                numbers.keys = keys;
                numbers.key_expires = expires;
                numbers.key_loaded = loaded;
                numbers.key_file_bad = bad;
                numbers.conf_modified = desk.signer.policy().modified();
                numbers.configuration = report.flatten();
                numbers.config_runs = desk.config.as_ref().map(Child::runs);
                numbers.socket_is_there = desk.found != Found::Nothing;
            });
        }
    }

    /// A socket file that is removed, or another's by now, cannot be made again from here.
    fn look_at_the_sockets(&mut self) {
        for desk in &mut self.desks {
            let found = desk.place.look();
            if found == std::mem::replace(&mut desk.found, found) {
                continue;
            }
            let path = desk.place.path().display();
            match found {
                Found::Ours => tracing::info!(event = "sack.socket_found", %path),
                Found::Another => tracing::error!(
                    event = "sack.socket_taken",
                    %path,
                    "another program serves this socket now"
                ),
                Found::Nothing => tracing::error!(
                    event = "sack.socket_lost",
                    %path,
                    "the socket file was removed, no client finds it: restart"
                ),
            }
        }
    }

    /// One line for `systemctl status`, when it changes.
    fn tell_manager(&mut self) {
        let line = self.metrics.line();
        if line != self.told {
            service::ready::status(&line);
            self.told = line;
        }
    }

    fn accept(&mut self, desk: usize) {
        for _ in 0..BATCH {
            match self.desks[desk].listener.accept() {
                Ok((stream, _)) => {
                    match Connection::new(stream, desk, self.limits.request_timeout) {
                        Ok(connection) => self.admit(connection),
                        Err(error) => tracing::debug!(event = "sack.no_peer", %error),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.makes_room() => {}
                Err(error) => {
                    tracing::warn!(event = "sack.accept", %error);
                    if self.readiness.listen(&self.desks, false).is_ok() {
                        let then = Instant::now() + Duration::from_millis(100);
                        self.accept_after = Some(then);
                        self.due = self.due.min(then);
                    }
                    return;
                }
            }
        }
    }

    /// Out of descriptors, before the limits of ours are reached: the same connections make way as then.
    fn makes_room(&mut self) -> bool {
        self.origins.let_go();
        let Some(number) = dispensable(&self.connections) else {
            return false;
        };
        // Its request may have come in the meantime.
        self.progress(number);
        self.end(number, Reason::Evicted);
        true
    }

    fn admit(&mut self, connection: Connection) {
        let uid = connection.peer.uid;
        let mut verdict = judge(&self.connections, uid, self.limits);
        if let Verdict::Evict(number) = verdict {
            // Its request may have come in the meantime.
            self.progress(number);
            verdict = judge(&self.connections, uid, self.limits);
        }
        match verdict {
            Verdict::Admit => {}
            Verdict::Evict(number) => self.end(number, Reason::Evicted),
            Verdict::TurnAway => {
                self.metrics.refused(connection.cluster, Reason::TurnedAway);
                return self.tally.count(Reason::TurnedAway, uid);
            }
        }
        let number = self.next;
        self.next += 1;
        self.due = self.due.min(connection.deadline);
        self.connections.insert(number, connection);
        // Clients send at once: as a rule the request is there already.
        self.progress(number);
    }

    fn progress(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        match connection.state {
            State::Waiting(_) | State::Paced(..) => {}
            State::Writing(_) => {
                if connection.write() {
                    self.connections.remove(&number);
                } else {
                    self.watch(number);
                }
            }
            State::Reading => match connection.read() {
                Progress::Later => self.watch(number),
                Progress::Request(request) => self.requested(number, request),
                Progress::Ended(None) => {
                    self.connections.remove(&number);
                }
                Progress::Ended(Some(error)) => {
                    tracing::debug!(event = "sack.malformed", uid = connection.peer.uid, %error);
                    self.end(number, Reason::Malformed);
                }
            },
        }
    }

    /// A request is whole. Who asks faster than the limits allow waits for a turn.
    fn requested(&mut self, number: u64, request: Request) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let (peer, desk) = (connection.peer, connection.cluster);
        let (uid, rate) = if self.desks[desk].signer.is_system(peer.uid) {
            (None, self.limits.system_rate)
        } else {
            (Some(peer.uid), self.limits.user_rate)
        };
        match self.pace.turn(uid, rate, connection.asked) {
            Turn::Now => self.proceed(number, request),
            Turn::At(turn) => {
                connection.deadline += turn.saturating_duration_since(connection.asked);
                connection.state = State::Paced(request, turn);
                self.due = self.due.min(turn);
            }
            Turn::Never(told) => {
                if let Some(requests) = told {
                    let cluster = self.desks[desk].signer.policy().cluster();
                    audit::too_fast(cluster.unwrap_or("-"), peer, requests);
                }
                self.end(number, Reason::Rate);
            }
        }
    }

    fn proceed(&mut self, number: u64, request: Request) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let (peer, desk) = (connection.peer, connection.cluster);
        match request {
            Request::Create {
                version,
                ruid,
                payload,
            } => {
                connection.state = State::Waiting(Create {
                    version,
                    ruid,
                    payload,
                });
                if let Some(answer) = self.identities.ask(peer.uid) {
                    self.create(number, &answer);
                }
            }
            Request::Verify { token, .. } => {
                let origin = self.origins.find(connection.stream(), peer);
                let result = self.desks[desk].signer.verify(peer, &token);
                let cluster = self.desks[desk].signer.policy().cluster();
                let asker = Asker {
                    cluster: cluster.unwrap_or("-"),
                    peer,
                    origin: &origin,
                };
                audit::checked(&asker, &token, &result);
                self.metrics.of(desk, |numbers| match &result {
                    Ok(_) => numbers.verified += 1,
                    Err(_) => numbers.not_verified += 1,
                });
                self.answer(number, verdict_reply(result.is_ok()).to_vec());
            }
        }
    }

    fn identities_arrived(&mut self) {
        for (uid, answer) in self.identities.arrived() {
            let waits = |(number, connection): (&u64, &Connection)| {
                let mine = connection.peer.uid == uid;
                (mine && matches!(connection.state, State::Waiting(_))).then_some(*number)
            };
            let waiting: Vec<u64> = self.connections.iter().filter_map(waits).collect();
            for number in waiting {
                self.create(number, &answer);
            }
        }
    }

    /// A refusal has no bytes: the connection just ends.
    fn create(&mut self, number: u64, answer: &Answer) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let State::Waiting(request) = &connection.state else {
            return;
        };
        let (peer, desk) = (connection.peer, connection.cluster);
        let signer = &mut self.desks[desk].signer;
        let groups = if signer.asks_for_groups() {
            sys::peer::groups(connection.stream()).unwrap_or_default()
        } else {
            Vec::new()
        };
        let caller = Caller {
            peer,
            groups: &groups,
            answer,
        };
        let origin = self.origins.find(connection.stream(), peer);
        let result = signer.create(&caller, request);
        let asker = Asker {
            cluster: signer.policy().cluster().unwrap_or("-"),
            peer,
            origin: &origin,
        };
        match result {
            Ok((token, claims)) => {
                let kid = signer.keys().kid_for(&claims);
                audit::made(&asker, answer, &claims, kid, &token);
                let class = if signer.is_system(peer.uid) {
                    Class::System
                } else {
                    Class::User
                };
                self.metrics.of(desk, |numbers| match class {
                    Class::System => numbers.made_system += 1,
                    Class::User => numbers.made_user += 1,
                });
                self.answer(number, token_reply(&token));
            }
            Err(why) => {
                audit::refused(&asker, answer, request, &why);
                let reason = match why {
                    Refusal::Denied(_) => Reason::Access,
                    Refusal::NoIdentity => Reason::Identity,
                    Refusal::Token(_) => Reason::Token,
                };
                self.end(number, reason);
            }
        }
    }

    fn answer(&mut self, number: u64, bytes: Vec<u8>) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        self.metrics.answered(connection.asked.elapsed());
        if connection.answer(bytes) {
            self.connections.remove(&number);
        } else {
            self.watch(number);
        }
    }

    /// Has a connection progress once it can.
    fn watch(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if let Err(error) = self.readiness.watch(number, connection) {
            tracing::warn!(event = "sack.watch", %error);
            self.connections.remove(&number);
        }
    }

    /// Deals with those whose turn has come and those whose time is over.
    fn expire(&mut self, now: Instant) {
        let due = |(number, connection): (&u64, &Connection)| match &connection.state {
            State::Paced(_, turn) if *turn <= now => Some(*number),
            _ => (connection.deadline <= now).then_some(*number),
        };
        let due: Vec<u64> = self.connections.iter().filter_map(due).collect();
        for number in due {
            let Some(connection) = self.connections.get_mut(&number) else {
                continue;
            };
            if let State::Paced(..) = connection.state
                && let State::Paced(request, _) =
                    std::mem::replace(&mut connection.state, State::Reading)
            {
                self.proceed(number, request);
                continue;
            }
            // Nobody waits longer for an identity than a login takes patience for.
            self.create(number, &Answer::Unavailable);
            self.end(number, Reason::TimedOut);
        }
        let next = |connection: &Connection| match &connection.state {
            State::Paced(_, turn) => *turn,
            _ => connection.deadline,
        };
        let then = self.accept_after.unwrap_or(now + FAR);
        self.due = self.connections.values().map(next).min().unwrap_or(then);
        self.due = self.due.min(then);
    }

    /// Ends a connection without an answer.
    fn end(&mut self, number: u64, reason: Reason) {
        if let Some(connection) = self.connections.remove(&number) {
            connection.discard();
            self.metrics.refused(connection.cluster, reason);
            self.tally.count(reason, connection.peer.uid);
        }
    }
}
