//! What strangers can cause at will fills no disk: so many times in so much time, and then the number of those
//! that were not told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in each stretch of time.
const LINES: u32 = 20;
/// Length of one.
const STRETCH: Duration = Duration::from_secs(10);

/// Counts lines of one kind.
#[derive(Debug, Default)]
pub struct Hush(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Hush {
    /// Whether the next line may be written; with the number of those that were not before it.
    pub fn may_tell(&self) -> Option<u64> {
        self.may_tell_at(Instant::now())
    }

    /// Whether the next line would not be written.
    pub fn is_spent(&self) -> bool {
        self.is_spent_at(Instant::now())
    }

    fn is_spent_at(&self, now: Instant) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.told >= LINES && counts.since.is_some_and(|since| now < since + STRETCH)
    }

    fn may_tell_at(&self, now: Instant) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.since.is_none_or(|since| now >= since + STRETCH) {
            counts.since = Some(now);
            counts.told = 0;
        }
        if counts.told >= LINES {
            counts.untold += 1;
            return None;
        }
        counts.told += 1;
        Some(std::mem::take(&mut counts.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted() {
        let (hush, now) = (Hush::default(), Instant::now());
        for _ in 0..LINES {
            assert!(!hush.is_spent_at(now));
            assert_eq!(hush.may_tell_at(now), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(hush.may_tell_at(now), None);
        }
        assert!(hush.is_spent_at(now) && !hush.is_spent_at(now + STRETCH));
        assert_eq!(hush.may_tell_at(now + STRETCH), Some(1000));
        assert_eq!(hush.may_tell_at(now + STRETCH), Some(0));
    }
}
