//! The wall clock as people read it: `localtime_r(3)`. Logs and listings of files write dates in their own
//! ways.

/// A moment in the machine's (or `TZ`'s) time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Full year, such as 2026.
    pub year: i64,
    /// 0 is Sunday.
    pub weekday: usize,
    /// 0 is January.
    pub month: usize,
    /// Of the month, from 1.
    pub day: u32,
    /// From 0.
    pub hour: u32,
    /// From 0.
    pub minute: u32,
    /// From 0; 60 in a leap second.
    pub second: u32,
}

/// The local time at `seconds` since the epoch; `None` if the year does not fit the C library's
/// type.
pub fn local_time(seconds: i64) -> Option<LocalTime> {
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live objects of the right type; the call keeps neither.
    let done = unsafe { libc::localtime_r(&seconds, parts.as_mut_ptr()) };
    if done.is_null() {
        return None;
    }
    // SAFETY: a zeroed `tm` is a valid one, and the call has filled it.
    let parts = unsafe { parts.assume_init() };
    let number = |part: libc::c_int| u32::try_from(part).unwrap_or_default();
    Some(LocalTime {
        year: i64::from(parts.tm_year) + 1900,
        weekday: usize::try_from(parts.tm_wday).unwrap_or_default() % 7,
        month: usize::try_from(parts.tm_mon).unwrap_or_default() % 12,
        day: number(parts.tm_mday),
        hour: number(parts.tm_hour),
        minute: number(parts.tm_min),
        second: number(parts.tm_sec),
    })
}

/// `2026-11-23 10:01`: the local time at `seconds` since the epoch, to the minute; empty if there is none.
pub fn to_the_minute(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(local_time);
    time.map_or_else(String::new, |t| {
        let (month, day, hour, minute) = (t.month + 1, t.day, t.hour, t.minute);
        format!("{}-{month:02}-{day:02} {hour:02}:{minute:02}", t.year)
    })
}

/// `45s`, `3m`, `2h`, `5d`: so many seconds, rounded down to the largest unit.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_minutes() {
        let check = |seconds, expected: &str| assert_eq!(span(seconds), expected);
        check(0, "0s");
        check(59, "59s");
        check(60, "1m");
        check(3599, "59m");
        check(86_399, "23h");
        check(86_400, "1d");
        let minute = to_the_minute(1_781_524_800);
        assert!(
            minute.starts_with("2026-06-15 ") && minute.len() == 16,
            "{minute}"
        );
        assert_eq!(to_the_minute(u64::MAX), "");
    }

    #[test]
    fn the_middle_of_a_year_is_in_that_year_everywhere() {
        // 2026-06-15 12:00 UTC
        let time = local_time(1_781_524_800).unwrap();
        assert_eq!((time.year, time.month), (2026, 5));
        assert_eq!(local_time(i64::MAX), None);
    }
}
