//! Many channels on one connection, one of which nobody reads (T1, T2, T18, T20): the others go on.
//! Each wait has an end, so a hang is a failure.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::{Gateway, possible, until};

/// A connection that others share.
struct Shared<'a> {
    gateway: &'a Gateway,
    socket: PathBuf,
    master: Child,
}

impl<'a> Shared<'a> {
    fn open(gateway: &'a Gateway) -> Self {
        let socket = gateway.folder.path().join("control");
        let control = format!("ControlPath={}", socket.display());
        let master = gateway
            .client(&["-M", "-N", "-o", &control])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the master is there", || socket.exists());
        Self {
            gateway,
            socket,
            master,
        }
    }

    /// A command on a channel of its own, killed after two minutes.
    fn run(&self, command: &str) -> Command {
        let control = format!("ControlPath={}", self.socket.display());
        let ssh = self.gateway.client(&["-o", &control]);
        let mut limited = Command::new("timeout");
        limited
            .arg("120")
            .arg(ssh.get_program())
            .args(ssh.get_args());
        limited
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        limited
    }

    fn says(&self, command: &str) -> String {
        let output = self.run(command).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Sends a file of this many MiB to a command.
    fn send(&self, mebibytes: usize, command: &str) -> Child {
        let file = self.gateway.folder.path().join(format!("{mebibytes}M"));
        fs::File::create(&file)
            .unwrap()
            .set_len((mebibytes << 20) as u64)
            .unwrap();
        let file = fs::File::open(&file).unwrap();
        self.run(command).stdin(file).spawn().unwrap()
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

fn output(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A command that reads nothing until a file is there, and then counts what it gets.
fn late_reader(gateway: &Gateway, name: &str) -> (PathBuf, String) {
    let go = gateway.folder.path().join("home").join(name);
    let command = format!("while ! [ -e {} ]; do sleep 0.1; done; wc -c", go.display());
    (go, command)
}

#[test]
fn one_that_reads_nothing_stops_no_other() {
    if !possible("one_that_reads_nothing_stops_no_other") {
        return;
    }
    let gateway = Gateway::start("");
    let shared = Shared::open(&gateway);
    let mut echo = shared.run("cat").spawn().unwrap();
    let (mut keys, mut screen) = (echo.stdin.take().unwrap(), echo.stdout.take().unwrap());
    let mut types = |letter: &[u8; 1]| {
        keys.write_all(letter).unwrap();
        let mut back = [0];
        screen.read_exact(&mut back).unwrap();
        assert_eq!(&back, letter);
    };
    types(b"a");

    // 40 MiB are more than may wait; the client stops in the middle.
    let (go, command) = late_reader(&gateway, "go");
    let stalled = shared.send(40, &command);
    types(b"b");
    // Much more than any window in both directions, on channels new and old.
    assert_eq!(output(shared.send(200, "wc -c")), "209715200\n");
    types(b"c");
    assert_eq!(
        shared.says("head -c 100000000 /dev/zero | cat").len(),
        100_000_000
    );
    let both = shared.send(64, "cat");
    assert_eq!(both.wait_with_output().unwrap().stdout.len(), 64 << 20);
    types(b"d");
    // And what waited has not been lost.
    fs::write(&go, "").unwrap();
    assert_eq!(output(stalled), "41943040\n");
    types(b"e");
    drop(keys);
    assert!(echo.wait().unwrap().success());
}

#[test]
fn several_that_read_nothing() {
    if !possible("several_that_read_nothing") {
        return;
    }
    let gateway = Gateway::start("");
    let shared = Shared::open(&gateway);
    let (go, command) = late_reader(&gateway, "go");
    let stalled: Vec<_> = (0..3).map(|_| shared.send(30, &command)).collect();
    assert_eq!(output(shared.send(40, "wc -c")), "41943040\n");
    assert_eq!(shared.says("echo in"), "in\n");
    fs::write(&go, "").unwrap();
    for one in stalled {
        assert_eq!(output(one), "31457280\n");
    }
}

#[test]
fn sixty_at_a_time_and_hundreds_in_a_row() {
    if !possible("sixty_at_a_time_and_hundreds_in_a_row") {
        return;
    }
    let gateway = Gateway::start("");
    let shared = Shared::open(&gateway);
    for round in 0..150 {
        assert_eq!(shared.says("echo in"), "in\n", "{round}");
    }
    let mut sixty: Vec<_> = (0..60)
        .map(|n| {
            let mut child = shared.run("head -c 100000 /dev/zero; cat").spawn().unwrap();
            let line = format!("{n}\n");
            child
                .stdin
                .as_mut()
                .unwrap()
                .write_all(line.as_bytes())
                .unwrap();
            child
        })
        .collect();
    for child in &mut sixty {
        drop(child.stdin.take());
    }
    for (n, child) in sixty.into_iter().enumerate() {
        let said = output(child);
        assert_eq!(said.len(), 100_000 + format!("{n}\n").len());
        assert!(said.ends_with(&format!("{n}\n")));
    }
}
