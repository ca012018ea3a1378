//! Many channels on one connection, none in another's way.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use tests::{Server, User};

use crate::both::{Config, PLAIN, case, host};
use crate::peers::{Beside, until};

const MANY: Config = Config {
    theirs: "MaxSessions 100\n",
    ours: "max-sessions = 100\n",
    ..PLAIN
};
const THREE: Config = Config {
    theirs: "MaxSessions 3\n",
    ours: "max-sessions = 3\n",
    ..PLAIN
};

/// A connection that several clients share; it ends when this is dropped.
pub struct Shared {
    path: PathBuf,
    _master: Beside,
}

impl Shared {
    pub fn start(server: &Server, user: &User, options: &[&str]) -> Self {
        let path = host()
            .folder()
            .join(format!("{}.{:?}", user.name, server.whose));
        let at = format!("ControlPath={}", path.display());
        let mut arguments = vec!["-M", "-N", "-o", &at];
        arguments.extend(options);
        let master = Beside::start(&mut server.ssh(user, &arguments));
        until("the shared connection", || path.exists());
        Self {
            path,
            _master: master,
        }
    }

    pub fn ssh(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args([
                "-F",
                "none",
                "-o",
                "LogLevel=ERROR",
                "-o",
                "BatchMode=yes",
                "-S",
            ])
            .arg(&self.path);
        command.args(["-o", "ProxyCommand=false"]);
        command
            .args(arguments)
            .arg("127.0.0.1")
            .env_remove("SSH_AUTH_SOCK");
        command
    }
}

case!(sixty_sessions_at_once, MANY, |server| {
    let ann = host().user();
    let shared = Shared::start(server, &ann, &[]);
    let mut clients: Vec<Beside> = (0..60)
        .map(|n| Beside::start(shared.ssh(&[]).arg(format!("echo {n}; cat; exit {n}"))))
        .collect();
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), n.to_string());
    }
    for (n, client) in clients.iter_mut().enumerate() {
        client.say(&format!("to {n}\n"));
        assert_eq!(client.line(), format!("to {n}"));
        assert_eq!(client.end(), Some(i32::try_from(n).unwrap()));
    }
});

case!(two_hundred_sessions_one_after_the_other, |server| {
    let ann = host().user();
    let shared = Shared::start(server, &ann, &[]);
    for n in 0..200 {
        let done = tests::run(shared.ssh(&[]).arg(format!("exit {}", n % 7)));
        assert_eq!(done.code, n % 7, "{n}: {done:#?}");
    }
});

// The client closes such a channel at once, and hears how the command ended all the same.
case!(the_exit_of_a_command_that_has_closed_its_output, |server| {
    let ann = host().user();
    let shared = Shared::start(server, &ann, &[]);
    let command = "exec sh -c 'sleep 0.2; exec >/dev/null 2>&1; sleep 0.5; exit 44'";
    for n in 0..3 {
        let done = tests::run(shared.ssh(&["-n"]).arg(command));
        assert_eq!(done.code, 44, "{n}: {done:#?}");
        let done = tests::run(server.ssh(&ann, &["-n"]).arg(command));
        assert_eq!(done.code, 44, "{n}: {done:#?}");
    }
});

case!(sessions_beyond_the_limit_are_refused, THREE, |server| {
    let ann = host().user();
    let shared = Shared::start(server, &ann, &[]);
    let mut clients: Vec<Beside> = (0..3)
        .map(|_| Beside::start(shared.ssh(&[]).arg("echo in; cat")))
        .collect();
    for client in &mut clients {
        assert_eq!(client.line(), "in");
    }
    let fourth = tests::run(shared.ssh(&[]).arg("echo no"));
    assert!(fourth.code != 0 && fourth.out.is_empty(), "{fourth:#?}");
    clients[0].end();
    until("room for another", || {
        tests::run(shared.ssh(&[]).arg("true")).code == 0
    });
});

