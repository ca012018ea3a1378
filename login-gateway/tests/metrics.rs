//! What the health endpoint counts, held against what the real ssh has done: each number exactly.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Gateway, possible, run, until};

/// Waits until these numbers stand there.
fn stand(gateway: &Gateway, numbers: &[(&str, u64)]) {
    let off = || -> Vec<String> {
        let all = numbers.iter().map(|(name, number)| {
            let is = gateway.metric(&format!("{name} "));
            (is != *number).then(|| format!("{name} is {is}, not {number}"))
        });
        all.flatten().collect()
    };
    let end = std::time::Instant::now() + support::SOON;
    while !off().is_empty() {
        assert!(std::time::Instant::now() < end, "{:#?}", off());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn with_input(mut ssh: Command, input: &[u8]) -> Output {
    let mut child = ssh
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_logins_do_is_counted_exactly() {
    if !possible("what_logins_do_is_counted_exactly") {
        return;
    }
    let gateway = Gateway::start("warm = 1");
    assert_eq!(
        gateway.says("head -c 100000 /dev/zero | tr '\\0' x").len(),
        100_000
    );
    let done = with_input(gateway.ssh("cat >/dev/null"), &[b'y'; 5000]);
    assert!(done.status.success());
    let sftp = gateway
        .client(&["-s"])
        .arg("sftp")
        .stdin(Stdio::null())
        .output();
    assert!(sftp.unwrap().status.success());
    stand(
        &gateway,
        &[
            ("logins_total", 3),
            ("logins", 0),
            (
                "auth_attempts_total{method=\"publickey\",result=\"accepted\"}",
                3,
            ),
            (
                "auth_attempts_total{method=\"publickey\",result=\"refused\"}",
                0,
            ),
            (
                "auth_attempts_total{method=\"password\",result=\"accepted\"}",
                0,
            ),
            ("channels_total{kind=\"command\"}", 2),
            ("channels_total{kind=\"subsystem\"}", 1),
            ("channels_total{kind=\"shell\"}", 0),
            ("channels{kind=\"command\"}", 0),
            ("bytes_total{direction=\"in\"}", 5000),
            ("bytes_total{direction=\"out\"}", 100_000),
            ("login_step_seconds_count{step=\"key-exchange\"}", 3),
            ("login_step_seconds_count{step=\"lookup\"}", 3),
            ("login_step_seconds_count{step=\"authentication\"}", 3),
            ("login_step_seconds_count{step=\"account\"}", 3),
            ("login_step_seconds_count{step=\"session\"}", 3),
            ("login_step_seconds_bucket{step=\"session\",le=\"+Inf\"}", 3),
        ],
    );

    // Forwarded connections, to the endpoint itself.
    let target = format!("127.0.0.1:{}", gateway.health);
    let page = with_input(
        gateway.client(&["-W", &target]),
        b"GET /healthz HTTP/1.1\r\n\r\n",
    );
    assert!(page.stdout.starts_with(b"HTTP/1.1 200"), "{page:?}");
    stand(
        &gateway,
        &[
            ("channels_total{kind=\"direct-tcpip\"}", 1),
            ("channels{kind=\"direct-tcpip\"}", 0),
        ],
    );

    // A login that stays, and one whose processes are killed: the others' numbers stay.
    let mut shell = gateway
        .client(&["-tt"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    stand(
        &gateway,
        &[
            ("channels{kind=\"shell\"}", 1),
            ("terminals", 1),
            ("logins", 1),
        ],
    );
    let monitors = || gateway.children("login-gateway-monitor: carol");
    let stays = monitors();
    assert_eq!(stays.len(), 1);
    let victim = gateway.stays();
    stand(
        &gateway,
        &[
            ("channels{kind=\"command\"}", 1),
            ("channels_total{kind=\"command\"}", 3),
        ],
    );
    let killed = monitors()
        .into_iter()
        .find(|pid| !stays.contains(pid))
        .unwrap();
    kill(Pid::from_raw(killed), Signal::SIGKILL).unwrap();
    stand(
        &gateway,
        &[
            ("channels{kind=\"command\"}", 0),
            ("channels{kind=\"shell\"}", 1),
            ("channels_total{kind=\"command\"}", 3),
            ("channels_total{kind=\"shell\"}", 1),
            ("login_failures_total{reason=\"crash\"}", 1),
            ("logins_total", 6),
        ],
    );
    drop(victim);

    // A reload forgets nothing.
    gateway.signal(Signal::SIGHUP);
    gateway.logged("gateway.ready", 2);
    stand(
        &gateway,
        &[
            ("channels{kind=\"shell\"}", 1),
            ("channels_total{kind=\"command\"}", 3),
            (
                "auth_attempts_total{method=\"publickey\",result=\"accepted\"}",
                6,
            ),
            ("login_step_seconds_count{step=\"session\"}", 6),
            ("drains_total", 0),
        ],
    );
    gateway.command(&["drain"]);
    stand(&gateway, &[("draining", 1), ("drains_total", 1)]);
    gateway.command(&["drain", "--cancel"]);
    stand(&gateway, &[("draining", 0), ("drains_total", 1)]);
    shell.kill().unwrap();
    shell.wait().unwrap();
    stand(
        &gateway,
        &[
            ("channels{kind=\"shell\"}", 0),
            ("terminals", 0),
            ("logins", 0),
        ],
    );
}

#[test]
fn what_fails_is_counted_by_its_reason() {
    if !possible("what_fails_is_counted_by_its_reason") {
        return;
    }
    let gateway = Gateway::start(
        "max-auth-tries = 6\nlogin-grace-time = \"60s\"\n[[match]]\nuser = [\"carol\"]\nmax-logins = 1",
    );
    let other = gateway.folder.path().join("other");
    run(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            other.to_str().unwrap(),
        ],
    );
    let refused = |user: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-p", &gateway.port.to_string(), "-F", "none", "-i"])
            .arg(&other)
            .args(["-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                &format!("{user}@127.0.0.1"),
                "true",
            ]);
        assert_eq!(ssh.output().unwrap().status.code(), Some(255));
    };
    refused("carol");
    refused("carol");
    refused("nobody-of-that-name");
    drop(gateway.connect().unwrap());
    stand(
        &gateway,
        &[
            (
                "auth_attempts_total{method=\"publickey\",result=\"refused\"}",
                3,
            ),
            ("login_failures_total{reason=\"auth-fail\"}", 2),
            ("login_failures_total{reason=\"invalid-user\"}", 1),
            ("login_failures_total{reason=\"no-auth\"}", 1),
            ("login_failures_total{reason=\"crash\"}", 0),
            ("login_step_seconds_count{step=\"lookup\"}", 3),
            ("login_step_seconds_count{step=\"session\"}", 0),
            ("logins_total", 0),
        ],
    );
    let login = gateway.stays();
    assert!(
        !gateway
            .ssh("true")
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .status
            .success()
    );
    stand(
        &gateway,
        &[
            ("login_failures_total{reason=\"denied\"}", 1),
            ("turned_away_total{reason=\"max-logins\"}", 1),
            (
                "auth_attempts_total{method=\"publickey\",result=\"accepted\"}",
                2,
            ),
            ("logins_total", 1),
        ],
    );
    login.leave();
    until("it has left", || gateway.metric("logins ") == 0);
}

#[test]
fn a_trace_has_each_step_of_a_login() {
    if !possible("a_trace_has_each_step_of_a_login") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("traces.jsonl");
    let gateway = Gateway::start(&format!("traces = \"{}\"", file.display()));
    let name = gateway.says("echo $SLURM_LOGIN_ID");
    let stranger = gateway
        .client(&["-o", "User=nobody-here"])
        .arg("true")
        .output();
    assert!(!stranger.unwrap().status.success());
    drop(gateway.connect().unwrap());
    gateway.logged("connection.ended", 2);
    let spans = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["resourceSpans"][0]["scopeSpans"][0]["spans"]
            .as_array()
            .unwrap()
            .clone()
    };
    until("both are there", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 2)
    });
    let text = std::fs::read_to_string(&file).unwrap();
    let of: Vec<_> = text.lines().map(spans).collect();
    let (opened, refused) = if of[0].len() > of[1].len() {
        (&of[0], &of[1])
    } else {
        (&of[1], &of[0])
    };
    let names: Vec<&str> = opened.iter().map(|s| s["name"].as_str().unwrap()).collect();
    let steps = [
        "login",
        "key-exchange",
        "lookup",
        "authentication",
        "account",
        "session",
    ];
    assert_eq!(names, steps);
    let number =
        |span: &serde_json::Value, key: &str| span[key].as_str().unwrap().parse::<u128>().unwrap();
    let (begin, end) = ("startTimeUnixNano", "endTimeUnixNano");
    for span in opened {
        assert!(span["traceId"].as_str().unwrap().starts_with(name.trim()));
        assert!(number(&opened[0], begin) <= number(span, begin), "{span}");
        assert!(number(span, begin) <= number(span, end), "{span}");
        assert!(number(span, end) <= number(&opened[0], end), "{span}");
    }
    assert_eq!(opened[0]["status"]["code"], 1);
    assert_eq!(opened[1]["parentSpanId"], opened[0]["spanId"]);
    assert_eq!(refused[0]["status"]["code"], 2);
    assert_eq!(refused[1]["name"], "key-exchange");
}

