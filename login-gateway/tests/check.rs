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
