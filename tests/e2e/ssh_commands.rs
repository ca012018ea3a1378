//! Commands over ssh: keys, streams, statuses, environment, bulk data, many channels.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tests::{lab, run, run_with};

#[test]
fn a_key_from_the_directory_and_one_from_authorized_keys() {
    let lab = lab();
    let mut alice = lab.person("alice");
    assert_eq!(lab.ssh(&alice, "id -un").ok(), "alice");
    let other = lab.new_key("alice-other");
    let public = std::fs::read(format!("{}.pub", other.display())).unwrap();
    lab.ssh_feed(
        &alice,
        "umask 077; mkdir -p .ssh; cat > .ssh/authorized_keys",
        &public,
    );
    alice.key = other;
    assert_eq!(lab.ssh(&alice, "id -un").ok(), "alice");
    // What others may write is not used, and an option that is not known spoils its line.
    lab.ssh(&alice, "chmod 666 .ssh/authorized_keys").ok();
    assert_eq!(lab.ssh(&alice, "id -un").code, 255);
    let alice = lab.person("alice");
    lab.ssh(
        &alice,
        "chmod 600 .ssh/authorized_keys; sed -i 's/^/colour=\"red\" /' .ssh/authorized_keys",
    )
    .ok();
    let other = tests::Person {
        key: lab.new_key("alice-other"),
        ..alice.clone()
    };
    assert_eq!(lab.ssh(&other, "id -un").code, 255);
    lab.ssh(&alice, "rm .ssh/authorized_keys").ok();
}

#[test]
fn a_removed_key_counts_at_once() {
    let lab = lab();
    let bob = lab.person("bob");
    assert_eq!(lab.ssh(&bob, "id -un").ok(), "bob");
    let listed = run(Command::new("ssh-keygen").arg("-lf").arg(&bob.key));
    let fingerprint = listed.ok().split(' ').nth(1).unwrap().to_owned();
    lab.admin(&["key", "del", "bob", &fingerprint]).ok();
    assert_eq!(lab.ssh(&bob, "id -un").code, 255);
    lab.person("bob");
    assert_eq!(lab.ssh(&bob, "id -un").ok(), "bob");
}

#[test]
fn unknown_users_and_bad_keys_are_refused_in_the_same_words() {
    let lab = lab();
    let alice = lab.person("alice");
    let wrong = lab.new_key("nobodys");
    let words = |name: &str| {
        let person = tests::Person {
            name: name.into(),
            key: wrong.clone(),
        };
        let done = run(lab.ssh_with(&person, &["-v"]).arg("true"));
        assert_eq!(done.code, 255);
        let relevant = done
            .err
            .lines()
            .filter(|l| l.contains("continue") || l.contains("denied"));
        relevant
            .collect::<Vec<_>>()
            .join("\n")
            .replace(name, "NAME")
    };
    let known = words(&alice.name);
    assert!(known.contains("Permission denied (publickey)"), "{known}");
    for name in [
        "nobody-of-that-name",
        "root",
        "slurm",
        "x".repeat(300).as_str(),
    ] {
        assert_eq!(words(name), known, "{name}");
    }
}

#[test]
fn streams_are_apart_and_statuses_come_back() {
    let lab = lab();
    let alice = lab.person("alice");
    let done = lab.ssh(&alice, "echo out; echo err >&2; exit 42");
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (42, "out\n", "err\n")
    );
    let done = run(lab.ssh_with(&alice, &["-v"]).arg("kill -TERM $$"));
    assert!(done.err.contains("rtype exit-signal"), "{}", done.err);
    assert_eq!(done.code, 255);
    // A command that is not UTF-8 arrives byte for byte.
    let mut command = lab.ssh_with(&alice, &[]);
    command.arg(OsStr::from_bytes(b"printf 'caf\xe9' | wc -c"));
    assert_eq!(run(&mut command).ok(), "4");
}

