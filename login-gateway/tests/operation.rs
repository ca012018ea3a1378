//! What an administrator does with a running gateway: looks who is there, tells people something, ends
//! logins, drains. With the real ssh and terminals of their own.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::Signal;
use support::{Gateway, possible, until};

/// A shell on a terminal.
struct Shell {
    child: Child,
    output: BufReader<ChildStdout>,
}

fn shell(gateway: &Gateway) -> Shell {
    let mut child = gateway
        .client(&["-tt"])
        .arg("echo on $(tty); exec sleep 600")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut shell = Shell { child, output };
    assert!(shell.line().starts_with("on /dev/pts/"));
    shell
}

impl Shell {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_matches(['\r', '\n', '\x07']).to_owned()
    }

    /// The next line that the administrator has sent.
    fn told(&mut self) -> String {
        loop {
            let line = self.line();
            if let Some(words) = line.strip_prefix("*** ") {
                return words.to_owned();
            }
            assert_eq!(line, "", "the shell ended");
            assert!(self.child.try_wait().unwrap().is_none(), "ssh ended");
        }
    }

    /// The end, and what ssh itself said of it.
    fn ended(mut self) -> String {
        let mut words = String::new();
        let mut error = self.child.stderr.take().unwrap();
        error.read_to_string(&mut words).unwrap();
        self.child.wait().unwrap();
        words
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sessions(gateway: &Gateway) -> serde_json::Value {
    let (said, code) = gateway.command(&["sessions", "list", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&said).unwrap()
}

#[test]
fn sessions_are_listed_told_and_ended() {
    if !possible("sessions_are_listed_told_and_ended") {
        return;
    }
    let gateway = Gateway::start("warm = 1");
    let mut first = shell(&gateway);
    let mut second = gateway.stays();
    let unfinished = gateway.connect().unwrap();
    let with = |key: &str, what: fn(&serde_json::Value) -> bool| {
        let all = sessions(&gateway);
        let mut all = all.as_array().unwrap().iter();
        all.find(|s| what(&s[key])).cloned()
    };
    until("all three are there", || {
        let terminal = with("terminals", |t| t.as_array().is_some_and(|t| t.len() == 1));
        let unknown = with("user", serde_json::Value::is_null);
        terminal.is_some() && unknown.is_some() && sessions(&gateway).as_array().unwrap().len() == 3
    });
    let on_terminal = with("terminals", |t| t != &serde_json::json!([])).unwrap();
    assert_eq!(on_terminal["user"], "carol");
    assert!(
        on_terminal["source"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    let login = on_terminal["login"].as_str().unwrap();
    gateway.logged(&format!("login=\"{login}\""), 1);
    let (table, _) = gateway.command(&["sessions"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("LOGIN") && lines.len() == 4, "{table}");
    let row = lines.iter().find(|line| line.starts_with(login)).unwrap();
    assert!(row.contains(" carol ") && row.contains(" pts/"), "{table}");
    assert!(table.contains("(authenticating)"), "{table}");

    let (said, code) = gateway.command(&["sessions", "message", "--all", "lunch\nat noon\x1b[2J"]);
    let expected = "sent to 1 terminal(s) of 2 login(s)\n";
    assert_eq!((said.as_str(), code), (expected, Some(0)));
    assert_eq!(first.told(), "lunch");
    assert_eq!(first.told(), "at noon [2J");
    second.lives();

    let (said, code) = gateway.command(&["sessions", "kick", "--login", "00000000"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no such login"), "{said}");
    let (said, code) = gateway.command(&["sessions", "kick"]);
    assert_eq!(code, Some(64), "{said}");
    let (_, code) = gateway.command(&["sessions", "kick", "--login", login, "out, please"]);
    assert_eq!(code, Some(0));
    let words = first.ended();
    assert!(words.contains("out, please"), "{words}");
    second.lives();
    gateway.logged("ended by an administrator", 1);

    let (_, code) = gateway.command(&["sessions", "kick", "--all"]);
    assert_eq!(code, Some(0));
    until("nobody is left", || {
        sessions(&gateway).as_array().unwrap().is_empty()
    });
    drop(unfinished);
    assert_eq!(gateway.says("echo in"), "in\n");
}

#[test]
fn a_login_whose_session_is_stopped_by_its_user_ends_all_the_same() {
    if !possible("a_login_whose_session_is_stopped_by_its_user_ends_all_the_same") {
        return;
    }
    let gateway = Gateway::start("");
    let mut child = gateway
        .client(&["-tt"])
        .arg("kill -STOP $PPID; echo stopped $$; exec sleep 600")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let pid = line.trim_end().strip_prefix("stopped ").unwrap();
    let running = || std::path::Path::new("/proc").join(pid).exists();
    assert!(running());
    let (_, code) = gateway.command(&["sessions", "kick", "--all"]);
    assert_eq!(code, Some(0));
    until("it is gone", || {
        sessions(&gateway).as_array().unwrap().is_empty()
    });
    gateway.logged("session.killed", 1);
    gateway.logged("session.closed", 1);
    until("its terminal has hung up", || !running());
    child.wait().unwrap();
}

#[test]
fn a_login_that_outlives_a_reload_is_still_reached() {
    if !possible("a_login_that_outlives_a_reload_is_still_reached") {
        return;
    }
    let gateway = Gateway::start("");
    let mut shell = shell(&gateway);
    gateway.signal(Signal::SIGHUP);
    gateway.logged("gateway.ready", 2);
    let all = sessions(&gateway);
    assert_eq!(all[0]["terminals"].as_array().unwrap().len(), 1, "{all}");
    let (_, code) = gateway.command(&["sessions", "message", "--user", "carol", "hello"]);
    assert_eq!(code, Some(0));
    assert_eq!(shell.told(), "hello");
}

#[test]
fn a_drain_is_told_can_be_cancelled_and_ends_with_the_last_login() {
    if !possible("a_drain_is_told_can_be_cancelled_and_ends_with_the_last_login") {
        return;
    }
    let mut gateway = Gateway::start("drain-reason = \"new kernel\"");
    let mut shell = shell(&gateway);
    let login = gateway.stays();
    let (said, code) = gateway.command(&["drain", "--within", "2h"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said, "takes no more logins; 2 connection(s) left\n");
    assert_eq!(
        shell.told(),
        "This login node takes no more logins: new kernel"
    );
    assert!(shell.told().starts_with("Logins here end in 2 hours, at "));
    until("not ready", || gateway.status("/readyz") == "503");
    let refused = gateway.ssh("true").output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("takes no more logins"), "{words}");
    let (said, _) = gateway.command(&["status"]);
    assert!(
        said.contains("draining") && said.contains("\nends "),
        "{said}"
    );

    let (_, code) = gateway.command(&["drain", "--cancel"]);
    assert_eq!(code, Some(0));
    assert!(shell.told().contains("takes logins again"));
    until("ready", || gateway.status("/readyz") == "200");
    assert_eq!(gateway.says("echo again"), "again\n");

    // A command first and kubelet's signal then: that is no second signal.
    gateway.command(&["drain", "--reason", "moving"]);
    assert_eq!(shell.told(), "This login node takes no more logins: moving");
    gateway.signal(Signal::SIGTERM);
    assert!(shell.told().starts_with("It stops when the last login"));
    until("it has heard", || {
        gateway
            .command(&["status", "--json"])
            .0
            .contains("\"draining\"")
    });
    login.leave();
    assert!(gateway.child.try_wait().unwrap().is_none());
    drop(shell);
    assert_eq!(gateway.exit_code(), Some(0));
    let (said, code) = gateway.command(&["status"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is login-gateway running here"), "{said}");
}

#[test]
fn a_drain_ends_what_is_left_at_its_deadline() {
    if !possible("a_drain_ends_what_is_left_at_its_deadline") {
        return;
    }
    let mut gateway = Gateway::start("drain-time = \"3s\"");
    let mut shell = shell(&gateway);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(shell.told(), "This login node takes no more logins");
    assert!(shell.told().starts_with("Logins here end in "));
    let words = shell.ended();
    assert!(words.contains("The server has ended this login"), "{words}");
    assert_eq!(gateway.exit_code(), Some(0));
    gateway.logged("session.closed", 1);
}

#[test]
fn the_control_socket_is_roots() {
    if !possible("the_control_socket_is_roots") {
        return;
    }
    let gateway = Gateway::start("");
    let socket = gateway.folder.path().join("control.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let program = support::programs().join("login-gateway");
    let ask = format!(
        "{} sessions --config {}",
        program.display(),
        gateway.folder.path().join("gateway.toml").display()
    );
    // The user's own shell, beside the gateway.
    let said = gateway.says(&format!("{ask} 2>&1; echo code $?"));
    assert!(said.contains("this is for root"), "{said}");
    assert!(said.ends_with("code 77\n"), "{said}");
    // Even where somebody has opened it up, the kernel tells who asks.
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let said = gateway.says(&format!("{ask} 2>&1; echo code $?"));
    assert!(said.ends_with("code 1\n"), "{said}");
    assert!(!said.contains("LOGIN"), "{said}");
    let (said, code) = gateway.command(&["sessions"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn what_a_login_does_is_on_the_record() {
    if !possible("what_a_login_does_is_on_the_record") {
        return;
    }
    let gateway = Gateway::start("permit-open = [\"127.0.0.1:1\"]");
    let line = |parts: &[&str]| {
        gateway.logged(parts[0], 1);
        until(&parts.join(" "), || {
            let log = gateway.log();
            log.lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
        });
    };
    // A command that would forge a line of its own, and one that is too long.
    gateway.says("true 'a\nINFO audit: event=\"forged\" \x1b[2J'");
    line(&[
        "kind=\"command\"",
        "event=\"program.started\"",
        "login=",
        "source=127.0.0.1:",
    ]);
    line(&["event=\"program.ended\"", "code=0"]);
    let forged = gateway.log();
    assert!(
        !forged.contains("\nINFO audit: event=\"forged\""),
        "{forged}"
    );
    gateway.says(&format!("true {}", "x".repeat(100_000)));
    gateway.ssh("kill -9 $$").output().unwrap();
    line(&["event=\"program.ended\"", "signal=\"KILL\""]);
    let shell = shell(&gateway);
    line(&["event=\"program.started\"", "terminal=\"pts/"]);
    drop(shell);

    let forwarded = |options: &[&str]| {
        let mut ssh = gateway.client(options);
        ssh.args(["-o", "ExitOnForwardFailure=yes"]).arg("true");
        ssh.stdin(Stdio::null()).output().unwrap();
    };
    forwarded(&["-R", "0:127.0.0.1:9", "-A"]);
    line(&["event=\"forward.listening\"", "on=\""]);
    forwarded(&["-W", "127.0.0.1:1"]);
    line(&["event=\"forward.connecting\"", "to=\"127.0.0.1:1\""]);
    forwarded(&["-W", "127.0.0.1:22"]);
    line(&["event=\"request.refused\"", "is not permitted"]);
    // Nobody but root looks into the process that tells.
    let session = gateway.says("ls /proc/$PPID/fd 2>&1; cat /proc/$PPID/cmdline | head -c 21");
    assert!(session.contains("Permission denied"), "{session}");
    assert!(session.ends_with("login-gateway-session"), "{session}");
    let long = gateway.log().lines().map(str::len).max();
    assert!(long < Some(4000), "{long:?}");
}

#[test]
fn memory_that_runs_out_is_taken_from_users() {
    if !possible("memory_that_runs_out_is_taken_from_users") {
        return;
    }
    let gateway = Gateway::start("");
    let score = |pid: &str| -> i32 {
        let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        score.trim().parse().unwrap()
    };
    let service = score(&gateway.child.id().to_string());
    let theirs: i32 = gateway
        .says("cat /proc/self/oom_score_adj")
        .trim()
        .parse()
        .unwrap();
    assert_eq!(theirs, (service + 200).min(1000));
    for pid in gateway.children("login-gateway-") {
        assert_eq!(score(&pid.to_string()), service);
    }
}

#[test]
fn a_login_whose_time_is_over_ends() {
    if !possible("a_login_whose_time_is_over_ends") {
        return;
    }
    let gateway = Gateway::start("[[match]]\nuser = [\"carol\"]\nsession-time = \"2s\"");
    let words = shell(&gateway).ended();
    assert!(words.contains("Your session's time is over"), "{words}");
    gateway.logged("session-time is over", 1);
}

#[test]
fn why_somebody_cannot_log_in() {
    if !possible("why_somebody_cannot_log_in") {
        return;
    }
    let gateway = Gateway::start("[[match]]\nsource = [\"192.0.2.0/24\"]\nallow-login = false");
    // The user lives in the gateway's mount namespace.
    let pid = gateway.child.id().to_string();
    let why = |arguments: &[&str]| {
        let output = std::process::Command::new("nsenter")
            .args(["-m", "-t", &pid])
            .arg(support::programs().join("login-gateway"))
            .arg("why")
            .args(arguments)
            .arg("--config")
            .arg(gateway.folder.path().join("gateway.toml"))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status.code())
    };
    let (said, code) = why(&["carol"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("ok  gateway") && said.contains("uid 1501"),
        "{said}"
    );
    let (said, code) = why(&["carol", "--source", "192.0.2.7"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("NO  policy") && said.contains("allow-login = false"),
        "{said}"
    );
    let (said, code) = why(&["nobody-of-that-name", "--json"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("\"no such user\"") && said.contains("\"may\": false"),
        "{said}"
    );
    let (said, code) = why(&["root"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("root does not log in"), "{said}");
    let _login = gateway.stays();
    gateway.command(&["drain"]);
    let (said, _) = why(&["carol"]);
    assert!(
        said.contains("NO  gateway") && said.contains("it is draining"),
        "{said}"
    );
}

#[test]
fn a_recording_shows_what_the_user_saw() {
    if !possible("a_recording_shows_what_the_user_saw") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let gateway = Gateway::start(&format!(
        "recordings = \"{}\"\n[[match]]\nuser = [\"carol\"]\nrecord-terminals = true",
        folder.path().display()
    ));
    let script = "stty -echo; echo ready; read word; stty echo; printf 'Gr\\303\\274\\303\\237e \\033[1m%s\\033[0m\\n' ${#word}; \
                  seq 1 3000; ls -l /proc/self/fd";
    let mut child = gateway
        .client(&["-tt"])
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    output.read_line(&mut seen).unwrap();
    assert_eq!(seen, "ready\r\n");
    use std::io::Write;
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"secret\n")
        .unwrap();
    output.read_to_string(&mut seen).unwrap();
    child.wait().unwrap();
    assert!(seen.contains("Grüße \u{1b}[1m6\u{1b}[0m"), "{seen}");
    // The user's programs have no way to the file.
    assert!(!seen.contains(".cast"), "{seen}");

    gateway.logged("recording.closed", 1);
    let log = gateway.log();
    let line = log
        .lines()
        .find(|l| l.contains("recording.closed"))
        .unwrap();
    let value = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=")).unwrap();
        rest.split(' ').next().unwrap().trim_matches('"').to_owned()
    };
    let (file, sha256) = (value("file"), value("sha256"));
    let raw = std::fs::read_to_string(&file).unwrap();
    assert!(!raw.contains("secret"));
    let replay = |more: &[&str]| {
        let mut arguments = vec!["replay", &file, "--instant"];
        arguments.extend(more);
        gateway.command(&arguments)
    };
    let (shown, code) = replay(&["--sha256", &sha256]);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(shown, seen);

    // Changed, cut, and no recording at all.
    std::fs::write(&file, raw.replacen("ready", "READY", 1)).unwrap();
    let (said, code) = replay(&["--sha256", &sha256]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is not the file of the record"), "{said}");
    std::fs::write(&file, &raw[..raw.len() - 5]).unwrap();
    let (said, code) = replay(&[]);
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with("ready") && said.contains("what comes before it was shown"),
        "{said}"
    );
    std::fs::write(&file, "{}").unwrap();
    assert_eq!(replay(&[]).1, Some(1));
}

#[test]
fn who_cannot_be_recorded_does_not_work() {
    if !possible("who_cannot_be_recorded_does_not_work") {
        return;
    }
    let gateway = Gateway::start("recordings = \"/nonexistent\"\nrecord-terminals = true");
    let output = gateway
        .client(&["-tt"])
        .arg("echo worked > worked; echo worked")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(255));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("worked"), "{said}");
    assert!(!gateway.folder.path().join("home/worked").exists());
    gateway.logged("a terminal cannot be recorded", 1);
    // Commands without a terminal are on the record by their command alone.
    assert_eq!(gateway.says("echo in"), "in\n");
}
