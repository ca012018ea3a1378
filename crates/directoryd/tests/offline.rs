//! Passwords while no server can be asked: a real slapd that takes them, and then is frozen or gone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use directory_client::{Change, Explanation, Lookup, Verdict};
use nix::sys::signal::Signal;
use support::{Lab, Settings, accepted, has_peers, password, persons, run, wait};

const BOB: &str = "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\n";
const POLICY: &str = "dn: cn=policy,dc=example,dc=org\nchangetype: modify\n";
const NOTICE: &str =
    "The directory of users cannot be reached now; your last known password was accepted.";

fn with(offline: &str) -> Lab {
    let lab = Lab::new(Settings {
        more_ldap: "[password]\nrefusal-time = \"50ms\"\ntimeout = \"2s\"\n",
        ..Settings::default()
    });
    secret(&lab, 'k');
    let table = format!(
        "[offline-passwords]\nsecret-file = \"{}\"\n{offline}",
        lab.path("offline-secret").display()
    );
    let config = lab.path("directoryd.toml");
    let text = fs::read_to_string(&config).unwrap() + &table;
    fs::write(config, text).unwrap();
    lab
}

fn lab(offline: &str) -> Lab {
    let mut lab = with(offline);
    lab.start_slapd();
    lab.start_daemon();
    lab.until(|status| status.complete);
    lab
}

fn secret(lab: &Lab, letter: char) {
    let (path, fresh) = (lab.path("offline-secret"), lab.path("offline-secret.new"));
    fs::write(&fresh, letter.to_string().repeat(32)).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o640)).unwrap();
    fs::rename(fresh, path).unwrap();
}

fn attempt(lab: &Lab, user: &str, text: &str) -> Verdict {
    let client = lab.client();
    client
        .authenticate(user, password(text), "192.0.2.1")
        .unwrap()
}

fn accepted_offline() -> Verdict {
    Verdict::Accepted {
        must_change: false,
        notices: vec![NOTICE.to_owned()],
    }
}

/// Waits until the server is asked again.
fn back(lab: &Lab) {
    wait("the server is asked again", || {
        match lab.client().account("bob", Duration::from_secs(2)).unwrap() {
            Lookup::Found(account) => account.fresh.then_some(()),
            _ => None,
        }
    });
}

fn kept(lab: &Lab, count: u64) {
    lab.until(|status| status.offline_passwords == Some(count));
}

/// Logs in, and waits until that is kept.
fn log_in(lab: &Lab, user: &str, text: &str) {
    assert_eq!(attempt(lab, user, text), accepted());
    wait("the password is kept", || {
        let told = finding(lab, user, "offline");
        told.starts_with("kept ").then_some(())
    });
    // It is written after that.
    let name = format!("uid={user},");
    wait("the password is written", || {
        let bytes = changes(lab)?;
        let mut parts = bytes.windows(name.len());
        parts.any(|part| part == name.as_bytes()).then_some(())
    });
}

/// The file as it is now, if there is one.
fn changes(lab: &Lab) -> Option<Vec<u8>> {
    fs::read(lab.path("state/offline-passwords")).ok()
}

fn explain(lab: &Lab, user: &str) -> Explanation {
    lab.client().explain(user, Duration::from_secs(2)).unwrap()
}

fn finding(lab: &Lab, user: &str, what: &str) -> String {
    let findings = explain(lab, user).findings;
    let found = findings.iter().find(|finding| finding.what == what);
    found.map_or(String::new(), |finding| finding.detail.clone())
}

