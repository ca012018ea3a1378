//! Counts what a stranger can cause at will, and tells of it in one line now and then.

use std::time::{Duration, Instant};

use crate::metrics::Reason;

/// How often the counts are told, if there are any.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts since the last report.
#[derive(Debug)]
pub struct Tally {
    malformed: u64,
    timed_out: u64,
    evicted: u64,
    turned_away: u64,
    last_uid: u32,
    reported: Instant,
}

impl Tally {
    /// Nothing counted.
    pub fn new() -> Self {
        Self {
            malformed: 0,
            timed_out: 0,
            evicted: 0,
            turned_away: 0,
            last_uid: 0,
            reported: Instant::now(),
        }
    }

    /// Counts one connection that ended without an answer.
    pub fn count(&mut self, reason: Reason, uid: u32) {
        match reason {
            Reason::Malformed => self.malformed += 1,
            Reason::TimedOut => self.timed_out += 1,
            Reason::Evicted => self.evicted += 1,
            Reason::TurnedAway => self.turned_away += 1,
            // These are in the record of tokens.
            Reason::Access | Reason::Identity | Reason::Token | Reason::Rate => return,
        }
        self.last_uid = uid;
        tracing::debug!(event = "sack.closed", ?reason, uid);
    }

    /// Tells of what was counted, at most every ten seconds.
    pub fn report(&mut self) {
        let all = self.malformed + self.timed_out + self.evicted + self.turned_away;
        if all == 0 || self.reported.elapsed() < INTERVAL {
            return;
        }
        tracing::warn!(
            event = "sack.unanswered",
            malformed = self.malformed,
            timed_out = self.timed_out,
            evicted = self.evicted,
            turned_away = self.turned_away,
            last_uid = self.last_uid
        );
        *self = Self::new();
    }
}
