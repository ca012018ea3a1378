//! How far the gateway is on its way to the end.

use std::time::{Duration, Instant};

/// Time that monitors have to record logouts when everything ends at once.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Nothing, or what was asked for by signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// Connections are taken.
    No,
    /// No further ones; the gateway ends with the last one.
    Draining,
    /// All are told to end; the gateway ends then, whether they have or not.
    Ending(Instant),
}

impl Stopping {
    /// What the next signal makes of it. `at_once` leaves out the first stage.
    pub fn signalled(self, at_once: bool, now: Instant) -> Self {
        match self {
            Self::No if !at_once => Self::Draining,
            Self::No | Self::Draining => Self::Ending(now + LAST_WORDS),
            Self::Ending(by) => Self::Ending(by),
        }
    }

    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "serving",
            Self::Draining => "draining",
            Self::Ending(_) => "ending",
        }
    }

    /// When the end comes in any case.
    pub fn by(self) -> Option<Instant> {
        match self {
            Self::Ending(by) => Some(by),
            Self::No | Self::Draining => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_lead_to_the_end() {
        let now = Instant::now();
        let end = Stopping::Ending(now + LAST_WORDS);
        assert_eq!(Stopping::No.signalled(false, now), Stopping::Draining);
        assert_eq!(Stopping::No.signalled(true, now), end);
        assert_eq!(Stopping::Draining.signalled(false, now), end);
        let later = now + Duration::from_secs(1);
        assert_eq!(end.signalled(false, later), end);
    }
}
