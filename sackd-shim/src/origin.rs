//! Where a request comes from, for the record: the program, its control group, the login it belongs
//! to. Read from /proc while the caller waits; nothing here decides anything.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, poll};
use sys::peer::PeerCredentials;

/// Most bytes read of one file in /proc.
const LIMIT: usize = 4096;
/// Ancestors looked at on the way to a login.
const DEPTH: usize = 32;
/// Sessions remembered.
const KEPT: usize = 4096;
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

/// Finds origins; remembers which terminal session belongs to which login.
#[derive(Debug, Default)]
pub struct Origins {
    sessions: HashMap<u32, (String, String)>,
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
    pub fn find(&mut self, stream: &UnixStream, peer: PeerCredentials) -> Origin {
        let Ok(pid) = u32::try_from(peer.pid) else {
            return Origin::unknown();
        };
        if pid == 0 {
            return Origin::unknown();
        }
        let held = sys::peer::pidfd(stream).ok();
        let found = self.read(pid);
        if held.is_some_and(|fd| has_ended(&fd)) {
            return Origin::unknown();
        }
        found.unwrap_or_else(Origin::unknown)
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
        let Some(leader) = Stat::of(stat.session) else {
            return login_above(stat.clone()).unwrap_or_else(|| audit_session(pid));
        };
        if let Some((started, login)) = self.sessions.get(&stat.session)
            && *started == leader.started
        {
            return login.clone();
        }
        let login = login_above(leader.clone())
            .or_else(|| login_above(stat.clone()))
            .unwrap_or_else(|| audit_session(pid));
        if self.sessions.len() >= KEPT {
            self.sessions.clear();
        }
        self.sessions
            .insert(stat.session, (leader.started, login.clone()));
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
        assert_eq!(Origins::default().find(&a, elsewhere), Origin::unknown());
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
