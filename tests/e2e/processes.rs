//! The processes of a login: who runs as what, what they can reach, and what a restart spares.

use std::path::PathBuf;
use std::process::Stdio;

use tests::{Terminal, lab};

/// `ps` of the gateway's container: uid, pid, parent, command line.
fn processes() -> Vec<(String, u32, u32, String)> {
    let listed = lab().exec("gateway", &["ps", "-eo", "user:32=,pid=,ppid=,args="]);
    listed
        .ok()
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (user, pid, parent) = (words.next()?, words.next()?, words.next()?);
            let args = words.collect::<Vec<_>>().join(" ");
            Some((
                user.to_owned(),
                pid.parse().ok()?,
                parent.parse().ok()?,
                args,
            ))
        })
        .collect()
}

/// The root folder of a process of the pod, as this machine's kernel shows it: from inside, even
/// root of the container may not look at a process that nobody may trace.
fn root_of(pid: u32, args: &str) -> PathBuf {
    let name = args.rsplit('/').next().unwrap().split(' ').next().unwrap();
    let folders = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found = folders.filter(|folder| {
        let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
        let nested = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let own = nested.and_then(|ids| ids.split_whitespace().last()) == Some(&pid.to_string());
        own && status.contains(&format!("Name:\t{}", &name[..name.len().min(15)]))
    });
    let links: Vec<PathBuf> = found
        .filter_map(|f| std::fs::read_link(f.join("root")).ok())
        .collect();
    assert_eq!(
        links.len(),
        1,
        "processes {name} with number {pid}: {links:?}"
    );
    links[0].clone()
}

#[test]
fn one_privilege_each() {
    let lab = lab();
    let alice = lab.person("alice");
    let mut ssh = lab.ssh_with(&alice, &[]);
    ssh.arg("echo here; exec cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut live = ssh.spawn().unwrap();
    lab.until("the login is there", || {
        processes()
            .iter()
            .any(|p| p.3.starts_with("login-gateway-monitor: alice [priv]"))
    });
    let all = processes();
    let monitor = all
        .iter()
        .find(|p| p.3.starts_with("login-gateway-monitor: alice"))
        .unwrap();
    assert_eq!(monitor.0, "root");
    let of_monitor = |name: &str| {
        all.iter()
            .find(|p| p.2 == monitor.1 && p.3.starts_with(name))
            .unwrap_or_else(|| panic!("no {name} under the monitor in {all:#?}"))
    };
    let (net, session) = (
        of_monitor("login-gateway-net"),
        of_monitor("login-gateway-session"),
    );
    assert_eq!((net.0.as_str(), session.0.as_str()), ("gateway", "alice"));
    let accept = all
        .iter()
        .find(|p| p.3.contains("login-gateway-accept"))
        .unwrap();
    assert_eq!(accept.0, "gateway");
    for (process, root) in [(net, "/var/empty"), (accept, "/var/empty")] {
        let status = lab.exec("gateway", &["cat", &format!("/proc/{}/status", process.1)]);
        let field = |name: &str| {
            let line = status
                .out
                .lines()
                .find(|l| l.starts_with(name))
                .unwrap_or_default();
            line.split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
                .join(" ")
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set} {}", process.3);
        }
        assert_eq!(
            (field("Seccomp:"), field("NoNewPrivs:")),
            ("2".into(), "1".into())
        );
        assert_eq!(field("Uid:"), "402 402 402 402");
        assert!(
            root_of(process.1, &process.3).ends_with(root),
            "{}",
            process.3
        );
    }
    assert_eq!(lab.exec("gateway", &["ls", "-A", "/var/empty"]).ok(), "");
    // The user's processes get three descriptors and nothing of ours.
    let listed = lab.ssh(
        &alice,
        "ls -l /proc/self/fd | grep -v ' /proc/' | awk 'NF > 8 {print $9}'",
    );
    assert_eq!(listed.ok(), "0\n1\n2");
    drop(live.stdin.take());
    assert!(live.wait().unwrap().success());
    lab.until("the login's processes are gone", || {
        !processes()
            .iter()
            .any(|p| p.3.starts_with("login-gateway-monitor: alice"))
    });
}

