//! Entries of utmp, wtmp, btmp and lastlog: `utmp(5)`. The bytes as glibc lays them out, written with
//! the locks that glibc takes. Who is entered, and when, is the caller's matter.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem::offset_of;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libc::utmpx;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Bytes of one entry of utmp, wtmp and btmp.
const ENTRY: usize = size_of::<utmpx>();
/// Bytes of its times, seconds and microseconds alike: 4 where 32-bit programs share the file.
const TIME: usize = offset_of!(utmpx, ut_tv.tv_usec) - offset_of!(utmpx, ut_tv.tv_sec);
/// Bytes of its texts.
const LINE: usize = offset_of!(utmpx, ut_id) - offset_of!(utmpx, ut_line);
const ID: usize = offset_of!(utmpx, ut_user) - offset_of!(utmpx, ut_id);
const USER: usize = offset_of!(utmpx, ut_host) - offset_of!(utmpx, ut_user);
const HOST: usize = offset_of!(utmpx, ut_exit) - offset_of!(utmpx, ut_host);
/// Bytes of a user in lastlog: time, line, host.
const LAST: usize = TIME + LINE + HOST;

/// Who is logged in, `<paths.h>`.
pub const UTMP: &str = "/var/run/utmp";
/// Who was, and who has left.
pub const WTMP: &str = "/var/log/wtmp";
/// Who was refused.
pub const BTMP: &str = "/var/log/btmp";
/// When each user was here last, `<lastlog.h>`.
pub const LASTLOG: &str = "/var/log/lastlog";

/// Bytes that wtmp and btmp may have, each: 43,000 entries. Where nobody rotates them earlier, the
/// file becomes `wtmp.1` or `btmp.1` then, in the place of the one before.
const LONGEST: u64 = 16 << 20;

/// Any local user may hold a lock on files that all may read: whoever does keeps nobody from being
/// entered, but for so long.
const LOCK_TIME: Duration = Duration::from_millis(250);

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody is logged in on a terminal.
    Login,
    /// They have left.
    Logout,
    /// Somebody tried.
    Failed,
}

/// One entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// What happened.
    pub kind: Kind,
    /// A process that lives as long as the login.
    pub pid: u32,
    /// The terminal without `/dev/`.
    pub line: &'a str,
    /// The user's name.
    pub user: &'a str,
    /// The client.
    pub source: IpAddr,
    /// When.
    pub time: SystemTime,
}

impl Entry<'_> {
    fn bytes(&self) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        let kind = match self.kind {
            Kind::Login => libc::USER_PROCESS,
            Kind::Logout => libc::DEAD_PROCESS,
            Kind::Failed => libc::LOGIN_PROCESS,
        };
        put(&mut entry, offset_of!(utmpx, ut_type), &kind.to_ne_bytes());
        put(
            &mut entry,
            offset_of!(utmpx, ut_pid),
            &self.pid.to_ne_bytes(),
        );
        put(
            &mut entry,
            offset_of!(utmpx, ut_line),
            cut(self.line.as_bytes(), LINE),
        );
        put(&mut entry, offset_of!(utmpx, ut_id), id(self.line));
        if self.kind != Kind::Logout {
            put(
                &mut entry,
                offset_of!(utmpx, ut_user),
                cut(self.user.as_bytes(), USER),
            );
            let host = self.source.to_canonical().to_string();
            put(
                &mut entry,
                offset_of!(utmpx, ut_host),
                cut(host.as_bytes(), HOST),
            );
            let at = offset_of!(utmpx, ut_addr_v6);
            match self.source.to_canonical() {
                IpAddr::V4(address) => put(&mut entry, at, &address.octets()),
                IpAddr::V6(address) => put(&mut entry, at, &address.octets()),
            }
        }
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros) = (since.as_secs(), u64::from(since.subsec_micros()));
        put(&mut entry, offset_of!(utmpx, ut_tv.tv_sec), &time(seconds));
        put(&mut entry, offset_of!(utmpx, ut_tv.tv_usec), &time(micros));
        entry
    }
}

