//! The two sockets against peers that mean no good, and the daemon's own privileges.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{fs::FileExt, net::UnixStream, process::CommandExt},
    },
    process::Command,
    time::Duration,
};

use directory_map::{
    Map,
    protocol::{Query, encode_request},
    record::Passwd,
};
use support::{Lab, Settings, has_peers};

fn connect(lab: &Lab, socket: &str) -> UnixStream {
    let stream = UnixStream::connect(lab.path(socket)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

#[test]
fn garbage_is_closed_and_the_others_go_on() {
    if !has_peers("garbage_is_closed_and_the_others_go_on") {
        return;
    }
    let mut lab = Lab::running(Settings::default());
    let mut noise = vec![0; 5000];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    let long_key = encode_request(0, &[b'x'; 2000]);
    let mut negative = encode_request(0, b"bob");
    negative[8..12].copy_from_slice(&i32::MIN.to_ne_bytes());
    let mut no_nul = encode_request(0, b"bob");
    *no_nul.last_mut().unwrap() = b'!';
    let shutdown = encode_request(8, b"");
    let wrong_map = encode_request(11, b"group");
    let cases: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &noise,
        &[0xff; 64],
        &[0; 64],
        &long_key,
        &negative,
        &no_nul,
        &shutdown,
        &wrong_map,
    ];
    for socket in ["nscd/socket", "run/control.sock"] {
        for bytes in cases {
            let mut stream = connect(&lab, socket);
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            // A reset is a close too: there were bytes nobody wanted to read.
            let _ = stream.read_to_end(&mut answer);
            assert_eq!(answer, b"", "{socket} {:?}", &bytes[..12]);
        }
        lab.assert_alive();
    }
    // Nothing said at all: the line is cut, not kept.
    for socket in ["nscd/socket", "run/control.sock"] {
        let mut stream = connect(&lab, socket);
        stream.write_all(&[2]).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    }
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
}

#[test]
fn silent_crowds_do_not_hold_up_libc() {
    if !has_peers("silent_crowds_do_not_hold_up_libc") {
        return;
    }
    let lab = Lab::running(Settings::default());
    let crowd: Vec<_> = (0..500).map(|_| connect(&lab, "nscd/socket")).collect();
    let others: Vec<_> = (0..50).map(|_| connect(&lab, "run/control.sock")).collect();
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    assert_eq!(lab.getent("passwd", "nosuch"), "");
    lab.client().status().unwrap();
    // All were served while the crowd was still there, not after it had been cut.
    for stream in [crowd.last(), others.last()].into_iter().flatten() {
        stream.set_nonblocking(true).unwrap();
        let read = (&*stream).read(&mut [0; 8]);
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[test]
fn what_is_not_served_here_is_said_so() {
    if !has_peers("what_is_not_served_here_is_said_so") {
        return;
    }
    let lab = Lab::running(Settings::default());
    // Hosts, addresses, services, netgroups: libc goes on with nsswitch.conf.
    for (kind, size) in [(4, 32), (7, 32), (14, 24), (16, 24), (19, 16), (20, 12)] {
        let mut stream = connect(&lab, "nscd/socket");
        stream.write_all(&encode_request(kind, b"x")).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(
            (answer.len(), &answer[4..8]),
            (size, &(-1i32).to_ne_bytes()[..]),
            "{kind}"
        );
    }
    assert!(lab.ask("getent", &["hosts", "localhost"]).1);
}

#[test]
fn the_map_cannot_be_written_by_who_receives_it() {
    if !has_peers("the_map_cannot_be_written_by_who_receives_it") {
        return;
    }
    let lab = Lab::running(Settings::default());
    let stream = connect(&lab, "nscd/socket");
    (&stream).write_all(&encode_request(11, b"passwd")).unwrap();
    let mut buffer = [0; 64];
    let (length, mut fds) = sys::fds::recv_with_fds(&stream, &mut buffer).unwrap();
    assert_eq!(&buffer[..7], b"passwd\0");
    let size = u64::from_ne_bytes(buffer[7..length].try_into().unwrap());
    let map = File::from(fds.remove(0));
    assert_eq!(map.metadata().unwrap().len(), size);
    let mut bytes = Vec::new();
    (&map).read_to_end(&mut bytes).unwrap();
    let record = Map::parse(&bytes)
        .unwrap()
        .find(Query::UserByName, b"bob")
        .unwrap();
    assert_eq!(Passwd::decode(record).unwrap().uid, 1501);
    assert!(map.write_at(b"x", 0).is_err());
    assert!(map.set_len(0).is_err());
    let again = format!("/proc/self/fd/{}", map.as_fd().as_raw_fd());
    if let Ok(again) = File::options().write(true).open(again) {
        assert!(again.write_at(b"x", 0).is_err());
    }
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
}

#[test]
fn strangers_are_turned_away_and_the_secret_stays_inside() {
    const DAEMON: u32 = 61403;
    const STRANGER: u32 = 61404;
    if !has_peers("strangers_are_turned_away_and_the_secret_stays_inside") {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped strangers_are_turned_away_and_the_secret_stays_inside: not root");
        return;
    }
    // The daemon as in its container: a user of its own, no right of root.
    let lab = Lab::running(Settings {
        uid: Some(DAEMON),
        ..Settings::default()
    });
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    let pid = lab.daemon_pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in [
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    // Not even its own user reads its memory.
    let read = Command::new("cat")
        .arg(format!("/proc/{pid}/maps"))
        .uid(DAEMON)
        .output()
        .unwrap();
    assert!(!read.status.success());
    let ask = |uid: u32| {
        Command::new(lab.path("directoryd"))
            .arg("--config")
            .arg(lab.path("directoryd.toml"))
            .arg("status")
            .uid(uid)
            .gid(uid)
            .output()
            .unwrap()
    };
    assert!(ask(DAEMON).status.success());
    let denied = ask(STRANGER);
    assert!(!denied.status.success());
    assert!(String::from_utf8_lossy(&denied.stderr).contains("does not serve this user"));
    // libc of a stranger is served all the same.
    let output = lab
        .program("setpriv")
        .args(["--reuid", "61404", "id", "-un", "bob"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "bob\n");
}
