//! People and groups from a file, seen by programs of glibc: served, replaced, broken, kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
    time::Duration,
};

use directory_client::{AccountState, Change, Lookup, Password, Verdict};
use support::{Lab, Settings, attempt, wait};

const EXAMPLE: &str = include_str!("../people.example.toml");
/// Of the example's alice.
const PASSWORD: &str = "Hello world!";

fn lab(path: &'static str, text: &str, more: &str) -> Lab {
    let lab = Lab::new(Settings {
        people: Some(path),
        more: format!("{more}\n[password]\nrefusal-time = \"50ms\"\n"),
        ..Settings::default()
    });
    put(&lab, path, text);
    lab
}

/// In place as editors and config management do it: another file, renamed.
fn put(lab: &Lab, path: &str, text: &str) {
    let fresh = lab.path("fresh");
    fs::write(&fresh, text).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o640)).unwrap();
    fs::rename(fresh, lab.path(path)).unwrap();
}

fn running(lab: &mut Lab) {
    lab.start_daemon();
    lab.until(|status| status.complete);
}

fn state(lab: &Lab, user: &str) -> Option<AccountState> {
    let found = lab.client().account(user, Duration::from_secs(1)).unwrap();
    found.found().map(|account| account.state)
}

#[test]
fn the_people_of_a_file_are_users_like_others() {
    let mut lab = lab("people.toml", EXAMPLE, "");
    running(&mut lab);
    assert_eq!(
        lab.getent("passwd", "alice"),
        "alice:*:10001:20001:Alice Example:/home/alice:/bin/bash"
    );
    assert_eq!(
        lab.getent("passwd", "10002"),
        "bob:*:10002:20001::/home/bob:/bin/bash"
    );
    assert_eq!(
        lab.getent("group", "science"),
        "science:*:20002:alice,bob,carol"
    );
    assert_eq!(lab.groups("bob"), [20001, 20002]);
    assert_eq!(lab.getent("passwd", "zoe"), "");

    let Lookup::Found(alice) = lab
        .client()
        .account("alice", Duration::from_secs(1))
        .unwrap()
    else {
        panic!("alice is not found");
    };
    assert!(
        alice.fresh && alice.ssh_keys[0].starts_with("ssh-ed25519 "),
        "{alice:?}"
    );
    assert_eq!(state(&lab, "alice"), Some(AccountState::Active));
    assert_eq!(state(&lab, "carol"), Some(AccountState::Locked));

    let accepted = Verdict::Accepted {
        must_change: false,
        notices: vec![],
    };
    assert_eq!(attempt(&lab, "alice", PASSWORD), accepted);
    for (user, text) in [
        ("alice", "hello"),
        ("bob", PASSWORD),
        ("zoe", PASSWORD),
        ("root", PASSWORD),
    ] {
        assert_eq!(attempt(&lab, user, text), Verdict::Refused, "{user} {text}");
    }
    let typed = |text: &str| Password::new(text.into()).unwrap();
    let change = |old| {
        lab.client()
            .change_password("alice", typed(old), typed("new"), "")
            .unwrap()
    };
    assert!(matches!(change(PASSWORD), Change::NotAccepted(_)));
    assert_eq!(change("wrong"), Change::WrongPassword);
}

#[test]
fn rules_count_as_for_a_directory() {
    let rules =
        "[access]\ndeny-groups = [\"science\"]\nallow-users = [\"dora\"]\nservice = \"ssh\"\n";
    let dora = "[[users]]\nname = \"dora\"\nuid = 10009\ngid = 20009\n";
    let text = format!("{EXAMPLE}{dora}services = [\"ssh\"]\nexpires = 2020-01-01\n");
    let mut lab = lab("people.toml", &text, rules);
    running(&mut lab);
    assert_eq!(state(&lab, "alice"), Some(AccountState::Denied));
    assert_eq!(state(&lab, "dora"), Some(AccountState::Expired));
    put(
        &lab,
        "people.toml",
        &format!("{EXAMPLE}{dora}services = [\"ssh\"]\n"),
    );
    // The question itself makes the daemon look.
    assert_eq!(state(&lab, "dora"), Some(AccountState::Active));
    put(&lab, "people.toml", &format!("{EXAMPLE}{dora}"));
    assert_eq!(state(&lab, "dora"), Some(AccountState::Denied));
    // Local and forbidden ids are refused as from everywhere.
    let bad = dora.replace("10009", "0").replace("dora", "toor");
    let root = dora.replace("10009", "10010").replace("dora", "root");
    put(&lab, "people.toml", &format!("{EXAMPLE}{bad}{root}"));
    lab.until(|status| status.refused == 2 && status.users == 3);
    assert!(lab.getent("passwd", "root").contains(":0:0:"));
}