/// Puts the entry into utmp at `path`: in the place of its terminal's last one, or at the end. A
/// logout is entered only over the login of the same process: another may have the terminal by now.
///
/// # Errors
/// `NotFound` if there is no such file; else those of `open(2)`, `read(2)` and `write(2)`.
pub fn put_current(path: &Path, entry: &Entry<'_>) -> io::Result<()> {
    let file = open(OpenOptions::new().read(true).write(true), path)?;
    lock(&file)?;
    let mut known = [0; ENTRY];
    let mut at = 0;
    loop {
        match file.read_exact_at(&mut known, at) {
            Ok(()) if is_of(&known, entry.line) => break,
            Ok(()) => at += ENTRY as u64,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                known = [0; ENTRY];
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let pid = field(&known, offset_of!(utmpx, ut_pid), 4);
    if entry.kind == Kind::Logout && pid != &entry.pid.to_ne_bytes()[..] {
        return Ok(());
    }
    // The lock goes with the descriptor.
    file.write_all_at(&entry.bytes(), at)
}

/// Adds the entry at the end of wtmp or btmp at `path`; a file that is full is put aside first, as
/// `path` with `.1` behind it.
///
/// # Errors
/// As [`put_current`]; a full file that cannot be put aside gets no entry.
pub fn append(path: &Path, entry: &Entry<'_>) -> io::Result<()> {
    append_within(path, entry, LONGEST)
}

fn append_within(path: &Path, entry: &Entry<'_>, limit: u64) -> io::Result<()> {
    let mut file = open(OpenOptions::new().append(true), path)?;
    lock(&file)?;
    if file.metadata()?.len() + ENTRY as u64 > limit {
        put_aside(path, &file)?;
        file = open(OpenOptions::new().append(true), path)?;
        lock(&file)?;
    }
    file.write_all(&entry.bytes())
}

/// Puts an empty file in the place of `full`, unless somebody else has done so. There is one at each
/// moment: a missing one would say that nobody wants the records.
fn put_aside(path: &Path, full: &File) -> io::Result<()> {
    let path = path.canonicalize()?;
    let (there, meta) = (path.metadata()?, full.metadata()?);
    if (there.dev(), there.ino()) != (meta.dev(), meta.ino()) {
        return Ok(());
    }
    let with = |end: &str| {
        let mut name = path.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    let (old, new) = (with(".1"), with(".new"));
    for path in [&old, &new] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let fresh = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    std::os::unix::fs::fchown(&fresh, Some(meta.uid()), Some(meta.gid()))?;
    fresh.set_permissions(meta.permissions())?;
    std::fs::hard_link(&path, &old)?;
    std::fs::rename(&new, &path)
}

/// A user's last login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastLogin {
    /// When, in seconds since 1970.
    pub time: u64,
    /// From where, as it was entered then.
    pub host: String,
}

/// The last login that lastlog at `path` has for a user; `None` if there is none.
///
/// # Errors
/// As [`put_current`].
pub fn last_login(path: &Path, uid: u32) -> io::Result<Option<LastLogin>> {
    let file = open(OpenOptions::new().read(true), path)?;
    let mut entry = [0; LAST];
    match file.read_exact_at(&mut entry, u64::from(uid) * LAST as u64) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let seconds = seconds(&entry[..TIME]);
    let host = field(&entry, TIME + LINE, HOST);
    let end = host.iter().position(|b| *b == 0).unwrap_or(HOST);
    let shown = |c: &char| !c.is_control();
    Ok((seconds != 0).then(|| LastLogin {
        time: seconds,
        host: String::from_utf8_lossy(&host[..end])
            .chars()
            .filter(shown)
            .collect(),
    }))
}

/// Enters a login into lastlog at `path`, a sparse file with a place for each user id.
///
/// # Errors
/// As [`put_current`].
pub fn put_last_login(path: &Path, uid: u32, entry: &Entry<'_>) -> io::Result<()> {
    let file = open(OpenOptions::new().write(true), path)?;
    let mut bytes = [0; LAST];
    let since = entry.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    put(&mut bytes, 0, &time(since.as_secs()));
    put(&mut bytes, TIME, cut(entry.line.as_bytes(), LINE));
    let host = entry.source.to_canonical().to_string();
    put(&mut bytes, TIME + LINE, cut(host.as_bytes(), HOST));
    file.write_all_at(&bytes, u64::from(uid) * LAST as u64)
}

/// Which of the files these are is said by root, but what lies there may be anything.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = options.custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Takes the lock of `lockf(3)`, which glibc's functions take, or gives up after [`LOCK_TIME`].
fn lock(file: &File) -> io::Result<()> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let deadline = Instant::now() + LOCK_TIME;
    loop {
        match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole)) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EACCES) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an entry stands for this terminal, as glibc's `pututxline(3)` decides: by its id.
