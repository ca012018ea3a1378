//! What many channels whose other ends read nothing cost: no more than the bound.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Gateway, SOON, until};

/// Connections, each with a first window of 2 MiB.
const MANY: usize = 220;
/// Bytes that net may have unread (docs/gateway.md, T2).
const BOUND: u64 = 256 << 20;
/// What else it is made of: itself, a packet and a task for each channel, what its allocator keeps.
const BESIDES: u64 = 64 << 20;

/// The largest memory of a net of these programs, in bytes: now and at its most.
fn memory() -> (u64, u64) {
    let net = support::programs().join("login-gateway-net");
    let mut all = (0, 0);
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        if fs::read_link(path.join("exe")).is_ok_and(|exe| exe == net) {
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name));
                let number = line.and_then(|line| line.split_whitespace().nth(1));
                number.map_or(0, |number| number.parse::<u64>().unwrap() * 1024)
            };
            all.0 = all.0.max(field("VmRSS:"));
            all.1 = all.1.max(field("VmHWM:"));
        }
    }
    all
}

#[test]
fn channels_that_nobody_reads_stay_within_the_bound() {
    if !support::possible("channels_that_nobody_reads_stay_within_the_bound") {
        return;
    }
    let gateway = Gateway::start("");
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = sink.local_addr().unwrap();
    // Whoever reads nothing, until the test ends.
    std::thread::spawn(move || {
        let _kept: Vec<_> = sink.incoming().collect();
    });
    let here = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut ssh = gateway
        .client(&["-N", "-L", &format!("{here}:{there}")])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until("the forward", || TcpStream::connect(here).is_ok());
    let mut streams: Vec<TcpStream> = Vec::new();
    let piece = vec![0; 64 << 10];
    let push = |streams: &mut Vec<TcpStream>| {
        // One after the other: the listener's backlog is not long.
        if streams.len() < MANY
            && let Ok(stream) = TcpStream::connect(here)
        {
            stream.set_nonblocking(true).unwrap();
            streams.push(stream);
        }
        let mut sent = 0;
        for stream in streams.iter_mut() {
            match stream.write(&piece) {
                Ok(n) => sent += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        if sent == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // A throttle is in the way: it takes a while.
    let end = Instant::now() + 8 * SOON;
    while memory().0 < BOUND * 3 / 4 {
        assert!(Instant::now() < end, "{} MiB", memory().0 >> 20);
        push(&mut streams);
    }
    // Whoever goes on sending gets no further.
    for _ in 0..1000 {
        push(&mut streams);
    }
    let (_, most) = memory();
    assert!(most < BOUND + BESIDES, "{} MiB", most >> 20);
    drop(streams);
    ssh.kill().unwrap();
    ssh.wait().unwrap();
}
