//! What other threads ask of the one that keeps the replica, whatever that reads: a directory server or
//! a file. Nobody waits longer than they said.

use std::{
    ops::Range,
    sync::{Arc, mpsc as blocking},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    core::Core,
    wanted::{Asker, Wanted},
};

/// Most look-ups and refreshes that wait.
const MOST_JOBS: usize = 256;

/// What is asked.
pub enum Job {
    /// One user, brought up to date; `done` hears whether that was possible.
    Account {
        /// Login name.
        name: String,
        /// Who waits.
        done: blocking::SyncSender<bool>,
    },
    /// One entry of a directory that cannot be listed.
    Find {
        /// Which.
        wanted: Wanted,
        /// Who waits; nobody for what is held and asked for again.
        asker: Option<Asker>,
    },
    /// Everything read anew.
    Refresh {
        /// Who waits.
        done: blocking::SyncSender<Result<(), String>>,
    },
}

impl Job {
    /// Says that it cannot be done now.
    pub fn refuse(self) {
        // An asker who has gone is no error.
        match self {
            Self::Account { done, .. } => drop(done.try_send(false)),
            Self::Find { .. } => {}
            Self::Refresh { done } => {
                drop(done.try_send(Err("the directory server is away".to_owned())))
            }
        }
    }
}

/// A way to ask, and where the questions arrive.
pub fn channel() -> (Handle, mpsc::Receiver<Job>) {
    let (sender, jobs) = mpsc::channel(MOST_JOBS);
    (Handle(sender), jobs)
}

/// The way for other threads to ask one domain's.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Job>);

impl Handle {
    /// Has the directory server asked about one user; what comes is true if the state is what the server
    /// then said.
    fn account(&self, name: &str) -> Option<blocking::Receiver<bool>> {
        let (done, answer) = blocking::sync_channel(1);
        let name = name.to_owned();
        self.0.try_send(Job::Account { name, done }).ok()?;
        Some(answer)
    }

    /// Has everything read.
    fn refresh(&self) -> Option<blocking::Receiver<Result<(), String>>> {
        let (done, answer) = blocking::sync_channel(1);
        self.0.try_send(Job::Refresh { done }).ok()?;
        Some(answer)
    }
}

/// The ways to all domains, in their order. A user who is known is asked for where the entry is, and nobody
/// waits for the others.
#[derive(Clone)]
pub struct Domains {
    core: Arc<Core>,
    handles: Vec<(String, Handle)>,
}

impl Domains {
    /// These, by name.
    pub fn new(core: Arc<Core>, handles: Vec<(String, Handle)>) -> Self {
        Self { core, handles }
    }

    /// Asks the directory servers about one user and waits at most `budget`. True if the state is
    /// what those who could have the user just said.
    pub fn account(&self, name: &str, budget: Duration) -> bool {
        if budget.is_zero() {
            return false;
        }
        let end = Instant::now() + budget;
        let known = self.core.dn_of(name).map(|(at, _)| at);
        let asked = match known {
            Some(at) => self.ask(at..at + 1, name, end),
            None => self.ask(0..self.handles.len(), name, end),
        };
        let found = self.core.dn_of(name).map(|(at, _)| at);
        match (known, found) {
            // Gone there, it may have been in the shadow of that one elsewhere.
            (Some(_), None) if self.handles.len() > 1 => {
                let others = self.ask(0..self.handles.len(), name, end);
                others.iter().all(|fresh| *fresh)
            }
            (None, Some(at)) => asked.get(at) == Some(&true),
            _ => asked.iter().all(|fresh| *fresh),
        }
    }

    fn ask(&self, which: Range<usize>, name: &str, end: Instant) -> Vec<bool> {
        let handles = self.handles[which].iter();
        let answers: Vec<_> = handles.map(|(_, handle)| handle.account(name)).collect();
        let wait = |answer: Option<blocking::Receiver<bool>>| {
            let left = end.saturating_duration_since(Instant::now());
            answer.is_some_and(|answer| answer.recv_timeout(left) == Ok(true))
        };
        answers.into_iter().map(wait).collect()
    }

    /// Has the only domain's server asked about an entry; the asker hears of it.
    pub fn find(&self, wanted: Wanted, asker: Asker) {
        if let [(_, handle)] = &self.handles[..] {
            let asker = Some(asker);
            // Too much is asked: the asker hears that there will be no answer.
            let _ = handle.0.try_send(Job::Find { wanted, asker });
        }
    }

    /// Reads everything and waits at most `budget`.
    ///
    /// # Errors
    /// The reasons, for the asker.
    pub fn refresh(&self, budget: Duration) -> Result<(), String> {
        let end = Instant::now() + budget;
        let handles = self.handles.iter();
        let answers: Vec<_> = handles
            .map(|(name, handle)| (name, handle.refresh()))
            .collect();
        let mut problems = Vec::new();
        for (name, answer) in answers {
            let left = end.saturating_duration_since(Instant::now());
            let result = match answer {
                Some(answer) => answer
                    .recv_timeout(left)
                    .unwrap_or_else(|_| Err("not done in time".to_owned())),
                None => Err("too much is asked".to_owned()),
            };
            if let Err(why) = result {
                problems.push(match name.as_str() {
                    "" => why,
                    name => format!("{name}: {why}"),
                });
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems.join("; ")),
        }
    }

    /// Reads everything soon, without waiting.
    pub fn refresh_soon(&self) {
        for (_, handle) in &self.handles {
            drop(handle.refresh());
        }
    }
}
