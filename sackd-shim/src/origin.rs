//! Where a request comes from, for the record: the program, its control group, the login it belongs
//! to. Read from /proc while the caller waits; nothing here decides anything.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use sys::peer::PeerCredentials;

/// Most bytes read of one file in /proc.
const LIMIT: usize = 4096;
/// Ancestors looked at on the way to a login.
const DEPTH: usize = 32;
/// Sessions remembered.
const KEPT: usize = 4096;
/// Processes remembered; each takes a descriptor.
pub const KEPT_PROCESSES: usize = 64;
/// How long a session is taken for the same without a look at its leader. A number is not given to
/// another process so soon: all others would have to be used in between.
const SETTLED: Duration = Duration::from_millis(100);
/// How long what was read of a process goes for its next requests as well.
const FRESH: Duration = Duration::from_secs(1);
/// The program that is root's end of a login, as the kernel cuts its name.
const MONITOR: &str = "login-gateway-m";
/// A process without a login, as the kernel's audit numbers it.
const NO_AUDIT_SESSION: &str = "4294967295";

/// What is known of a caller; "-" where nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Name of the program, at most 15 bytes: the kernel shows the path of another user's program
    /// to nobody without capabilities.
    pub exe: String,
    /// Control group: names the unit, the container or the session.
    pub cgroup: String,
    /// Login of the gateway, or `audit-N` of the kernel's audit.
    pub login: String,
}

/// Finds origins; remembers which terminal session belongs to which login, and for a moment what was
/// read of a process: most commands ask twice or more.
#[derive(Debug, Default)]
pub struct Origins {
    sessions: HashMap<u32, Session>,
    processes: HashMap<u32, Process>,
}

/// A session that somebody has asked from.
#[derive(Debug)]
struct Session {
    /// When its leader was started.
    started: String,
    login: String,
    seen: Instant,
}

/// A process that has asked. As long as it has not ended nobody else has its number.
#[derive(Debug)]
struct Process {
    held: OwnedFd,
    origin: Arc<Origin>,
    since: Instant,
}

impl Process {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < FRESH && !has_ended(&self.held)
    }
}

impl Origin {
    fn unknown() -> Self {
        Self {
            exe: "-".to_owned(),
            cgroup: "-".to_owned(),
            login: "-".to_owned(),
        }
    }
}

impl Origins {
    /// Looks the caller up. A caller of another pid namespace (pid 0) stays unknown, and so does
    /// one that ends while we look: its number may be another's by now.
    pub fn find(&mut self, stream: &UnixStream, peer: PeerCredentials) -> Arc<Origin> {
        let pid = u32::try_from(peer.pid).unwrap_or(0);
        if pid == 0 {
            return Arc::new(Origin::unknown());
        }
        if let Some(process) = self.processes.get(&pid)
            && process.is_fresh()
        {
            return Arc::clone(&process.origin);
        }
        self.processes.remove(&pid);
        let held = sys::peer::pidfd(stream).ok();
        let found = self.read(pid);
        if held.as_ref().is_some_and(has_ended) {
            return Arc::new(Origin::unknown());
        }
        let origin = Arc::new(found.unwrap_or_else(Origin::unknown));
        if let Some(held) = held {
            self.keep(pid, held, &origin);
        }
        origin
    }

    /// Lets go of processes that do not ask any more.
    pub fn forget(&mut self) {
        self.processes.retain(|_, process| process.is_fresh());
    }

    /// Lets go of all processes: descriptors are needed elsewhere.
    pub fn let_go(&mut self) {
        self.processes.clear();
    }

    fn keep(&mut self, pid: u32, held: OwnedFd, origin: &Arc<Origin>) {
        if self.processes.len() >= KEPT_PROCESSES {
            self.processes.clear();
        }
        let process = Process {
            held,
            origin: Arc::clone(origin),
            since: Instant::now(),
        };
        self.processes.insert(pid, process);
    }

