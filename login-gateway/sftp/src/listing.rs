//! The long form of a folder's entry, as `ls -l` would write it; clients show it as it is.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::stat::{FileStat, SFlag};

use crate::people::People;

/// Older and newer dates show a year in place of the time.
const HALF_A_YEAR: i64 = 365 * 24 * 60 * 60 / 2;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// One line without its end.
pub fn line(people: &People, name: &[u8], stat: &FileStat) -> Vec<u8> {
    let user = people
        .user(stat.st_uid)
        .unwrap_or_else(|| stat.st_uid.to_string());
    let group = people
        .group(stat.st_gid)
        .unwrap_or_else(|| stat.st_gid.to_string());
    let mut line = format!(
        "{}  {:>3} {user:<8} {group:<8} {:>8} {} ",
        mode(stat.st_mode),
        stat.st_nlink,
        stat.st_size,
        date(stat.st_mtime, now()),
    )
    .into_bytes();
    line.extend_from_slice(name);
    line
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn date(seconds: i64, now: i64) -> String {
    let Some(time) = sys::clock::local_time(seconds) else {
        return String::new();
    };
    let day = format!("{} {:>2}", MONTHS[time.month], time.day);
    if now - HALF_A_YEAR < seconds && seconds <= now {
        format!("{day} {:02}:{:02}", time.hour, time.minute)
    } else {
        format!("{day}  {:04}", time.year)
    }
}

/// Ten characters: type, and three for each of user, group and others.
fn mode(mode: u32) -> String {
    let kind = match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => 'd',
        SFlag::S_IFLNK => 'l',
        SFlag::S_IFCHR => 'c',
        SFlag::S_IFBLK => 'b',
        SFlag::S_IFIFO => 'p',
        SFlag::S_IFSOCK => 's',
        SFlag::S_IFREG => '-',
        _ => '?',
    };
    let mut text = String::from(kind);
    for (shift, special, set, set_alone) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => set,
            (true, false) => set_alone,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (number, text) in [
            (0o100644, "-rw-r--r--"),
            (0o040755, "drwxr-xr-x"),
            (0o120777, "lrwxrwxrwx"),
            (0o041777, "drwxrwxrwt"),
            (0o041776, "drwxrwxrwT"),
            (0o106711, "-rws--s--x"),
            (0o106600, "-rwS--S---"),
            (0o010600, "prw-------"),
            (0o020600, "crw-------"),
        ] {
            assert_eq!(mode(number), text);
        }
    }

    #[test]
    fn dates_far_from_now_show_their_year() {
        let now = 1_781_524_800;
        assert!(date(now, now).ends_with(":00") || date(now, now).contains(':'));
        assert!(date(now + 1, now).ends_with("  2026"));
        assert!(date(now - HALF_A_YEAR, now).ends_with("  2025"));
        assert!(date(now - HALF_A_YEAR + 1, now).contains(':'));
        assert_eq!(date(i64::MAX, now), "");
    }
}
