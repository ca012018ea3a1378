//! What our file server does to files, in the audit log, told by the real sftp.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use support::{Gateway, possible, until};

/// Runs this batch of sftp; `false` if a command of it failed.
fn sftp(gateway: &Gateway, batch: &str) -> bool {
    let mut child = Command::new("sftp")
        .args([
            "-q",
            "-b",
            "-",
            "-F",
            "none",
            "-P",
            &gateway.port.to_string(),
        ])
        .arg("-i")
        .arg(gateway.folder.path().join("home/.ssh/id_ed25519"))
        .args(["-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"])
        .arg("carol@127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(batch.as_bytes())
        .unwrap();
    child.wait().unwrap().success()
}

/// Lines of the audit log about files.
fn lines(gateway: &Gateway) -> Vec<String> {
    let log = gateway.log();
    let lines = log.lines().filter(|l| l.contains("event=\"sftp."));
    lines.map(str::to_owned).collect()
}

fn told(gateway: &Gateway, parts: &[&str]) {
    until(&parts.join(" "), || {
        let lines = lines(gateway);
        lines
            .iter()
            .any(|l| parts.iter().all(|part| l.contains(part)))
    });
}

const RECORDED: &str = "[[match]]\nuser = [\"carol\"]\nrecord-sftp = true\n";

#[test]
fn every_change_is_on_the_record() {
    if !possible("every_change_is_on_the_record") {
        return;
    }
    let gateway = Gateway::start(RECORDED);
    let home = gateway.folder.path().join("home");
    let source = gateway.folder.path().join("source");
    fs::write(&source, vec![b'x'; 300_000]).unwrap();
    let (home, source) = (home.to_str().unwrap(), source.to_str().unwrap());
    let done = sftp(
        &gateway,
        &format!(
            "put {source} a\nget a /dev/null\nmkdir d\nrename a \"d/b ü\\\\\"\nchmod 600 \"d/b ü\\\\\"\n\
             ln -s ../there d/s\nln \"d/b ü\\\\\" d/h\nrm d/h\nrm d/s\nrm \"d/b ü\\\\\"\nrmdir d\n"
        ),
    );
    assert!(done, "{}", gateway.log());
    let path = |name: &str| format!("path=\"{home}/{name}\"");
    told(
        &gateway,
        &[
            "sftp.open",
            &path("a"),
            "WRITE,CREATE,TRUNC",
            "channel=",
            "login=",
            "source=127.0.0.1:",
        ],
    );
    told(
        &gateway,
        &[
            "sftp.close",
            &path("a"),
            "bytes_read=0 bytes_written=300000",
        ],
    );
    told(
        &gateway,
        &[
            "sftp.close",
            &path("a"),
            "bytes_read=300000 bytes_written=0",
        ],
    );
    told(&gateway, &["sftp.mkdir", &path("d"), "mode 0"]);
    let odd = path("d/b ü\\\\\\\\");
    told(
        &gateway,
        &["sftp.rename", &path("a"), "to=", "/d/b ü\\\\\\\\\""],
    );
    told(&gateway, &["sftp.setstat", &odd, "mode 0600"]);
    told(&gateway, &["sftp.symlink", &path("d/s"), "to=\"../there\""]);
    told(
        &gateway,
        &["sftp.link", &path("d/h"), &format!("to=\"{home}/d/b ü")],
    );
    told(&gateway, &["sftp.remove", &odd]);
    told(&gateway, &["sftp.rmdir", &path("d")]);
    assert!(!gateway.log().contains("refused="), "{}", gateway.log());

    // What was not done, and why.
    assert!(!sftp(&gateway, "rm /etc/passwd\n"));
    told(
        &gateway,
        &[
            "sftp.remove",
            "/etc/passwd",
            "refused=\"Permission denied\"",
        ],
    );
    assert!(!sftp(&gateway, "get /etc/shadow /dev/null\n"));
    told(
        &gateway,
        &[
            "sftp.open",
            "/etc/shadow",
            "READ",
            "refused=\"Permission denied\"",
        ],
    );

    // A client that is killed in the middle: the file is closed, with what had come.
    let mut put = Command::new("sh")
        .args(["-c", "exec ssh \"$@\"", "ssh"])
        .args(gateway.client(&["-s"]).get_args())
        .arg("sftp")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Version 3, then an open for writing (draft-ietf-secsh-filexfer-02, sections 4 and 6.3).
    let packet =
        |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
    let text = |text: &str| {
        [
            &u32::try_from(text.len()).unwrap().to_be_bytes()[..],
            text.as_bytes(),
        ]
        .concat()
    };
    let open = [
        &[3, 0, 0, 0, 1][..],
        &text("held"),
        &[0, 0, 0, 0x1a],
        &[0; 4],
    ]
    .concat();
    let bytes = [packet(&[1, 0, 0, 0, 3]), packet(&open)].concat();
    put.stdin.as_mut().unwrap().write_all(&bytes).unwrap();
    told(&gateway, &["sftp.open", &path("held")]);
    put.kill().unwrap();
    put.wait().unwrap();
    told(&gateway, &["sftp.close", &path("held"), "bytes_written=0"]);
    gateway.logged("session.closed", 4);
    let log = gateway.log();
    let place = |what: &str| log.rfind(what).unwrap();
    assert!(place("sftp.close") < place("session.closed"), "{log}");
}

#[test]
fn nobody_forges_a_line_or_loses_one_among_many() {
    if !possible("nobody_forges_a_line_or_loses_one_among_many") {
        return;
    }
    let gateway = Gateway::start(&format!(
        "{RECORDED}force-command = \"internal-sftp -P rmdir\"\n"
    ));
    let home = gateway.folder.path().join("home");
    let script = "for i in $(seq 1000); do echo x > $i; done; mkdir d; touch \"a\nINFO audit: event=\\\"forged\\\"\"";
    let done = Command::new("sh")
        .args(["-c", script])
        .current_dir(&home)
        .status();
    assert!(done.unwrap().success());
    support::run("chown", &["-R", "1501:1501", home.to_str().unwrap()]);
    // All at once: more than any socket holds.
    let batch: String = (1..=1000).map(|i| format!("rm {i}\n")).collect();
    assert!(sftp(&gateway, &format!("{batch}rm a*\n")));
    let removed = || {
        lines(&gateway)
            .iter()
            .filter(|l| l.contains("sftp.remove"))
            .count()
    };
    until("each is told", || removed() == 1001);
    let log = gateway.log();
    assert!(!log.contains("\nINFO audit: event=\"forged\""));
    assert!(!log.contains("record.dropped"));
    // What the command line of the policy forbids is told as well.
    assert!(!sftp(&gateway, "rmdir d\n"));
    told(
        &gateway,
        &["sftp.rmdir", "/d\"", "refused=\"Permission denied\""],
    );
}

#[test]
fn nothing_is_told_where_nobody_wants_it() {
    if !possible("nothing_is_told_where_nobody_wants_it") {
        return;
    }
    let gateway = Gateway::start("[[match]]\nuser = [\"dave\"]\nrecord-sftp = true\n");
    assert!(sftp(&gateway, "mkdir d\nrmdir d\n"));
    gateway.logged("session.closed", 1);
    assert!(lines(&gateway).is_empty());
}
