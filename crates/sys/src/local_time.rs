//! Times of the local zone, as files for people carry them. Formatting times is not done here.

/// Seconds since 1970 of a date and time in the zone of this process (`TZ`, /etc/localtime), or in
/// UTC. `None` if there is no such time. `month` and `day` count from 1.
pub fn seconds(
    (year, month, day): (u16, u8, u8),
    (hour, minute, second): (u8, u8, u8),
    utc: bool,
) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u8::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // SAFETY: all zero is a valid `tm`: numbers, and a pointer to a zone name that may be null.
    let mut time: libc::tm = unsafe { std::mem::zeroed() };
    time.tm_year = i32::from(year) - 1900;
    time.tm_mon = i32::from(month) - 1;
    time.tm_mday = i32::from(day);
    time.tm_hour = i32::from(hour);
    time.tm_min = i32::from(minute);
    time.tm_sec = i32::from(second);
    // Whether summer time holds is for the zone to say.
    time.tm_isdst = -1;
    let seconds = if utc {
        // SAFETY: a valid `tm` of our own.
        unsafe { libc::timegm(&mut time) }
    } else {
        // SAFETY: as above; this process has no other thread that could change the zone.
        unsafe { libc::mktime(&mut time) }
    };
    u64::try_from(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let utc = |date, time| seconds(date, time, true);
        assert_eq!(utc((1970, 1, 1), (0, 0, 0)), Some(0));
        // date -u -d '2024-02-29 12:34:56' +%s
        assert_eq!(utc((2024, 2, 29), (12, 34, 56)), Some(1_709_210_096));
        assert!(seconds((2024, 2, 29), (12, 34, 56), false).is_some());
        for bad in [
            (2023, 2, 29),
            (2024, 13, 1),
            (2024, 0, 1),
            (2024, 4, 31),
            (1969, 1, 1),
        ] {
            assert_eq!(utc(bad, (0, 0, 0)), None, "{bad:?}");
        }
        assert_eq!(utc((2024, 1, 1), (24, 0, 0)), None);
    }
}
