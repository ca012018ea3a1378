//! What a login may do, as the policy or its key has it: each with OpenSSH's client against the
//! real programs.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Read;
use std::process::{Output, Stdio};

use support::{Gateway, possible};

fn run(gateway: &Gateway, options: &[&str], command: &[&str]) -> Output {
    let mut ssh = gateway.client(options);
    ssh.args(command).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_command_in_place_of_all_others() {
    if !possible("a_command_in_place_of_all_others") {
        return;
    }
    let gateway = Gateway::start(
        "force-command = \"echo forced $SSH_ORIGINAL_COMMAND; exit 3\"\n\
         subsystems = { sftp = \"sftp-server\" }",
    );
    for (options, command, expected) in [
        (&[][..], &["ls", "-l"][..], "forced ls -l\n"),
        (&[], &[], "forced\n"),
        (&["-s"], &["sftp"], "forced sftp-server\n"),
        (&["-tt"], &["id"], "forced id\r\n"),
    ] {
        let output = run(&gateway, options, command);
        assert_eq!(text(&output.stdout), expected, "{options:?} {command:?}");
        assert_eq!(output.status.code(), Some(3));
    }

    // An account for files alone needs no more than this.
    let gateway = Gateway::start("force-command = \"internal-sftp -R\"\ntcp-forwarding = \"no\"");
    let file = gateway.folder.path().join("home/file");
    fs::write(&file, "content").unwrap();
    let got = gateway.folder.path().join("got");
    let script = format!(
        "printf 'get file {}\\nput /etc/hostname here\\n' | ",
        got.display()
    );
    let options = "-q -b - -o BatchMode=yes -o StrictHostKeyChecking=no -o \
                   UserKnownHostsFile=/dev/null";
    let key = gateway.folder.path().join("home/.ssh/id_ed25519");
    let line = format!(
        "{script} sftp {options} -P {} -i {} carol@127.0.0.1",
        gateway.port,
        key.display()
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &line])
        .output()
        .unwrap();
    assert_eq!(fs::read_to_string(&got).unwrap(), "content", "{output:?}");
    assert!(!output.status.success());
    assert!(!file.with_file_name("here").exists());
}

#[test]
fn terminals_and_the_number_of_sessions() {
    if !possible("terminals_and_the_number_of_sessions") {
        return;
    }
    let gateway = Gateway::start("permit-tty = false\nmax-sessions = 2");
    // Whoever insists gives up, whoever does not goes on without.
    let output = run(&gateway, &["-tt", "-o", "LogLevel=INFO"], &["tty"]);
    let said = text(&output.stderr);
    assert!(said.contains("PTY allocation request failed"), "{said}");
    assert_eq!(text(&run(&gateway, &[], &["tty"]).stdout), "not a tty\n");

    // On one connection: two at a time, as many as one likes one after the other, and none the
    // less for those that were refused.
    let socket = gateway.folder.path().join("control");
    let control = format!("ControlPath={}", socket.display());
    let master = gateway
        .client(&["-M", "-N", "-o", &control])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    support::until("the master is there", || socket.exists());
    let script = |command: &str| {
        let mut ssh = gateway.client(&["-o", &control]);
        ssh.arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        ssh.stderr(Stdio::piped()).spawn().unwrap()
    };
    for round in 0..80 {
        let output = run(&gateway, &["-o", &control], &["echo in"]);
        assert_eq!(text(&output.stdout), "in\n", "{round}");
    }
    let mut both: Vec<_> = (0..2).map(|_| script("echo up; cat")).collect();
    for child in &mut both {
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut [0; 3])
            .unwrap();
    }
    let third = script("echo in").wait_with_output().unwrap();
    assert!(text(&third.stderr).contains("refused by peer"), "{third:?}");
    for mut child in both {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(
        text(&run(&gateway, &["-o", &control], &["echo in"]).stdout),
        "in\n"
    );
    let mut master = master;
    let _ = master.kill();
    let _ = master.wait();
}

#[test]
fn a_key_takes_away() {
    if !possible("a_key_takes_away") {
        return;
    }
    let gateway = Gateway::start("");
    let file = gateway.folder.path().join("home/.ssh/authorized_keys");
    let line = fs::read_to_string(&file).unwrap();
    for (options, client, expected) in [
        (
            "restrict",
            &["-W", "127.0.0.1:1"][..],
            "administratively prohibited",
        ),
        (
            "permitopen=\"localhost:1\"",
            &["-W", "127.0.0.1:1"],
            "administratively prohibited",
        ),
        (
            "permitopen=\"127.0.0.1:1\"",
            &["-W", "127.0.0.1:1"],
            "connect failed",
        ),
        (
            "restrict,port-forwarding",
            &["-W", "127.0.0.1:1"],
            "connect failed",
        ),
        ("no-pty", &["-tt"], "PTY allocation request failed"),
    ] {
        fs::write(&file, format!("{options} {line}")).unwrap();
        let options_of_client = [&["-v"], client].concat();
        let output = run(&gateway, &options_of_client, &[]);
        let said = text(&output.stderr);
        assert!(said.contains(expected), "{options}: {said}");
    }
}
