//! What may end a login that lives: its time is up, or the directory no longer lets its user in.

use std::time::{Duration, Instant};

/// Warning before the end of the time.
const WARNING: Duration = Duration::from_secs(5 * 60);
/// Refusals in a row before the directory is believed: one may be a slip of whoever edits there.
const REFUSALS: u32 = 2;

/// Both limits of one login.
#[derive(Debug)]
pub struct Limits {
    end: Option<Instant>,
    /// When the warning is due.
    warning: Option<Instant>,
    interval: Duration,
    /// When the directory is asked next.
    question: Option<Instant>,
    refusals: u32,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Show these words.
    Warn(&'static str),
    /// End the login: the reason for the log, the words for the user.
    End(String, &'static str),
}

impl Limits {
    /// For a login that begins `now`. An interval of zero is none; who is not of the
    /// directory is not asked for there.
    pub fn new(
        time: Option<Duration>,
        interval: Duration,
        of_directory: bool,
        now: Instant,
    ) -> Self {
        let end = time.map(|time| now + time);
        let question = (of_directory && !interval.is_zero()).then(|| now + interval);
        Self {
            end,
            warning: end
                .and_then(|end| end.checked_sub(WARNING))
                .filter(|at| *at > now),
            interval,
            question,
            refusals: 0,
        }
    }

    /// When to look again.
    pub fn next(&self) -> Option<Instant> {
        [self.end, self.warning, self.question]
            .into_iter()
            .flatten()
            .min()
    }

    /// Looks what is due; `refusal` asks the directory, with the reason if the user may not log in.
    pub fn look(&mut self, now: Instant, refusal: impl FnOnce() -> Option<String>) -> Due {
        if self.end.is_some_and(|end| end <= now) {
            return Due::End("session-time is over".into(), "Your session's time is over");
        }
        if self.question.is_some_and(|at| at <= now) {
            self.question = Some(now + self.interval);
            match refusal() {
                None => self.refusals = 0,
                Some(reason) => {
                    self.refusals += 1;
                    if self.refusals >= REFUSALS {
                        return Due::End(reason, "Your account may no longer log in");
                    }
                }
            }
        }
        if self.warning.is_some_and(|at| at <= now) {
            self.warning = None;
            return Due::Warn(
                "Your session's time is over in five minutes: please save your work.",
            );
        }
        Due::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn time_is_warned_of_and_ends() {
        let start = Instant::now();
        let mut limits = Limits::new(Some(seconds(600)), seconds(60), false, start);
        assert_eq!(limits.next(), Some(start + seconds(300)));
        let never = || panic!("the directory is asked");
        assert_eq!(limits.look(start + seconds(299), never), Due::Nothing);
        assert!(matches!(
            limits.look(start + seconds(300), never),
            Due::Warn(_)
        ));
        assert_eq!(limits.next(), Some(start + seconds(600)));
        assert!(matches!(
            limits.look(start + seconds(600), never),
            Due::End(..)
        ));

        let short = Limits::new(Some(seconds(10)), Duration::ZERO, true, start);
        assert_eq!(short.next(), Some(start + seconds(10)));
        assert_eq!(Limits::new(None, Duration::ZERO, true, start).next(), None);
    }

    #[test]
    fn the_directory_is_believed_the_second_time() {
        let start = Instant::now();
        let mut limits = Limits::new(None, seconds(60), true, start);
        let no = || Some("locked".to_owned());
        assert_eq!(limits.look(start + seconds(60), no), Due::Nothing);
        assert_eq!(limits.look(start + seconds(61), no), Due::Nothing);
        assert_eq!(limits.look(start + seconds(120), || None), Due::Nothing);
        assert_eq!(limits.look(start + seconds(180), no), Due::Nothing);
        let end = limits.look(start + seconds(240), no);
        assert!(matches!(end, Due::End(reason, _) if reason == "locked"));
    }
}
