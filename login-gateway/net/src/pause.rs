//! Input that is left where it is for a moment, while output goes on.
//!
//! OpenSSH's client, where it shares its connection, closes a channel as soon as both sides have sent
//! EOF, and russh answers that at once and forgets the channel. A program that closes its outputs and
//! goes on would lose its exit status that way. So between the client's EOF and that status nothing of
//! the client's is read, within limits: everything of the connection waits behind it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;

/// Longest pause for a channel that is alone on its connection: shorter than the time in which
/// keepalives want an answer.
const ALONE: Duration = Duration::from_secs(20);
/// The same where other channels wait.
const AMONG_OTHERS: Duration = Duration::from_secs(2);

/// The input of a connection.
#[derive(Clone, Default)]
pub struct Pause(Arc<Inner>);

#[derive(Default)]
struct Inner {
    holders: AtomicUsize,
    reader: Mutex<Option<Waker>>,
}

/// Nothing is read as long as this is kept.
struct Held(Pause);

impl Pause {
    /// Pauses between a client's EOF on a channel and its program's status.
    pub fn until_told(&self, ending: &Arc<Ending>, alone: bool) {
        if !ending.silent() {
            return;
        }
        self.0.holders.fetch_add(1, Ordering::Relaxed);
        let held = Held(self.clone());
        let mut phase = ending.phase.subscribe();
        tokio::spawn(async move {
            let patience = if alone { ALONE } else { AMONG_OTHERS };
            let told = phase.wait_for(|phase| *phase == Phase::Told);
            let _ = tokio::time::timeout(patience, told).await;
            drop(held);
        });
    }

    /// Ready when input may be read.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.holders.load(Ordering::Relaxed) == 0 {
            return Poll::Ready(());
        }
        *self.0.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Pause(inner) = &self.0;
        inner.holders.fetch_sub(1, Ordering::Relaxed);
        let mut reader = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = reader.take() {
            reader.wake();
        }
    }
}

/// How far a program's channel has come to its end.
pub struct Ending {
    /// Whether the client has sent EOF.
    client: AtomicBool,
    phase: watch::Sender<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// EOF has been sent and the status has not.
    Silent,
    Told,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            client: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Open),
        }
    }
}

impl Ending {
    /// The client has sent EOF.
    pub fn client_ended(&self) {
        self.client.store(true, Ordering::Relaxed);
    }

    /// Whether EOF can go to the client before the status: not where it has sent its own. If so, it goes.
    pub fn fall_silent(&self) -> bool {
        let may = !self.client.load(Ordering::Relaxed);
        if may {
            self.phase.send_replace(Phase::Silent);
        }
        may
    }

    /// The status is on its way to the client, or there will be none.
    pub fn told(&self) {
        self.phase.send_replace(Phase::Told);
    }

    fn silent(&self) -> bool {
        *self.phase.borrow() == Phase::Silent
    }
}