#[test]
fn variables_by_an_allow_list() {
    let lab = lab();
    let alice = lab.person("alice");
    let mut command = lab.ssh_with(
        &alice,
        &["-o", "SendEnv=LC_TEST", "-o", "SendEnv=LD_PRELOAD"],
    );
    command
        .arg("env")
        .env("LC_TEST", "yes")
        .env("LD_PRELOAD", "");
    let env = run(&mut command);
    let env = env.ok();
    let has = |line: &str| env.lines().any(|l| l == line);
    assert!(
        has("LC_TEST=yes") && has("USER=alice") && has("HOME=/home/alice"),
        "{env}"
    );
    assert!(has("SHELL=/bin/bash") && has("LOGNAME=alice"), "{env}");
    assert!(
        env.contains("SSH_CONNECTION=") && env.contains("SSH_CLIENT="),
        "{env}"
    );
    assert!(!env.contains("LD_PRELOAD"), "{env}");
}

#[test]
fn a_half_closed_input_ends_the_program_not_the_session() {
    let lab = lab();
    let alice = lab.person("alice");
    let tree = tempfile::tempdir().unwrap();
    for n in 0..50 {
        std::fs::write(tree.path().join(format!("f{n}")), vec![n as u8; 10_000 + n]).unwrap();
    }
    let tar = Command::new("tar")
        .arg("c")
        .arg("-C")
        .arg(tree.path())
        .arg(".")
        .output()
        .unwrap();
    let unpack = "rm -rf t && mkdir t && tar x -C t && cat t/* | sha256sum";
    let there = lab.ssh_feed(&alice, unpack, &tar.stdout);
    let here = run(Command::new("sh")
        .arg("-c")
        .arg("cat * | sha256sum")
        .current_dir(tree.path()));
    assert_eq!(there.ok(), here.ok());
    assert_eq!(
        lab.ssh_feed(&alice, "cat; echo after", b"before ").ok(),
        "before after"
    );
}

#[test]
fn early_ends_lose_nothing_and_hang_nobody() {
    let lab = lab();
    let alice = lab.person("alice");
    // Output closed before the end: EOF first, status later.
    assert_eq!(
        lab.ssh(&alice, "echo x; exec >&- 2>&-; sleep 1; exit 7")
            .code,
        7
    );
    // A program that does not read its input.
    let big = vec![b'x'; 4 << 20];
    assert_eq!(
        lab.ssh_feed(&alice, "exec <&-; echo done", &big).ok(),
        "done"
    );
    assert_eq!(lab.ssh_feed(&alice, "head -c 5; exit 3", &big).code, 3);
}

/// A gibibyte there and back through `cat`, both ways at once: nothing may be lost, swapped or
/// stuck (T1).
#[test]
fn a_gibibyte_both_ways_at_once() {
    let lab = lab();
    let alice = lab.person("alice");
    let mut command = lab.ssh_with(&alice, &[]);
    let mut child = command
        .arg("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut from = child.stdout.take().unwrap();
    let sender = std::thread::spawn(move || {
        let mut hash = Sha256::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = vec![0; 1 << 20];
        for _ in 0..1024 {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_ne_bytes());
            }
            hash.update(&block);
            to.write_all(&block).unwrap();
        }
        hash.finalize()
    });
    let mut hash = Sha256::new();
    let mut total = 0_u64;
    let mut block = vec![0; 1 << 20];
    loop {
        let n = from.read(&mut block).unwrap();
        if n == 0 {
            break;
        }
        total += n as u64;
        hash.update(&block[..n]);
    }
    assert_eq!(total, 1 << 30);
    assert_eq!(hash.finalize(), sender.join().unwrap());
    assert!(child.wait().unwrap().success());
}

