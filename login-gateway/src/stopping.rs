//! How far the gateway is on its way to the end, and what people on their terminals are told of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sys::clock::local_time;

/// Time that monitors have to record logouts when everything ends at once.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// People are reminded when so much time is left.
const REMINDERS: [Duration; 4] = [
    Duration::from_secs(3600),
    Duration::from_secs(15 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(60),
];

/// Nothing, or what was asked for by signals and commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopping {
    /// Connections are taken.
    No,
    /// No further ones; the gateway ends with the last one.
    Draining(Drain),
    /// All are told to end; the gateway ends then, whether they have or not.
    Ending(Instant),
}

/// The way to the last logout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// When those that are left are ended.
    by: Option<Instant>,
    /// Why, for people.
    reason: String,
    /// When people are next told.
    next: Option<Instant>,
    /// Whether a signal has asked for it too.
    signalled: bool,
}

impl Drain {
    /// Begins now. `within` is the time that people have; `None`: as long as they like.
    pub fn new(within: Option<Duration>, reason: &str, now: Instant) -> Self {
        Self {
            by: within.map(|within| now + within),
            reason: reason.trim().to_owned(),
            next: Some(now),
            signalled: false,
        }
    }

    /// Takes note of a signal; `false` if there has been one before. Whoever sends it waits for the
    /// end, so from now on there is one if there is to be any.
    pub fn signalled(&mut self, within: Option<Duration>, now: Instant) -> bool {
        if self.by.is_none() && within.is_some() {
            self.by = within.map(|within| now + within);
            self.next = Some(now);
        }
        !std::mem::replace(&mut self.signalled, true)
    }

    /// Time that is left.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        Some(self.by?.saturating_duration_since(now))
    }

    /// The words that are due, once.
    pub fn words(&mut self, now: Instant) -> Option<String> {
        self.next.filter(|next| *next <= now)?;
        self.next = self.by.and_then(|by| {
            let reminders = REMINDERS.iter().filter_map(|left| by.checked_sub(*left));
            reminders.filter(|at| *at > now).min()
        });
        let reason = match self.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let end = match self.left(now) {
            None => "It stops when the last login has ended; please log out soon.".to_owned(),
            Some(left) => format!(
                "Logins here end {}{}. Please save your work and log out.",
                in_words(left),
                clock(left).map_or(String::new(), |time| format!(", at {time}"))
            ),
        };
        Some(format!(
            "This login node takes no more logins{reason}\n{end}"
        ))
    }
}

/// "in 2 hours", rounded up to whole units.
fn in_words(left: Duration) -> String {
    let seconds = left.as_secs_f64().ceil() as u64;
    let (number, unit) = match seconds {
        0 => return "now".to_owned(),
        1..=90 => (seconds, "second"),
        91..=5400 => (seconds.div_ceil(60), "minute"),
        _ => (seconds.div_ceil(3600), "hour"),
    };
    format!("in {number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// The time of day then.
fn clock(left: Duration) -> Option<String> {
    let at = SystemTime::now().checked_add(left)?;
    let at = at.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let time = local_time(i64::try_from(at).ok()?)?;
    Some(format!("{:02}:{:02}", time.hour, time.minute))
}

impl Stopping {
    /// The end of everything, at once.
    pub fn ending(now: Instant) -> Self {
        Self::Ending(now + LAST_WORDS)
    }

    /// For the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::No => "serving",
            Self::Draining(_) => "draining",
            Self::Ending(_) => "ending",
        }
    }

    /// When the end comes in any case.
    pub fn by(&self) -> Option<Instant> {
        match self {
            Self::Ending(by) => Some(*by),
            Self::Draining(drain) => drain.by,
            Self::No => None,
        }
    }

    /// When something is to be done.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Self::Draining(drain) => drain.next.into_iter().chain(drain.by).min(),
            _ => self.by(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn people_are_told_at_once_and_reminded() {
        let start = Instant::now();
        let mut drain = Drain::new(Some(seconds(2 * 3600)), " new kernel\n", start);
        let first = drain.words(start).unwrap();
        assert!(
            first.starts_with(
                "This login node takes no more logins: new kernel\nLogins here end in 2 hours, at "
            ),
            "{first}"
        );
        assert_eq!(drain.words(start), None);
        let mut told = Vec::new();
        for second in 0..2 * 3600 {
            if let Some(words) = drain.words(start + seconds(second)) {
                told.push((
                    7200 - second,
                    words.contains("in 1 minute") || words.contains("in 60 seconds"),
                ));
            }
        }
        assert_eq!(
            told,
            [(3600, false), (900, false), (300, false), (60, true)]
        );
        assert_eq!(drain.next, None);
    }

    #[test]
    fn without_a_deadline_once() {
        let start = Instant::now();
        let mut drain = Drain::new(None, "", start);
        let words = drain.words(start).unwrap();
        assert!(
            words.contains("logins\nIt stops when the last login has ended"),
            "{words}"
        );
        assert_eq!(drain.words(start + seconds(1 << 20)), None);
        assert_eq!(Stopping::Draining(drain).due(), None);
    }

    #[test]
    fn times_in_words() {
        for (n, words) in [
            (0, "now"),
            (1, "in 1 second"),
            (90, "in 90 seconds"),
            (91, "in 2 minutes"),
            (3600, "in 60 minutes"),
            (7200, "in 2 hours"),
        ] {
            assert_eq!(in_words(seconds(n)), words);
        }
    }
}
