//! SIGHUP: a new configuration counts at once, and nobody who asks meanwhile is turned away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use directory_client::{AccountState, Lookup};
use directory_map::protocol::Query;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use support::{Lab, Settings, found, has_peers, wait};

fn state(lab: &Lab, user: &str) -> Option<AccountState> {
    let found = lab.client().account(user, Duration::from_secs(1)).unwrap();
    found.found().map(|account| account.state)
}

fn hang_up(lab: &Lab) {
    let pid = i32::try_from(lab.daemon_pid()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
}

#[test]
fn a_new_configuration_counts_and_nobody_is_turned_away() {
    if !has_peers("a_new_configuration_counts_and_nobody_is_turned_away") {
        return;
    }
    let mut lab = Lab::running(Settings::default());
    let before = fs::read_to_string(lab.path("directoryd.toml")).unwrap();
    assert_eq!(state(&lab, "bob"), Some(AccountState::Active));
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let going = || !stop.load(Ordering::Relaxed);
        for (query, key) in [
            (Query::UserByName, "bob"),
            (Query::GroupsOfUser, "carol"),
            (Query::UserByName, "root"),
        ] {
            let (lab, asked) = (&lab, &asked);
            scope.spawn(move || {
                while going() {
                    assert_eq!(found(lab.folder.path(), query, key), 1, "{key}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let lab = &lab;
        scope.spawn(move || {
            while going() {
                let carol = lab.client().account("carol", Duration::from_secs(1));
                assert!(matches!(carol, Ok(Lookup::Found(_))), "{carol:?}");
            }
        });
        scope.spawn(move || {
            while going() {
                assert!(lab.getent("passwd", "bob").starts_with("bob:"));
            }
        });
        for denied in [true, false].repeat(5) {
            let rule = "[access]\ndeny-users = [\"bob\"]\n";
            let text = before.clone() + if denied { rule } else { "" };
            fs::write(lab.path("directoryd.toml"), text).unwrap();
            hang_up(lab);
            let wanted = match denied {
                true => AccountState::Denied,
                false => AccountState::Active,
            };
            wait("the rule", || {
                (state(lab, "bob") == Some(wanted)).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 100);
    assert_eq!(
        lab.log().matches("event=\"reload\"").count(),
        10,
        "{}",
        lab.log()
    );
    lab.assert_alive();
}

#[test]
fn one_with_a_mistake_changes_nothing() {
    if !has_peers("one_with_a_mistake_changes_nothing") {
        return;
    }
    let mut lab = Lab::running(Settings::default());
    let before = fs::read_to_string(lab.path("directoryd.toml")).unwrap();
    for (mistake, said) in [
        ("colour = 1\n", "unknown field `colour`"),
        ("minimum-id = 0\n", "minimum-id is 0"),
    ] {
        fs::write(lab.path("directoryd.toml"), mistake.to_owned() + &before).unwrap();
        hang_up(&lab);
        wait("what is wrong", || {
            let log = lab.log();
            (log.contains("reload.refused") && log.contains(said)).then_some(())
        });
        assert_eq!(state(&lab, "bob"), Some(AccountState::Active));
    }
    // The same once more is none, and everything is read.
    fs::write(lab.path("directoryd.toml"), before).unwrap();
    hang_up(&lab);
    lab.modify(
        "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: loginShell\nloginShell: /bin/zsh\n",
    );
    wait("the new shell", || {
        lab.getent("passwd", "bob")
            .ends_with(":/bin/zsh")
            .then_some(())
    });
    assert!(!lab.log().contains("event=\"reload\""));
    lab.assert_alive();
}