#[test]
fn a_user_cannot_look_into_the_gateway() {
    let lab = lab();
    let alice = lab.person("alice");
    let script = "for p in /proc/[0-9]*; do \
        [ \"$(stat -c %U $p)\" = alice ] && grep -q login-gateway $p/comm && echo $p; \
        [ \"$(stat -c %U $p)\" = alice ] || cat $p/environ $p/maps $p/mem; done 2>/dev/null; true";
    // Only her own session program is hers.
    let said = lab.ssh(&alice, script);
    assert!(said.ok().lines().count() <= 1, "{}", said.out);
    assert_eq!(
        lab.ssh(
            &alice,
            "cat /etc/login-gateway/keys/* /etc/shadow 2>/dev/null; true"
        )
        .ok(),
        ""
    );
    assert_ne!(lab.ssh(&alice, "kill -STOP 1").code, 0);
}

#[test]
fn the_listener_restarts_while_a_shell_lives_on() {
    let lab = lab();
    let alice = lab.person("alice");
    let mut shell = Terminal::start(&lab.ssh_with(&alice, &[]));
    shell.send("PS1='ready''$ '; x=kept\r");
    shell.expect("ready$ ");
    let accept = || {
        let found = processes()
            .into_iter()
            .find(|p| p.3.contains("login-gateway-accept"));
        found.map(|p| p.1)
    };
    let before = accept().unwrap();
    lab.exec("gateway", &["kill", "-HUP", "1"]).ok();
    lab.until("a new accept serves", || {
        accept().is_some_and(|pid| pid != before) && lab.ssh(&alice, "true").code == 0
    });
    shell.send("echo $x\r");
    shell.expect("kept");
    assert_eq!(lab.ssh(&alice, "echo new").ok(), "new");
    shell.send("exit 4\r");
    assert_eq!(shell.wait(), Some(4));
}

#[test]
fn an_administrator_speaks_to_people() {
    let lab = lab();
    let alice = lab.person("alice");
    let mut shell = Terminal::start(&lab.ssh_with(&alice, &[]));
    shell.send("PS1='heard''$ '\r");
    shell.expect("heard$ ");
    let gateway = |arguments: &[&str]| {
        let command = [&["login-gateway"], arguments].concat();
        lab.exec("gateway", &command)
    };
    let listed = gateway(&["sessions"]);
    assert!(listed.ok().contains("alice"), "{}", listed.out);
    gateway(&["sessions", "message", "--user", "alice", "Lustre is slow"]).ok();
    shell.expect("*** Lustre is slow");
    let why = gateway(&["why", "alice"]);
    assert!(why.ok().contains("ok  account"), "{}", why.out);
    gateway(&["sessions", "kick", "--user", "alice"]).ok();
    assert_eq!(shell.wait(), Some(255));
}

#[test]
fn a_killed_net_costs_one_login() {
    let lab = lab();
    let alice = lab.person("alice");
    let mut first = Terminal::start(&lab.ssh_with(&alice, &[]));
    first.send("PS1='one''$ '\r");
    first.expect("one$ ");
    let nets = || -> Vec<u32> {
        let all = processes();
        let monitors: Vec<u32> = all
            .iter()
            .filter(|p| p.3.starts_with("login-gateway-monitor: alice"))
            .map(|p| p.1)
            .collect();
        let net = all
            .iter()
            .filter(|p| p.3 == "login-gateway-net" && monitors.contains(&p.2));
        net.map(|p| p.1).collect()
    };
    let victim = nets();
    assert_eq!(victim.len(), 1);
    let mut second = Terminal::start(&lab.ssh_with(&alice, &[]));
    second.send("PS1='two''$ '\r");
    second.expect("two$ ");
    lab.exec("gateway", &["kill", "-KILL", &victim[0].to_string()])
        .ok();
    assert_eq!(first.wait(), Some(255));
    second.send("echo al''ive; exit\r");
    second.expect("alive");
    assert_eq!(second.wait(), Some(0));
}