    fn read(&mut self, pid: u32) -> Option<Origin> {
        let stat = Stat::of(pid)?;
        let cgroup = read(pid, "cgroup").map_or_else(|| "-".to_owned(), |text| cgroup(&text));
        Some(Origin {
            login: self.login(pid, &stat),
            exe: stat.comm,
            cgroup,
        })
    }

    /// Ancestors of the leader of a session do not change while it lives, so one walk for each
    /// session is enough.
    fn login(&mut self, pid: u32, stat: &Stat) -> String {
        if let Some(session) = self.sessions.get(&stat.session)
            && session.seen.elapsed() < SETTLED
        {
            return session.login.clone();
        }
        let leader = match stat.session {
            own if own == pid => Some(stat.clone()),
            other => Stat::of(other),
        };
        let Some(leader) = leader else {
            return login_above(stat.clone()).unwrap_or_else(|| audit_session(pid));
        };
        if let Some(session) = self.sessions.get_mut(&stat.session)
            && session.started == leader.started
        {
            session.seen = Instant::now();
            return session.login.clone();
        }
        let login = login_above(leader.clone())
            .or_else(|| login_above(stat.clone()))
            .unwrap_or_else(|| audit_session(pid));
        if self.sessions.len() >= KEPT {
            self.sessions.clear();
        }
        let session = Session {
            started: leader.started,
            login: login.clone(),
            seen: Instant::now(),
        };
        self.sessions.insert(stat.session, session);
        login
    }
}

/// The parts of `/proc/PID/stat` that matter here (`proc_pid_stat(5)`).
#[derive(Debug, Clone)]
struct Stat {
    comm: String,
    parent: u32,
    session: u32,
    /// In clock ticks since boot, as text: it is only compared.
    started: String,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&read(pid, "stat")?)
    }

    /// The name may hold spaces and brackets; what follows its last bracket does not.
    fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse().ok();
        Some(Self {
            comm,
            parent: number(1)?,
            session: number(3)?,
            started: (*fields.get(19)?).to_owned(),
        })
    }
}

/// Climbs to the monitor of a login. Only a process of root counts, by its real name: neither a
/// user's title nor the arguments of a setuid program pass for it.
fn login_above(mut stat: Stat) -> Option<String> {
    for _ in 0..DEPTH {
        let pid = stat.parent;
        if pid <= 1 {
            return None;
        }
        stat = Stat::of(pid)?;
        if stat.comm == MONITOR && is_root(&read(pid, "status")?) {
            return title_login(&read(pid, "cmdline")?);
        }
    }
    None
}

fn is_root(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.is_some_and(|ids| ids.split_ascii_whitespace().all(|id| id == "0"))
}

/// `login-gateway-monitor: alice [priv] 9f3c0a12`.
fn title_login(title: &str) -> Option<String> {
    let (_, login) = title
        .trim_end_matches('\0')
        .strip_prefix("login-gateway-monitor: ")?
        .rsplit_once("[priv] ")?;
    let plain = login.chars().all(|c| c.is_ascii_alphanumeric());
    (plain && !login.is_empty()).then(|| login.to_owned())
}

fn audit_session(pid: u32) -> String {
    match read(pid, "sessionid") {
        Some(number) if number != NO_AUDIT_SESSION && !number.is_empty() => {
            format!("audit-{number}")
        }
        _ => "-".to_owned(),
    }
}

/// The unified group, else that of systemd, else the first that is not the root group.
fn cgroup(text: &str) -> String {
    let group = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers) = (parts.next()?, parts.next()?);
        Some((
            number == "0",
            controllers.to_owned(),
            parts.next()?.to_owned(),
        ))
    };
    let groups: Vec<_> = text.lines().filter_map(group).collect();
    let mut best = groups.iter().find(|(unified, ..)| *unified);
    if best.is_none_or(|(.., path)| path == "/") {
        let better = groups
            .iter()
            .find(|(_, controllers, path)| controllers == "name=systemd" && path != "/")
            .or_else(|| groups.iter().find(|(.., path)| path != "/"));
        best = better.or(best);
    }
    best.map_or_else(|| "-".to_owned(), |(.., path)| path.clone())
}

