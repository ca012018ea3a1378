//! `pam_directory.so` in programs with PAM: pamtester step by step, and a stock sshd, in front of a real
//! slapd.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Lab, Settings, has_peers, persons, wait};

const QUICK: &str = "[password]\nrefusal-time = \"50ms\"\nuser-failures = 50\ntimeout = \"2s\"\n";
const BOB: &str = "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\n";
const POLICY: &str = "dn: cn=policy,dc=example,dc=org\nchangetype: modify\n";
/// The lines of the login image, with our module's path for its name.
const IMAGE: &str = include_str!("../../../images/login/etc/pam.d/login-gateway");
/// Those for other programs.
const OTHERS: &str = include_str!("../../../images/login/etc/pam.d/directory");

fn has(test: &str, programs: &[&str]) -> bool {
    if !has_peers(test) {
        return false;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped {test}: PAM's folder is replaced, which needs root");
        return false;
    }
    for program in programs {
        let found = ["/usr/bin", "/usr/sbin", "/bin"]
            .iter()
            .any(|folder| PathBuf::from(folder).join(program).exists());
        if !found {
            println!("skipped {test}: '{program}' is not installed");
            return false;
        }
    }
    true
}

/// The module, built as it is now.
fn module() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "-q", "-p", "pam-directory"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success());
    let program = PathBuf::from(env!("CARGO_BIN_EXE_directoryd"));
    program.with_file_name("libpam_directory.so")
}

fn lab() -> Lab {
    lab_with("")
}

