//! In step with slapd (RFC 4533): changes as they happen, after a pause, and where it is not to be had.
//! The intervals are so long here that nothing else could bring a change.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{fs, path::Path, process::Command};

use support::{Lab, Settings, has_peers, wait};

const PEOPLE: &str = "ou=people,dc=example,dc=org";
const GROUPS: &str = "ou=groups,dc=example,dc=org";

fn lab(schema: &'static str) -> Lab {
    let lab = Lab::running(Settings {
        schema,
        refresh: "10m",
        more_ldap: "change-interval = \"10m\"",
        ..Settings::default()
    });
    live(&lab, 1);
    lab
}

/// Waits until the daemon has been brought in step so many times.
fn live(lab: &Lab, times: usize) {
    wait("the server to tell", || {
        (lab.log().matches("sync.live").count() >= times).then_some(())
    });
}

fn add(lab: &Lab, name: &str, uid: u32) {
    lab.modify(&format!(
        "dn: uid={name},{PEOPLE}\nchangetype: add\nobjectClass: account\nobjectClass: posixAccount\n\
         uid: {name}\ncn: {name}\nuidNumber: {uid}\ngidNumber: 1500\nhomeDirectory: /home/{name}\n"
    ));
}

fn delete(lab: &Lab, name: &str) {
    lab.modify(&format!("dn: uid={name},{PEOPLE}\nchangetype: delete\n"));
}

fn is_there(lab: &Lab, name: &str) -> bool {
    !lab.getent("passwd", name).is_empty()
}

fn until_there(lab: &Lab, name: &str, there: bool) {
    wait(&format!("{name}: {there}"), || {
        (is_there(lab, name) == there).then_some(())
    });
}

#[test]
fn every_change_is_heard() {
    if !has_peers("every_change_is_heard") {
        return;
    }
    let lab = lab("rfc2307bis");
    add(&lab, "gina", 1600);
    until_there(&lab, "gina", true);
    lab.modify(&format!(
        "dn: uid=gina,{PEOPLE}\nchangetype: modify\nreplace: loginShell\nloginShell: /bin/ksh\n"
    ));
    wait("her shell", || {
        lab.getent("passwd", "gina")
            .ends_with(":/bin/ksh")
            .then_some(())
    });
    // A new name: the old one is gone.
    lab.modify(&format!(
        "dn: uid=gina,{PEOPLE}\nchangetype: modrdn\nnewrdn: uid=nina\ndeleteoldrdn: 1\n"
    ));
    until_there(&lab, "nina", true);
    assert!(!is_there(&lab, "gina"));
    // Groups, and groups in groups.
    for (name, member) in [
        ("inner", format!("uid=nina,{PEOPLE}")),
        ("outer", format!("cn=inner,{GROUPS}")),
    ] {
        let gid = if name == "inner" { 1700 } else { 1701 };
        lab.modify(&format!(
            "dn: cn={name},{GROUPS}\nchangetype: add\nobjectClass: groupOfMembers\n\
             objectClass: posixGroup\ncn: {name}\ngidNumber: {gid}\nmember: {member}\n"
        ));
    }
    wait("her groups", || {
        (lab.groups("nina") == [1500, 1700, 1701]).then_some(())
    });
    lab.modify(&format!("dn: cn=inner,{GROUPS}\nchangetype: delete\n"));
    wait("her groups", || {
        (lab.groups("nina") == [1500]).then_some(())
    });
    // Another number: the old one is nobody.
    let number = |verb: &str| {
        format!("dn: uid=nina,{PEOPLE}\nchangetype: modify\n{verb}: uidNumber\nuidNumber: 1601\n")
    };
    lab.modify(&number("replace"));
    wait("her new number", || {
        lab.getent("passwd", "1601")
            .starts_with("nina:")
            .then_some(())
    });
    assert_eq!(lab.getent("passwd", "1600"), "");
    delete(&lab, "nina");
    until_there(&lab, "nina", false);
    assert_eq!(lab.log().matches("sync.live").count(), 1, "{}", lab.log());
}

#[test]
fn what_happened_meanwhile_is_heard_later() {
    if !has_peers("what_happened_meanwhile_is_heard_later") {
        return;
    }
    let mut lab = lab("rfc2307");
    add(&lab, "gina", 1600);
    add(&lab, "hugo", 1601);
    until_there(&lab, "hugo", true);
    // The server comes back and goes on where it was: nothing is read anew.
    lab.stop_slapd();
    wait("the end of the connection", || {
        (!lab.until(|_| true).problem.is_empty()).then_some(())
    });
    lab.start_slapd();
    live(&lab, 2);
    assert!(lab.until(|status| status.problem.is_empty()).complete);
    delete(&lab, "gina");
    until_there(&lab, "gina", false);
    // So does the daemon, from what it had written down.
    lab.stop_daemon();
    delete(&lab, "hugo");
    add(&lab, "ines", 1602);
    lab.modify(&format!(
        "dn: uid=bob,{PEOPLE}\nchangetype: modify\nreplace: loginShell\nloginShell: /bin/ksh\n"
    ));
    lab.start_daemon();
    live(&lab, 3);
    until_there(&lab, "ines", true);
    assert!(!is_there(&lab, "hugo"));
    assert!(is_there(&lab, "carol"));
    assert!(lab.getent("passwd", "bob").ends_with(":/bin/ksh"));
    let log = lab.log();
    assert_eq!(log.matches("resumed=true").count(), 2, "{log}");
    // A refresh that is asked for reads everything, and then goes on.
    lab.client().refresh().unwrap();
    live(&lab, 4);
    add(&lab, "jens", 1603);
    until_there(&lab, "jens", true);
}

