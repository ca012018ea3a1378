//! Traps of the SSH library that no other theme holds (docs/gateway.md): what waits, what it may cost,
//! and what the client is told.

use std::fs;
use std::io::Read;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Server, User, Whose};

use crate::both::{Config, PLAIN, case, host};
use crate::channels::Shared;
use crate::peers::{Beside, delayed, until};

/// A client that is gone is noticed within seconds.
const SHORT: Config = Config {
    theirs: "ClientAliveInterval 2\nClientAliveCountMax 2\n",
    ours: "keepalive-interval = \"2s\"\nkeepalive-count-max = 2\n",
    ..PLAIN
};

/// Processes of this user in the host.
fn running(user: &User) -> String {
    let done = host().sh(&format!("pgrep -u {} || true", user.uid));
    done.out
}

/// A client that has asked for more than anybody's buffers hold, and takes nothing more.
fn stopped(server: &Server, user: &User) -> Beside {
    let mut client = Beside::start(server.ssh(user, &[]).arg("echo begun; exec cat /dev/zero"));
    assert_eq!(client.line(), "begun");
    kill(pid(&client), Signal::SIGSTOP).unwrap();
    client
}

fn pid(client: &Beside) -> Pid {
    Pid::from_raw(client.child.id().cast_signed())
}

// T5: writes to such a client wait for ever, and with them all that the library does for its connection.
case!(a_client_that_takes_nothing_is_ended, SHORT, |server| {
    let ann = host().user();
    let client = stopped(server, &ann);
    until("the end of its program", || running(&ann).is_empty());
    let _ = kill(pid(&client), Signal::SIGCONT);
});

// T3, T5: what is queued for such a client holds back the DISCONNECT too, and must not hold up the end.
#[test]
fn a_client_that_takes_nothing_is_not_waited_for() {
    if !tests::possible("a_client_that_takes_nothing_is_not_waited_for") {
        return;
    }
    let server = host().gateway("");
    let ann = host().user();
    let client = stopped(&server, &ann);
    server.signal(Signal::SIGTERM);
    server.logged("gateway.stopping");
    server.signal(Signal::SIGTERM);
    until("the end of its program", || running(&ann).is_empty());
    until("the end of the gateway", || {
        !fs::exists(format!("/proc/{}/exe", server.pid)).unwrap() || state(server.pid) == "Z"
    });
    let _ = kill(pid(&client), Signal::SIGCONT);
}

/// The state of a process, as proc(5) has it.
fn state(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, rest) = stat.rsplit_once(") ").unwrap_or_default();
    rest.chars().take(1).collect()
}

/// Processes below this one whose program has this name.
fn below(pid: u32, program: &str) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let mut found = Vec::new();
    for child in children.unwrap_or_default().split_whitespace() {
        let child = child.parse().unwrap();
        let exe = fs::read_link(format!("/proc/{child}/exe")).unwrap_or_default();
        if exe.file_name().is_some_and(|name| name == program) {
            found.push(child);
        }
        found.extend(below(child, program));
    }
    found
}

/// The process of ours that faces the client of this login, which runs nothing but one program.
fn net_of(server: &Server, program: &str) -> u32 {
    let of = |monitor: &u32| {
        let mut waiting = vec![*monitor];
        while let Some(pid) = waiting.pop() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line)
                .replace('\0', " ")
                .contains(program)
            {
                return true;
            }
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            waiting.extend(
                children
                    .split_whitespace()
                    .map(|c| c.parse::<u32>().unwrap()),
            );
        }
        false
    };
    let mut monitor = 0;
    // A shell says its word before it becomes the program.
    until("its monitor", || {
        let found = below(server.pid, "login-gateway-monitor")
            .into_iter()
            .find(of);
        monitor = found.unwrap_or_default();
        found.is_some()
    });
    below(monitor, "login-gateway-net")[0]
}

// T16: buffers keep their largest size, so no process outlives its connection or serves two.
case!(memory_of_a_connection_ends_with_it, |server| {
    if server.whose == Whose::Theirs {
        return;
    }
    let ann = host().user();
    let mut heavy = Beside::start(
        server
            .ssh(&ann, &[])
            .arg("head -c 67108864 /dev/zero | tr '\\0' x; echo; echo all; exec sleep 10011"),
    );
    let mut much = vec![0; (64 << 20) + 1];
    heavy
        .output
        .as_mut()
        .unwrap()
        .read_exact(&mut much)
        .unwrap();
    assert_eq!(heavy.line(), "all");
    let mut light = Beside::start(server.ssh(&ann, &[]).arg("echo in; exec sleep 10012"));
    assert_eq!(light.line(), "in");
    let (first, second) = (net_of(server, "sleep 10011"), net_of(server, "sleep 10012"));
    assert_ne!(first, second);
    heavy.kill();
    until("the end of its process", || {
        !fs::exists(format!("/proc/{first}")).unwrap()
    });
    assert!(fs::exists(format!("/proc/{second}")).unwrap());
});

