//! The loop: one thread, one `poll`, every connection under a deadline. Only user look-ups
//! happen elsewhere, since they may block.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use slurm_wire::sack::{Request, token_reply, verdict_reply};
use sys::signals::Signals;

use crate::admission::{Connections, Verdict, judge};
use crate::audit;
use crate::config::Limits;
use crate::connection::{Connection, Progress, State};
use crate::error::ShimError;
use crate::identity::{Answer, Identities};
use crate::signer::{Create, Signer};
use crate::tally::{Ending, Tally};

/// How often files are looked at without being asked.
const TICK: Duration = Duration::from_secs(1);
/// Connections accepted before the ones that are there get their turn again.
const BATCH: usize = 64;

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
    ];
    Signals::of(&list).map_err(ShimError::system("read signals"))
}

/// What a ready descriptor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Identities,
    Listener,
    Connection(u64),
}

/// The signer at work.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    signals: Signals,
    identities: Identities,
    signer: Signer,
    limits: Limits,
    connections: Connections,
    next: u64,
    tally: Tally,
    /// Out of descriptors: leave the listener alone until then.
    accept_after: Instant,
}

impl Server {
    /// Puts the parts together.
    pub fn new(
        listener: UnixListener,
        signals: Signals,
        identities: Identities,
        signer: Signer,
        limits: Limits,
    ) -> Self {
        Self {
            listener,
            signals,
            identities,
            signer,
            limits,
            connections: Connections::new(),
            next: 0,
            tally: Tally::new(),
            accept_after: Instant::now(),
        }
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// [`ShimError::System`] if `poll` or the signal descriptor fails.
    pub fn run(mut self) -> Result<(), ShimError> {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let ready = self
                .wait(next_tick)
                .map_err(ShimError::system("wait for requests"))?;
            for source in ready {
                match source {
                    Source::Signals => {
                        if self
                            .signalled()
                            .map_err(ShimError::system("read a signal"))?
                        {
                            return Ok(());
                        }
                    }
                    Source::Identities => self.identities_arrived(),
                    Source::Listener => self.accept(),
                    Source::Connection(number) => self.progress(number),
                }
            }
            let now = Instant::now();
            self.expire(now);
            if now >= next_tick {
                self.signer.refresh(false);
                self.tally.report();
                next_tick = now + TICK;
            }
        }
    }

    /// Waits for something to happen. Connections come before the listener, so that one which has
    /// asked is served before a newcomer could push it out.
    fn wait(&self, until: Instant) -> io::Result<Vec<Source>> {
        let mut sources = vec![Source::Signals, Source::Identities];
        let mut fds = vec![
            watch(self.signals.as_fd(), PollFlags::POLLIN),
            watch(self.identities.wake_descriptor().as_fd(), PollFlags::POLLIN),
        ];
        let mut until = until;
        for (number, connection) in &self.connections {
            until = until.min(connection.deadline);
            let interest = match connection.state {
                State::Reading => PollFlags::POLLIN,
                State::Writing(_) => PollFlags::POLLOUT,
                State::Waiting(_) => continue,
            };
            sources.push(Source::Connection(*number));
            fds.push(watch(connection.stream().as_fd(), interest));
        }
        if self.accept_after <= Instant::now() {
            sources.push(Source::Listener);
            fds.push(watch(self.listener.as_fd(), PollFlags::POLLIN));
        } else {
            until = until.min(self.accept_after);
        }
        // Rounded up: waking just before a deadline would spin until it.
        let wait = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        match poll(
            &mut fds,
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = fds
            .iter()
            .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter_map(|(s, ready)| ready.then_some(s))
            .collect())
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
                    self.signer.refresh(true);
                }
                Signal::SIGCHLD => reap(),
                _ => {}
            }
        }
        Ok(false)
    }

    fn accept(&mut self) {
        for _ in 0..BATCH {
            match self.listener.accept() {
                Ok((stream, _)) => match Connection::new(stream, self.limits.request_timeout) {
                    Ok(connection) => self.admit(connection),
                    Err(error) => tracing::debug!(event = "sack.no_peer", %error),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(event = "sack.accept", %error);
                    self.accept_after = Instant::now() + Duration::from_millis(100);
                    return;
                }
            }
        }
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
            Verdict::Evict(number) => self.end(number, Ending::Evicted),
            Verdict::TurnAway => return self.tally.count(Ending::TurnedAway, uid),
        }
        let number = self.next;
        self.next += 1;
        self.connections.insert(number, connection);
        // Clients send at once: as a rule the request is there already.
        self.progress(number);
    }

    fn progress(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        match connection.state {
            State::Waiting(_) => {}
            State::Writing(_) => {
                if connection.write() {
                    self.connections.remove(&number);
                }
            }
            State::Reading => match connection.read() {
                Progress::Later => {}
                Progress::Request(request) => self.requested(number, request),
                Progress::Ended(None) => {
                    self.connections.remove(&number);
                }
                Progress::Ended(Some(error)) => {
                    tracing::debug!(event = "sack.malformed", uid = connection.peer.uid, %error);
                    self.end(number, Ending::Malformed);
                }
            },
        }
    }

    fn requested(&mut self, number: u64, request: Request) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let peer = connection.peer;
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
                let result = self.signer.verify(peer, &token);
                audit::checked(peer, &token, &result);
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
        let peer = connection.peer;
        match self.signer.create(peer, request, answer) {
            Ok((token, claims)) => {
                audit::made(peer, answer, &claims, &token);
                self.answer(number, token_reply(&token));
            }
            Err(why) => {
                audit::refused(peer, answer, request, &why);
                self.connections.remove(&number);
            }
        }
    }

    fn answer(&mut self, number: u64, bytes: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(&number)
            && connection.answer(bytes)
        {
            self.connections.remove(&number);
        }
    }

    fn expire(&mut self, now: Instant) {
        let late = |(number, connection): (&u64, &Connection)| {
            (connection.deadline <= now).then_some(*number)
        };
        let late: Vec<u64> = self.connections.iter().filter_map(late).collect();
        for number in late {
            // Nobody waits longer for an identity than a login takes patience for.
            self.create(number, &Answer::Unavailable);
            self.end(number, Ending::TimedOut);
        }
    }

    fn end(&mut self, number: u64, ending: Ending) {
        if let Some(connection) = self.connections.remove(&number) {
            self.tally.count(ending, connection.peer.uid);
        }
    }
}

fn watch(fd: BorrowedFd<'_>, interest: PollFlags) -> PollFd<'_> {
    PollFd::new(fd, interest)
}

/// The configuration process keeps itself running; that it is gone needs a person.
fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(status) => tracing::error!(
                event = "config.ended",
                ?status,
                "the configuration is no longer kept; tokens still are made"
            ),
        }
    }
}