fn is_of(entry: &[u8; ENTRY], line: &str) -> bool {
    let at = offset_of!(utmpx, ut_type);
    let kind = libc::c_short::from_ne_bytes([entry[at], entry[at + 1]]);
    let mut wanted = [0; ID];
    put(&mut wanted, 0, id(line));
    (libc::INIT_PROCESS..=libc::DEAD_PROCESS).contains(&kind)
        && field(entry, offset_of!(utmpx, ut_id), ID) == wanted
}

/// The id of a terminal: the last four bytes of its name, as sshd and login(1) have it.
fn id(line: &str) -> &[u8] {
    let bytes = line.as_bytes();
    &bytes[bytes.len().saturating_sub(ID)..]
}

fn put(entry: &mut [u8], at: usize, bytes: &[u8]) {
    entry[at..at + bytes.len()].copy_from_slice(bytes);
}

fn field(entry: &[u8], at: usize, len: usize) -> &[u8] {
    &entry[at..at + len]
}

/// A text that fills its field need not end with a zero: `utmp(5)`.
fn cut(text: &[u8], room: usize) -> &[u8] {
    &text[..text.len().min(room)]
}

/// A time as the files have it: its low bytes. Where these are four they wrap in 2106 when read as
/// unsigned, which is how everybody has to read them from 2038 on.
fn time(value: u64) -> [u8; TIME] {
    let mut bytes = [0; TIME];
    let from = value.to_ne_bytes();
    let start = if cfg!(target_endian = "big") {
        from.len() - TIME
    } else {
        0
    };
    bytes.copy_from_slice(&from[start..start + TIME]);
    bytes
}