/// One call for each file: the kernel makes their text anew with every short read.
fn read(pid: u32, name: &str) -> Option<String> {
    let mut bytes = [0; LIMIT];
    let mut file = fs::File::open(format!("/proc/{pid}/{name}")).ok()?;
    let n = file.read(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..n]).into_owned())
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, 0_u16).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_this_test() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = sys::peer::credentials(&a).unwrap();
        let origin = Origins::default().find(&a, peer);
        let own = std::env::current_exe().unwrap();
        let name = own.file_name().unwrap().to_str().unwrap();
        assert_eq!(origin.exe, name[..15]);
        assert!(origin.cgroup.starts_with('/') || origin.cgroup == "-");
        let elsewhere = PeerCredentials { pid: 0, ..peer };
        assert_eq!(*Origins::default().find(&a, elsewhere), Origin::unknown());
    }

    /// Descriptors do not add up, and a number that is another process's by now is looked up anew.
    #[test]
    fn remembers_few_processes_and_only_while_they_live() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = sys::peer::credentials(&a).unwrap();
        let Ok(own) = sys::peer::pidfd(&a) else {
            println!("skipped: SO_PEERPIDFD is not known here");
            return;
        };
        let mut origins = Origins::default();
        let other = Arc::new(Origin {
            exe: "other".to_owned(),
            ..Origin::unknown()
        });
        let pid = u32::try_from(peer.pid).unwrap();
        origins.keep(pid, own, &other);
        assert_eq!(origins.find(&a, peer), other, "fresh, and it lives");
        let ended = {
            let mut child = std::process::Command::new("true").spawn().unwrap();
            let held = sys::process::end_of(&child).unwrap();
            child.wait().unwrap();
            held
        };
        origins.keep(pid, ended, &other);
        assert_ne!(
            origins.find(&a, peer),
            other,
            "another process had the number"
        );
        for n in 0..3 * KEPT_PROCESSES {
            let held = sys::peer::pidfd(&a).unwrap();
            origins.keep(n as u32, held, &other);
            assert!(origins.processes.len() <= KEPT_PROCESSES);
        }
        origins
            .processes
            .values_mut()
            .for_each(|p| p.since -= FRESH);
        origins.forget();
        assert!(origins.processes.is_empty());
    }

    #[test]
    fn proc_files() {
        let stat = "12 (a) b (c) S 34 12 56 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 789 1 2 3";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.comm.as_str(), stat.parent), ("a) b (c", 34));
        assert_eq!((stat.session, stat.started.as_str()), (56, "789"));
        assert!(Stat::parse("12 (a S").is_none());
        let title = |text| title_login(text);
        assert_eq!(
            title("login-gateway-monitor: alice [priv] 9f3c0a12\0\0"),
            Some("9f3c0a12".to_owned())
        );
        for other in [
            "login-gateway-monitor: alice [priv]\0",
            "sudo\0login-gateway-monitor: a [priv] 9f",
            "login-gateway-monitor: alice [priv] a b",
        ] {
            assert_eq!(title(other), None, "{other}");
        }
        assert!(is_root("Name:\tx\nUid:\t0\t0\t0\t0\n"));
        assert!(!is_root("Uid:\t0\t1000\t0\t0\n"));
        for (text, expected) in [
            (
                "0::/user.slice/session-3.scope\n",
                "/user.slice/session-3.scope",
            ),
            ("1:name=systemd:/a\n0::/\n", "/a"),
            ("4:cpu:/b\n1:name=systemd:/\n", "/b"),
            ("0::/\n", "/"),
            ("", "-"),
        ] {
            assert_eq!(cgroup(text), expected);
        }
    }
}