/// Bytes read and calls that read them, of a process.
fn reads(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let value = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    (value("rchar:"), value("syscr:"))
}

// T18: streams of the library copy 8 KiB at a time; a descriptor is read 64 KiB at a time.
case!(output_is_read_in_large_pieces, |server| {
    if server.whose == Whose::Theirs {
        return;
    }
    let ann = host().user();
    let shared = Shared::start(server, &ann, &[]);
    let mut keeper = Beside::start(shared.ssh(&[]).arg("echo in; exec sleep 10013"));
    assert_eq!(keeper.line(), "in");
    let net = net_of(server, "sleep 10013");
    let before = reads(net);
    let done = tests::run(
        shared.ssh(&[]).arg("dd if=/dev/zero bs=1M count=64 status=none | tr '\\0' x | dd bs=1M iflag=fullblock status=none"),
    );
    assert_eq!(done.ok().len(), 64 << 20);
    let after = reads(net);
    let (bytes, calls) = (after.0 - before.0, after.1 - before.1);
    assert!(bytes >= 64 << 20, "{bytes}");
    assert!(bytes / calls > 16 * 1024, "{bytes} bytes in {calls} calls");
});

// T20: a dropped channel says nothing; exit-status, EOF and close are sent, each once, in this order.
case!(a_channel_is_closed_in_order, |server| {
    let ann = host().user();
    let done = tests::run(server.ssh(&ann, &["-vvv"]).arg("exit 3"));
    assert_eq!(done.code, 3);
    let told = ["rtype exit-status", "rcvd eof", "rcvd close"];
    let seen: Vec<&str> = done
        .err
        .lines()
        .filter_map(|line| told.into_iter().find(|word| line.contains(word)))
        .collect();
    crate::both::same(server, "order", {
        let mut seen = seen.clone();
        // OpenSSH says EOF first if the program closes its output before it ends.
        seen.sort_unstable();
        seen.join(", ")
    });
    assert_eq!(seen.last(), Some(&"rcvd close"), "{}", done.err);
    assert_eq!(seen.len(), 3, "{}", done.err);
});

/// The windows that a client heard of: the first one, and what came on top.
fn windows(err: &str) -> (u32, Vec<u32>) {
    let numbers = |mark: &str| -> Vec<u32> {
        let after = err.lines().filter_map(|line| line.split_once(mark));
        let words = after.filter_map(|(_, rest)| rest.split_whitespace().next());
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let first = numbers("open confirm rwindow ");
    assert_eq!(first.len(), 1, "{err}");
    (first[0], numbers("rcvd adjust "))
}

// T21: the library gives a window back when half of it is used, so on a long line it must be larger
// than OpenSSH's 2 MiB. On a short one it only puts more data in front of the next key.
case!(the_window_is_as_large_as_the_line_needs, |server| {
    if server.whose == Whose::Theirs {
        return;
    }
    let ann = host().user();
    let far = delayed(server.port, Duration::from_millis(20));
    for (port, long) in [(server.port, false), (far, true)] {
        let port = format!("Port={port}");
        let alias = format!("HostKeyAlias=[127.0.0.1]:{}", server.port);
        let mut command = server.ssh(&ann, &["-vvv", "-o", &port, "-o", &alias]);
        command.arg("wc -c");
        let done = tests::run_with(&mut command, &vec![0; 64 << 20], Duration::from_secs(100));
        assert_eq!(done.out.trim(), (64 << 20).to_string(), "{}", done.err);
        let (first, more) = windows(&done.err);
        println!("long: {long}; {first}, then {more:?}");
        // The client may have twice as much on its way when new keys are due.
        assert!((8 << 20..9 << 20).contains(&first), "{first}");
        if long {
            assert!(more.iter().any(|window| *window > 4 << 20), "{more:?}");
        }
    }
});

// T17: keys are locked in memory, as far as the limit goes: it is raised, and something is locked.
case!(keys_are_locked_in_memory, |server| {
    if server.whose == Whose::Theirs {
        return;
    }
    let ann = host().user();
    let mut client = Beside::start(server.ssh(&ann, &[]).arg("echo in; exec sleep 10014"));
    assert_eq!(client.line(), "in");
    let net = net_of(server, "sleep 10014");
    let status = fs::read_to_string(format!("/proc/{net}/status")).unwrap();
    let locked = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .unwrap();
    let locked: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(locked > 0, "{status}");
    let limits = fs::read_to_string(format!("/proc/{net}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max locked memory"))
        .unwrap();
    let most: Vec<&str> = line.split_whitespace().skip(3).collect();
    assert!(
        most[0] == "unlimited" || most[0].parse::<u64>().unwrap() >= 4 << 20,
        "{line}"
    );
});
