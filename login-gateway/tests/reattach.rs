//! Shells that live on when their line drops, and what ends them. With the real ssh.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Gateway, SOON, possible, until};

/// A login shell on a terminal, typed to and read.
struct Shell {
    child: Child,
    keys: Box<dyn Write>,
    output: Receiver<Vec<u8>>,
    seen: String,
    /// The same from the beginning.
    all: String,
}

impl Shell {
    fn takes(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.seen += &text;
        self.all += &text;
    }

    fn of(mut ssh: Command) -> Self {
        let mut child = ssh
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let keys = child.stdin.take().unwrap();
        let from = child.stdout.take().unwrap();
        Self::reading(child, keys, from)
    }

    fn reading(child: Child, keys: impl Write + 'static, mut from: ChildStdout) -> Self {
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys: Box::new(keys),
            output,
            seen: String::new(),
            all: String::new(),
        }
    }

    fn log_in(gateway: &Gateway) -> Self {
        Self::of(gateway.client(&["-tt"]))
    }

    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until this has been shown; what came before it is forgotten.
    fn shows(&mut self, text: &str) {
        let end = Instant::now() + SOON;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.takes(&bytes),
                Err(_) => panic!("not shown: '{text}' in '{}'", self.seen),
            }
        }
    }

    /// Whether the first of two comes.
    fn shows_one_of(&mut self, first: &str, second: &str) -> bool {
        let end = Instant::now() + SOON;
        loop {
            if let Some(at) = self.seen.find(first) {
                self.seen.drain(..at + first.len());
                return true;
            }
            if let Some(at) = self.seen.find(second) {
                self.seen.drain(..at + second.len());
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            let bytes = self.output.recv_timeout(left).unwrap();
            self.takes(&bytes);
        }
    }

    /// The exit status, and all that was shown until then.
    fn ends(mut self) -> (Option<i32>, String) {
        self.keys = Box::new(std::io::sink());
        let status = self.child.wait().unwrap();
        while let Ok(bytes) = self.output.recv() {
            self.takes(&bytes);
        }
        (status.code(), self.seen)
    }

    /// The line drops: nobody says goodbye.
    fn drops(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A shell with something in it that a new one does not have.
fn remembering(gateway: &Gateway) -> Shell {
    let mut shell = Shell::log_in(gateway);
    // The shell's own words, not the echo of what was typed.
    shell.types("V=kept-$((40+2)); echo shown-$((1+1))\n");
    shell.shows("shown-2");
    shell
}

fn sessions(gateway: &Gateway) -> Vec<serde_json::Value> {
    let (said, code) = gateway.command(&["sessions", "list", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&said).unwrap()
}

fn detached(gateway: &Gateway) -> usize {
    let all = sessions(gateway);
    all.iter().filter(|s| s["line"] == "detached").count()
}

fn keepers() -> Vec<i32> {
    let of = |entry: std::io::Result<fs::DirEntry>| -> Option<i32> {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        line.starts_with(b"login-gateway-session\0keep\0")
            .then_some(pid)
    };
    fs::read_dir("/proc").unwrap().filter_map(of).collect()
}

/// Those of this test's gateway: their shells have its home.
fn of_home(gateway: &Gateway) -> usize {
    let home = format!("HOME={}", gateway.folder.path().join("home").display());
    let of = |pid: &i32| {
        let list = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(list).unwrap_or_default();
        children.split_whitespace().any(|child| {
            let environment = fs::read(format!("/proc/{child}/environ")).unwrap_or_default();
            environment
                .split(|b| *b == 0)
                .any(|line| line == home.as_bytes())
        })
    };
    keepers().iter().filter(|pid| of(pid)).count()
}

const KEPT: &str = "reattach-time = \"10m\"";

#[test]
fn a_shell_outlives_its_client() {
    if !possible("a_shell_outlives_its_client") {
        return;
    }
    let gateway = Gateway::start(KEPT);
    let shell = remembering(&gateway);
    shell.drops();
    gateway.logged("event=\"shell.detached\"", 1);
    until("it is listed as detached", || detached(&gateway) == 1);
    gateway.logged("event=\"session.detached\"", 1);
    let (table, _) = gateway.command(&["sessions"]);
    assert!(
        table.contains("detached") && table.contains("pts/"),
        "{table}"
    );
    until("it is in the numbers", || {
        gateway.metric("detached_logins ") == 1
    });
    // Commands are offered nothing.
    assert_eq!(gateway.says("echo plain"), "plain\n");

    let mut shell = Shell::log_in(&gateway);
    shell.shows("begun 20");
    shell.shows("from 127.0.0.1, left ");
    shell.shows("Enter goes back");
    shell.types("\n");
    // What was shown before, and what was set.
    shell.shows("shown-2");
    shell.types("echo $V; stty size; exit 7\n");
    shell.shows("kept-42");
    gateway.logged("event=\"shell.reattached\"", 1);
    let (code, seen) = shell.ends();
    assert_eq!(code, Some(7), "{seen}");
    until("nothing is left", || {
        sessions(&gateway).is_empty() && of_home(&gateway) == 0
    });
    gateway.logged("session.closed", 3);
}

/// Each line to the shell has a recording of its own, of what was shown there. What the shell writes
/// while nobody looks is in none, but for what it shows when its user is back.
#[test]
fn each_line_to_a_kept_shell_is_recorded() {
    if !possible("each_line_to_a_kept_shell_is_recorded") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let gateway = Gateway::start(&format!(
        "{KEPT}\nrecord-terminals = true\nrecordings = \"{}\"",
        folder.path().display()
    ));
    let replays = |number: usize| {
        gateway.logged("recording.closed", number);
        let log = gateway.log();
        let mut line = log.lines().filter(|line| line.contains("recording.closed"));
        let line = line.next_back().unwrap().to_owned();
        let value = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=")).unwrap();
            rest.split(' ').next().unwrap().trim_matches('"').to_owned()
        };
        let (file, sha256) = (value("file"), value("sha256"));
        let (shown, code) = gateway.command(&["replay", &file, "--instant", "--sha256", &sha256]);
        assert_eq!(code, Some(0), "{shown}");
        shown
    };

    let mut shell = remembering(&gateway);
    shell.types(
        "(until [ -e ~/back ]; do sleep 0.05; done; echo unseen-$((1+1))) & echo going-$((1+1))\n",
    );
    shell.shows("going-2");
    let seen = shell.all.clone();
    shell.drops();
    until("it is listed as detached", || detached(&gateway) == 1);
    let first = replays(1);
    assert!(first.starts_with(&seen), "{first}\n---\n{seen}");
    assert!(!first.contains("unseen-2"));
    fs::write(gateway.folder.path().join("home/back"), "").unwrap();

    let mut shell = Shell::log_in(&gateway);
    shell.shows("Enter goes back");
    shell.types("\n");
    shell.shows("unseen-2");
    shell.types("echo $V; exit 7\n");
    shell.shows("kept-42");
    shell.keys = Box::new(std::io::sink());
    assert_eq!(shell.child.wait().unwrap().code(), Some(7));
    while let Ok(bytes) = shell.output.recv() {
        shell.takes(&bytes);
    }
    assert_eq!(replays(2), shell.all);

    // One that ends while nobody looks has its recording since its line dropped, and no other.
    let mut shell = remembering(&gateway);
    shell.types("until [ -e ~/again ]; do sleep 0.05; done; exit\n");
    shell.shows("exit");
    let seen = shell.all.clone();
    shell.drops();
    let third = replays(3);
    assert!(third.starts_with(&seen), "{third}\n---\n{seen}");
    fs::write(gateway.folder.path().join("home/again"), "").unwrap();
    until("nothing is left", || {
        sessions(&gateway).is_empty() && of_home(&gateway) == 0
    });
    let closed = gateway.log().matches("recording.closed").count();
    assert_eq!(
        (closed, fs::read_dir(folder.path()).unwrap().count()),
        (3, 3)
    );
}

#[test]
fn a_shell_outlives_its_net() {
    if !possible("a_shell_outlives_its_net") {
        return;
    }
    let gateway = Gateway::start(&format!("warm = 0\n{KEPT}"));
    let shell = remembering(&gateway);
    let monitor = gateway.children("login-gateway-monitor: carol")[0];
    let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
    let name = |pid: &&str| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let net = children
        .split_whitespace()
        .find(|pid| name(pid).starts_with(b"login-gateway-net"))
        .unwrap();
    kill(Pid::from_raw(net.parse().unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(shell.ends().0, Some(255));
    until("it is listed as detached", || detached(&gateway) == 1);
    // A reload changes nothing.
    gateway.signal(Signal::SIGHUP);
    gateway.logged("gateway.ready", 2);
    assert_eq!(detached(&gateway), 1);

    // A new one all the same, and then back twice: its second line drops as well.
    let mut other = Shell::log_in(&gateway);
    other.shows("Enter goes back");
    other.types("n\necho new:$V:\nexit\n");
    other.shows("new::");
    assert_eq!(other.ends().0, Some(0));
    for round in 1..3 {
        let mut shell = Shell::log_in(&gateway);
        shell.shows("Enter goes back");
        shell.types("1\n");
        shell.types("echo $V\n");
        shell.shows("kept-42");
        gateway.logged("event=\"shell.reattached\"", round);
        until("it is shown elsewhere", || {
            sessions(&gateway).iter().any(|s| s["line"] == "reattached")
        });
        shell.drops();
        until("it is detached again", || detached(&gateway) == 1);
    }
}

#[test]
fn size_and_screen_follow_the_terminal_that_shows_it() {
    if !possible("size_and_screen_follow_the_terminal_that_shows_it") {
        return;
    }
    let gateway = Gateway::start(KEPT);
    let size = |rows, columns| sys::pty::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let with = |first| {
        let (master, slave) = sys::pty::open(first).unwrap();
        // The client's end is a terminal of its own, which echoes nothing here.
        sys::pty::edit_settings(&slave, nix::sys::termios::cfmakeraw).unwrap();
        let mut ssh = gateway.client(&["-tt"]);
        let mut child = ssh
            .stdin(slave)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let from = child.stdout.take().unwrap();
        (
            Shell::reading(child, fs::File::from(master.try_clone().unwrap()), from),
            master,
        )
    };
    let (mut shell, master) = with(size(40, 100));
    shell.types("stty size | sed 's/^/is /'\n");
    shell.shows("is 40 100");
    sys::pty::resize(&master, size(50, 120)).unwrap();
    kill(Pid::from_raw(shell.child.id() as i32), Signal::SIGWINCH).unwrap();
    until("it is told", || {
        shell.types("stty size | grep '50 120' && echo told-$((1+1)) || echo not-$((1+1))\n");
        shell.shows_one_of("told-2", "not-2")
    });
    shell.types("trap 'echo winched-$((1+1))' WINCH; echo trapped-$((1+1))\n");
    shell.shows("trapped-2");
    shell.types(
        "printf '\\033]0;title\\007\\033[6n\\033[31mred\\033[0m\\n'; printf '\\033[?2004h'\n",
    );
    shell.shows("red\u{1b}[0m");
    shell.drops();
    until("it is detached", || detached(&gateway) == 1);

    let (mut shell, _master) = with(size(24, 80));
    shell.shows("Enter goes back");
    shell.types("\n");
    shell.shows("trapped-2");
    shell.shows("\u{1b}[31mred\u{1b}[0m");
    // What was asked of the old terminal is not asked of the new one; its modes are the old one's.
    shell.shows("\u{1b}[?2004h");
    assert!(!shell.all.contains("\u{1b}[6n"), "{}", shell.all);
    // dash runs a trap behind the next line.
    shell.types("true\n");
    shell.shows("winched-2");
    shell.types("stty size | sed 's/^/is /'\n");
    shell.shows("is 24 80");
    shell.types("exit 0\n");
    assert_eq!(shell.ends().0, Some(0));
}

#[test]
fn what_a_script_types_is_the_new_shells() {
    if !possible("what_a_script_types_is_the_new_shells") {
        return;
    }
    let gateway = Gateway::start(KEPT);
    remembering(&gateway).drops();
    until("it is detached", || detached(&gateway) == 1);
    let mut script = Shell::log_in(&gateway);
    script.types("echo one-$((1+1))\necho two-$((1+1)):$V:\nexit 5\n");
    script.shows("one-2");
    script.shows("two-2::");
    assert_eq!(script.ends().0, Some(5));
}

#[test]
fn a_shell_that_is_shown_elsewhere_is_taken_over_on_demand() {
    if !possible("a_shell_that_is_shown_elsewhere_is_taken_over_on_demand") {
        return;
    }
    let gateway = Gateway::start(KEPT);
    let first = remembering(&gateway);
    let mut second = Shell::log_in(&gateway);
    second.shows("shown elsewhere");
    second.shows("Enter or n begins a new one");
    second.types("1\n");
    second.shows("shown-2");
    second.types("echo $V\n");
    second.shows("kept-42");
    let (code, seen) = first.ends();
    assert_eq!(code, Some(255));
    assert!(seen.contains("This shell is shown elsewhere now"), "{seen}");
    second.types("exit\n");
    assert_eq!(second.ends().0, Some(0));
}

#[test]
fn nobody_else_is_offered_it() {
    if !possible("nobody_else_is_offered_it") {
        return;
    }
    let gateway = Gateway::start(&format!("max-logins = 1\n{KEPT}"));
    let folder = gateway.folder.path();
    let append = |name: &str, line: &str| {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(folder.join(name))
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    };
    let home = folder.join("dave");
    append(
        "passwd",
        &format!("dave:x:1502:1502::{}:/bin/sh\n", home.display()),
    );
    append("group", "dave:x:1502:\n");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    for name in ["id_ed25519", "authorized_keys"] {
        fs::copy(
            folder.join("home/.ssh").join(name),
            home.join(".ssh").join(name),
        )
        .unwrap();
    }
    support::run("chown", &["-R", "1502:1502", home.to_str().unwrap()]);
    remembering(&gateway).drops();
    until("it is detached", || detached(&gateway) == 1);

    let mut dave = Shell::of(gateway.client(&["-tt", "-l", "dave"]));
    dave.types("echo new:$V:$(id -un)\n");
    dave.shows("new::dave");
    assert!(!dave.seen.contains("still there"), "{}", dave.seen);
    // Not by the socket itself either: the kernel says who comes.
    let script = "import socket,sys\n\
        names=[l.split()[7] for l in open('/proc/net/unix') if '@login-gateway-shell-1-' in l and '-1501-' in l]\n\
        s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n\
        s.connect('\\0'+names[0][1:])\nprint('heard',len(s.recv(100)))\n";
    fs::write(home.join("try.py"), script).unwrap();
    if std::path::Path::new("/usr/bin/python3").exists() {
        dave.types("/usr/bin/python3 try.py\n");
        dave.shows("heard 0");
    }
    dave.types("exit\n");
    dave.ends();
    // The one login that she may have is not in its own way.
    let mut carol = Shell::log_in(&gateway);
    carol.shows("Enter goes back");
    carol.types("\necho $V\n");
    carol.shows("kept-42");
}

#[test]
fn it_ends_at_its_time() {
    if !possible("it_ends_at_its_time") {
        return;
    }
    let gateway = Gateway::start("reattach-time = \"2s\"");
    let mut shell = remembering(&gateway);
    shell.types("trap 'echo ended > ended' HUP EXIT\n");
    shell.types("echo trapped-$((1+1))\n");
    shell.shows("trapped-2");
    shell.drops();
    gateway.logged("event=\"session.detached\"", 1);
    until("it has ended", || {
        sessions(&gateway).is_empty() && of_home(&gateway) == 0
    });
    gateway.logged("session.closed", 1);
    until("its shell was told", || {
        gateway.folder.path().join("home/ended").exists()
    });
    let mut new = Shell::log_in(&gateway);
    new.types("echo new:$V:\nexit\n");
    new.shows("new::");
    assert!(!new.seen.contains("still there"));
}

#[test]
fn whoever_ends_logins_ends_shells_that_are_kept() {
    if !possible("whoever_ends_logins_ends_shells_that_are_kept") {
        return;
    }
    let leave = |gateway: &Gateway| {
        remembering(gateway).drops();
        until("it is detached", || detached(gateway) == 1);
        assert_eq!(of_home(gateway), 1);
    };
    let gone = |gateway: &Gateway| {
        until("nothing is left", || of_home(gateway) == 0);
        gateway.logged("session.closed", 1);
    };
    // An administrator.
    let gateway = Gateway::start(KEPT);
    leave(&gateway);
    let (said, code) = gateway.command(&["sessions", "kick", "--user", "carol"]);
    assert_eq!(code, Some(0), "{said}");
    gone(&gateway);
    gateway.logged("ended by an administrator", 1);
    // The login's own time.
    let gateway = Gateway::start(&format!("session-time = \"3s\"\n{KEPT}"));
    leave(&gateway);
    gone(&gateway);
    gateway.logged("session-time is over", 1);
    // A drain's deadline.
    let mut gateway = Gateway::start(KEPT);
    leave(&gateway);
    gateway.command(&["drain", "--within", "1s"]);
    gone(&gateway);
    assert_eq!(gateway.command(&["status"]).1, Some(1));
    gateway.signal(Signal::SIGTERM);
    let _ = gateway.exit_code();
    // The end of its monitor.
    let gateway = Gateway::start(KEPT);
    leave(&gateway);
    let monitor = gateway.children("login-gateway-monitor: carol")[0];
    kill(Pid::from_raw(monitor), Signal::SIGKILL).unwrap();
    until("nothing is left", || of_home(&gateway) == 0);
}

#[test]
fn a_shell_with_a_keeper_is_a_shell() {
    if !possible("a_shell_with_a_keeper_is_a_shell") {
        return;
    }
    let gateway = Gateway::start(KEPT);
    let mut shell = Shell::log_in(&gateway);
    shell.types("test \"$(tty)\" = \"$SSH_TTY\" && echo same-$((1+1)); echo fds-$(ls /proc/self/fd | wc -l)\n");
    shell.shows("same-2");
    shell.shows("fds-4");
    // Job control and interrupts.
    shell.types("sleep 1000\n");
    shell.types("\x03");
    shell.shows("^C");
    shell.shows("$ ");
    shell.types("echo after-$((1+1))\n");
    shell.shows("after-2");
    // All of a lot, to its last line, although the shell ends right behind it.
    shell.types("seq 1 20000; exit 3\n");
    let (code, seen) = shell.ends();
    assert_eq!(code, Some(3));
    assert!(seen.contains("\r\n19999\r\n20000\r\n"), "{}", seen.len());
    // A shell that dies of a signal says so.
    let mut shell = Shell::log_in(&gateway);
    shell.types("kill -KILL $$\n");
    assert_eq!(shell.ends().0, Some(255));
    gateway.logged("signal=\"KILL\"", 1);
    until("nothing is left", || sessions(&gateway).is_empty());
    // Nobody is kept by the way that it is not for.
    let mut plain = gateway.client(&["-tt"]);
    plain.arg("echo on $(tty); exec sleep 1000");
    let mut command = Shell::of(plain);
    command.shows("on /dev/pts/");
    command.drops();
    until("it is gone", || sessions(&gateway).is_empty());
}
