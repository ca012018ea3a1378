//! How often a password may be tried: failures per user and per source, within a sliding window.
//!
//! An attempt counts as failed from its start, so that many at once do not slip through; a good one takes
//! its count back. Nothing here knows of LDAP.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most users and sources that are counted; beyond that, unknown ones are refused.
const MOST_KEYS: usize = 100_000;

/// The counters.
#[derive(Debug)]
pub struct Limits {
    per_user: usize,
    per_source: usize,
    window: Duration,
    failures: Mutex<HashMap<Key, VecDeque<Instant>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    User(String),
    Source(String),
}

/// An attempt that may be made.
#[derive(Debug)]
pub struct Attempt {
    keys: Vec<Key>,
    at: Instant,
}

impl Limits {
    /// Limits of so many failures within `window`.
    pub fn new(per_user: usize, per_source: usize, window: Duration) -> Self {
        Self {
            per_user,
            per_source,
            window,
            failures: Mutex::default(),
        }
    }

    /// Counts an attempt; `None` if it must not be made. An empty source is not limited.
    pub fn start(&self, user: &str, source: &str, now: Instant) -> Option<Attempt> {
        let mut failures = self.failures();
        let mut keys = vec![Key::User(user.to_owned())];
        if !source.is_empty() {
            keys.push(Key::Source(network(source)));
        }
        if failures.len() + keys.len() > MOST_KEYS {
            failures.retain(|_, times| {
                times
                    .back()
                    .is_some_and(|last| now.saturating_duration_since(*last) < self.window)
            });
        }
        for key in &keys {
            let Some(times) = failures.get_mut(key) else {
                if failures.len() >= MOST_KEYS {
                    return None;
                }
                continue;
            };
            while times
                .front()
                .is_some_and(|first| now.saturating_duration_since(*first) >= self.window)
            {
                times.pop_front();
            }
            let most = match key {
                Key::User(_) => self.per_user,
                Key::Source(_) => self.per_source,
            };
            if times.len() >= most {
                return None;
            }
        }
        for key in &keys {
            failures.entry(key.clone()).or_default().push_back(now);
        }
        Some(Attempt { keys, at: now })
    }

    /// The password was right: the user's failures are forgotten, the source's remain but this one.
    pub fn succeeded(&self, attempt: &Attempt) {
        let mut failures = self.failures();
        for key in &attempt.keys {
            match key {
                Key::User(_) => drop(failures.remove(key)),
                Key::Source(_) => forget(&mut failures, key, attempt.at),
            }
        }
    }

    /// Nobody could be asked: the attempt does not count.
    pub fn not_made(&self, attempt: &Attempt) {
        let mut failures = self.failures();
        for key in &attempt.keys {
            forget(&mut failures, key, attempt.at);
        }
    }

    /// Failures of a user that count now, how many are let through, and how long the oldest counts.
    pub fn of_user(&self, user: &str, now: Instant) -> (usize, usize, Duration) {
        let failures = self.failures();
        let times = failures.get(&Key::User(user.to_owned()));
        let left = |time: &Instant| {
            self.window
                .checked_sub(now.saturating_duration_since(*time))
                .filter(|left| !left.is_zero())
        };
        let counting: Vec<Duration> = times.into_iter().flatten().filter_map(left).collect();
        (
            counting.len(),
            self.per_user,
            counting.first().copied().unwrap_or_default(),
        )
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Key, VecDeque<Instant>>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(failures: &mut HashMap<Key, VecDeque<Instant>>, key: &Key, at: Instant) {
    if let Some(times) = failures.get_mut(key) {
        if let Some(index) = times.iter().position(|time| *time == at) {
            times.remove(index);
        }
        if times.is_empty() {
            failures.remove(key);
        }
    }
}

/// What of a source is counted: one household has 2^64 addresses of IPv6.
fn network(source: &str) -> String {
    match source.parse() {
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(address) => address.to_string(),
            None => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
            }
        },
        Ok(IpAddr::V4(address)) => address.to_string(),
        // A host's name; what is longer than one is not worth keeping.
        Err(_) => source.chars().take(64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn failures_end_attempts_until_they_are_old() {
        let limits = Limits::new(2, 100, WINDOW);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(limits.start("a", "", at(0)).is_some());
        assert!(limits.start("a", "", at(10)).is_some());
        assert!(limits.start("a", "", at(20)).is_none());
        assert_eq!(limits.of_user("a", at(20)), (2, 2, Duration::from_secs(40)));
        assert!(limits.start("b", "", at(20)).is_some());
        assert!(limits.start("a", "", at(60)).is_some());
        assert!(limits.start("a", "", at(61)).is_none());
    }

    #[test]
    fn what_was_right_or_not_asked_does_not_count() {
        let limits = Limits::new(1, 100, WINDOW);
        let now = Instant::now();
        for _ in 0..3 {
            let attempt = limits.start("a", "x", now).unwrap();
            limits.succeeded(&attempt);
            let attempt = limits.start("a", "x", now).unwrap();
            limits.not_made(&attempt);
        }
        assert!(limits.failures().is_empty());
    }

    #[test]
    fn a_source_is_counted_over_all_users() {
        let limits = Limits::new(100, 2, WINDOW);
        let now = Instant::now();
        assert!(limits.start("a", "2001:db8::1", now).is_some());
        assert!(limits.start("b", "2001:db8::2", now).is_some());
        assert!(limits.start("c", "2001:db8::3", now).is_none());
        assert!(limits.start("c", "2001:db8:0:1::3", now).is_some());
        assert!(limits.start("c", "192.0.2.1", now).is_some());
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