fn lab_with(more: &str) -> Lab {
    let mut lab = Lab::new(Settings {
        more_ldap: QUICK,
        ..Settings::default()
    });
    let (config, secret) = (lab.path("directoryd.toml"), lab.path("offline-secret"));
    fs::write(&secret, "k".repeat(32)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let more = more.replace("SECRET", &secret.display().to_string());
    let text = fs::read_to_string(&config).unwrap() + &more;
    fs::write(config, text).unwrap();
    lab.start_slapd();
    lab.start_daemon();
    lab.until(|status| status.complete);
    let module = format!(
        "{} socket={}",
        module().display(),
        lab.path("run/control.sock").display()
    );
    fs::create_dir(lab.path("pam.d")).unwrap();
    let all = ["auth", "account", "password", "session"]
        .map(|step| format!("{step} required {module}\n"))
        .concat();
    fs::write(lab.path("pam.d/bare"), &all).unwrap();
    let others = OTHERS.replace("pam_directory.so", &module);
    fs::write(lab.path("pam.d/directory"), others).unwrap();
    for service in ["sshd", "sudo"] {
        fs::write(lab.path("pam.d").join(service), "@include directory\n").unwrap();
    }
    let su = "auth sufficient pam_rootok.so\n@include directory\n";
    fs::write(lab.path("pam.d/su"), su).unwrap();
    let image = IMAGE.replace("pam_directory.so", &module);
    fs::write(lab.path("pam.d/image"), image).unwrap();
    fs::write(lab.path("pam.d/other"), "auth required pam_deny.so\n").unwrap();
    lab
}

/// A program that sees our PAM files as /etc/pam.d.
fn with_pam(lab: &Lab, program: &str) -> Command {
    let script = "mount --bind \"$1\" /etc/pam.d && shift && exec \"$@\"";
    let mut command = lab.program("sh");
    command
        .args(["-c", script, "sh"])
        .arg(lab.path("pam.d"))
        .arg(program);
    command
}

/// Whether pamtester succeeded, and all it printed.
fn pamtester(
    lab: &Lab,
    service: &str,
    user: &str,
    steps: &[&str],
    typed: &[&str],
) -> (bool, String) {
    let mut child = with_pam(lab, "pamtester")
        .args(["-I", "rhost=192.0.2.9", service, user])
        .args(steps)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = typed.iter().map(|line| format!("{line}\n")).collect();
    // One that asks nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn each_step_answers_as_pam_wants_it() {
    if !has("each_step_answers_as_pam_wants_it", &["pamtester"]) {
        return;
    }
    let mut lab = lab();
    let right = persons(&lab);
    let check =
        |lab: &Lab, service: &str, user: &str, steps: &[&str], typed: &[&str], good, part: &str| {
            let (success, text) = pamtester(lab, service, user, steps, typed);
            assert!(
                success == good && text.contains(part),
                "{service} {user} {steps:?}: {text}"
            );
        };
    for service in ["bare", "image"] {
        let all = &["authenticate", "acct_mgmt"][..];
        check(
            &lab,
            service,
            "bob",
            all,
            &[&right],
            true,
            "account management done",
        );
        check(&lab, service, "bob", all, &["wrong"], false, "");
        check(&lab, service, "bob", all, &[""], false, "");
        check(&lab, service, "nosuch", all, &[&right], false, "");
        check(
            &lab,
            service,
            "dave",
            &["acct_mgmt"],
            &[],
            false,
            "Your account has expired.",
        );
        check(
            &lab,
            service,
            "erin",
            &["acct_mgmt"],
            &[],
            false,
            "not for logins",
        );
        // A key login has no authentication step.
        check(
            &lab,
            service,
            "bob",
            &["acct_mgmt", "setcred", "open_session"],
            &[],
            true,
            "",
        );
    }
    // Local users are not ours, and are asked nothing.
    check(
        &lab,
        "bare",
        "root",
        &["authenticate"],
        &[],
        false,
        "User not known",
    );
    check(&lab, "image", "root", &["acct_mgmt"], &[], true, "");
    check(&lab, "image", "root", &["authenticate"], &["x"], false, "");
    check(
        &lab,
        "bare",
        "bob",
        &["authenticate"],
        &["wrong"],
        false,
        "Authentication failure",
    );
    check(
        &lab,
        "bare",
        "nosuch",
        &["authenticate"],
        &["wrong"],
        false,
        "Authentication failure",
    );
    assert!(lab.log().contains("source=\"192.0.2.9\""));

    lab.modify(&format!(
        "{BOB}replace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n"
    ));
    // The image's account line asks the copy: the monitor has just asked the server.
    lab.client().refresh().unwrap();
    check(
        &lab,
        "image",
        "bob",
        &["acct_mgmt"],
        &[],
        false,
        "Your account is locked.",
    );
    lab.modify(&format!("{BOB}delete: pwdAccountLockedTime\n"));
    lab.client().refresh().unwrap();
    lab.signal_slapd(Signal::SIGSTOP);
    check(
        &lab,
        "bare",
        "bob",
        &["authenticate"],
        &[&right],
        false,
        "cannot retrieve",
    );
    // Of the account the replica knows.
    check(&lab, "image", "bob", &["acct_mgmt"], &[], true, "");
    lab.signal_slapd(Signal::SIGCONT);
    lab.kill_daemon();
    check(
        &lab,
        "bare",
        "bob",
        &["authenticate"],
        &[&right],
        false,
        "cannot retrieve",
    );
    check(
        &lab,
        "bare",
        "bob",
        &["acct_mgmt"],
        &[],
        false,
        "cannot retrieve",
    );
}

#[test]
fn a_frozen_directoryd_keeps_nobody_waiting() {
    if !has("a_frozen_directoryd_keeps_nobody_waiting", &["pamtester"]) {
        return;
    }
    let lab = lab();
    let right = persons(&lab);
    let daemon = Pid::from_raw(i32::try_from(lab.daemon_pid()).unwrap());
    kill(daemon, Signal::SIGSTOP).unwrap();
    // Each step ends by itself, with a refusal: nobody thaws it meanwhile.
    for steps in [&["authenticate"][..], &["acct_mgmt"]] {
        let (success, text) = pamtester(&lab, "bare", "bob", steps, &[&right]);
        assert!(!success, "{steps:?}: {text}");
    }
    kill(daemon, Signal::SIGCONT).unwrap();
    let (success, text) = pamtester(&lab, "bare", "bob", &["authenticate"], &[&right]);
    assert!(success, "{text}");
}

#[test]
fn a_password_that_must_be_changed_is_changed_in_the_dialogue() {
    if !has(
        "a_password_that_must_be_changed_is_changed_in_the_dialogue",
        &["pamtester"],
    ) {
        return;
    }
    let lab = lab();
    let right = persons(&lab);
    lab.modify(&format!(
        "{POLICY}replace: pwdMustChange\npwdMustChange: TRUE\n-\nreplace: pwdMinLength\n\
         pwdMinLength: 8\n-\nreplace: pwdCheckQuality\npwdCheckQuality: 1\n"
    ));
    lab.modify(&format!("{BOB}replace: pwdReset\npwdReset: TRUE\n"));
    let login = &["authenticate", "acct_mgmt"][..];
    let change = &["chauthtok"][..];
    for service in ["bare", "image"] {
        let (success, text) = pamtester(&lab, service, "bob", login, &[&right]);
        assert!(
            !success && text.contains("Your password must be changed now."),
            "{text}"
        );
    }
    let (success, text) = pamtester(&lab, "image", "bob", change, &["wrong", "long enough"]);
    assert!(!success, "{text}");
    let typed = [right.as_str(), "short", "short"];
    let (success, text) = pamtester(&lab, "image", "bob", change, &typed);
    assert!(!success && text.contains("too short"), "{text}");
    let typed = [right.as_str(), "long enough", "long enuff"];
    let (success, text) = pamtester(&lab, "image", "bob", change, &typed);
    assert!(!success, "{text}");
    let typed = [right.as_str(), "long enough", "long enough"];
    let (success, text) = pamtester(&lab, "image", "bob", change, &typed);
    assert!(success, "{text}");
    let (success, text) = pamtester(&lab, "image", "bob", login, &["long enough"]);
    assert!(success, "{text}");
    let (success, text) = pamtester(&lab, "image", "bob", login, &[&right]);
    assert!(!success, "{text}");
}

struct Sshd {
    child: Child,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sshd(lab: &Lab) -> Sshd {
    let key = lab.path("host-key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nUsePAM yes\nKbdInteractiveAuthentication yes\n\
         PasswordAuthentication yes\nPidFile none\nStrictModes no\n",
        key.display()
    );
    fs::write(lab.path("sshd_config"), config).unwrap();
    let log = fs::File::create(lab.path("sshd.log")).unwrap();
    // Its own folder for privilege separation is under /run, which is ours in there.
    let child = with_pam(lab, "sh")
        .args([
            "-c",
            "mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -f \"$0\"",
        ])
        .arg(lab.path("sshd_config"))
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    wait("sshd listens", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    Sshd { child, port }
}

/// A login with passwords that a helper program types, one after the other.
fn ssh(lab: &Lab, sshd: &Sshd, method: &str, typed: &[&str]) -> (bool, String) {
    let answers: String = typed.iter().map(|line| format!("{line}\n")).collect();
    fs::write(lab.path("answers"), answers).unwrap();
    let helper = lab.path("ask");
    let script = format!(
        "#!/bin/sh\nhead -n1 {0}; sed -i 1d {0}\n",
        lab.path("answers").display()
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o700)).unwrap();
    let output = Command::new("ssh")
        .args(["-F", "none", "-p", &sshd.port.to_string()])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-o", "NumberOfPasswordPrompts=1", "-o", "LogLevel=ERROR"])
        .args(["-o", &format!("PreferredAuthentications={method}")])
        .args(["bob@127.0.0.1", "id", "-un"])
        .env("SSH_ASKPASS", helper)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn a_stock_sshd_lets_people_of_the_directory_in() {
    let test = "a_stock_sshd_lets_people_of_the_directory_in";
    if !has(test, &["sshd", "ssh", "ssh-keygen"]) {
        return;
    }
    let lab = lab();
    let sshd = sshd(&lab);
    let right = persons(&lab);
    for method in ["password", "keyboard-interactive"] {
        let (success, text) = ssh(&lab, &sshd, method, &[&right]);
        let log = || fs::read_to_string(lab.path("sshd.log")).unwrap();
        assert!(
            success && text.starts_with("bob\n"),
            "{method}: {text}{}",
            log()
        );
        let (success, text) = ssh(&lab, &sshd, method, &["wrong"]);
        assert!(
            !success && text.contains("Permission denied"),
            "{method}: {text}"
        );
    }
    // "Must change", within keyboard-interactive.
    lab.modify(&format!(
        "{POLICY}replace: pwdMustChange\npwdMustChange: TRUE\n"
    ));
    lab.modify(&format!("{BOB}replace: pwdReset\npwdReset: TRUE\n"));
    let typed = [right.as_str(), right.as_str(), "a new one", "a new one"];
    let (success, text) = ssh(&lab, &sshd, "keyboard-interactive", &typed);
    assert!(success && text.contains("bob\n"), "{text}");
    let (success, text) = ssh(&lab, &sshd, "password", &["a new one"]);
    assert!(success && text.contains("bob\n"), "{text}");
}

#[test]
fn a_closed_pod_lets_a_group_in() {
    if !has("a_closed_pod_lets_a_group_in", &["pamtester"]) {
        return;
    }
    let lab = lab();
    lab.modify(
        "dn: cn=nologin-bypass,ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: groupOfMembers\n\
         objectClass: posixGroup\ncn: nologin-bypass\ngidNumber: 1600\n\
         member: cn=physics,ou=groups,dc=example,dc=org\n",
    );
    wait("the group", || {
        lab.groups("bob").contains(&1600).then_some(())
    });
    let script = "echo Closed for work. >/run/nologin && exec pamtester image \"$1\" acct_mgmt";
    let account = |user: &str| {
        let output = with_pam(&lab, "sh")
            .args(["-c", script, "sh", user])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    // By a group in the group.
    let (success, text) = account("bob");
    assert!(success, "{text}");
    lab.modify(
        "dn: cn=physics,ou=groups,dc=example,dc=org\nchangetype: modify\ndelete: member\n\
         member: uid=bob,ou=people,dc=example,dc=org\n",
    );
    wait("bob to leave", || {
        (!lab.groups("bob").contains(&1600)).then_some(())
    });
    let (success, text) = account("bob");
    assert!(!success && text.contains("Closed for work."), "{text}");
}

/// What a program started by a person of the directory prints, and whether it succeeded; `typed` is its input.
fn by(lab: &Lab, user: &str, typed: &str, arguments: &[&str]) -> (bool, String) {
    fs::write(lab.path("sudoers"), "%physics ALL=(ALL) ALL\n").unwrap();
    fs::set_permissions(lab.path("sudoers"), fs::Permissions::from_mode(0o440)).unwrap();
    let script = "mount --bind \"$1\" /etc/sudoers && shift && exec \"$@\"";
    let mut child = with_pam(lab, "sh")
        .args(["-c", script, "sh"])
        .arg(lab.path("sudoers"))
        .args([
            "setpriv",
            "--reuid",
            user,
            "--regid",
            "people",
            "--init-groups",
        ])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that asks nothing may have ended.
    let _ = writeln!(child.stdin.take().unwrap(), "{typed}");
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn stock_sudo_and_su_know_people_of_the_directory() {
    let test = "stock_sudo_and_su_know_people_of_the_directory";
    if !has(test, &["sudo", "su", "setpriv"]) {
        return;
    }
    let lab = lab();
    let right = persons(&lab);
    let sudo = ["sudo", "-S", "-p", "", "id", "-un"];
    let su = ["su", "bob", "-s", "/bin/sh", "-c", "id -Gn"];
    let check = |user, typed: &str, arguments: &[&str], good: bool, expected: &str| {
        let (success, text) = by(&lab, user, typed, arguments);
        let fits = success == good && text.contains(expected);
        assert!(fits, "{user} {arguments:?}: {success} {text}");
    };
    // By a group of the directory, with the password there.
    check("bob", &right, &sudo, true, "root");
    check("bob", "wrong", &sudo, false, "incorrect password");
    check("dave", &right, &sudo, false, "");
    check("carol", &right, &su, true, "science");
    check("carol", "wrong", &su, false, "Authentication failure");
    let by_root = |expected: &str| {
        let output = with_pam(&lab, "su").args(&su[1..]).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains(expected), "{text}");
    };
    by_root("science");
    // A lock counts for all of them.
    lab.modify(&format!(
        "{BOB}replace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n"
    ));
    wait("the lock", || {
        let bob = lab.client().account("bob", std::time::Duration::ZERO);
        let bob = bob.unwrap().found()?;
        (bob.state == directory_client::AccountState::Locked).then_some(())
    });
    by_root("Your account is locked.");
    check("bob", &right, &sudo, false, "");
    check("carol", &right, &su, false, "");
}

#[test]
fn the_last_password_lets_people_in_while_no_server_answers() {
    let test = "the_last_password_lets_people_in_while_no_server_answers";
    if !has(test, &["pamtester", "sshd", "ssh", "ssh-keygen"]) {
        return;
    }
    let mut lab = lab_with("[offline-passwords]\nsecret-file = \"SECRET\"\ntries = 20\n");
    let sshd = sshd(&lab);
    let right = persons(&lab);
    let login = &["authenticate", "acct_mgmt"][..];
    let (success, text) = pamtester(&lab, "image", "bob", login, &[&right]);
    assert!(success, "{text}");
    lab.until(|status| status.offline_passwords == Some(1));
    let away = "your last known password was accepted";
    let check = |lab: &Lab| {
        for service in ["bare", "image"] {
            let (success, text) = pamtester(lab, service, "bob", login, &[&right]);
            assert!(success && text.contains(away), "{service}: {text}");
            let (success, text) = pamtester(lab, service, "bob", login, &["wrong"]);
            assert!(!success && !text.contains(away), "{service}: {text}");
        }
        for method in ["password", "keyboard-interactive"] {
            let (success, text) = ssh(lab, &sshd, method, &[&right]);
            assert!(success && text.contains("bob\n"), "{method}: {text}");
            let (success, text) = ssh(lab, &sshd, method, &["wrong"]);
            assert!(!success, "{method}: {text}");
        }
    };
    lab.signal_slapd(Signal::SIGSTOP);
    check(&lab);
    lab.signal_slapd(Signal::SIGCONT);
    lab.stop_slapd();
    check(&lab);
}
