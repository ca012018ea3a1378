//! A directory that cannot be listed, or holds more than is wanted: users and groups are asked for one by one, and
//! "not found" is said only when the server has said so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{os::unix::net::UnixStream, time::Duration};

use directory_client::{Account, AccountState, Lookup};
use directory_map::protocol::Query;
use nix::sys::signal::Signal;
use support::{Lab, Settings, answer, ask, found, has_peers, wait};

/// Three of the four users, and three of the four groups.
const LIMITS: &str = "size.soft=3 size.hard=3 size.prtotal=3";
const ON: &str = "on-demand = true";

fn lab(schema: &'static str) -> Lab {
    Lab::running(Settings {
        schema,
        limits: LIMITS,
        more_ldap: ON,
        ..Settings::default()
    })
}

#[test]
fn who_is_asked_for_is_found_and_nobody_else_exists() {
    if !has_peers("who_is_asked_for_is_found_and_nobody_else_exists") {
        return;
    }
    let lab = lab("rfc2307bis");
    assert!(lab.getent("passwd", "bob").starts_with("bob:*:1501:1500:"));
    assert!(lab.getent("passwd", "1502").starts_with("carol:*:1502:"));
    assert_eq!(lab.getent("group", "1511"), "chemistry:*:1511:carol");
    assert_eq!(lab.groups("bob"), [1500, 1510, 1512]);
    assert_eq!(lab.groups("carol"), [1500, 1510, 1511, 1512]);
    // Not yet known by name, asked for by the groups alone.
    assert_eq!(found(lab.folder.path(), Query::GroupsOfUser, "dave"), 1);
    assert_eq!(lab.groups("dave"), [1500, 1511, 1512]);
    assert_eq!(
        lab.getent("group", "chemistry"),
        "chemistry:*:1511:carol,dave"
    );
    assert_eq!(
        lab.getent("group", "science"),
        "science:*:1512:bob,carol,dave"
    );
    for (query, key) in [
        (Query::UserByName, "zoe"),
        (Query::UserById, "1999"),
        (Query::GroupByName, "zoo"),
        (Query::GroupById, "1999"),
        (Query::GroupsOfUser, "zoe"),
    ] {
        assert_eq!(found(lab.folder.path(), query, key), 0, "{query:?} {key}");
        assert_eq!(
            found(lab.folder.path(), query, key),
            0,
            "{query:?} {key}, once more"
        );
    }
    // Never asked for: no name, and a number below the least.
    assert_eq!(found(lab.folder.path(), Query::UserByName, "Zoe*"), -1);
    assert_eq!(found(lab.folder.path(), Query::UserById, "12"), -1);
    assert_eq!(found(lab.folder.path(), Query::UserByName, "root"), 1);
    // Another entry of the name: neither is served any more, and nothing is known.
    lab.modify(
        "dn: cn=other,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: account\n\
         objectClass: posixAccount\ncn: other\nuid: bob\nuidNumber: 1600\ngidNumber: 1500\n\
         homeDirectory: /home/other\n",
    );
    wait("bob to be doubtful", || {
        (found(lab.folder.path(), Query::UserByName, "bob") == -1).then_some(())
    });
    let budget = Duration::from_secs(2);
    let account = lab.client().account("erin", budget).unwrap();
    assert!(matches!(account, Lookup::Found(account) if account.fresh));
    let account = lab.client().account("zoe", budget).unwrap();
    assert!(matches!(account, Lookup::NotFound), "{account:?}");
}