fn seconds(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    let start = if cfg!(target_endian = "big") {
        8 - bytes.len()
    } else {
        0
    };
    whole[start..start + bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(line: &'static str, pid: u32) -> Entry<'static> {
        Entry {
            kind: Kind::Login,
            pid,
            line,
            user: "alice",
            source: "192.0.2.7".parse().unwrap(),
            time: UNIX_EPOCH + Duration::from_millis(1_800_000_000_500),
        }
    }

    fn logout(line: &'static str, pid: u32) -> Entry<'static> {
        Entry {
            kind: Kind::Logout,
            ..login(line, pid)
        }
    }

    #[test]
    fn a_terminal_has_one_place_in_utmp() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let entries = || -> Vec<(i16, u32)> {
            let bytes = std::fs::read(path).unwrap();
            let chunks = bytes.chunks(ENTRY).map(|entry| {
                let at = offset_of!(utmpx, ut_pid);
                (
                    i16::from_ne_bytes([entry[0], entry[1]]),
                    u32::from_ne_bytes(entry[at..at + 4].try_into().unwrap()),
                )
            });
            chunks.collect()
        };
        put_current(path, &login("pts/1", 10)).unwrap();
        put_current(path, &login("pts/12", 11)).unwrap();
        assert_eq!(entries(), [(7, 10), (7, 11)]);
        put_current(path, &logout("pts/1", 10)).unwrap();
        assert_eq!(entries(), [(8, 10), (7, 11)]);
        put_current(path, &login("pts/1", 12)).unwrap();
        // The one who had it before is late.
        put_current(path, &logout("pts/1", 10)).unwrap();
        put_current(path, &logout("pts/3", 13)).unwrap();
        assert_eq!(entries(), [(7, 12), (7, 11)]);
    }

    #[test]
    fn a_full_file_is_put_aside_through_a_link() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::write(&real, "").unwrap();
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let limit = 3 * ENTRY as u64;
        let sizes = || {
            let size = |name: &str| std::fs::metadata(folder.path().join(name)).map(|m| m.len());
            let entries = |size: u64| size / ENTRY as u64;
            (
                size("real").map(entries).unwrap(),
                size("real.1").map(entries).ok(),
            )
        };
        for (real, old) in [(1, None), (2, None), (3, None), (1, Some(3)), (2, Some(3))] {
            append_within(&link, &login("pts/1", 10), limit).unwrap();
            assert_eq!(sizes(), (real, old));
        }
        let mode = std::fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        append_within(&link, &login("pts/1", 10), limit).unwrap();
        append_within(&link, &login("pts/1", 10), limit).unwrap();
        assert_eq!(sizes(), (1, Some(3)));
        assert!(!folder.path().join("real.new").exists());
        // Who opened it before it was put aside does not put its successor aside.
        let before = File::open(folder.path().join("real.1")).unwrap();
        put_aside(&link, &before).unwrap();
        assert_eq!(sizes(), (1, Some(3)));
    }

    #[test]
    fn what_debians_tools_read() {
        let utmpdump = Path::new("/usr/bin/utmpdump");
        if !utmpdump.exists() {
            println!("skipped: login_records::what_debians_tools_read needs utmpdump");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        append(file.path(), &login("pts/1", 10)).unwrap();
        append(file.path(), &logout("pts/1", 10)).unwrap();
        let failed = Entry {
            kind: Kind::Failed,
            line: "ssh:notty",
            source: "2001:db8::1".parse().unwrap(),
            ..login("", 11)
        };
        append(file.path(), &failed).unwrap();
        let output = std::process::Command::new(utmpdump)
            .arg(file.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<String> = text
            .lines()
            .map(|l| l.replace(['[', ']'], " "))
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let time = "2027-01-15T08:00:00,500000+00:00";
        assert_eq!(
            words,
            [
                format!("7 00010 ts/1 alice pts/1 192.0.2.7 192.0.2.7 {time}"),
                format!("8 00010 ts/1 pts/1 0.0.0.0 {time}"),
                format!("6 00011 otty alice ssh:notty 2001:db8::1 2001:db8::1 {time}"),
            ]
        );
    }

    #[test]
    fn the_last_login_of_each_user() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        assert_eq!(last_login(path, 1000).unwrap(), None);
        put_last_login(path, 2000, &login("pts/1", 1)).unwrap();
        assert_eq!(last_login(path, 1000).unwrap(), None);
        let found = last_login(path, 2000).unwrap().unwrap();
        assert_eq!(
            (found.time, found.host.as_str()),
            (1_800_000_000, "192.0.2.7")
        );
        // Sparse: an id of a directory's range costs no space.
        put_last_login(path, 2_000_000_000, &login("pts/1", 1)).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert!(std::fs::metadata(path).unwrap().blocks() < 100);
    }

    #[test]
    fn a_reader_who_holds_the_lock_hides_nobody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = File::open(file.path()).unwrap();
        let shared = libc::flock {
            l_type: libc::F_RDLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(reader.as_fd(), FcntlArg::F_OFD_SETLK(&shared)).unwrap();
        put_current(file.path(), &login("pts/1", 1)).unwrap();
        assert_eq!(std::fs::metadata(file.path()).unwrap().len(), ENTRY as u64);
    }

    #[test]
    fn what_is_not_there_or_no_file() {
        let missing = append(Path::new("/nonexistent/wtmp"), &login("pts/1", 1));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(put_current(Path::new("/dev"), &login("pts/1", 1)).is_err());
        // A text longer than its field is cut.
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = "x".repeat(100);
        let entry = Entry {
            user: &name,
            ..login("pts/1", 1)
        };
        append(file.path(), &entry).unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(
            (bytes.len(), bytes.iter().filter(|b| **b == b'x').count()),
            (ENTRY, USER)
        );
    }
}