#[test]
fn another_directory_at_the_old_place_is_taken_as_it_is() {
    if !has_peers("another_directory_at_the_old_place_is_taken_as_it_is") {
        return;
    }
    let mut lab = lab("rfc2307bis");
    add(&lab, "gina", 1600);
    until_there(&lab, "gina", true);
    // As after a restore: the same names, other UUIDs, an age that does not fit.
    lab.stop_slapd();
    for name in ["data.mdb", "lock.mdb", "filled"] {
        fs::remove_file(lab.path("slapd/db").join(name)).unwrap();
    }
    lab.start_slapd();
    until_there(&lab, "gina", false);
    assert!(is_there(&lab, "bob") && is_there(&lab, "carol"));
    add(&lab, "hugo", 1601);
    until_there(&lab, "hugo", true);
    let status = lab.until(|status| status.problem.is_empty());
    assert_eq!(status.users, 5);
}

#[test]
fn a_cookie_that_the_server_does_not_take_costs_one_reading() {
    if !has_peers("a_cookie_that_the_server_does_not_take_costs_one_reading") {
        return;
    }
    let mut lab = lab("rfc2307bis");
    // From the future.
    lab.stop_daemon();
    lab.stop_slapd();
    let output = slapd_tool("slapcat")
        .arg("-f")
        .arg(lab.path("slapd/slapd.conf"))
        .output()
        .unwrap();
    let content = String::from_utf8(output.stdout).unwrap();
    for name in ["data.mdb", "lock.mdb"] {
        fs::remove_file(lab.path("slapd/db").join(name)).unwrap();
    }
    let stamp = content
        .lines()
        .find_map(|line| line.strip_prefix("entryCSN: "));
    let content = content.replace(&format!("CSN: {}", &stamp.unwrap()[..4]), "CSN: 2001");
    assert!(content.contains("entryCSN: 2001"));
    fs::write(lab.path("old.ldif"), content).unwrap();
    let filled = slapd_tool("slapadd")
        .arg("-q")
        .arg("-f")
        .arg(lab.path("slapd/slapd.conf"))
        .arg("-l")
        .arg(lab.path("old.ldif"))
        .status()
        .unwrap();
    assert!(filled.success());
    lab.start_slapd();
    lab.start_daemon();
    live(&lab, 2);
    let log = lab.log();
    assert!(
        log.contains("sync.ended") && log.matches("resumed=false").count() == 2,
        "{log}"
    );
    add(&lab, "gina", 1600);
    until_there(&lab, "gina", true);
}

#[test]
fn without_it_the_server_is_asked() {
    if !has_peers("without_it_the_server_is_asked") {
        return;
    }
    // It has the mark of an earlier life, and not the overlay.
    let mut lab = Lab::new(Settings::default());
    lab.start_slapd();
    lab.stop_slapd();
    let path = lab.path("slapd/slapd.conf");
    let config = fs::read_to_string(&path).unwrap();
    let config = config
        .replace("overlay syncprov\n", "")
        .replace("moduleload syncprov\n", "");
    let run = |config: &str| {
        fs::write(&path, config).unwrap();
        let running = slapd_tool("slapd")
            .arg("-f")
            .arg(&path)
            .args(["-h", &format!("ldap://127.0.0.1:{}", lab.port)])
            .status()
            .unwrap();
        assert!(running.success());
    };
    run(&config);
    lab.adopt_slapd();
    lab.start_daemon();
    wait("the refusal", || {
        lab.log().contains("asking at intervals").then_some(())
    });
    lab.until(|status| status.complete && status.problem.is_empty());
    add(&lab, "gina", 1600);
    lab.client().refresh().unwrap();
    assert!(is_there(&lab, "gina"));

    // And where it is not wanted.
    let lab = Lab::running(Settings {
        more_ldap: "syncrepl = false\nchange-interval = \"200ms\"",
        ..Settings::default()
    });
    add(&lab, "gina", 1600);
    until_there(&lab, "gina", true);
    assert!(!lab.log().contains("sync."), "{}", lab.log());
}

fn slapd_tool(name: &str) -> Command {
    let path = ["/usr/sbin", "/usr/bin", "/sbin"].map(|folder| Path::new(folder).join(name));
    Command::new(path.iter().find(|path| path.exists()).unwrap())
}
