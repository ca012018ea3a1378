//! The door: penalties by kind of failure, limits per source and per user, and floods that leave room
//! for people. Sources are addresses of the loopback network.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use nix::unistd::Pid;
use support::{Gateway, SOON, possible, until};

const ME: &str = "127.0.0.1";
const OTHER: &str = "127.0.0.2";

/// A connection from this address.
fn from(gateway: &Gateway, source: &str) -> TcpStream {
    let fd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let address = |ip: Ipv4Addr, port| SockaddrIn::from(SocketAddrV4::new(ip, port));
    bind(fd.as_raw_fd(), &address(source.parse().unwrap(), 0)).unwrap();
    connect(fd.as_raw_fd(), &address(Ipv4Addr::LOCALHOST, gateway.port)).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn ssh(gateway: &Gateway, source: &str, options: &[&str], command: &str) -> Output {
    let options = [&["-b", source], options].concat();
    let mut ssh = gateway.client(&options);
    ssh.arg(command).stdin(Stdio::null()).output().unwrap()
}

fn gets_in(gateway: &Gateway, source: &str) -> bool {
    let output = ssh(gateway, source, &[], "echo in");
    output.status.success() && output.stdout == b"in\n"
}

fn penalties(gateway: &Gateway, kind: &str) -> u64 {
    gateway.metric(&format!("penalties_total{{kind=\"{kind}\"}}"))
}

/// All that the server says before it closes.
fn words(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn penalties_grow_fade_and_hit_their_source_alone() {
    if !possible("penalties_grow_fade_and_hit_their_source_alone") {
        return;
    }
    let gateway =
        Gateway::start("penalties = { exempt = [], no-auth = \"3s\", min = \"5s\", max = \"6s\" }");
    let knock = || drop(from(&gateway, OTHER));
    knock();
    until("one is counted", || penalties(&gateway, "no-auth") == 1);
    assert_eq!(gateway.metric("penalised_sources "), 0, "below min");
    knock();
    until("it is kept out", || {
        gateway.metric("penalised_sources ") == 1
    });
    gateway.logged("penalty.begins", 1);
    assert_eq!(words(from(&gateway, OTHER)), "Not allowed at this time\r\n");
    until("it is in the numbers", || {
        gateway.metric("turned_away_total{reason=\"penalty\"}") >= 1
    });
    assert!(gets_in(&gateway, ME));
    // What is turned away at the door adds nothing: it ends by itself.
    until("it has faded", || gateway.metric("penalised_sources ") == 0);
    assert!(gets_in(&gateway, OTHER));
    assert_eq!(penalties(&gateway, "no-auth"), 2);
}

#[test]
fn penalties_outlive_a_reload() {
    if !possible("penalties_outlive_a_reload") {
        return;
    }
    let rules = |exempt: &str| {
        format!(
            "penalties = {{ exempt = [{exempt}], no-auth = \"5m\", min = \"1m\", max = \"1h\" }}"
        )
    };
    let gateway = Gateway::start(&rules(""));
    drop(from(&gateway, OTHER));
    until("it is kept out", || {
        gateway.metric("penalised_sources ") == 1
    });
    for round in 2..4 {
        gateway.signal(Signal::SIGHUP);
        gateway.logged("gateway.ready", round);
        assert_eq!(words(from(&gateway, OTHER)), "Not allowed at this time\r\n");
        assert!(gets_in(&gateway, ME));
        until("the numbers are the old ones", || {
            gateway.metric("penalised_sources ") == 1 && penalties(&gateway, "no-auth") == 1
        });
    }
    // What holds is what the new file says.
    gateway.configure(&rules("\"127.0.0.2/32\""));
    gateway.signal(Signal::SIGHUP);
    gateway.logged("gateway.ready", 4);
    assert!(gets_in(&gateway, OTHER));
    until("it is forgotten", || {
        gateway.metric("penalised_sources ") == 0
    });
}

#[test]
fn each_kind_of_failure_is_told_apart() {
    if !possible("each_kind_of_failure_is_told_apart") {
        return;
    }
    let gateway = Gateway::start(
        "penalties = { exempt = [], min = \"9m\" }\nlogin-grace-time = \"4s\"\n\
         [[match]]\nuser = [\"unwanted\"]\nrefuse-connection = true\n",
    );
    let count = |kind: &str| penalties(&gateway, kind);
    assert!(gets_in(&gateway, OTHER));
    drop(from(&gateway, OTHER));
    until("no-auth", || count("no-auth") == 1);
    let mut garbage = from(&gateway, OTHER);
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    until("no-auth by garbage", || count("no-auth") == 2);

    let stranger = gateway.folder.path().join("stranger");
    support::run(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            stranger.to_str().unwrap(),
        ],
    );
    let other_key = format!("IdentityFile={}", stranger.display());
    let wrong = |more: &[&str]| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-b", OTHER, "-p", &gateway.port.to_string()])
            .args(["-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes"])
            .args(["-o", &other_key])
            .args(more)
            .args([ME, "true"]);
        assert!(!ssh.output().unwrap().status.success());
    };
    wrong(&["-l", "carol"]);
    until("auth-fail", || count("auth-fail") == 1);
    wrong(&["-l", "nobody-here"]);
    until("invalid-user", || count("invalid-user") == 1);
    wrong(&["-l", "unwanted"]);
    until("refuse-connection", || count("refuse-connection") == 1);

    let held = from(&gateway, OTHER);
    until("grace-exceeded", || count("grace-exceeded") == 1);
    drop(held);

    let held = from(&gateway, OTHER);
    until("it has begun", || gateway.metric("startups ") == 1);
    // The net of a monitor that has a connection; which one it is cannot be seen, so all end.
    for monitor in gateway.children("login-gateway-monitor") {
        let list = format!("/proc/{monitor}/task/{monitor}/children");
        for net in std::fs::read_to_string(list)
            .unwrap_or_default()
            .split_whitespace()
        {
            let _ = kill(Pid::from_raw(net.parse().unwrap()), Signal::SIGKILL);
        }
    }
    until("crash", || count("crash") == 1);
    drop(held);
    // Success costs nothing, and nothing was counted twice.
    assert!(gets_in(&gateway, OTHER));
    let all = [
        "auth-fail",
        "invalid-user",
        "no-auth",
        "grace-exceeded",
        "refuse-connection",
    ];
    assert_eq!(all.map(&count), [1, 1, 2, 1, 1]);
    assert_eq!(gateway.metric("penalised_sources "), 0);
}

