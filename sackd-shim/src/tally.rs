//! Counts what a stranger can cause at will, and tells of it in one line now and then.

use std::time::{Duration, Instant};

/// How often the counts are told, if there are any.
const INTERVAL: Duration = Duration::from_secs(10);

/// Ways in which a connection ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its bytes are no SACK request.
    Malformed,
    /// Its request did not come in time.
    TimedOut,
    /// It made room for another.
    Evicted,
    /// There was no room for it.
    TurnedAway,
}

/// Counts since the last report.
#[derive(Debug)]
pub struct Tally {
    counts: [u64; 4],
    last_uid: u32,
    reported: Instant,
}

impl Tally {
    /// Nothing counted.
    pub fn new() -> Self {
        Self {
            counts: [0; 4],
            last_uid: 0,
            reported: Instant::now(),
        }
    }

    /// Counts one.
    pub fn count(&mut self, ending: Ending, uid: u32) {
        self.counts[ending as usize] += 1;
        self.last_uid = uid;
        tracing::debug!(event = "sack.closed", ?ending, uid);
    }

    /// Tells of what was counted, at most every ten seconds.
    pub fn report(&mut self) {
        if self.counts == [0; 4] || self.reported.elapsed() < INTERVAL {
            return;
        }
        let [malformed, timed_out, evicted, turned_away] = self.counts;
        tracing::warn!(
            event = "sack.unanswered",
            malformed,
            timed_out,
            evicted,
            turned_away,
            last_uid = self.last_uid
        );
        *self = Self::new();
    }
}
