//! `login-gateway check` as an administrator meets it: every problem, the exit code, and no more.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Exit code, standard output and standard error for this configuration.
fn check(folder: &std::path::Path, text: &str) -> (i32, String, String) {
    let config = folder.join("gateway.toml");
    fs::write(&config, text).unwrap();
    let output = Command::new(support::programs().join("login-gateway"))
        .arg("check")
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn host_keys_good_and_bad() {
    if !support::possible("host_keys_good_and_bad") {
        return;
    }
    let folder = support::world();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("garbage"), "not a key").unwrap();
    fs::set_permissions(at("garbage"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::copy(at("host"), at("open")).unwrap();
    fs::set_permissions(at("open"), PermissionsExt::from_mode(0o644)).unwrap();
    let names = ["host", "garbage", "open", "missing"];
    let keys = names.map(|name| format!("\"{}\"", at(name).display()));
    let (code, shown, said) = check(
        folder.path(),
        &format!(
            "user = \"nobody\"\nempty-root = \"{}\"\nhost-keys = [{}]\n",
            at("empty").display(),
            keys.join(", ")
        ),
    );
    assert_eq!(code, 78, "{said}");
    assert!(shown.contains("max-startups = 100\n"), "{shown}");
    let about = |name: &str| {
        let quoted = format!("'{}'", at(name).display());
        let mut lines = said.lines().filter(|line| line.contains(&quoted));
        lines.next().unwrap_or_default().to_owned()
    };
    assert_eq!(about("host"), "");
    assert!(
        about("garbage").contains("not an OpenSSH private key"),
        "{said}"
    );
    assert!(about("open").contains("may be read by others"), "{said}");
    assert!(about("missing").contains("No such file"), "{said}");
}

#[test]
fn wrong_keys_and_a_file_that_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let (code, shown, said) = check(folder.path(), "colour = 1\n\nmax-startups = \"x\"\n");
    assert_eq!((code, shown.as_str()), (78, ""));
    assert!(
        said.contains("gateway.toml:1:1: unknown field `colour`"),
        "{said}"
    );
    assert!(said.contains("gateway.toml:3:16: invalid type"), "{said}");
    assert!(said.contains("2 problem(s) in"), "{said}");

    let config = folder.path().join("gateway.toml");
    fs::set_permissions(&config, PermissionsExt::from_mode(0o666)).unwrap();
    let (code, _, said) = check(folder.path(), "");
    assert_eq!(code, 78);
    assert!(said.contains("may be written by group or others"), "{said}");
}

#[test]
fn what_is_no_command() {
    let output = Command::new(support::programs().join("login-gateway"))
        .arg("--colour")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn what_one_login_would_get() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    fs::write(
        &config,
        "max-sessions = 20\n[[match]]\ngroup = [\"robots\"]\nsource = [\"192.0.2.0/24\"]\n\
         permit-tty = false\n[[match]]\nuser = [\"svc-*\"]\npermit-tty = true\nmax-sessions = 1\n",
    )
    .unwrap();
    let asked = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_login-gateway"))
            .args(["check", "--config"])
            .arg(&config)
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let robot = [
        "--user",
        "svc-a",
        "--source",
        "192.0.2.9",
        "--group",
        "robots",
    ];
    let said = asked(&robot);
    assert!(
        said.contains("permit-tty = false # match block 1\n"),
        "{said}"
    );
    assert!(
        said.contains("max-sessions = 1 # match block 2\n"),
        "{said}"
    );
    assert!(said.contains("x11-forwarding = true\n"), "{said}");
    assert!(toml_keys(&said) > 20, "{said}");
    let said = asked(&["--user", "nobody-knows"]);
    assert!(said.contains("permit-tty = true\n") && said.contains("max-sessions = 20\n"));
}

fn toml_keys(text: &str) -> usize {
    text.lines().filter(|line| line.contains(" = ")).count()
}

#[test]
fn host_keys_are_made_once() {
    if !support::possible("host_keys_are_made_once") {
        return;
    }
    let folder = support::world();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let config = at("gateway.toml");
    let keys = format!(
        "host-keys = [\"{}\", \"{}\"]\n",
        at("ssh_host_ecdsa_key"),
        at("ssh_host_ed25519_key")
    );
    fs::write(&config, keys).unwrap();
    let generate = || {
        let mut command = Command::new(support::programs().join("login-gateway"));
        command.args(["generate-host-keys", "--config", &config]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = generate();
    assert!(
        said.contains("made ecdsa host key") && said.contains("made ed25519 host key"),
        "{said}"
    );
    assert_eq!(generate(), "");
    let mode = fs::metadata(at("ssh_host_ecdsa_key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn host_certificates() {
    if !support::possible("host_certificates") {
        return;
    }
    let folder = support::world();
    let at = |name: &str| folder.path().join(name).display().to_string();
    support::run(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-f", &at("ca")],
    );
    let issue = |name: &str, more: &[&str]| {
        fs::copy(at("host.pub"), at(&format!("{name}.pub"))).unwrap();
        let public = at(&format!("{name}.pub"));
        let ca = at("ca");
        let arguments = [&["-q", "-s", &ca, "-I", "x", "-n", "x"], more, &[&public]].concat();
        support::run("ssh-keygen", &arguments);
        at(&format!("{name}-cert.pub"))
    };
    let good = issue("good", &["-h"]);
    let soon = issue("soon", &["-h", "-V", "-1d:+5d12h"]);
    let late = issue("late", &["-h", "-V", "-2d:-1d"]);
    let user = issue("user", &[]);
    fs::copy(at("ca.pub"), at("other.pub")).unwrap();
    support::run(
        "ssh-keygen",
        &["-q", "-s", &at("ca"), "-I", "x", "-h", &at("other.pub")],
    );
    let (other, key) = (at("other-cert.pub"), at("host.pub"));
    let list = [&good, &soon, &late, &user, &other, &key].map(|path| format!("\"{path}\""));
    let (_, _, said) = check(
        folder.path(),
        &format!(
            "host-keys = [\"{}\"]\nhost-certificates = [{}]\n",
            at("host"),
            list.join(", ")
        ),
    );
    let about = |path: &str| {
        let mut lines = said
            .lines()
            .filter(|line| line.contains(&format!("'{path}'")));
        lines.next().unwrap_or_default().to_owned()
    };
    assert_eq!(about(&good), "");
    assert!(about(&soon).contains("expires in 5 days"), "{said}");
    assert!(
        about(&late).contains("has expired and is not shown"),
        "{said}"
    );
    assert!(about(&user).contains("is a user's, not a host's"), "{said}");
    assert!(
        about(&other).contains("belongs to none of the host keys"),
        "{said}"
    );
    assert!(
        about(&key).contains("is not an OpenSSH certificate"),
        "{said}"
    );
}