/// `scp` or `sftp` as this person, with these arguments behind the options.
fn sibling(program: &str, person: &tests::Person, tail: &[&str]) -> Command {
    let ssh = lab().ssh_with(person, &[]);
    // The options of ssh are those of its siblings but for -p and the destination.
    let args: Vec<_> = ssh.get_args().collect();
    let mut command = Command::new(program);
    for arg in &args[..args.len() - 1] {
        command.arg(if *arg == "-p" { "-P".as_ref() } else { *arg });
    }
    command.args(tail).env_remove("SSH_AUTH_SOCK");
    command
}

#[test]
fn files_by_sftp_and_scp_with_the_stock_clients() {
    let lab = lab();
    let alice = lab.person("alice");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    std::fs::write(
        &file,
        (0..8 << 20).map(|n| (n % 251) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    let client = |program: &str, tail: &[&str]| {
        let mut command = sibling(program, &alice, tail);
        command.current_dir(folder.path());
        run_with(&mut command, b"", Duration::from_secs(60))
    };
    client("scp", &["data", "alice@127.0.0.1:up"]).ok();
    client("scp", &["-O", "alice@127.0.0.1:up", "legacy"]).ok();
    client("scp", &["alice@127.0.0.1:up", "down"]).ok();
    for copy in ["legacy", "down"] {
        assert!(std::fs::read(folder.path().join(copy)).unwrap() == std::fs::read(&file).unwrap());
    }
}

/// More channels in a row than may be open at once: each must have been closed (T20); and one whose
/// program does not read what a client floods it with must not hold up the others (T2, T4).
#[test]
fn many_channels_over_one_connection() {
    let lab = lab();
    let alice = lab.person("alice");
    let folder = tempfile::tempdir().unwrap();
    let path = format!("ControlPath={}", folder.path().join("s").display());
    let mut master = lab.ssh_with(&alice, &["-N", "-o", "ControlMaster=yes", "-o", &path]);
    let mut master = master.spawn().unwrap();
    lab.until("the master is there", || folder.path().join("s").exists());
    let over = |command: &str, input: &[u8]| {
        run_with(
            lab.ssh_with(&alice, &["-o", &path]).arg(command),
            input,
            Duration::from_secs(20),
        )
    };
    let mut stalled = lab.ssh_with(&alice, &["-o", &path]);
    let mut stalled = stalled
        .arg("sleep 1000")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut flood = stalled.stdin.take().unwrap();
    let flood = std::thread::spawn(move || while flood.write_all(&[0; 1 << 16]).is_ok() {});
    for n in 0..100 {
        assert_eq!(over(&format!("cat; exit {}", n % 7), b"in").code, n % 7);
    }
    stalled.kill().unwrap();
    stalled.wait().unwrap();
    flood.join().unwrap();
    run(lab.ssh_with(&alice, &["-o", &path, "-O", "exit"]).arg("")).ok();
    master.wait().unwrap();
    lab.until("sleep is gone or an orphan of nobody's terminal", || {
        lab.exec("gateway", &["pgrep", "-f", "login-gateway-session: alice"])
            .code
            != 0
    });
}

#[test]
fn what_sftp_does_is_on_the_record() {
    let lab = lab();
    let kept = lab.person("kept");
    let mut sftp = sibling("sftp", &kept, &["-b", "-", "kept@127.0.0.1"]);
    let batch = b"put /etc/hostname recorded\nrename recorded renamed\nrm renamed\n";
    run_with(&mut sftp, batch, Duration::from_secs(60)).ok();
    lab.until("the last line is there", || {
        let log = lab.podman(&["logs"], "pod-0-gateway");
        let log = log.out + &log.err;
        let has = |event: &str, path: &str| {
            log.lines()
                .any(|line| line.contains(event) && line.contains(path))
        };
        has("sftp.open", "/home/kept/recorded")
            && has("sftp.close", "/home/kept/recorded")
            && has("sftp.rename", "/home/kept/renamed")
            && has("sftp.remove", "/home/kept/renamed")
    });
}
