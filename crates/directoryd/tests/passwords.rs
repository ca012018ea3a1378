//! Users' passwords at a real slapd with its password policy: tried, limited, expired, changed; and who
//! may log in at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{fs, net::TcpListener, process::Command, time::Duration};

use directory_client::{AccountState, Change, Lookup, Verdict};
use nix::sys::signal::Signal;
use support::{Lab, Settings, accepted, attempt, has_peers, password, persons, wait};

const QUICK: &str = "[password]\nrefusal-time = \"50ms\"\ntimeout = \"4s\"\n";
const BOB: &str = "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\n";
const POLICY: &str = "dn: cn=policy,dc=example,dc=org\nchangetype: modify\n";

fn lab(more: &'static str) -> Lab {
    Lab::running(Settings {
        more_ldap: more,
        ..Settings::default()
    })
}

fn change(lab: &Lab, user: &str, old: &str, new: &str) -> Change {
    let client = lab.client();
    client
        .change_password(user, password(old), password(new), "")
        .unwrap()
}

/// Whether slapd itself lets bob in, which also clears his failures there.
fn slapd_accepts(lab: &Lab, text: &str) -> bool {
    Command::new("ldapwhoami")
        .args(["-x", "-H", &format!("ldap://127.0.0.1:{}", lab.port)])
        .args(["-D", "uid=bob,ou=people,dc=example,dc=org", "-w", text])
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
fn right_wrong_and_unknown() {
    if !has_peers("right_wrong_and_unknown") {
        return;
    }
    let lab = lab(QUICK);
    let right = persons(&lab);
    assert_eq!(attempt(&lab, "bob", &right), accepted());
    for (user, text) in [
        ("bob", "wrong"),
        ("nosuch", "wrong"),
        ("nosuch", right.as_str()),
        ("root", right.as_str()),
        ("bob)(uid=*", right.as_str()),
        ("uid=bob,ou=people,dc=example,dc=org", right.as_str()),
        ("", right.as_str()),
    ] {
        assert_eq!(attempt(&lab, user, text), Verdict::Refused, "{user} {text}");
    }
    // What is wrong with the account is another question.
    assert_eq!(attempt(&lab, "dave", &right), accepted());
    let log = lab.log();
    assert!(!log.contains(&right), "{log}");
}

#[test]
fn guesses_end_before_the_directory_locks_the_account() {
    if !has_peers("guesses_end_before_the_directory_locks_the_account") {
        return;
    }
    let lab = lab("[password]\nrefusal-time = \"50ms\"\nuser-failures = 3\nsource-failures = 4\n");
    let right = persons(&lab);
    for _ in 0..20 {
        assert_eq!(attempt(&lab, "bob", "guess"), Verdict::Refused);
    }
    // Not asked any more, so even the right one is refused; slapd has seen three of its five.
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Refused);
    assert!(slapd_accepts(&lab, &right));
    let explanation = lab.client().explain("bob", Duration::from_secs(5)).unwrap();
    assert!(explanation.may, "{explanation:?}");
    let finding = explanation
        .findings
        .iter()
        .find(|finding| finding.what == "password")
        .unwrap();
    assert!(finding.detail.contains("not tried for"), "{finding:?}");
    // Another source's guesses at many names.
    let from = |user: &str, text: &str, source: &str| {
        let client = lab.client();
        client.authenticate(user, password(text), source).unwrap()
    };
    for user in ["a", "b", "c", "d"] {
        assert_eq!(from(user, "x", "192.0.2.7"), Verdict::Refused);
    }
    assert_eq!(from("carol", &right, "192.0.2.7"), Verdict::Refused);
    assert_eq!(from("carol", &right, "192.0.2.8"), accepted());
}