#[test]
fn the_last_password_counts_while_the_server_is_frozen_or_gone() {
    if !has_peers("the_last_password_counts_while_the_server_is_frozen_or_gone") {
        return;
    }
    let mut lab = lab("tries = 50\n");
    let right = persons(&lab);
    log_in(&lab, "bob", &right);
    // A wrong password that a server has heard of changes nothing, and is no matter of what is kept.
    assert_eq!(attempt(&lab, "bob", "wrong"), Verdict::Refused);
    kept(&lab, 1);
    assert_eq!(attempt(&lab, "bob", &right), accepted());
    let check = |lab: &Lab| {
        assert_eq!(attempt(lab, "bob", &right), accepted_offline());
        for (user, text) in [
            ("bob", "wrong"),
            ("bob", "x"),
            // Nothing is kept of them, whatever they type.
            ("carol", right.as_str()),
            ("nosuch", right.as_str()),
            ("root", right.as_str()),
            ("bob)(uid=*", right.as_str()),
            ("", right.as_str()),
        ] {
            assert_eq!(
                attempt(lab, user, text),
                Verdict::Unavailable,
                "{user} {text}"
            );
        }
        let client = lab.client();
        let change = client.change_password("bob", password(&right), password("long enough"), "");
        assert_eq!(change.unwrap(), Change::Unavailable);
        assert_eq!(attempt(lab, "bob", &right), accepted_offline());
    };
    lab.signal_slapd(Signal::SIGSTOP);
    check(&lab);
    lab.signal_slapd(Signal::SIGCONT);
    back(&lab);
    assert_eq!(attempt(&lab, "bob", &right), accepted());
    lab.stop_slapd();
    check(&lab);
    // A crash and a start without the server.
    lab.kill_daemon();
    lab.start_daemon();
    check(&lab);
    let log = lab.log();
    assert!(!log.contains(&right), "{log}");
    let audit = log.lines().filter(|line| line.contains("offline=true"));
    assert!(
        audit.clone().any(|line| line.contains("password.accepted")),
        "{log}"
    );
    assert!(
        audit.clone().any(|line| line.contains("password.refused")),
        "{log}"
    );
    let (_, text, _) = run(&lab, &["status", "--json"]);
    assert!(text.contains("\"offline_passwords\":1"), "{text}");
    let told = finding(&lab, "bob", "offline");
    assert!(
        told.starts_with("kept ") && told.contains("counts for "),
        "{told}"
    );
    assert!(finding(&lab, "carol", "offline").contains("nothing is kept"));
}

#[test]
fn without_the_table_nothing_is_kept() {
    if !has_peers("without_the_table_nothing_is_kept") {
        return;
    }
    let mut lab = Lab::running(Settings {
        more_ldap: "[password]\nrefusal-time = \"50ms\"\ntimeout = \"2s\"\n",
        ..Settings::default()
    });
    let right = persons(&lab);
    assert_eq!(attempt(&lab, "bob", &right), accepted());
    let status = lab.client().status().unwrap();
    assert_eq!(status.offline_passwords, None);
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    assert_eq!(changes(&lab), None);
}

#[test]
fn what_is_in_the_file_is_worth_nothing_without_the_secret() {
    if !has_peers("what_is_in_the_file_is_worth_nothing_without_the_secret") {
        return;
    }
    let mut lab = lab("tries = 50\n");
    let right = persons(&lab);
    log_in(&lab, "bob", &right);
    let file = lab.path("state/offline-passwords");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let bytes = fs::read(&file).unwrap();
    let holds = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(!holds(&right) && !holds(&"k".repeat(32)));
    assert!(holds("uid=bob"));
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), accepted_offline());
    // No secret, one that others can read, one that is too short: nothing is checked, nothing lost.
    let secret_file = lab.path("offline-secret");
    fs::remove_file(&secret_file).unwrap();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    let status = lab.client().status().unwrap();
    assert!(
        status.offline_problem.contains("offline-secret"),
        "{status:?}"
    );
    secret(&lab, 'k');
    fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    let status = lab.client().status().unwrap();
    assert!(
        status.offline_problem.contains("may be read by others"),
        "{status:?}"
    );
    fs::write(&secret_file, "short").unwrap();
    fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    let status = lab.client().status().unwrap();
    assert!(
        status.offline_problem.contains("fewer than 32 bytes"),
        "{status:?}"
    );
    assert_ne!(run(&lab, &["check"]).0, Some(0));
    // Nor does that keep anybody from being known after a restart.
    lab.stop_daemon();
    lab.start_daemon();
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    let status = lab.until(|status| !status.offline_problem.is_empty());
    assert_eq!(status.offline_passwords, Some(1));
    secret(&lab, 'k');
    assert_eq!(attempt(&lab, "bob", &right), accepted_offline());
    assert_eq!(lab.client().status().unwrap().offline_problem, "");
    // Another secret: what was kept is gone, also when the old one comes back.
    secret(&lab, 'n');
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    kept(&lab, 0);
    assert!(lab.log().contains("offline.other_secret"));
    secret(&lab, 'k');
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    // With the new one a login is kept again, and the old file is of no use with it.
    secret(&lab, 'n');
    lab.start_slapd();
    back(&lab);
    log_in(&lab, "bob", &right);
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), accepted_offline());
    lab.stop_daemon();
    fs::write(&file, &bytes).unwrap();
    lab.start_daemon();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    kept(&lab, 0);
}

