//! What an entry says against a login, and what that means at a given time.
//!
//! Sources: `shadowExpire` (RFC 2307 and shadow(5)), the password policy's operational attributes
//! (slapo-ppolicy(5)), `nsAccountLock` of 389-ds, and the login shell.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use directory_client::AccountState;
use serde::{Deserialize, Serialize};

/// The marks of one entry; times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// `shadowExpire`, in days since 1970.
    pub expire_day: Option<i64>,
    /// `pwdAccountLockedTime`.
    pub lock: Option<Lock>,
    /// `nsAccountLock: TRUE`.
    pub disabled: bool,
    /// `pwdStartTime`.
    pub start: Option<i64>,
    /// `pwdEndTime`, or `accountExpires` of Active Directory.
    pub end: Option<i64>,
    /// `logonHours` of Active Directory: a bit for each hour of the week, from Sunday 0:00 UTC on.
    pub hours: Option<Vec<u8>>,
    /// When the password was last changed: `pwdChangedTime`, or `pwdLastSet` of Active Directory.
    pub password_changed: Option<i64>,
    /// It is to be changed before anything else: `pwdReset`, or a `pwdLastSet` of 0.
    pub must_change: bool,
}

/// How a password policy locked an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lock {
    /// By an administrator, or unreadable: for good.
    Permanent,
    /// After failures, at this time.
    Since(i64),
}

impl Lock {
    /// Reads `pwdAccountLockedTime`. What cannot be read is taken for a lock.
    pub fn parse(text: &str) -> Self {
        match generalized_time(text) {
            Some(time) if !text.starts_with("0000") => Self::Since(time),
            _ => Self::Permanent,
        }
    }
}

impl Marks {
    /// The state at `now`. `lockout` is how long a lock after failures counts; `None`: until the
    /// server takes it away.
    pub fn state(&self, shell: &str, now: SystemTime, lockout: Option<Duration>) -> AccountState {
        self.judged(shell, now, lockout).0
    }

    /// The state at `now`, with what it rests on in words; see [`Self::state`].
    pub fn judged(
        &self,
        shell: &str,
        now: SystemTime,
        lockout: Option<Duration>,
    ) -> (AccountState, &'static str) {
        let now = i64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
            .unwrap_or(i64::MAX);
        match (self.lock, lockout) {
            (None, _) => {}
            (Some(Lock::Since(time)), Some(lockout))
                if now.saturating_sub(time)
                    >= i64::try_from(lockout.as_secs()).unwrap_or(i64::MAX) => {}
            (Some(Lock::Since(_)), _) => {
                return (
                    AccountState::Locked,
                    "locked after failed passwords (pwdAccountLockedTime, lockoutTime)",
                );
            }
            (Some(Lock::Permanent), _) => {
                return (
                    AccountState::Locked,
                    "locked by an administrator (pwdAccountLockedTime)",
                );
            }
        }
        if self.disabled {
            return (
                AccountState::Locked,
                "disabled (nsAccountLock, userAccountControl)",
            );
        }
        // `usermod --expiredate 1` is how administrators lock an account with shadow.
        if matches!(self.expire_day, Some(0 | 1)) {
            return (AccountState::Locked, "locked (shadowExpire 0 or 1)");
        }
        // A negative day means "never", as in shadow(5).
        let day = self
            .expire_day
            .filter(|day| *day >= 0)
            .map(|day| day.saturating_mul(86_400));
        if day.is_some_and(|time| now >= time) {
            return (AccountState::Expired, "expired (shadowExpire)");
        }
        if self.end.is_some_and(|time| now >= time) {
            return (
                AccountState::Expired,
                "expired (pwdEndTime, accountExpires)",
            );
        }
        if self.start.is_some_and(|time| now < time) {
            return (AccountState::NotYet, "not yet begun (pwdStartTime)");
        }
        if self
            .hours
            .as_ref()
            .is_some_and(|hours| !is_open(hours, now))
        {
            return (AccountState::Hours, "not at this hour (logonHours)");
        }
        match shell.rsplit('/').next() {
            Some("nologin" | "false") => (AccountState::NoLogin, "the shell refuses logins"),
            _ => (AccountState::Active, "neither locked nor expired"),
        }
    }
}

