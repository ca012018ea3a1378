//! The record of tokens, the numbers, and what `status` and `check` make of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod running;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use running::{KEY, Shim, claims, wait_for};
use serde_json::Value;
use slurm_auth::signature_digest;
use slurm_wire::ProtocolVersion;
use slurm_wire::sack::{ANYBODY, Request, parse_token_reply};

const CONF: &str = "ClusterName=lab\nAuthType=auth/slurm\n";

/// The audit lines of a JSON log.
fn lines(shim: &Shim) -> Vec<Value> {
    let log = shim.log();
    let parsed = log.lines().map(|line| serde_json::from_str(line).unwrap());
    parsed
        .filter(|line: &Value| line["target"] == "audit")
        .collect()
}

#[test]
fn every_token_has_a_line_whatever_the_level() {
    let quiet = [("LOG_LEVEL", "error"), ("LOG_FORMAT", "json")];
    let shim = Shim::start_in(CONF, "", &quiet);
    let token = shim.token(77, &[2; 33]).unwrap();
    let other = shim.token(ANYBODY, &[2; 33]).unwrap();
    assert_eq!(shim.verify(&other), [0; 4]);
    assert_eq!(shim.verify("a.b.c"), [0xff; 4]);
    wait_for("four lines", || lines(&shim).len() == 4);
    let all = lines(&shim);
    assert_eq!(shim.log().lines().count(), 4, "nothing but the record");
    let made = &all[0];
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap();
    let exe = std::env::current_exe().unwrap();
    for (field, expected) in [
        ("event", Value::from("token.made")),
        ("cluster", "lab".into()),
        ("uid", own.uid.as_raw().into()),
        ("user", own.name.into()),
        ("gid", nix::unistd::getegid().as_raw().into()),
        ("pid", std::process::id().into()),
        (
            "exe",
            exe.file_name().unwrap().to_str().unwrap()[..15].into(),
        ),
        ("ruid", 77.into()),
        ("hash", "k12".into()),
        ("signature_sha256", signature_digest(&token).into()),
    ] {
        assert_eq!(made[field], expected, "{field}: {made}");
    }
    let exp = claims(&other, KEY).exp;
    assert_eq!(all[1]["exp"], exp);
    assert!(made["timestamp"].is_string() && made["login"].is_string());
    assert!(
        made["cgroup"]
            .as_str()
            .is_some_and(|group| !group.is_empty())
    );
    assert_eq!(all[2]["event"], "token.verified");
    assert_eq!(all[3]["event"], "token.not_verified");
    assert!(!shim.log().contains("eyJ"), "a token stands in the log");
}

/// A log that stands still holds up no token, and the end of the service loses no line.
#[test]
fn whoever_reads_the_log_slowly_keeps_nobody_waiting() {
    // More than a pipe holds, less than the signer keeps.
    const TOKENS: usize = 1000;
    let mut shim = Shim::start_unread(CONF, "");
    let tokens = (0..TOKENS).map(|_| shim.token(ANYBODY, b"").expect("a token"));
    let digests: Vec<String> = tokens.map(|token| signature_digest(&token)).collect();
    kill(Pid::from_raw(shim.pid()), Signal::SIGTERM).unwrap();
    let log = shim.read_to_end();
    let made: Vec<&str> = log.lines().filter(|l| l.contains("token.made")).collect();
    assert_eq!(made.len(), TOKENS);
    for (line, digest) in made.iter().zip(&digests) {
        assert!(line.contains(digest), "in order: {line}");
    }
    assert!(log.contains("shim.ending"));
}

