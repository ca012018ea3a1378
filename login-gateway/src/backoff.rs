//! Pauses between attempts to start a child that keeps ending: short at first, then longer.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// A child that lived this long was no failed attempt.
const LIVED: Duration = Duration::from_secs(10);

/// When the next attempt may be made.
#[derive(Debug, Default)]
pub struct Backoff {
    pause: Duration,
    until: Option<Instant>,
}

impl Backoff {
    /// Notes that a child which was started at `started` has ended by itself.
    pub fn ended(&mut self, started: Instant, now: Instant) {
        self.pause = if now.duration_since(started) >= LIVED {
            FIRST
        } else {
            (self.pause * 2).clamp(FIRST, LONGEST)
        };
        self.until = Some(now + self.pause);
    }

    /// Whether an attempt may be made now.
    pub fn allows(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// The end of the pause, if there is one.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_begin_anew() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        assert!(backoff.allows(now));
        for millis in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            backoff.ended(now, now);
            assert_eq!(backoff.until(), Some(now + Duration::from_millis(millis)));
            assert!(!backoff.allows(now) && backoff.allows(now + LONGEST));
        }
        backoff.ended(now, now + LIVED);
        assert_eq!(backoff.until(), Some(now + LIVED + FIRST));
    }
}