#[test]
fn a_user_has_so_many_logins_and_no_more() {
    if !possible("a_user_has_so_many_logins_and_no_more") {
        return;
    }
    let gateway = Gateway::start("max-logins = 2");
    let (one, mut two) = (gateway.stays(), gateway.stays());
    let refused = ssh(&gateway, ME, &["-o", "LogLevel=INFO"], "echo in");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("logged in 2 times"), "{said}");
    assert_eq!(
        gateway.metric("turned_away_total{reason=\"max-logins\"}"),
        1
    );
    two.lives();
    one.leave();
    until("there is a place", || gateway.metric("logins ") == 1);
    assert!(gets_in(&gateway, ME));
    // It is nobody's fault who has proved who they are.
    assert_eq!(penalties(&gateway, "auth-fail"), 0);
}

#[test]
fn what_a_balancer_says_is_on_the_record() {
    if !possible("what_a_balancer_says_is_on_the_record") {
        return;
    }
    let gateway = Gateway::start(
        "penalties = { exempt = [], min = \"1s\", no-auth = \"60s\" }\n\
         proxy-protocol = { from = [\"127.0.0.0/8\"], required = true }",
    );
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x15".to_vec();
    header.extend([192, 0, 2, 7, 198, 51, 100, 1, 0xc8, 0x22, 0x00, 0x16]);
    header.extend(b"\xea\x00\x06\x01vpce1");
    let mut client = gateway.connect().unwrap();
    client.write_all(&header).unwrap();
    gateway.logged("balancer=\"vpc-endpoint=vpce1\"", 1);
    drop(client);
    until("its client is kept out", || {
        gateway.metric("penalised_sources ") == 1
    });
    // The balancer is not: its health checks, and other clients behind it.
    for line in [
        "PROXY UNKNOWN\r\n",
        "PROXY TCP4 192.0.2.8 198.51.100.1 1 22\r\n",
    ] {
        let mut client = gateway.connect().unwrap();
        client.write_all(line.as_bytes()).unwrap();
        let mut start = [0; 8];
        client.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"SSH-2.0-");
    }
    let mut client = gateway.connect().unwrap();
    client
        .write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 22\r\n")
        .unwrap();
    assert_eq!(words(client), "Not allowed at this time\r\n");
}

/// Thousands of connections that say nothing or nonsense, from a few sources, while somebody works and
/// others log in.
#[test]
fn a_flood_leaves_room() {
    if !possible("a_flood_leaves_room") {
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).unwrap();
    let gateway = Gateway::start("max-startups = 60\nper-source-max-startups = 15");
    let mut worker = gateway.stays();
    let mut held = Vec::new();
    let mut logins = 0;
    for round in 0..20 {
        for n in 0..200 {
            let mut stream = from(&gateway, &format!("127.0.1.{}", n % 3));
            stream
                .set_write_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            // Half of them say nothing; what others say may come too late.
            let _ = match n % 4 {
                0 => stream.write_all(b"\x16\x03\x01 nonsense\r\n"),
                1 => stream.write_all(b"SSH-2.0-flood\r\n\0\0\0\x0c\x0aXXXXXXXXXXX"),
                _ => Ok(()),
            };
            held.push(stream);
        }
        if round % 2 == 0 {
            assert!(gets_in(&gateway, ME), "{}", gateway.log());
            logins += 1;
        }
        worker.lives();
    }
    assert_eq!((held.len(), logins), (4000, 10));
    assert!(gateway.metric("startups ") <= 46);
    let away = gateway.metric("turned_away_total{reason=\"per-source-max-startups\"}");
    assert!(away > 2000, "{away}");
    // The log does not grow with it.
    let lines = gateway.log();
    let lines = lines.lines().filter(|l| l.contains("connection.refused"));
    assert!(lines.count() < 100);
    drop(held);
    until("they are gone", || gateway.metric("startups ") == 0);
    worker.lives();
}

/// With early drop some of many get in and some do not, and the fewer wait the more do.
#[test]
fn early_drop_is_by_chance() {
    if !possible("early_drop_is_by_chance") {
        return;
    }
    let gateway = Gateway::start(
        "max-startups = 1000\nper-source-max-startups = 0\nwarm = 0\n\
         early-drop = { start = 3, rate = 50 }",
    );
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(from(&gateway, OTHER));
    }
    until("three wait", || gateway.metric("startups ") == 3);
    let dropped = || gateway.metric("turned_away_total{reason=\"early-drop\"}");
    assert_eq!(dropped(), 0);
    for _ in 0..40 {
        held.push(from(&gateway, OTHER));
    }
    let opened = || gateway.metric("connections_total ");
    until("all are decided on", || opened() + dropped() == 43);
    // By chance neither happens in 1 of 2^39 runs.
    assert!((1..40).contains(&dropped()), "{}", dropped());
}
