//! Which descriptor has something to do: one `epoll`, so that a thousand silent connections cost
//! those that ask nothing. A connection is watched only while it must be waited for.

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::connection::{Connection, State};
use crate::identity::Identities;
use crate::server::Desk;
use sys::signals::Signals;

/// Events taken at a time.
const BATCH: usize = 128;
/// Numbers of everything that is no connection; those count from 0 and never come so far.
const SIGNALS: u64 = u64::MAX;
const IDENTITIES: u64 = u64::MAX - 1;
const LISTENERS: u64 = u64::MAX - 0x10000;

/// What a ready descriptor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A signal has come.
    Signals,
    /// Answers of NSS have come.
    Identities,
    /// A connection by its number.
    Connection(u64),
    /// The socket of a cluster, by its place in the settings.
    Listener(usize),
}

impl Source {
    fn of(number: u64) -> Self {
        match number {
            SIGNALS => Self::Signals,
            IDENTITIES => Self::Identities,
            LISTENERS.. => Self::Listener((number - LISTENERS) as usize),
            _ => Self::Connection(number),
        }
    }
}

/// Everything that is waited for.
#[derive(Debug)]
pub struct Readiness {
    epoll: Epoll,
    ready: Vec<Source>,
}

impl Readiness {
    /// Waits for signals, answers and clients.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)` and `epoll_ctl(2)`.
    pub fn new(signals: &Signals, identities: &Identities, desks: &[Desk]) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let reading = |number| EpollEvent::new(EpollFlags::EPOLLIN, number);
        epoll.add(signals, reading(SIGNALS))?;
        epoll.add(identities.wake_descriptor(), reading(IDENTITIES))?;
        for (number, desk) in desks.iter().enumerate() {
            epoll.add(&desk.listener, reading(LISTENERS + number as u64))?;
        }
        Ok(Self {
            epoll,
            ready: Vec::new(),
        })
    }

    /// Waits until `until` for something to happen. Connections come before listeners, so that one
    /// which has asked is served before a newcomer could push it out.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn wait(&mut self, until: Instant) -> io::Result<Vec<Source>> {
        // Rounded up: waking just before a deadline would spin until it.
        let wait = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let wait = u16::try_from(wait.as_millis()).unwrap_or(u16::MAX);
        let mut events = [EpollEvent::empty(); BATCH];
        let count = match self.epoll.wait(&mut events, wait) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        let sources = || events[..count].iter().map(|event| Source::of(event.data()));
        let is_listener = |source: &Source| matches!(source, Source::Listener(_));
        ready.extend(sources().filter(|source| !is_listener(source)));
        ready.extend(sources().filter(is_listener));
        Ok(ready)
    }

    /// Gives the list back, so that the next one needs no memory.
    pub fn done(&mut self, ready: Vec<Source>) {
        self.ready = ready;
    }

    /// Watches a connection for the next thing that it waits for, once.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn watch(&self, number: u64, connection: &mut Connection) -> io::Result<()> {
        let interest = match connection.state {
            State::Reading => EpollFlags::EPOLLIN,
            State::Writing(_) => EpollFlags::EPOLLOUT,
            State::Waiting(_) | State::Paced(..) => return Ok(()),
        };
        let mut event = EpollEvent::new(interest | EpollFlags::EPOLLONESHOT, number);
        if connection.is_watched {
            self.epoll.modify(connection.stream(), &mut event)?;
        } else {
            self.epoll.add(connection.stream(), event)?;
            connection.is_watched = true;
        }
        Ok(())
    }

    /// Leaves the listeners alone, or not any more.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn listen(&self, desks: &[Desk], listening: bool) -> io::Result<()> {
        let interest = if listening {
            EpollFlags::EPOLLIN
        } else {
            EpollFlags::empty()
        };
        for (number, desk) in desks.iter().enumerate() {
            let mut event = EpollEvent::new(interest, LISTENERS + number as u64);
            self.epoll.modify(&desk.listener, &mut event)?;
        }
        Ok(())
    }
}