/// Whether the hour of `now` is among the hours; a value of another size says nothing.
fn is_open(hours: &[u8], now: i64) -> bool {
    if hours.len() != 21 {
        return true;
    }
    // 1970-01-01 was a Thursday.
    let hour = (now.div_euclid(3600) + 4 * 24).rem_euclid(7 * 24);
    let (byte, bit) = (usize::try_from(hour / 8).unwrap_or_default(), hour % 8);
    hours[byte] >> bit & 1 == 1
}

/// Seconds since 1970 of a time in Active Directory: 100 ns since 1601. `None` for 0 and for "never".
pub fn windows_time(text: &str) -> Option<i64> {
    match text.trim().parse().ok()? {
        i64::MIN..=0 | i64::MAX => None,
        ticks => Some(ticks / 10_000_000 - 11_644_473_600),
    }
}

/// Seconds since 1970 of `YYYYMMDDHHMMSS[.fraction]Z` (RFC 4517 3.3.13; servers send UTC).
pub fn generalized_time(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let digits = text.split(['.', ',']).next()?;
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, with the year beginning in March so that the leap
    // day is its last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text, expected| assert_eq!(generalized_time(text), expected, "{text}");
        check("19700101000000Z", Some(0));
        check("20000229120000Z", Some(951_825_600));
        check("20261123080000.5Z", Some(1_795_420_800));
        check("20261123080000", None);
        check("2026112308Z", None);
        check("20261323080000Z", None);
        check("", None);
    }

    #[test]
    fn windows_times_and_hours() {
        assert_eq!(windows_time("0"), None);
        assert_eq!(windows_time("9223372036854775807"), None);
        assert_eq!(windows_time("116444736000000000"), Some(0));
        assert_eq!(windows_time("132514560000000000"), Some(1_606_982_400));
        // Thursday, 2020-12-03 8:00 UTC: bit 104.
        let mut hours = vec![0; 21];
        hours[13] = 1;
        assert!(is_open(&hours, 1_606_982_400));
        assert!(is_open(&hours, 1_606_982_400 + 3599));
        assert!(!is_open(&hours, 1_606_982_400 + 3600));
        assert!(!is_open(&hours, 1_606_982_400 - 1));
        assert!(is_open(&[], 0));
    }

    #[test]
    fn states() {
        use AccountState::{Active, Expired, Locked, NoLogin, NotYet};
        let now = UNIX_EPOCH + Duration::from_secs(20_000 * 86_400);
        let at = 20_000 * 86_400;
        let check = |marks: Marks, shell: &str, expected| {
            let lockout = Some(Duration::from_secs(300));
            assert_eq!(marks.state(shell, now, lockout), expected, "{marks:?}");
        };
        let none = Marks::default;
        check(none(), "/bin/bash", Active);
        check(none(), "/usr/sbin/nologin", NoLogin);
        check(none(), "/bin/false", NoLogin);
        for (day, expected) in [
            (-1, Active),
            (0, Locked),
            (1, Locked),
            (19_999, Expired),
            (20_000, Expired),
            (20_001, Active),
        ] {
            check(
                Marks {
                    expire_day: Some(day),
                    ..none()
                },
                "/bin/bash",
                expected,
            );
        }
        for (lock, expected) in [
            (Lock::Permanent, Locked),
            (Lock::parse("000001010000Z"), Locked),
            (Lock::parse("rubbish"), Locked),
            (Lock::Since(at - 299), Locked),
            (Lock::Since(at - 300), Active),
        ] {
            check(
                Marks {
                    lock: Some(lock),
                    ..none()
                },
                "/bin/bash",
                expected,
            );
        }
        check(
            Marks {
                disabled: true,
                ..none()
            },
            "/bin/bash",
            Locked,
        );
        check(
            Marks {
                end: Some(at),
                ..none()
            },
            "/bin/bash",
            Expired,
        );
        check(
            Marks {
                start: Some(at + 1),
                ..none()
            },
            "/bin/bash",
            NotYet,
        );
        let old = Marks {
            lock: Some(Lock::Since(1)),
            ..none()
        };
        assert_eq!(old.state("/bin/sh", now, None), Locked);
    }
}