#[test]
fn what_the_door_has_counted_outlives_a_reload_and_a_crash_of_it() {
    if !possible("what_the_door_has_counted_outlives_a_reload_and_a_crash_of_it") {
        return;
    }
    let gateway = Gateway::start("proxy-protocol = { from = [\"127.0.0.1/32\"], required = true }");
    let behind_a_header = || {
        let mut stream = gateway.connect().unwrap();
        stream
            .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 51234 22\r\n")
            .unwrap();
    };
    let counted = |proxied: u64| {
        let name = "proxy_headers_total{result=\"proxied\"}";
        stand(&gateway, &[(name, proxied)]);
    };
    behind_a_header();
    gateway.connect().unwrap().write_all(b"GET / HTTP").unwrap();
    counted(1);
    gateway.signal(Signal::SIGHUP);
    gateway.logged("gateway.ready", 2);
    counted(1);
    behind_a_header();
    counted(2);
    until("the one before has retired", || {
        gateway.children("login-gateway-accept").len() == 1
    });
    let accept = gateway.children("login-gateway-accept");
    kill(Pid::from_raw(accept[0]), Signal::SIGKILL).unwrap();
    gateway.logged("gateway.ready", 3);
    behind_a_header();
    counted(3);
    stand(
        &gateway,
        &[("proxy_headers_total{result=\"malformed\"}", 1)],
    );
}
