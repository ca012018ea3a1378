//! What other threads ask of the one that keeps the replica, whatever that reads: a directory server or
//! a file. Nobody waits longer than they said.

use std::{sync::mpsc as blocking, time::Duration};

use tokio::sync::mpsc;

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

/// The way for other threads to ask.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Job>);

impl Handle {
    /// Asks the directory server about one user and waits at most `budget`. True if the state is
    /// what the server just said.
    pub fn account(&self, name: &str, budget: Duration) -> bool {
        if budget.is_zero() {
            return false;
        }
        let (done, answer) = blocking::sync_channel(1);
        let job = Job::Account {
            name: name.to_owned(),
            done,
        };
        self.0.try_send(job).is_ok() && answer.recv_timeout(budget) == Ok(true)
    }

    /// Reads everything and waits at most `budget`.
    ///
    /// # Errors
    /// The reason, for the asker.
    pub fn refresh(&self, budget: Duration) -> Result<(), String> {
        let (done, answer) = blocking::sync_channel(1);
        self.0
            .try_send(Job::Refresh { done })
            .map_err(|_| "too much is asked".to_owned())?;
        answer
            .recv_timeout(budget)
            .unwrap_or_else(|_| Err("not done in time".to_owned()))
    }

    /// Reads everything soon, without waiting.
    pub fn refresh_soon(&self) {
        let (done, _) = blocking::sync_channel(1);
        let _ = self.0.try_send(Job::Refresh { done });
    }
}