#[test]
fn a_damaged_file_costs_the_offline_check_alone() {
    if !has_peers("a_damaged_file_costs_the_offline_check_alone") {
        return;
    }
    let mut lab = lab("");
    let right = persons(&lab);
    log_in(&lab, "bob", &right);
    lab.stop_daemon();
    let file = lab.path("state/offline-passwords");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).unwrap();
    lab.start_daemon();
    let log = lab.log();
    assert!(
        log.contains("offline.not_loaded") && log.contains("its checksum does not fit"),
        "{log}"
    );
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    back(&lab);
    log_in(&lab, "bob", &right);
    assert_eq!(lab.client().status().unwrap().offline_problem, "");
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), accepted_offline());
}

#[test]
fn a_password_that_was_changed_counts_no_longer() {
    if !has_peers("a_password_that_was_changed_counts_no_longer") {
        return;
    }
    let mut lab = lab("tries = 50\n");
    let right = persons(&lab);
    log_in(&lab, "bob", &right);
    log_in(&lab, "carol", &right);
    kept(&lab, 2);
    // Through us: the new one counts, the old one does not.
    let client = lab.client();
    let change = client.change_password("bob", password(&right), password("another one"), "");
    assert_eq!(change.unwrap(), Change::Done);
    kept(&lab, 2);
    // Elsewhere: the replica tells of it.
    lab.modify(
        "dn: uid=carol,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: userPassword\n\
         userPassword: elsewhere\n",
    );
    // The server has nothing to hide: the replica is in step.
    lab.client().refresh().unwrap();
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    assert_eq!(attempt(&lab, "bob", "another one"), accepted_offline());
    assert_eq!(attempt(&lab, "carol", &right), Verdict::Unavailable);
    assert_eq!(attempt(&lab, "carol", "elsewhere"), Verdict::Unavailable);
    kept(&lab, 1);
    // And is kept with the next login.
    lab.start_slapd();
    back(&lab);
    log_in(&lab, "carol", "elsewhere");
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "carol", "elsewhere"), accepted_offline());
}

#[test]
fn who_is_closed_gone_or_must_change_is_not_let_in() {
    if !has_peers("who_is_closed_gone_or_must_change_is_not_let_in") {
        return;
    }
    let mut lab = lab("tries = 50\n");
    let right = persons(&lab);
    for user in ["bob", "carol", "erin"] {
        log_in(&lab, user, &right);
    }
    // Somebody with bob's old name and number, and who must change.
    let bob = "dn: uid=bob,ou=people,dc=example,dc=org\n";
    lab.modify(&format!("{bob}changetype: delete\n"));
    lab.modify(&format!(
        "{bob}changetype: add\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: bob\ncn: B\nsn: B\n\
         uidNumber: 1501\ngidNumber: 1500\nhomeDirectory: /home/bob\nuserPassword: {right}\n"
    ));
    lab.modify(&format!(
        "{POLICY}replace: pwdMustChange\npwdMustChange: TRUE\n"
    ));
    lab.modify(
        "dn: uid=carol,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n",
    );
    lab.client().refresh().unwrap();
    lab.stop_slapd();
    for user in ["bob", "carol"] {
        assert_eq!(attempt(&lab, user, &right), Verdict::Unavailable, "{user}");
    }
    // The shell refuses logins; that may be another one tomorrow.
    assert_eq!(attempt(&lab, "erin", &right), Verdict::Unavailable);
    kept(&lab, 1);
    assert!(matches!(
        lab.client().account("bob", Duration::ZERO).unwrap(),
        Lookup::Found(_)
    ));
}

