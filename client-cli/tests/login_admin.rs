//! login-admin against a real slapd: what it writes is read back with ldapsearch. Each test has a
//! server of its own, and is skipped by name where none is installed.
#![allow(clippy::unwrap_used)]

mod slapd;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use slapd::{Admin, Slapd, free_port};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBm/RAlphM3+hUG6wWfcO5bIUIaqMLa2ywxcOK1wMWbh";
const KEY_PRINT: &str = "SHA256:";

#[test]
fn a_user_from_first_to_last() {
    let Some(slapd) = Slapd::start("a_user_from_first_to_last", "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    let key = format!("{KEY} alice@laptop");
    let add = [
        "user",
        "add",
        "alice",
        "--gecos",
        "Alice Example",
        "--group",
        "physics",
        "--key",
        &key,
    ];
    let before = slapd.ldif("(objectClass=*)");
    let planned = admin.ok(&[&add[..], &["--dry-run"]].concat());
    assert!(
        planned
            .out
            .contains("dn: uid=alice,ou=people,dc=example,dc=org\nchangetype: add\n")
    );
    assert_eq!(
        slapd.ldif("(objectClass=*)"),
        before,
        "a dry run changes nothing"
    );

    let added = admin.ok(&add);
    assert!(
        added.out.contains("user 'alice' added: uid 2000, gid 2000"),
        "{added:?}"
    );
    let entry = slapd.ldif("(uid=alice)");
    for line in [
        "dn: uid=alice,ou=people,dc=example,dc=org",
        "objectClass: posixAccount",
        "objectClass: ldapPublicKey",
        "cn: Alice Example",
        "sn: Example",
        "gecos: Alice Example",
        "uidNumber: 2000",
        "gidNumber: 2000",
        "homeDirectory: /home/alice",
        "loginShell: /bin/bash",
        &format!("sshPublicKey: {key}"),
    ] {
        assert!(entry.lines().any(|have| have == line), "{line}\n{entry}");
    }
    assert!(!entry.contains("userPassword"), "no password, so no bind");
    assert!(slapd.ldif("(cn=alice)").contains("gidNumber: 2000"));
    assert!(
        slapd
            .ldif("(cn=physics)")
            .contains("member: uid=alice,ou=people")
    );

    let shown = admin.ok(&["user", "show", "alice", "--json"]).json();
    assert_eq!(shown["uid"], 2000);
    assert_eq!(shown["primary-group"], "alice");
    assert_eq!(shown["groups"], serde_json::json!(["physics"]));
    assert_eq!(shown["keys"][0]["comment"], "alice@laptop");
    assert!(
        shown["keys"][0]["fingerprint"]
            .as_str()
            .unwrap()
            .starts_with(KEY_PRINT)
    );
    let list = admin.ok(&["user", "list", "--json"]).json();
    assert_eq!(list["users"].as_array().unwrap().len(), 5);

    admin.fails(&add, 1, "user 'alice' exists as asked for");
    let other = [
        "user",
        "add",
        "alice",
        "--shell",
        "/bin/zsh",
        "--group",
        "chemistry",
    ];
    admin.fails(
        &other,
        1,
        "shell is '/bin/bash', asked for '/bin/zsh'; is not in group 'chemistry'",
    );

    let deleted = admin.ok(&["user", "del", "alice", "--json"]).json();
    assert_eq!(deleted["deleted"]["uid"], 2000);
    assert_eq!(deleted["left-groups"], serde_json::json!(["physics"]));
    assert_eq!(
        slapd.ldif("(|(uid=alice)(cn=alice)(member=uid=alice,ou=people,dc=example,dc=org))"),
        ""
    );
    admin.fails(&["user", "del", "alice"], 1, "no user 'alice' below");
    admin.fails(&["user", "show", "alice"], 1, "no user 'alice' below");
    // Nobody gets the number again.
    let again = admin.ok(&["user", "add", "alice", "--json"]).json();
    assert_eq!(again["user"]["uid"], 2001);
}

#[test]
fn letters_beyond_ascii() {
    let Some(slapd) = Slapd::start("letters_beyond_ascii", "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    admin.ok(&["user", "add", "jose", "--gecos", "José Ñandú"]);
    let entry = slapd.ldif("(uid=jose)");
    assert!(!entry.contains("gecos"), "the attribute is IA5: {entry}");
    assert!(
        admin
            .ok(&["user", "show", "jose"])
            .out
            .contains("gecos: José Ñandú")
    );
}

#[test]
fn values_of_the_directory_do_not_reach_the_terminal_raw() {
    let test = "values_of_the_directory_do_not_reach_the_terminal_raw";
    let Some(slapd) = Slapd::start(test, "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    // G1szMW0KdWlkOiAw is ESC [31m, a new line, and "uid: 0".
    slapd.modify(
        "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: gecos\n\
         gecos:: G1szMW0KdWlkOiAw\n",
    );
    for words in [&["user", "show", "bob"][..], &["user", "list"]] {
        let out = admin.ok(words).out;
        assert!(
            out.contains("\\u{1b}[31m\\nuid: 0") && !out.contains('\u{1b}'),
            "{out}"
        );
    }
}

#[test]
fn keys_of_a_user() {
    let Some(slapd) = Slapd::start("keys_of_a_user", "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    // carol's entry is no ldapPublicKey yet.
    let work = format!("{KEY} work");
    assert!(
        admin
            .ok(&["key", "add", "carol", &work])
            .out
            .starts_with("key added: 256 SHA256:")
    );
    assert!(
        slapd
            .ldif("(uid=carol)")
            .contains("objectClass: ldapPublicKey")
    );
    let again = admin
        .ok(&[
            "key",
            "add",
            "carol",
            &format!("{KEY} other comment"),
            "--json",
        ])
        .json();
    assert_eq!(again["changed"], false);

    let file = slapd.file("secret/bob.pub");
    let file = file.to_str().unwrap();
    admin.ok(&["key", "add", "carol", file]);
    let list = admin.ok(&["key", "list", "carol", "--json"]).json();
    let print = list["keys"][0]["fingerprint"].as_str().unwrap().to_owned();
    // The fingerprint is the one that ssh-keygen prints, where there is one.
    if let Ok(theirs) = std::process::Command::new("ssh-keygen")
        .args(["-lf", file])
        .output()
    {
        let theirs = String::from_utf8_lossy(&theirs.stdout).into_owned();
        let ours = admin.ok(&["key", "list", "carol"]).out;
        let word = theirs.split(' ').nth(1).unwrap();
        assert!(ours.contains(word), "{theirs}\n{ours}");
    }
    admin.fails(
        &["key", "del", "carol", "SHA256:nonsense"],
        1,
        "'carol' has no key 'SHA256:nonsense'",
    );
    admin.fails(
        &["key", "del", "carol", "nobody@nowhere"],
        1,
        "has no key 'nobody@nowhere'",
    );
    admin.ok(&["key", "del", "carol", &print]);
    admin.fails(&["key", "del", "carol", &print], 1, "has no key");
    assert_eq!(
        admin.ok(&["key", "list", "carol", "--json"]).json()["keys"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    admin.ok(&["key", "del", "carol", "--all"]);
    assert_eq!(admin.ok(&["key", "list", "carol"]).out, "");
    let nothing = admin.ok(&["key", "del", "carol", "--all", "--json"]).json();
    assert_eq!(nothing["changed"], false);
    admin.ok(&["key", "add", "carol", &work]);
    admin.ok(&["key", "del", "carol", "work"]);
    let mut piped = admin.command(&["key", "add", "carol", "-"]);
    let mut piped = piped
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    piped
        .stdin
        .take()
        .unwrap()
        .write_all(format!("# mine\n{work}\n").as_bytes())
        .unwrap();
    assert!(piped.wait().unwrap().success());
    admin.ok(&["key", "del", "carol", KEY]);
    admin.fails(&["key", "add", "nobody1", KEY], 1, "no user 'nobody1'");
}

#[test]
fn groups_and_members() {
    let Some(slapd) = Slapd::start("groups_and_members", "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    admin.ok(&["group", "add", "proj", "--member", "bob"]);
    assert!(
        slapd
            .ldif("(cn=proj)")
            .contains("objectClass: groupOfMembers")
    );
    admin.ok(&["group", "member", "add", "proj", "carol", "bob"]);
    let again = admin
        .ok(&["group", "member", "add", "proj", "carol", "--json"])
        .json();
    assert_eq!(again["changed"], false);
    let shown = admin.ok(&["group", "show", "proj", "--json"]).json();
    assert_eq!(shown["members"], serde_json::json!(["bob", "carol"]));
    assert_eq!(shown["gid"], 2000);
    let nested = admin.ok(&["group", "show", "science", "--json"]).json();
    assert_eq!(
        nested["member-groups"],
        serde_json::json!(["chemistry", "physics"])
    );
    admin.ok(&["group", "member", "del", "proj", "bob"]);
    let again = admin
        .ok(&["group", "member", "del", "proj", "bob", "--json"])
        .json();
    assert_eq!(again["changed"], false);
    admin.fails(
        &["group", "member", "add", "proj", "nobody1"],
        1,
        "no user 'nobody1'",
    );
    admin.fails(
        &["group", "member", "add", "nogroup1", "bob"],
        1,
        "no group 'nogroup1'",
    );
    admin.fails(
        &["group", "add", "proj"],
        1,
        "group 'proj' exists (gid 2000)",
    );
    admin.fails(
        &["group", "del", "people"],
        1,
        "is the primary group of 'bob' and 3 others",
    );
    admin.fails(&["user", "add", "proj"], 1, "group 'proj' exists");
    admin.ok(&["user", "add", "proj", "--primary-group", "proj"]);
    admin.fails(
        &["group", "del", "proj"],
        1,
        "is the primary group of 'proj'",
    );
    // The group has another member, so it is not the user's own: it stays.
    admin.ok(&["user", "del", "proj"]);
    admin.ok(&["group", "del", "proj"]);
    assert_eq!(slapd.ldif("(cn=proj)"), "");
    // A group may have a member's name without being the member's own.
    admin.ok(&["group", "add", "erin", "--member", "erin"]);
    assert!(slapd.ldif("(cn=erin)").contains("member: uid=erin,"));
    // A member whose user was removed by other means can still leave.
    slapd.modify("dn: uid=dave,ou=people,dc=example,dc=org\nchangetype: delete\n");
    admin.ok(&["group", "member", "del", "chemistry", "dave"]);
    assert!(!slapd.ldif("(cn=chemistry)").contains("dave"));
}

#[test]
fn rfc2307_groups_have_names() {
    let Some(slapd) = Slapd::start("rfc2307_groups_have_names", "rfc2307") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307"));
    admin.ok(&["user", "add", "alice", "--group", "physics", "--key", KEY]);
    assert!(slapd.ldif("(cn=physics)").contains("memberUid: alice\n"));
    admin.ok(&["group", "add", "proj", "--member", "alice"]);
    assert!(slapd.ldif("(cn=proj)").contains("memberUid: alice\n"));
    admin.ok(&["group", "member", "add", "proj", "bob"]);
    let shown = admin.ok(&["user", "show", "alice", "--json"]).json();
    assert_eq!(shown["groups"], serde_json::json!(["physics", "proj"]));
    admin.ok(&["user", "del", "alice"]);
    assert_eq!(slapd.ldif("(|(uid=alice)(memberUid=alice)(cn=alice))"), "");
    admin.ok(&["group", "member", "del", "proj", "bob"]);
    assert!(!slapd.ldif("(cn=proj)").contains("memberUid"));
}

#[test]
fn a_group_of_names_is_never_empty() {
    let Some(slapd) = Slapd::start("a_group_of_names_is_never_empty", "rfc2307bis") else {
        return;
    };
    let own = tempfile::NamedTempFile::new().unwrap();
    // Existing groups keep their class in the data; new ones find only groupOfNames.
    let slapd = slapd.reconfigured(|conf| {
        let at = conf
            .lines()
            .find(|line| line.ends_with("rfc2307bis.schema"))
            .unwrap()
            .to_owned();
        let path = at.strip_prefix("include ").unwrap();
        let schema = std::fs::read_to_string(path)
            .unwrap()
            .replace("groupOfMembers", "otherGroup");
        std::fs::write(own.path(), schema).unwrap();
        conf.replace(&at, &format!("include {}", own.path().display()))
    });
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    admin.ok(&["user", "add", "alice"]);
    assert!(slapd.ldif("(cn=alice)").contains("member: uid=alice,"));
    admin.ok(&["group", "add", "proj"]);
    assert!(
        slapd
            .ldif("(cn=proj)")
            .contains("member: cn=admin,dc=example,dc=org")
    );
    admin.ok(&["group", "member", "add", "proj", "alice"]);
    assert!(!slapd.ldif("(cn=proj)").contains("member: cn=admin"));
    assert_eq!(
        admin.ok(&["group", "show", "proj", "--json"]).json()["members"][0],
        "alice"
    );
    admin.ok(&["user", "del", "alice"]);
    assert!(slapd.ldif("(cn=proj)").contains("member: cn=admin"));
    assert_eq!(slapd.ldif("(cn=alice)"), "");
}

#[test]
fn eight_at_once_get_different_ids() {
    let Some(slapd) = Slapd::start("eight_at_once_get_different_ids", "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    for (method, other) in [(None, "a"), (Some("--compare-and-set"), "b")] {
        for round in 0..5 {
            let names: Vec<String> = (0..8).map(|n| format!("{other}{round}x{n}")).collect();
            let children: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(n, name)| {
                    let kind = if n % 4 == 3 { "group" } else { "user" };
                    let mut words = vec![kind, "add", name];
                    words.extend(method);
                    admin.command(&words).stdout(Stdio::null()).spawn().unwrap()
                })
                .collect();
            for mut child in children {
                assert!(child.wait().unwrap().success());
            }
        }
    }
    let numbers = |filter: &str, attribute: &str| -> Vec<u32> {
        let ldif = slapd.ldif(filter);
        ldif.lines()
            .filter_map(|line| line.strip_prefix(attribute)?.parse().ok())
            .collect()
    };
    let uids = numbers(
        "(&(objectClass=posixAccount)(uidNumber>=2000))",
        "uidNumber: ",
    );
    let gids = numbers(
        "(&(objectClass=posixGroup)(gidNumber>=2000))",
        "gidNumber: ",
    );
    assert_eq!((uids.len(), gids.len()), (60, 80));
    assert_eq!(uids.iter().collect::<BTreeSet<_>>().len(), 60);
    assert_eq!(gids.iter().collect::<BTreeSet<_>>().len(), 80);
}

#[test]
fn the_same_name_at_once_is_added_once() {
    let Some(slapd) = Slapd::start("the_same_name_at_once_is_added_once", "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    let children: Vec<_> = (0..6)
        .map(|_| {
            let mut command = admin.command(&["user", "add", "alice", "--group", "physics"]);
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let succeeded = children
        .into_iter()
        .map(|mut child| child.wait().unwrap().success())
        .filter(|ok| *ok)
        .count();
    assert_eq!(succeeded, 1);
    let shown = admin.ok(&["user", "show", "alice", "--json"]).json();
    assert_eq!(shown["primary-group"], "alice");
    assert_eq!(shown["groups"], serde_json::json!(["physics"]));
}

#[test]
fn the_same_number_at_once_is_given_at_most_once() {
    let test = "the_same_number_at_once_is_given_at_most_once";
    let Some(slapd) = Slapd::start(test, "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    for round in 0..4 {
        let number = (3000 + round).to_string();
        let children: Vec<_> = (0..4)
            .map(|n| {
                let name = format!("r{round}x{n}");
                let mut command = admin.command(&["user", "add", &name, "--uid", &number]);
                command
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let succeeded = children
            .into_iter()
            .map(|mut child| child.wait().unwrap().success())
            .filter(|ok| *ok)
            .count();
        let have = slapd.ldif(&format!(
            "(&(objectClass=posixAccount)(uidNumber={number}))"
        ));
        assert_eq!(have.matches("dn: ").count(), succeeded, "{have}");
        assert!(succeeded <= 1);
    }
}

#[test]
fn ids_are_checked_and_kept() {
    let Some(slapd) = Slapd::start("ids_are_checked_and_kept", "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    fn add<'a>(words: &[&'a str]) -> Vec<&'a str> {
        [&["user", "add", "alice"], words].concat()
    }
    admin.fails(
        &add(&["--uid", "0", "--outside-range"]),
        1,
        "one of the system's own",
    );
    admin.fails(
        &add(&["--uid", "65534", "--outside-range"]),
        1,
        "systems use for themselves",
    );
    admin.fails(&add(&["--uid", "1800"]), 1, "outside 2000 to 59999");
    admin.fails(
        &add(&["--uid", "1501", "--outside-range"]),
        1,
        "taken by 'uid=bob,",
    );
    admin.fails(
        &add(&["--uid", "1510", "--outside-range"]),
        1,
        "taken by 'cn=physics,",
    );
    admin.fails(&add(&["--uid", "-1"]), 64, "unexpected argument");
    admin.fails(&add(&["--uid", "4294967296"]), 64, "invalid value");
    admin.fails(
        &["group", "add", "proj", "--gid", "1510", "--outside-range"],
        1,
        "taken by 'cn=physics,",
    );
    // An existing group's number makes it the primary one.
    admin.ok(&add(&["--uid", "1700", "--gid", "1500", "--outside-range"]));
    assert_eq!(slapd.ldif("(&(cn=alice)(objectClass=posixGroup))"), "");
    admin.ok(&["user", "del", "alice"]);
    // The counter passes over a number in use, and over one that was in use.
    admin.ok(&["user", "add", "early", "--uid", "2001"]);
    admin.ok(&["user", "add", "gone", "--uid", "2002"]);
    admin.ok(&["user", "del", "gone"]);
    assert!(
        slapd
            .ldif("(cn=ids)")
            .contains("description: retired 2002\n")
    );
    let uids: Vec<u64> = ["one", "two", "three"]
        .iter()
        .map(|name| {
            admin.ok(&["user", "add", name, "--json"]).json()["user"]["uid"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(uids[0], 2000);
    assert!(uids[1] > 2002 && uids[2] > uids[1], "{uids:?}");
}

#[test]
fn the_range_ends() {
    let Some(slapd) = Slapd::start("the_range_ends", "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&(slapd.settings("rfc2307bis") + "id-range = [3000, 3001]\n"));
    // The counter stands at 2000: it is raised to the range.
    assert_eq!(
        admin.ok(&["user", "add", "one", "--json"]).json()["user"]["uid"],
        3000
    );
    assert_eq!(
        admin.ok(&["group", "add", "two", "--json"]).json()["group"]["gid"],
        3001
    );
    admin.fails(
        &["user", "add", "three"],
        1,
        "no id is left in 3000 to 3001",
    );
    admin.fails(&["check"], 78, "no id is left");
    assert_eq!(slapd.ldif("(uid=three)"), "");
}

#[test]
fn the_counter_is_made_once() {
    let Some(slapd) = Slapd::start("the_counter_is_made_once", "rfc2307bis") else {
        return;
    };
    let counter = "id-counter = 'cn=numbers,dc=example,dc=org'\nid-range = [1500, 59999]\n";
    let admin = slapd.admin(&(slapd.settings("rfc2307bis") + counter));
    let missing = "id counter 'cn=numbers,dc=example,dc=org' is not there";
    admin.fails(&["user", "add", "alice"], 1, missing);
    admin.fails(&["check"], 78, missing);
    assert!(admin.ok(&["init"]).out.contains("next id is 1513"));
    assert_eq!(admin.ok(&["init", "--json"]).json()["changed"], false);
    assert_eq!(
        admin.ok(&["user", "add", "alice", "--json"]).json()["user"]["uid"],
        1513
    );
    admin.ok(&["check"]);
}

#[test]
fn bad_arguments_are_refused_before_the_server_is_asked() {
    // Nothing listens there; a connection would be another error.
    let settings = format!(
        "uri = 'ldap://127.0.0.1:{}'\nstart-tls = false\nbind-dn = 'cn=a'\nbase = 'dc=x'\n",
        free_port()
    );
    let admin = Admin::new(&settings);
    for (name, said) in [
        ("Alice", "capital letters"),
        ("a b", "contains ' '"),
        ("../etc", "contains '/'"),
        ("1000", "does not begin with"),
        ("a,dc=x", "contains ','"),
        ("*", "contains '*'"),
        ("", "is empty"),
        ("root", "systems use themselves"),
        ("ubuntu", "systems use themselves"),
        ("aaaaaaaaaabbbbbbbbbbccccccccccddd", "longer than 32"),
    ] {
        admin.fails(&["user", "add", name], 64, said);
        admin.fails(&["group", "add", name], 64, said);
    }
    for (key, said) in [
        ("hello world", "no key type"),
        ("ssh-dss AAAAB3NzaC1kc3M=", "DSA"),
        ("ssh-ed25519 AAAA", "damaged"),
        (&format!("command=\"/bin/sh\" {KEY}"), "begins with options"),
        (
            "/nonexistent/id.pub",
            "read '/nonexistent/id.pub': No such file",
        ),
        ("/etc/passwd", "no key type"),
    ] {
        admin.fails(&["key", "add", "alice", key], 1, said);
        admin.fails(&["user", "add", "alice", "--key", key], 1, said);
    }
    for (option, value) in [
        ("--home", "home/alice"),
        ("--shell", "bash"),
        ("--home", "/home/a:b"),
        ("--gecos", "a:b"),
        ("--gecos", "a\nb"),
    ] {
        admin.fails(&["user", "add", "alice", option, value], 64, option);
    }
    admin.fails(&["user", "add"], 64, "required");
    admin.fails(&["colour"], 64, "unrecognized subcommand");
}

#[test]
fn names_of_this_machine_are_not_shadowed() {
    let test = "names_of_this_machine_are_not_shadowed";
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let Some(slapd) = Slapd::start(test, "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    let mut tried = 0;
    for name in groups.lines().filter_map(|line| line.split(':').next()) {
        let run = admin.run(&["user", "add", name]);
        assert_ne!(run.code, Some(0), "{name}: {run:?}");
        tried += usize::from(run.err.contains("is a local group of this machine"));
    }
    println!("{tried} names were refused for /etc/group alone");
}

#[test]
fn a_failing_step_undoes_those_before() {
    let Some(slapd) = Slapd::start("a_failing_step_undoes_those_before", "rfc2307bis") else {
        return;
    };
    let slapd = slapd.reconfigured(|conf| {
        let rule =
            "access to dn.exact=\"cn=chemistry,ou=groups,dc=example,dc=org\"\n    by * read\n";
        conf.replacen("access to *\n", &format!("{rule}access to *\n"), 1)
    });
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    let words = [
        "user",
        "add",
        "alice",
        "--group",
        "physics",
        "--group",
        "chemistry",
    ];
    let run = admin.fails(&words, 77, "nothing was changed: modify 'cn=chemistry,");
    assert!(
        run.err.contains("insufficient access") && run.err.contains("hint: "),
        "{run:?}"
    );
    assert_eq!(
        slapd.ldif("(|(uid=alice)(cn=alice)(member=uid=alice,ou=people,dc=example,dc=org))"),
        ""
    );
    // A removal stops instead and says where; the user is the last to go.
    admin.fails(&["user", "del", "carol"], 77, "modify 'cn=chemistry,");
    assert!(slapd.ldif("(uid=carol)").contains("uidNumber"));
}

/// Passes one connection on to `to` and cuts it after the client has sent `messages`.
fn cutting_proxy(to: u16, messages: usize) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = std::net::TcpStream::connect(("127.0.0.1", to)).unwrap();
        let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let backwards = std::thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut back);
        });
        let mut buffer = [0; 8192];
        // The client waits for each answer, so what is read at once is one message.
        for _ in 0..messages {
            let Ok(count @ 1..) = client.read(&mut buffer) else {
                break;
            };
            server.write_all(&buffer[..count]).unwrap();
        }
        let _ = client.read(&mut buffer);
        let _ = server.shutdown(std::net::Shutdown::Both);
        backwards.join().unwrap();
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
    (port, proxy)
}

#[test]
fn a_connection_that_breaks_leaves_nothing_unsaid() {
    let test = "a_connection_that_breaks_leaves_nothing_unsaid";
    let Some(slapd) = Slapd::start(test, "rfc2307bis") else {
        return;
    };
    let settings = slapd.settings("rfc2307bis");
    let direct = slapd.admin(&settings);
    let mut whole = 0;
    for messages in 1..40 {
        let (port, proxy) = cutting_proxy(slapd.port, messages);
        let admin = slapd.admin(&settings.replace(&slapd.port.to_string(), &port.to_string()));
        let run = admin.run(&["user", "add", "alice", "--group", "physics"]);
        proxy.join().unwrap();
        let there =
            slapd.ldif("(|(uid=alice)(cn=alice)(member=uid=alice,ou=people,dc=example,dc=org))");
        if run.code == Some(0) {
            whole += 1;
        } else {
            assert_eq!(run.code, Some(1), "{messages}: {run:?}");
            for dn in there.lines().filter_map(|line| line.strip_prefix("dn: ")) {
                assert!(
                    run.err.contains(dn),
                    "after {messages}: '{dn}' is there: {run:?}"
                );
            }
        }
        // Whatever is left, a removal ends it; what is left of a removal, another one.
        if there.contains("dn: uid=alice") {
            let (port, proxy) = cutting_proxy(slapd.port, messages);
            let cut = slapd.admin(&settings.replace(&slapd.port.to_string(), &port.to_string()));
            cut.run(&["user", "del", "alice"]);
            proxy.join().unwrap();
            direct.run(&["user", "del", "alice"]);
        }
        let left =
            slapd.ldif("(|(uid=alice)(cn=alice)(member=uid=alice,ou=people,dc=example,dc=org))");
        assert_eq!(left, "", "after {messages}");
    }
    assert!(whole > 0, "with enough messages it succeeds");
}

#[test]
fn what_the_schema_lacks_is_named() {
    let Some(slapd) = Slapd::start("what_the_schema_lacks_is_named", "rfc2307") else {
        return;
    };
    let bis = slapd.admin(&slapd.settings("rfc2307bis"));
    let said = "the server lacks an auxiliary 'posixGroup' (rfc2307bis)";
    let run = bis.fails(&["user", "add", "alice"], 1, said);
    assert!(run.err.contains("hint: load the schema"), "{run:?}");
    slapd.modify("dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: delete\n");
    let slapd = slapd.reconfigured(|conf| {
        conf.lines()
            .filter(|line| !line.ends_with("lpk.schema"))
            .map(|l| format!("{l}\n"))
            .collect()
    });
    let admin = slapd.admin(&slapd.settings("rfc2307"));
    admin.fails(
        &["user", "add", "alice", "--key", KEY],
        1,
        "the server lacks object class 'ldapPublicKey'",
    );
    admin.fails(
        &["key", "add", "carol", KEY],
        1,
        "the server lacks object class 'ldapPublicKey'",
    );
    admin.fails(&["check"], 78, "keys cannot be stored");
    admin.ok(&["user", "add", "alice"]);
}

#[test]
fn wrong_passwords_and_files() {
    use std::os::unix::fs::PermissionsExt;
    let Some(slapd) = Slapd::start("wrong_passwords_and_files", "rfc2307bis") else {
        return;
    };
    let settings = slapd.settings("rfc2307bis");
    let secret = slapd.file("wrong");
    let own = slapd.file("secret/admin-password");
    let wrong = settings.replace(own.to_str().unwrap(), secret.to_str().unwrap());
    let admin = slapd.admin(&wrong);
    let write = |text: &str, mode: u32| {
        std::fs::write(&secret, text).unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(mode)).unwrap();
    };
    admin.fails(&["user", "list"], 78, "configuration: read '");
    write("hunter2hunter2", 0o600);
    let run = admin.fails(&["user", "list"], 77, "wrong bind DN or password");
    assert!(!run.err.contains("hunter2"), "{run:?}");
    write("hunter2hunter2", 0o644);
    admin.fails(&["user", "list"], 78, "may be read by others");
    write("", 0o600);
    admin.fails(&["user", "list"], 78, "is empty");
    write("\n", 0o600);
    admin.fails(&["user", "list"], 1, "it is empty");
    // A newline at the end is no part of it.
    write(
        &format!("{}\n", std::fs::read_to_string(&own).unwrap()),
        0o600,
    );
    admin.ok(&["user", "list"]);

    let reader = settings
        .replace("cn=admin,", "cn=reader,")
        .replace("admin-password", "reader-password");
    let reader = slapd.admin(&reader);
    reader.ok(&["user", "list"]);
    reader.fails(&["key", "add", "carol", KEY], 77, "insufficient access");
    reader.fails(&["user", "add", "alice"], 77, "insufficient access");
    slapd.admin(&(settings.clone() + "colour = 'red'\n")).fails(
        &["user", "list"],
        78,
        "unknown field `colour`",
    );
    slapd
        .admin(&settings.replace("start-tls = false", "start-tls = 1"))
        .fails(&["check"], 78, ":2:13: invalid type");
    let away = settings.replace("ou=people,", "ou=nowhere,");
    slapd.admin(&away).fails(
        &["user", "list"],
        1,
        "search below 'ou=nowhere,dc=example,dc=org': no such entry",
    );
    slapd.admin(&away).fails(
        &["check"],
        78,
        "user-base 'ou=nowhere,dc=example,dc=org' is not there",
    );
}

/// Types `answer` when login-admin asks for the password, and returns the exit code and the terminal's
/// text.
fn typed(admin: &Admin, answer: &[u8]) -> (Option<i32>, String) {
    let terminal = nix::pty::openpty(None, None).unwrap();
    // Of util-linux: makes its standard input the controlling terminal.
    let words = admin.command(&["--ask-password", "user", "show", "bob"]);
    let mut command = std::process::Command::new("setsid");
    command
        .args(["--ctty", "--wait"])
        .arg(words.get_program())
        .args(words.get_args());
    command.stdin(terminal.slave.try_clone().unwrap());
    command
        .stdout(terminal.slave.try_clone().unwrap())
        .stderr(terminal.slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut master = std::fs::File::from(terminal.master);
    let (mut said, mut answered) = (Vec::new(), false);
    let mut buffer = [0; 512];
    // The read fails when nobody has the terminal open any more.
    while let Ok(1..) = master.read(&mut buffer[..1]) {
        said.push(buffer[0]);
        if !answered && said.ends_with(b"dc=org: ") {
            master.write_all(answer).unwrap();
            answered = true;
        }
    }
    (
        child.wait().unwrap().code(),
        String::from_utf8(said).unwrap(),
    )
}

#[test]
fn a_password_typed_at_the_terminal() {
    let Some(slapd) = Slapd::start("a_password_typed_at_the_terminal", "rfc2307bis") else {
        return;
    };
    let admin = slapd.admin(&slapd.settings("rfc2307bis"));
    let password = std::fs::read_to_string(slapd.file("secret/admin-password")).unwrap();
    // One letter too many, taken back; the terminal shows none of it.
    let (code, said) = typed(&admin, format!("{password}x\x7f\r").as_bytes());
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("uid: 1501") && !said.contains(&password),
        "{said}"
    );
    let (code, said) = typed(&admin, b"wrong\r");
    assert_eq!(code, Some(77), "{said}");
    let (code, said) = typed(&admin, b"\r");
    assert!(code == Some(1) && said.contains("it is empty"), "{said}");
    let (code, said) = typed(&admin, b"half\x03");
    assert!(code == Some(1) && said.contains("interrupted"), "{said}");
}

#[test]
fn tls_or_nothing() {
    let Some(slapd) = Slapd::start("tls_or_nothing", "rfc2307bis") else {
        return;
    };
    let plain = slapd.settings("rfc2307bis");
    let ca = format!("ca-file = '{}'\n", slapd.file("tls/ca.pem").display());
    let start = plain
        .replace("start-tls = false", "start-tls = true")
        .replace("127.0.0.1", "localhost");
    slapd.admin(&(start.clone() + &ca)).ok(&["check"]);
    let unasked = start.replace("start-tls = true\n", "");
    assert!(
        slapd
            .admin(&(unasked + &ca))
            .ok(&["check"])
            .out
            .contains("with StartTLS")
    );
    let ldaps = start.replace("start-tls = true\n", "").replace(
        &format!("ldap://localhost:{}", slapd.port),
        &format!("ldaps://localhost:{}", slapd.tls_port),
    );
    slapd.admin(&(ldaps.clone() + &ca)).ok(&["check"]);
    // The system does not know the lab's CA.
    for settings in [&start, &ldaps] {
        let run = slapd.admin(settings).run(&["check"]);
        assert!(matches!(run.code, Some(1 | 78)), "{run:?}");
        assert!(run.err.contains("certificate"), "{run:?}");
    }
    let other = start.replace("localhost", "127.0.0.2");
    slapd
        .admin(&(other + &ca))
        .fails(&["check"], 1, "connect to 'ldap://127.0.0.2");
    let garbled = format!("ca-file = '{}'\n", slapd.file("tls/server.ext").display());
    slapd
        .admin(&(start.clone() + &garbled))
        .fails(&["check"], 78, "no certificate in it");
    slapd
        .admin(&(start.clone() + "ca-file = '/nonexistent'\n"))
        .fails(&["check"], 78, "No such file");
    // A server that does not offer StartTLS gets no password.
    let slapd = slapd.reconfigured(|conf| {
        conf.lines()
            .filter(|line| !line.starts_with("TLS"))
            .map(|l| format!("{l}\n"))
            .collect()
    });
    let run = slapd
        .admin(&(start + &ca))
        .fails(&["check"], 1, "connect to 'ldap://localhost");
    assert!(
        run.err.contains("hint: the server refuses StartTLS"),
        "{run:?}"
    );
}

#[test]
fn a_server_that_is_down_or_frozen() {
    let Some(slapd) = Slapd::start("a_server_that_is_down_or_frozen", "rfc2307bis") else {
        return;
    };
    let settings = slapd.settings("rfc2307bis") + "timeout = '1s'\n";
    let admin = slapd.admin(&settings);
    slapd.signal("STOP");
    let run = admin.fails(&["user", "add", "alice"], 1, "no answer within 1s");
    assert!(run.err.contains("hint: is the server up"), "{run:?}");
    slapd.signal("CONT");
    admin.ok(&["user", "list"]);
    slapd.stop();
    let run = admin.fails(&["user", "list"], 1, "Connection refused");
    assert!(run.err.contains("hint: is the server up"), "{run:?}");
}

/// Elements in one another, well-shaped and far too deep.
fn nested(depth: usize) -> Vec<u8> {
    let heads = (0..depth).rev().map(|inside| {
        let length = u32::try_from(inside * 6).unwrap().to_be_bytes();
        [&[0x30, 0x84][..], &length].concat()
    });
    heads.collect::<Vec<_>>().concat()
}

#[test]
fn a_server_that_talks_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("password");
    std::fs::write(&secret, "x").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for nonsense in [
        // Bind answers without a result, without a message id, of another kind, not LDAP at all.
        &b"\x30\x05\x02\x01\x01\x61\x00"[..],
        b"\x30\x00",
        b"\x30\x05\x02\x01\x01\x7f\x00",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x30\x84\xff\xff\xff\xff",
        &[0x30, 0x80].repeat(50_000),
        &nested(100_000),
        b"",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let nonsense = nonsense.to_vec();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(&nonsense);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // Until the client is gone: a reset would hide what was written.
            while matches!(stream.read(&mut [0; 512]), Ok(1..)) {}
        });
        let admin = Admin::new(&format!(
            "uri = 'ldap://127.0.0.1:{port}'\nstart-tls = false\nbind-dn = 'cn=a'\nbase = 'dc=x'\n\
             timeout = '2s'\nbind-password-file = '{}'\n",
            secret.display()
        ));
        let run = admin.fails(&["user", "list"], 1, "login-admin: ");
        let reason = ["connection to the server broke: ", "answer is malformed"];
        assert!(reason.iter().any(|text| run.err.contains(text)), "{run:?}");
        server.join().unwrap();
    }
}