#[test]
fn what_is_held_is_asked_for_again_and_outlives_the_server() {
    if !has_peers("what_is_held_is_asked_for_again_and_outlives_the_server") {
        return;
    }
    let mut lab = lab("rfc2307bis");
    assert_eq!(lab.groups("bob"), [1500, 1510, 1512]);
    assert!(lab.getent("passwd", "erin").starts_with("erin:"));
    lab.modify(
        "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: loginShell\n\
         loginShell: /bin/ksh\n",
    );
    wait("the new shell", || {
        lab.getent("passwd", "bob")
            .ends_with(":/bin/ksh")
            .then_some(())
    });
    lab.modify(
        "dn: cn=physics,ou=groups,dc=example,dc=org\nchangetype: modify\ndelete: member\n\
         member: uid=bob,ou=people,dc=example,dc=org\n",
    );
    wait("bob to leave", || {
        (lab.groups("bob") == [1500]).then_some(())
    });
    lab.modify("dn: uid=erin,ou=people,dc=example,dc=org\nchangetype: delete\n");
    wait("erin to be gone", || {
        (found(lab.folder.path(), Query::UserByName, "erin") == 0).then_some(())
    });
    // A restart with nobody to ask: who is held is there, of others nothing is said.
    lab.stop_daemon();
    lab.stop_slapd();
    lab.start_daemon();
    assert!(lab.getent("passwd", "bob").ends_with(":/bin/ksh"));
    assert_eq!(lab.groups("bob"), [1500]);
    assert_eq!(found(lab.folder.path(), Query::UserByName, "carol"), -1);
    assert_eq!(found(lab.folder.path(), Query::UserByName, "erin"), -1);
    lab.start_slapd();
    wait("the server", || {
        (found(lab.folder.path(), Query::UserByName, "carol") == 1).then_some(())
    });
    assert_eq!(found(lab.folder.path(), Query::UserByName, "erin"), 0);
}

#[test]
fn a_silent_server_makes_nobody_wait_for_long_and_nothing_not_found() {
    if !has_peers("a_silent_server_makes_nobody_wait_for_long_and_nothing_not_found") {
        return;
    }
    let lab = lab("rfc2307");
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    lab.signal_slapd(Signal::SIGSTOP);
    let names: Vec<String> = (0..40).map(|n| format!("nobody{n}")).collect();
    let asked: Vec<UnixStream> = names
        .iter()
        .map(|name| ask(lab.folder.path(), Query::UserByName, name))
        .collect();
    // Others are not held up.
    assert_eq!(found(lab.folder.path(), Query::UserByName, "root"), 1);
    assert_eq!(found(lab.folder.path(), Query::UserByName, "bob"), 1);
    for stream in asked {
        assert_eq!(answer(stream), -1);
    }
    lab.signal_slapd(Signal::SIGCONT);
    wait("the server", || {
        (found(lab.folder.path(), Query::UserByName, "nobody0") == 0).then_some(())
    });
    assert_eq!(lab.groups("carol"), [1500, 1510, 1511]);
}

#[test]
fn more_than_is_to_be_held_is_asked_for_too() {
    if !has_peers("more_than_is_to_be_held_is_asked_for_too") {
        return;
    }
    let lab = Lab::running(Settings {
        more_ldap: "on-demand = true\nmost-entries = 3",
        more: "[access]\ndeny-groups = [\"people\"]\n".to_owned(),
        ..Settings::default()
    });
    // By the name of the primary group, which nothing but its number leads to.
    let account = lab.client().account("carol", Duration::from_secs(2));
    let denied = |account: &Account| account.state == AccountState::Denied;
    assert!(matches!(account.unwrap(), Lookup::Found(account) if denied(&account)));
    assert_eq!(lab.groups("carol"), [1500, 1510, 1511, 1512]);
    assert_eq!(found(lab.folder.path(), Query::UserByName, "zoe"), 0);
}

#[test]
fn without_it_nothing_is_known_of_a_directory_that_cannot_be_listed() {
    if !has_peers("without_it_nothing_is_known_of_a_directory_that_cannot_be_listed") {
        return;
    }
    let mut lab = Lab::new(Settings {
        limits: LIMITS,
        ..Settings::default()
    });
    lab.start_slapd();
    lab.start_daemon();
    lab.until(|status| status.problem.contains("code 4"));
    assert!(!lab.client().status().unwrap().complete);
    assert_eq!(found(lab.folder.path(), Query::UserByName, "zoe"), -1);
}