#[test]
fn a_lock_and_a_rule_hold_without_the_server() {
    if !has_peers("a_lock_and_a_rule_hold_without_the_server") {
        return;
    }
    let mut lab = lab("tries = 50\n[access]\ndeny-groups = [\"chemistry\"]\n");
    let right = persons(&lab);
    log_in(&lab, "bob", &right);
    log_in(&lab, "carol", &right);
    lab.modify(&format!(
        "{BOB}replace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n"
    ));
    lab.client().refresh().unwrap();
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    assert_eq!(attempt(&lab, "carol", &right), Verdict::Unavailable);
}

#[test]
fn guesses_end_sooner_and_time_ends_it() {
    if !has_peers("guesses_end_sooner_and_time_ends_it") {
        return;
    }
    let mut lab = lab("tries = 2\nvalid-for = \"5s\"\n");
    let right = persons(&lab);
    log_in(&lab, "bob", &right);
    log_in(&lab, "carol", &right);
    let logged_in = SystemTime::now();
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", "guess"), Verdict::Unavailable);
    assert_eq!(attempt(&lab, "bob", "guess"), Verdict::Unavailable);
    // The right one comes too late, for bob alone.
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    wait("the end of its time", || {
        let over = attempt(&lab, "carol", &right) == Verdict::Unavailable;
        over.then_some(())
    });
    assert!(logged_in.elapsed().unwrap() > Duration::from_secs(2));
    assert!(lab.log().contains("it is too old"), "{}", lab.log());
    kept(&lab, 1);
    assert!(!lab.log().contains("offline.failed"));
}

