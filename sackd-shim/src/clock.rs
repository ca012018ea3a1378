//! Whether the clock was set: tokens live by it, and slurmctld's goes on.

use std::time::{Duration, Instant, SystemTime};

/// Smaller steps are what NTP does.
const STEP: Duration = Duration::from_secs(2);

/// The clock as it was.
#[derive(Debug)]
pub struct Clock {
    wall: SystemTime,
    steady: Instant,
}

impl Clock {
    /// As it is now.
    pub fn now() -> Self {
        Self::at(SystemTime::now(), Instant::now())
    }

    fn at(wall: SystemTime, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// Tells of a step since the last look.
    pub fn look(&mut self) {
        if let Some(seconds) = self.step(SystemTime::now(), Instant::now()) {
            tracing::warn!(
                event = "clock.stepped",
                seconds,
                "the clock was set: tokens made before may end early or late"
            );
        }
    }

    /// By how many seconds the clock went ahead of the time that has passed, if by many.
    fn step(&mut self, wall: SystemTime, steady: Instant) -> Option<i64> {
        let passed = steady.saturating_duration_since(self.steady);
        let expected = self.wall + passed;
        *self = Self::at(wall, steady);
        let (ahead, by) = match wall.duration_since(expected) {
            Ok(by) => (1, by),
            Err(before) => (-1, before.duration()),
        };
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        (by >= STEP).then_some(ahead * seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        let (wall, steady) = (SystemTime::UNIX_EPOCH, Instant::now());
        let mut clock = Clock::at(wall + Duration::from_secs(1000), steady);
        for (at, passed, expected) in [
            (1001, 1, None),
            (1003, 2, None),
            (1100, 3, Some(96)),
            (1101, 4, None),
            (501, 5, Some(-601)),
            (502, 6, None),
        ] {
            let found = clock.step(
                wall + Duration::from_secs(at),
                steady + Duration::from_secs(passed),
            );
            assert_eq!(found, expected, "{at}");
        }
    }
}