case!(a_command_that_does_not_read_stops_no_other, |server| {
    let ann = host().user();
    let shared = Shared::start(server, &ann, &[]);
    let mut stalled = shared.ssh(&[]);
    let zero = std::fs::File::open("/dev/zero").unwrap();
    stalled
        .arg("echo stalled >stalled; sleep 1003")
        .stdin(zero)
        .stdout(std::process::Stdio::null());
    let mut stalled = stalled.spawn().unwrap();
    until("the stalled command", || ann.files.join("stalled").exists());
    // By now the client has sent all it may; others go on.
    for n in 0..10 {
        assert_eq!(
            tests::run(shared.ssh(&[]).arg(format!("echo {n}"))).ok(),
            n.to_string()
        );
    }
    let down = tests::run(
        shared
            .ssh(&[])
            .arg("head -c 30000000 /dev/zero | tr '\\0' x"),
    );
    assert_eq!(down.ok().len(), 30_000_000);
    let up = tests::run_with(
        shared.ssh(&[]).arg("wc -c"),
        &vec![b'x'; 3_000_000],
        tests::SOON,
    );
    assert_eq!(up.ok(), "3000000");
    let _ = stalled.kill();
    let _ = stalled.wait();
});

case!(a_client_that_does_not_read_stops_no_other, |server| {
    let ann = host().user();
    let shared = Shared::start(server, &ann, &[]);
    let mut stalled = Beside::start(shared.ssh(&[]).arg("echo begun; cat /dev/zero"));
    assert_eq!(stalled.line(), "begun");
    for n in 0..10 {
        assert_eq!(
            tests::run(shared.ssh(&[]).arg(format!("echo {n}"))).ok(),
            n.to_string()
        );
    }
    let down = tests::run(
        shared
            .ssh(&[])
            .arg("head -c 30000000 /dev/zero | tr '\\0' x"),
    );
    assert_eq!(down.ok().len(), 30_000_000);
});

case!(all_kinds_on_one_connection, |server| {
    let ann = host().user();
    let shared = Shared::start(server, &ann, &[]);
    let mut shell = tests::Terminal::start(&shared.ssh(&["-tt"]));
    shell.send("echo shell' here; stty size'\r");
    shell.expect("shell here");
    ann.put("file", "content\n");
    let target = host().folder().join(format!("{}.copy", ann.name));
    let mut sftp = Command::new("sftp");
    sftp.args([
        "-q",
        "-F",
        "none",
        "-o",
        &format!("ControlPath={}", shared.path.display()),
        "127.0.0.1:file",
    ])
    .arg(&target);
    tests::run(&mut sftp).ok();
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "content\n");
    assert_eq!(tests::run(shared.ssh(&[]).arg("echo exec")).ok(), "exec");
    let echo = crate::peers::echo();
    let mut through = shared.ssh(&["-W", &echo.to_string()]);
    assert_eq!(
        tests::run_with(&mut through, b"word", tests::SOON).ok(),
        "word"
    );
    shell.send("exit 0\r");
    assert_eq!(shell.wait(), Some(0));
});

/// Moves bytes and counts them, until either end is gone.
fn carry(mut from: impl Read, mut to: impl Write, moved: &AtomicU64) {
    let mut piece = [0; 32 << 10];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..n]).is_err() {
            break;
        }
        moved.fetch_add(n as u64, Ordering::Relaxed);
    }
}

case!(keys_are_not_queued_behind_bulk_data, |server| {
    let ann = host().user();
    let shared = Shared::start(server, &ann, &[]);
    let mut echo = Beside::start(shared.ssh(&[]).arg("cat"));
    for (what, command) in [("down", "cat /dev/zero"), ("up", "cat >/dev/null")] {
        let mut bulk = Beside::start(shared.ssh(&[]).arg(command));
        let (input, output) = (bulk.input.take().unwrap(), bulk.output.take().unwrap());
        let moved = AtomicU64::new(0);
        // How much passes at the client between a key and its echo, forty times.
        let mut passed: Vec<u64> = std::thread::scope(|scope| {
            let moved = &moved;
            if what == "down" {
                scope.spawn(move || carry(output, std::io::sink(), moved));
            } else {
                scope.spawn(move || carry(std::io::repeat(0), input, moved));
            }
            let passed = (1..=40).map(|n| {
                until("bulk data", || moved.load(Ordering::Relaxed) > n << 23);
                let before = moved.load(Ordering::Relaxed);
                echo.say("k\n");
                assert_eq!(echo.line(), "k");
                moved.load(Ordering::Relaxed) - before
            });
            let passed = passed.collect();
            let _ = bulk.child.kill();
            passed
        });
        passed.sort_unstable();
        println!("{what}: {passed:?}");
        // Half of what a client may send or be sent before it says more.
        assert!(passed[20] < 1 << 20, "{what}: {passed:?}");
    }
});