#[test]
fn a_full_disk_costs_what_a_restart_would_know() {
    if !has_peers("a_full_disk_costs_what_a_restart_would_know") {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped a_full_disk_costs_what_a_restart_would_know: needs root to mount");
        return;
    }
    let mut lab = with("");
    let state = lab.path("state");
    let mount = |arguments: &[&str]| {
        let mut command = Command::new(arguments[0]);
        let done = command.args(&arguments[1..]).arg(&state).status().unwrap();
        assert!(done.success(), "{arguments:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs"]);
    let unmount = Unmount(state.clone());
    lab.start_slapd();
    lab.start_daemon();
    lab.until(|status| status.complete);
    let right = persons(&lab);
    log_in(&lab, "bob", &right);
    // Whatever is left of the disk.
    let filler = state.join("filler");
    let mut size = 256 << 10;
    let mut bytes = Vec::new();
    while size >= 1 {
        bytes.resize(bytes.len() + size, 0);
        if fs::write(&filler, &bytes).is_err() {
            bytes.truncate(bytes.len() - size);
            size /= 2;
        }
    }
    let _ = fs::write(&filler, &bytes);
    lab.modify(&format!("{BOB}replace: loginShell\nloginShell: /bin/ksh\n"));
    let status = lab.until(|status| !status.problem.is_empty());
    assert!(status.problem.contains("state/replica'"), "{status:?}");
    assert_eq!(attempt(&lab, "carol", &right), accepted());
    let status = lab.until(|status| !status.offline_problem.is_empty());
    assert!(status.offline_problem.contains("write '"), "{status:?}");
    lab.stop_slapd();
    for user in ["bob", "carol"] {
        assert_eq!(attempt(&lab, user, &right), accepted_offline());
    }
    // What could not be written might hold what was to be forgotten: it is gone.
    assert_eq!(changes(&lab), None);
    fs::remove_file(&filler).unwrap();
    // Written as soon as there is room, though nothing changes any more.
    lab.until(|status| !status.problem.contains("state/replica'"));
    lab.start_slapd();
    lab.until(|status| status.problem.is_empty());
    lab.assert_alive();
    lab.kill_daemon();
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn flush_drops_what_is_kept() {
    if !has_peers("flush_drops_what_is_kept") {
        return;
    }
    let mut lab = lab("");
    let right = persons(&lab);
    log_in(&lab, "bob", &right);
    assert_eq!(run(&lab, &["refresh"]).0, Some(0));
    kept(&lab, 1);
    let (code, text, _) = run(&lab, &["flush"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "1 kept passwords dropped\n")
    );
    let (code, text, _) = run(&lab, &["flush", "--json"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "{\"dropped_passwords\":0,\"refreshed\":true}\n")
    );
    kept(&lab, 0);
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    assert!(Path::new(&lab.path("state/offline-passwords")).exists());
}

#[test]
fn a_server_that_says_anything_is_there() {
    if !has_peers("a_server_that_says_anything_is_there") {
        return;
    }
    let mut lab = lab("");
    let right = persons(&lab);
    log_in(&lab, "bob", &right);
    let conf = lab.path("slapd/slapd.conf");
    let text = fs::read_to_string(&conf).unwrap();
    for (line, said, verdict) in [
        // Nobody may bind: that is a no.
        ("restrict bind\n", "password.refused", Verdict::Refused),
        // Nobody may bind over what is not safe enough, and nothing is: neither yes nor no.
        (
            "security simple_bind=999\n",
            "(code 13)",
            Verdict::Unavailable,
        ),
    ] {
        lab.stop_slapd();
        let odd = text.replacen("database mdb\n", &format!("{line}database mdb\n"), 1);
        assert!(odd != text);
        fs::write(&conf, odd).unwrap();
        let uri = format!("ldap://127.0.0.1:{}", lab.port);
        let _ = fs::remove_file(lab.path("slapd/slapd.pid"));
        let started = Command::new("slapd")
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .arg("-f")
            .arg(&conf)
            .args(["-h", &uri])
            .status()
            .unwrap();
        assert!(started.success());
        wait("slapd is there", || {
            let pid = fs::read_to_string(lab.path("slapd/slapd.pid")).ok()?;
            pid.ends_with('\n').then_some(())
        });
        lab.adopt_slapd();
        wait("slapd answers", || {
            std::net::TcpStream::connect(("127.0.0.1", lab.port)).ok()
        });
        assert_eq!(attempt(&lab, "bob", &right), verdict, "{line}");
        let log = lab.log();
        assert!(log.contains(said) && !log.contains("offline=true"), "{log}");
    }
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), accepted_offline());
}

#[test]
fn people_of_a_directory_that_cannot_be_listed() {
    if !has_peers("people_of_a_directory_that_cannot_be_listed") {
        return;
    }
    let mut lab = with("tries = 50\n");
    let config = lab.path("directoryd.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("[ldap]\n", "[ldap]\non-demand = true\n"),
    )
    .unwrap();
    lab.settings.limits = "size.soft=3 size.hard=3 size.prtotal=3";
    lab.start_slapd();
    lab.start_daemon();
    lab.until(|status| status.complete);
    let right = persons(&lab);
    for user in ["bob", "carol"] {
        log_in(&lab, user, &right);
    }
    // Somebody else under bob's name.
    let bob = "dn: uid=bob,ou=people,dc=example,dc=org\n";
    lab.modify(&format!("{bob}changetype: delete\n"));
    lab.modify(&format!(
        "{bob}changetype: add\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: bob\ncn: B\nsn: B\n\
         uidNumber: 1501\ngidNumber: 1500\nhomeDirectory: /home/bob\n"
    ));
    back(&lab);
    lab.stop_slapd();
    assert_eq!(attempt(&lab, "bob", &right), Verdict::Unavailable);
    assert_eq!(attempt(&lab, "carol", &right), accepted_offline());
    assert_eq!(attempt(&lab, "nosuch", &right), Verdict::Unavailable);
}
