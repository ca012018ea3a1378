//! Who is on which terminal, for `w`, `who`, `last` and the next "Last login" line: entries in utmp,
//! wtmp, lastlog and btmp. How the bytes lie in the files is `sys::login_records`' matter.
//!
//! As with sshd, wtmp, lastlog and btmp are written where they exist: their being there is the
//! administrator's word that somebody wants them. utmp is of this boot alone, and nobody
//! else makes it in a container, so it is made.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::SystemTime;

use gateway_wire::{Settings, UserName};
use nix::unistd::Group;
use sys::clock::local_time;
use sys::login_records::{BTMP, LASTLOG, UTMP, WTMP};
use sys::login_records::{Entry, Kind, append, last_login, put_current, put_last_login};

/// Terminals of one login that are entered; a net that claims more is not believed.
const MAX_TERMINALS: usize = 256;

/// Major numbers of `/dev/pts/N`, Documentation/admin-guide/devices.txt.
const PTS_MAJORS: std::ops::RangeInclusive<u64> = 136..=143;

/// The entries of one login. Dropping it logs all of its terminals out.
pub struct LoginRecords {
    user: UserName,
    uid: u32,
    source: IpAddr,
    pid: u32,
    on: bool,
    open: BTreeSet<u32>,
}

impl LoginRecords {
    /// The records of a login.
    pub fn new(settings: &Settings, user: UserName, uid: u32, source: IpAddr) -> Self {
        Self {
            user,
            uid,
            source,
            // Not the session's, which w(1) would show in the place of the user's program.
            pid: std::process::id(),
            on: wanted(settings),
            open: BTreeSet::new(),
        }
    }

    /// Enters a terminal, if it is this user's.
    pub fn opened(&mut self, number: u32) {
        if self.open.len() >= MAX_TERMINALS || !belongs(number, self.uid) {
            return;
        }
        if !self.open.insert(number) || !self.on {
            return;
        }
        let line = format!("pts/{number}");
        let entry = self.entry(Kind::Login, &line);
        tried(
            UTMP,
            make_utmp().and_then(|()| put_current(Path::new(UTMP), &entry)),
        );
        tried(WTMP, append(Path::new(WTMP), &entry));
        tried(
            LASTLOG,
            put_last_login(Path::new(LASTLOG), self.uid, &entry),
        );
    }

    /// Logs a terminal out.
    pub fn closed(&mut self, number: u32) {
        if !self.open.remove(&number) || !self.on {
            return;
        }
        let line = format!("pts/{number}");
        let entry = self.entry(Kind::Logout, &line);
        tried(UTMP, put_current(Path::new(UTMP), &entry));
        tried(WTMP, append(Path::new(WTMP), &entry));
    }

    /// The user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Terminals that are open and still the user's.
    pub fn terminals(&self) -> impl Iterator<Item = u32> {
        let open = self.open.iter().copied();
        open.filter(|number| belongs(*number, self.uid))
    }

    fn entry<'a>(&'a self, kind: Kind, line: &'a str) -> Entry<'a> {
        Entry {
            kind,
            pid: self.pid,
            line,
            user: self.user.as_str(),
            source: self.source,
            time: SystemTime::now(),
        }
    }
}

impl Drop for LoginRecords {
    fn drop(&mut self) {
        for number in self.open.clone() {
            self.closed(number);
        }
    }
}

/// The line that tells a user when they were here last. Asked before this login is entered.
pub fn greeting(settings: &Settings, uid: u32) -> Option<String> {
    if !wanted(settings) {
        return None;
    }
    let last = last_login(Path::new(LASTLOG), uid)
        .inspect_err(|error| report(LASTLOG, error))
        .ok()??;
    let time = time(last.time)?;
    Some(match last.host.as_str() {
        "" => format!("Last login: {time}"),
        host => format!("Last login: {time} from {host}"),
    })
}

/// `Mon Nov 23 10:01:02 2026`, as `ctime(3)` has it.
fn time(seconds: u64) -> Option<String> {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let time = local_time(i64::try_from(seconds).ok()?)?;
    Some(format!(
        "{} {} {:2} {:02}:{:02}:{:02} {}",
        DAYS.get(time.weekday)?,
        MONTHS.get(time.month)?,
        time.day,
        time.hour,
        time.minute,
        time.second,
        time.year
    ))
}

/// Enters a failed try into btmp. For passwords and dialogues: a key that is not the right one is
/// part of most good logins. Where others than root's could read it, it is left alone: people type
/// passwords in the place of names.
pub fn failed(settings: &Settings, user: &UserName, source: IpAddr) {
    let closed = |path: &str| {
        std::fs::metadata(path).is_ok_and(|meta| meta.uid() == 0 && meta.mode() & 0o007 == 0)
    };
    if !wanted(settings) || !closed(BTMP) {
        return;
    }
    let entry = Entry {
        kind: Kind::Failed,
        pid: std::process::id(),
        line: "ssh:notty",
        user: user.as_str(),
        source,
        time: SystemTime::now(),
    };
    tried(BTMP, append(Path::new(BTMP), &entry));
}

/// One who serves only themselves has no right to these files.
fn wanted(settings: &Settings) -> bool {
    settings.login_records && settings.user.is_some()
}

/// Whether `/dev/pts/N` is a terminal of this user's.
fn belongs(number: u32, uid: u32) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(format!("/dev/pts/{number}")) else {
        return false;
    };
    meta.file_type().is_char_device()
        && meta.uid() == uid
        && PTS_MAJORS.contains(&nix::sys::stat::major(meta.rdev()))
}

/// Makes an empty utmp where there is none; a link is followed, since the place of the file may be a
/// folder of the pod's.
fn make_utmp() -> io::Result<()> {
    if Path::new(UTMP).exists() {
        return Ok(());
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(UTMP)?;
    // The group may write it on every Debian, for terminal programs of that group.
    if let Ok(Some(group)) = Group::from_name("utmp") {
        fchown(&file, None, Some(group.gid.as_raw()))?;
        file.set_permissions(PermissionsExt::from_mode(0o664))?;
    }
    Ok(())
}

fn tried(path: &str, done: io::Result<()>) {
    if let Err(error) = done {
        report(path, &error);
    }
}

/// A login goes on without its entry.
fn report(path: &str, error: &io::Error) {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem => {}
        _ => tracing::warn!(event = "login_records.failed", path, %error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_date_prints_them() {
        for seconds in [0, 1_795_428_062, 1_795_860_000] {
            let date = std::process::Command::new("date")
                .args(["-d", &format!("@{seconds}"), "+%a %b %e %H:%M:%S %Y"])
                .env("LC_ALL", "C")
                .output()
                .unwrap();
            let date = String::from_utf8(date.stdout).unwrap();
            assert_eq!(time(seconds).unwrap(), date.trim_end());
        }
        assert_eq!(time(u64::MAX), None);
    }

    #[test]
    fn a_terminal_must_be_the_users() {
        let size = sys::pty::Winsize {
            ws_row: 1,
            ws_col: 1,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (_master, slave) = sys::pty::open(size).unwrap();
        let path = nix::unistd::ttyname(&slave).unwrap();
        let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let me = nix::unistd::geteuid().as_raw();
        assert!(belongs(number, me));
        assert!(!belongs(number, me + 1));
        assert!(!belongs(u32::MAX, me));
    }
}