#[test]
fn what_the_policy_says_reaches_the_user() {
    if !has_peers("what_the_policy_says_reaches_the_user") {
        return;
    }
    let lab = lab(QUICK);
    let right = persons(&lab);
    lab.modify(&format!(
        "{POLICY}replace: pwdMustChange\npwdMustChange: TRUE\n-\nreplace: pwdMinLength\n\
         pwdMinLength: 8\n-\nreplace: pwdCheckQuality\npwdCheckQuality: 1\n-\n\
         replace: pwdInHistory\npwdInHistory: 2\n-\nreplace: pwdAllowUserChange\n\
         pwdAllowUserChange: TRUE\n"
    ));
    lab.modify(&format!("{BOB}replace: pwdReset\npwdReset: TRUE\n"));
    let must = Verdict::Accepted {
        must_change: true,
        notices: vec![],
    };
    assert_eq!(attempt(&lab, "bob", &right), must);
    assert_eq!(
        change(&lab, "bob", "wrong", "long enough"),
        Change::WrongPassword
    );
    assert_eq!(
        change(&lab, "bob", &right, "short"),
        Change::NotAccepted("The new password is too short.".into())
    );
    assert_eq!(change(&lab, "bob", &right, "long enough"), Change::Done);
    assert_eq!(attempt(&lab, "bob", "long enough"), accepted());
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Refused);
    assert_eq!(
        change(&lab, "bob", "long enough", &right),
        Change::NotAccepted("The new password has been used before.".into())
    );
    assert_eq!(
        change(&lab, "nosuch", "x", "long enough"),
        Change::WrongPassword
    );
    // About to expire, then expired.
    lab.modify(&format!(
        "{POLICY}replace: pwdMaxAge\npwdMaxAge: 864000\n-\nreplace: pwdExpireWarning\n\
         pwdExpireWarning: 863999\n"
    ));
    // slapd counts in whole seconds.
    let notices = wait("the warning", || {
        match attempt(&lab, "bob", "long enough") {
            Verdict::Accepted { notices, .. } => {
                Some(notices).filter(|notices| !notices.is_empty())
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(notices, ["Your password expires in 9 days."]);
    lab.modify(&format!(
        "{POLICY}replace: pwdMaxAge\npwdMaxAge: 1\n-\nreplace: pwdExpireWarning\npwdExpireWarning: 0\n"
    ));
    wait("the end of its age", || {
        (attempt(&lab, "bob", "long enough") == Verdict::Expired).then_some(())
    });
    assert_eq!(attempt(&lab, "bob", "wrong"), Verdict::Refused);
}

#[test]
fn servers_that_do_not_answer_are_neither_yes_nor_no() {
    if !has_peers("servers_that_do_not_answer_are_neither_yes_nor_no") {
        return;
    }
    let mut lab = lab(QUICK);
    let right = persons(&lab);
    lab.signal_slapd(Signal::SIGSTOP);
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    assert_eq!(
        change(&lab, "bob", &right, "long enough"),
        Change::Unavailable
    );
    lab.signal_slapd(Signal::SIGCONT);
    // None of it counted as a failure.
    for _ in 0..6 {
        assert_eq!(attempt(&lab, "bob", &right), accepted());
    }
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
}

#[test]
fn the_next_server_is_asked_when_one_is_silent() {
    if !has_peers("the_next_server_is_asked_when_one_is_silent") {
        return;
    }
    // Accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut lab = Lab::new(Settings {
        more_ldap: QUICK,
        ..Settings::default()
    });
    let config = fs::read_to_string(lab.path("directoryd.toml")).unwrap();
    let config = config.replace(
        "uris = [",
        &format!("uris = [\"ldap://{}\", ", silent.local_addr().unwrap()),
    );
    fs::write(lab.path("directoryd.toml"), config).unwrap();
    lab.start_slapd();
    lab.start_daemon();
    lab.until(|status| status.complete);
    assert_eq!(attempt(&lab, "bob", &persons(&lab)), accepted());
}

#[test]
fn locks_and_rules_count_for_every_method() {
    if !has_peers("locks_and_rules_count_for_every_method") {
        return;
    }
    let lab = lab(
        "[password]\nrefusal-time = \"50ms\"\n[access]\nallow-groups = [\"science\", \"people\", \"nosuch\"]\n\
         deny-groups = [\"chemistry\"]\n",
    );
    let state = |user: &str| {
        let client = lab.client();
        match client.account(user, Duration::from_secs(5)).unwrap() {
            Lookup::Found(account) => account.state,
            other => panic!("{user}: {other:?}"),
        }
    };
    let explain = |user: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_directoryd"))
            .arg("--config")
            .arg(lab.path("directoryd.toml"))
            .args(["explain", user])
            .output()
            .unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            output.status.success(),
        )
    };
    // Bob is in science by way of physics.
    assert_eq!(state("bob"), AccountState::Active);
    assert_eq!(state("carol"), AccountState::Denied);
    assert_eq!(state("erin"), AccountState::NoLogin);
    let (text, may) = explain("bob");
    assert!(may && text.starts_with("'bob' may log in\n"), "{text}");
    assert!(
        text.contains("names group 'nosuch', which does not exist"),
        "{text}"
    );
    let (text, may) = explain("carol");
    assert!(
        !may && text.contains("! rule: deny-groups names 'chemistry'"),
        "{text}"
    );
    let (text, may) = explain("dave");
    assert!(
        !may && text.contains("! account: expired (shadowExpire)"),
        "{text}"
    );
    let (text, may) = explain("nosuch");
    assert!(
        !may && text.contains("is no user of this directory"),
        "{text}"
    );
    let (text, may) = explain("root");
    assert!(may && text.contains("local account"), "{text}");

    lab.modify(&format!(
        "{BOB}replace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n"
    ));
    assert_eq!(state("bob"), AccountState::Locked);
    assert_eq!(attempt(&lab, "bob", &persons(&lab)), Verdict::Refused);
    let (text, may) = explain("bob");
    assert!(
        !may && text.contains("locked by an administrator"),
        "{text}"
    );
}

#[test]
fn hosts_and_services_of_the_entry_count() {
    if !has_peers("hosts_and_services_of_the_entry_count") {
        return;
    }
    let lab = lab("[access]\nhost = \"pool\"\n");
    let state = || {
        let client = lab.client();
        match client.account("bob", Duration::from_secs(5)).unwrap() {
            Lookup::Found(account) => account.state,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(state(), AccountState::Denied);
    lab.modify(&format!(
        "{BOB}add: objectClass\nobjectClass: extensibleObject\n-\nadd: host\nhost: pool\n"
    ));
    assert_eq!(state(), AccountState::Active);
    lab.modify(&format!("{BOB}add: host\nhost: !pool\n"));
    assert_eq!(state(), AccountState::Denied);
}