#[test]
fn a_broken_file_leaves_what_there_was() {
    let mut lab = lab("people.toml", EXAMPLE, "");
    running(&mut lab);
    put(
        &lab,
        "people.toml",
        &format!("{EXAMPLE}[[users]]\nname = 7\n"),
    );
    let status = lab.until(|status| !status.problem.is_empty());
    let lines = EXAMPLE.lines().count();
    let place = format!("people.toml:{}:8: invalid type", lines + 2);
    assert!(status.problem.contains(&place), "{status:?}");
    assert_eq!(status.users, 3);
    assert!(lab.getent("passwd", "alice").starts_with("alice:"));
    assert!(
        lab.client()
            .refresh()
            .unwrap_err()
            .to_string()
            .contains(&place)
    );
    let check = Command::new(env!("CARGO_BIN_EXE_directoryd"))
        .args([
            "--config".as_ref(),
            lab.path("directoryd.toml").as_os_str(),
            "check".as_ref(),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(
        check.status.code() == Some(78) && said.contains(&place),
        "{said}"
    );

    // Nor does a new start change that.
    lab.stop_daemon();
    running(&mut lab);
    lab.until(|status| status.problem.contains(&place));
    assert_eq!(lab.groups("bob"), [20001, 20002]);

    // Nor a file that is gone, or one that shows nobody, or hashes for all to read.
    fs::remove_file(lab.path("people.toml")).unwrap();
    lab.until(|status| status.problem.contains("read '"));
    put(&lab, "people.toml", "");
    lab.until(|status| status.problem.contains("no user any more"));
    put(&lab, "people.toml", EXAMPLE);
    lab.until(|status| status.problem.is_empty());
    fs::set_permissions(lab.path("people.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    lab.until(|status| status.problem.contains("may be read by others"));
    fs::set_permissions(lab.path("people.toml"), fs::Permissions::from_mode(0o660)).unwrap();
    lab.until(|status| status.problem.contains("may be written by group"));
    assert!(lab.getent("passwd", "alice").starts_with("alice:"));
    put(&lab, "people.toml", &EXAMPLE.replace("bob", "rob"));
    wait("rob in bob's place", || {
        (!lab.getent("passwd", "rob").is_empty() && lab.getent("passwd", "bob").is_empty())
            .then_some(())
    });
    assert_eq!(lab.until(|_| true).problem, "");
}

/// `..data` leads to the present version, `people.ldif` to `..data/people.ldif`.
fn version(lab: &Lab, name: &str, person: &str) {
    let entry = format!(
        "dn: uid={person},ou=people\nobjectClass: posixAccount\nuid: {person}\nuidNumber: 2001\n\
         gidNumber: 2001\nhomeDirectory: /home/{person}\n\n"
    );
    let volume = lab.path("volume");
    fs::create_dir_all(volume.join(name)).unwrap();
    fs::write(volume.join(name).join("people.ldif"), entry).unwrap();
    symlink(name, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[test]
fn a_volume_of_kubernetes_is_swapped_by_a_link() {
    let mut lab = Lab::new(Settings {
        people: Some("volume/people.ldif"),
        ..Settings::default()
    });
    version(&lab, "..1", "eve");
    symlink("..data/people.ldif", lab.path("volume/people.ldif")).unwrap();
    lab.start_daemon();
    lab.until(|status| status.complete);
    assert!(
        lab.getent("passwd", "eve")
            .starts_with("eve:*:2001:2001::/home/eve:/bin/bash")
    );
    version(&lab, "..2", "eva");
    wait("the new version", || {
        (!lab.getent("passwd", "eva").is_empty()).then_some(())
    });
    assert_eq!(lab.getent("passwd", "eve"), "");
}
