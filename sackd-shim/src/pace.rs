//! How often somebody may ask: a bucket for each user, one more for root and SlurmUser together, so
//! that users cannot use up what the system needs. Who asks too often waits; who asks far too
//! often is refused.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Users remembered at most; those whose bucket is full again are forgotten first.
const KEPT: usize = 10_000;

/// A rate and how much of it may be used at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests in a second, in the long run; 0 is no limit.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

impl Rate {
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }
}

/// When a request is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    Now,
    /// Then.
    At(Instant),
    /// Not within the patience that anybody has; so many were refused before it without a word.
    Never(Option<u64>),
}

/// Until when a bucket is used up ("generic cell rate algorithm": the time at which the next
/// request would be on schedule).
#[derive(Debug, Clone, Copy)]
struct Bucket {
    next: Instant,
    refused: u64,
    told: Option<Instant>,
}

/// All buckets.
#[derive(Debug)]
pub struct Pace {
    users: HashMap<u32, Bucket>,
    system: Bucket,
    patience: Duration,
}

impl Pace {
    /// Nobody has asked yet; who would wait longer than `patience` is refused.
    pub fn new(patience: Duration) -> Self {
        Self {
            users: HashMap::new(),
            system: Bucket::full(Instant::now()),
            patience,
        }
    }

    /// The turn of a request by `uid`; `None` is root or SlurmUser.
    pub fn turn(&mut self, uid: Option<u32>, rate: Rate, now: Instant) -> Turn {
        if rate.per_second == 0 {
            return Turn::Now;
        }
        if self.users.len() >= KEPT {
            self.users.retain(|_, bucket| bucket.next > now);
        }
        let bucket = match uid {
            None => &mut self.system,
            Some(uid) => self.users.entry(uid).or_insert_with(|| Bucket::full(now)),
        };
        bucket.turn(rate, self.patience, now)
    }
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self {
            next: now,
            refused: 0,
            told: None,
        }
    }

    fn turn(&mut self, rate: Rate, patience: Duration, now: Instant) -> Turn {
        let interval = rate.interval();
        let room = interval * rate.burst.max(1).saturating_sub(1);
        let next = self.next.max(now);
        let wait = next.saturating_duration_since(now).saturating_sub(room);
        if wait > patience {
            self.refused += 1;
            let quiet = self
                .told
                .is_some_and(|told| now < told + Duration::from_secs(1));
            return Turn::Never((!quiet).then(|| {
                self.told = Some(now);
                std::mem::take(&mut self.refused)
            }));
        }
        self.next = next + interval;
        if wait.is_zero() {
            Turn::Now
        } else {
            Turn::At(now + wait)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    #[test]
    fn a_burst_then_a_steady_rate_then_a_refusal() {
        let now = Instant::now();
        let mut pace = Pace::new(Duration::from_millis(250));
        let mut turn = |uid, at: u64| pace.turn(uid, RATE, now + Duration::from_millis(at));
        for _ in 0..3 {
            assert_eq!(turn(Some(1), 0), Turn::Now);
        }
        let at = |ms| Turn::At(now + Duration::from_millis(ms));
        assert_eq!(turn(Some(1), 0), at(100));
        assert_eq!(turn(Some(1), 0), at(200));
        assert_eq!(turn(Some(1), 0), Turn::Never(Some(1)));
        assert_eq!(turn(Some(1), 0), Turn::Never(None));
        // Others, and the system, have buckets of their own.
        assert_eq!(turn(Some(2), 0), Turn::Now);
        assert_eq!(turn(None, 0), Turn::Now);
        // What was refused used nothing up, and time fills the bucket.
        assert_eq!(turn(Some(1), 200), at(300));
        assert_eq!(turn(Some(1), 1000), Turn::Now);
        for _ in 0..4 {
            turn(Some(1), 1000);
        }
        assert_eq!(turn(Some(1), 1000), Turn::Never(Some(2)));
    }

    #[test]
    fn zero_is_no_limit_and_nobody_is_remembered_for_ever() {
        let now = Instant::now();
        let mut pace = Pace::new(Duration::ZERO);
        let none = Rate {
            per_second: 0,
            burst: 0,
        };
        for _ in 0..1000 {
            assert_eq!(pace.turn(Some(1), none, now), Turn::Now);
        }
        for uid in 0..3 * KEPT {
            let later = now + Duration::from_secs(uid as u64);
            assert_eq!(pace.turn(Some(uid as u32), RATE, later), Turn::Now);
        }
        assert!(pace.users.len() <= KEPT);
    }
}