#[test]
fn numbers_and_what_status_makes_of_them() {
    let shim = Shim::start(CONF, "");
    for _ in 0..3 {
        shim.token(ANYBODY, b"").unwrap();
    }
    shim.verify("a.b.c");
    shim.say(b"GET / HTTP/1.1\r\n\r\n");
    let text = shim.http("/metrics");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    for line in [
        "sackd_shim_tokens_made_total{cluster=\"lab\",class=\"system\"} 3",
        "sackd_shim_tokens_checked_total{cluster=\"lab\",result=\"bad\"} 1",
        "sackd_shim_refused_total{cluster=\"lab\",reason=\"malformed\"} 1",
        "sackd_shim_request_duration_seconds_count 4",
        "sackd_shim_key_file_bad{cluster=\"lab\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("sackd_shim_config_age_seconds{cluster=\"lab\"}"));
    assert!(shim.http("/else").starts_with("HTTP/1.1 404"));
    let output = shim.run(&["status", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["pid"], shim.pid());
    assert_eq!(value["clusters"][0]["made_system"], 3);
    assert_eq!(value["clusters"][0]["refused"]["malformed"], 1);
    let output = shim.run(&["status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("made_system") && text.contains("lab"),
        "{text}"
    );
    // A key file that went bad is to be seen before it hurts.
    shim.replace("slurm.key", KEY, 0o644);
    wait_for("the number", || {
        let line = "sackd_shim_key_file_bad{cluster=\"lab\"} 1";
        shim.http("/metrics").contains(line)
    });
}

/// A socket file that is gone comes back with a restart alone: whoever asks to know hears of it, and so does
/// the service manager, by silence.
#[test]
fn a_socket_that_is_removed_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "60000000"),
    ];
    let shim = Shim::start_in(CONF, "", &variables);
    let heard = || {
        let mut datagram = [0; 1024];
        let n = manager.recv(&mut datagram).ok()?;
        Some(String::from_utf8_lossy(&datagram[..n]).into_owned())
    };
    wait_for("a sign of life", || {
        heard().is_some_and(|text| text == "WATCHDOG=1")
    });
    assert_eq!(shim.run(&["status"]).status.code(), Some(0));
    // Another program's: told of, and nobody is to start us again for it.
    fs::rename(shim.socket(), shim.path("run/aside")).unwrap();
    let other = UnixListener::bind(shim.socket()).unwrap();
    wait_for("the log", || shim.log().contains("sack.socket_taken"));
    assert_eq!(shim.run(&["status"]).status.code(), Some(0));
    drop(other);
    fs::remove_file(shim.socket()).unwrap();
    wait_for("the log", || shim.log().contains("sack.socket_lost"));
    let told = |text: String| text.ends_with("its socket was removed");
    wait_for("the line", || heard().is_some_and(told));
    let lines = |line: &str| shim.http("/metrics").lines().any(|l| l == line);
    wait_for("the number", || {
        lines("sackd_shim_socket_there{cluster=\"lab\"} 0")
    });
    let output = shim.run(&["status"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("sack.socket' was removed"), "{said}");
    assert!(said.contains("hint: start the service again"), "{said}");
    let uptime = || {
        let status = running::status_at(&shim.path("run/status.socket"));
        status["uptime_s"].as_u64().unwrap()
    };
    let (then, mut signs) = (uptime() + 3, Vec::new());
    wait_for("some seconds", || {
        signs.extend(heard());
        uptime() >= then
    });
    assert!(!signs.iter().any(|sign| sign == "WATCHDOG=1"), "{signs:?}");
    fs::rename(shim.path("run/aside"), shim.socket()).unwrap();
    wait_for("its return", || shim.log().contains("sack.socket_found"));
    assert_eq!(shim.run(&["status"]).status.code(), Some(0));
    assert!(shim.token(ANYBODY, &[]).is_some());
}

#[test]
fn status_without_a_service_says_so() {
    let shim = Shim::start(CONF, "");
    fs::remove_file(shim.path("run/status.socket")).unwrap();
    let output = shim.run(&["status"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("is sackd-shim running"), "{said}");
    // A socket that nobody listens at any more, one that nobody answers at, one of somebody else.
    let path = shim.path("run/status.socket");
    drop(UnixListener::bind(&path).unwrap());
    let ask = |words: &str| {
        let output = shim.run(&["status"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains(words), "{words}: {said}");
        assert!(said.contains("hint: "), "{said}");
        assert!(!said.contains("temporarily"), "{said}");
    };
    ask("its socket is from before: start it");
    fs::remove_file(&path).unwrap();
    let silent = UnixListener::bind(&path).unwrap();
    ask("did not answer in time");
    drop(silent);
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).unwrap();
        stream.write_all(b"hello").unwrap();
    });
    ask("is served by something else");
}

/// SIGTERM while many ask: whoever was given a token has a line.
#[test]
fn the_end_loses_no_line_of_a_crowd() {
    let mut shim = Shim::start_unread(CONF, "");
    let digests = std::thread::scope(|scope| {
        let ask_on = || {
            let mut digests = Vec::new();
            let request = Request::Create {
                version: ProtocolVersion::V24_11,
                ruid: ANYBODY,
                payload: vec![],
            };
            let request = request.encode();
            // To the end: a connection that is refused or cut off.
            while let Ok(mut stream) = UnixStream::connect(shim.socket()) {
                let mut reply = Vec::new();
                let _ = stream.write_all(&request);
                let _ = stream.read_to_end(&mut reply);
                match parse_token_reply(&reply) {
                    Ok(Some(token)) => digests.push(signature_digest(&token)),
                    _ => break,
                }
            }
            digests
        };
        let crowd: Vec<_> = (0..4).map(|_| scope.spawn(ask_on)).collect();
        for _ in 0..100 {
            shim.token(ANYBODY, b"").unwrap();
        }
        kill(Pid::from_raw(shim.pid()), Signal::SIGTERM).unwrap();
        let given = crowd.into_iter().map(|one| one.join().unwrap());
        given.flatten().collect::<Vec<String>>()
    });
    let log = shim.read_to_end();
    assert!(!digests.is_empty());
    for digest in digests {
        assert!(log.contains(&digest), "no line for a token");
    }
}

#[test]
fn check_speaks_json() {
    let shim = Shim::start(CONF, "");
    let output = shim.run(&["check", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &value["problems"]),
        (Some(0), &0.into())
    );
    shim.replace("slurm.key", &[b'a'; 64], 0o600);
    let output = shim.run(&["check", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &value["problems"]),
        (Some(78), &1.into())
    );
    let findings = value["findings"].as_array().unwrap();
    let bad = findings.iter().find(|f| f["level"] == "problem").unwrap();
    assert!(
        bad["text"]
            .as_str()
            .unwrap()
            .contains("fewer than 8 different bytes")
    );
    assert!(bad["hint"].is_string());
}
