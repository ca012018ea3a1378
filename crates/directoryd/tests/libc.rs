//! What programs see through their own libc: names, groups, changes, and that they never wait for the
//! directory server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    collections::BTreeSet,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use directory_client::Lookup;
use nix::sys::signal::Signal;
use support::{Lab, Settings, has_peers, wait};

#[test]
fn names_numbers_and_groups() {
    if !has_peers("names_numbers_and_groups") {
        return;
    }
    for schema in ["rfc2307bis", "rfc2307"] {
        let lab = Lab::running(Settings {
            schema,
            ..Settings::default()
        });
        let bob = "bob:*:1501:1500:Bob Example:/home/bob:/bin/bash";
        assert_eq!(lab.getent("passwd", "bob"), bob);
        assert_eq!(lab.getent("passwd", "1501"), bob);
        assert_eq!(lab.getent("group", "physics"), "physics:*:1510:bob,carol");
        assert_eq!(lab.getent("group", "1511"), "chemistry:*:1511:carol,dave");
        assert_eq!(lab.getent("group", "people"), "people:*:1500:");
        assert_eq!(lab.getent("passwd", "nosuch"), "");
        assert_eq!(lab.getent("passwd", "54321"), "");
        assert_eq!(lab.getent("group", "nosuch"), "");
        // Groups in groups exist only where members are entries.
        let (bob, carol): (&[u32], &[u32]) = match schema {
            "rfc2307bis" => (&[1500, 1510, 1512], &[1500, 1510, 1511, 1512]),
            _ => (&[1500, 1510], &[1500, 1510, 1511]),
        };
        assert_eq!(lab.groups("bob"), bob);
        assert_eq!(lab.groups("carol"), carol);
        assert_eq!(lab.groups("erin"), [1500]);
        assert_eq!(lab.groups("root"), [0]);
        assert!(lab.getent("passwd", "root").starts_with("root:x:0:0:"));
        let local = std::fs::read_to_string("/etc/group").unwrap();
        let last = local.lines().last().unwrap();
        assert_eq!(lab.getent("group", last.split(':').next().unwrap()), last);
    }
}

#[test]
fn entries_that_clash_with_local_ones_are_refused_loudly() {
    if !has_peers("entries_that_clash_with_local_ones_are_refused_loudly") {
        return;
    }
    let person = |name: &str, uid: u32| {
        format!(
            "dn: uid={name},ou=people,dc=example,dc=org\nobjectClass: account\n\
             objectClass: posixAccount\nuid: {name}\ncn: {name}\nuidNumber: {uid}\n\
             gidNumber: 1500\nhomeDirectory: /home/{name}\n\n"
        )
    };
    let group = |name: &str, gid: u32| {
        format!(
            "dn: cn={name},ou=groups,dc=example,dc=org\nobjectClass: groupOfMembers\n\
             objectClass: posixGroup\ncn: {name}\ngidNumber: {gid}\n\
             member: uid=bob,ou=people,dc=example,dc=org\n\n"
        )
    };
    let extra = [
        person("root", 1600),
        person("toor", 0),
        person("daemon2", 1),
        person("twin1", 1700),
        person("twin2", 1700),
        group("sudo", 1601),
        group("wheel", 27),
        group("good", 1602),
    ]
    .concat();
    let lab = Lab::running(Settings {
        extra: extra.leak(),
        ..Settings::default()
    });
    assert!(lab.getent("passwd", "root").starts_with("root:x:0:0:"));
    for absent in ["1600", "toor", "daemon2", "twin1", "twin2", "1700"] {
        assert_eq!(lab.getent("passwd", absent), "", "{absent}");
    }
    assert!(lab.getent("passwd", "0").starts_with("root:"));
    assert!(lab.getent("group", "sudo").starts_with("sudo:x:27:"));
    assert_eq!(lab.getent("group", "wheel"), "");
    assert_eq!(lab.groups("bob"), [1500, 1510, 1512, 1602]);
    assert_eq!(lab.until(|_| true).refused, 7);
    let log = lab.log();
    for entry in [
        "uid=root",
        "uid=toor",
        "uid=twin1",
        "uid=twin2",
        "cn=sudo",
        "cn=wheel",
    ] {
        let line = log
            .lines()
            .find(|line| line.contains("entry.refused") && line.contains(entry));
        assert!(
            line.is_some_and(|line| line.contains("ERROR")),
            "{entry}: {log}"
        );
    }
    assert_eq!(
        lab.client()
            .account("root", Duration::from_secs(1))
            .unwrap(),
        Lookup::NotFound
    );
}

#[test]
fn a_user_with_five_hundred_groups_has_them_all() {
    if !has_peers("a_user_with_five_hundred_groups_has_them_all") {
        return;
    }
    let group = |number: u32| {
        format!(
            "dn: cn=g{number},ou=groups,dc=example,dc=org\nobjectClass: groupOfMembers\n\
             objectClass: posixGroup\ncn: g{number}\ngidNumber: {}\n\
             member: uid=bob,ou=people,dc=example,dc=org\n\n",
            3000 + number
        )
    };
    let extra: String = (0..500).map(group).collect();
    let lab = Lab::running(Settings {
        extra: extra.leak(),
        ..Settings::default()
    });
    let expected: Vec<u32> = [1500, 1510, 1512].into_iter().chain(3000..3500).collect();
    assert_eq!(lab.groups("bob"), expected);
    let Lookup::Found(bob) = lab.client().account("bob", Duration::from_secs(5)).unwrap() else {
        panic!("no bob");
    };
    assert!(bob.fresh);
    assert_eq!(bob.groups.len(), expected.len());
}

/// Not a test: a program that looks names up in a loop, run by the two tests below.
#[test]
#[ignore = "run by the two tests below"]
fn looping_program() {
    let end = Instant::now() + Duration::from_secs(4);
    let mut seen = BTreeSet::new();
    let mut lookups = 0u64;
    while Instant::now() < end {
        for _ in 0..1000 {
            let bob = nix::unistd::User::from_name("bob")
                .unwrap()
                .expect("bob is missing");
            assert_eq!(bob.uid.as_raw(), 1501);
            let gecos = bob.gecos.into_string().unwrap();
            if !seen.contains(&gecos) {
                seen.insert(gecos);
            }
            let carol = nix::unistd::User::from_uid(1502.into())
                .unwrap()
                .expect("carol is missing");
            assert_eq!(carol.name, "carol");
            let group = nix::unistd::Group::from_gid(1510.into())
                .unwrap()
                .expect("no physics");
            assert_eq!(group.mem, ["bob", "carol"]);
            lookups += 3;
        }
    }
    println!("saw {} names in {lookups} lookups", seen.len());
}

#[test]
fn running_programs_follow_changes_and_never_miss() {
    if !has_peers("running_programs_follow_changes_and_never_miss") {
        return;
    }
    let lab = Lab::running(Settings::default());
    let program = start_looping(&lab);
    for number in 0..20 {
        lab.modify(&format!(
            "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\n\
             replace: gecos\ngecos: Bob {number}\n"
        ));
        lab.client().refresh().unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    // The first may be over before the program runs.
    assert!(names_seen(program) >= 15);
}

#[test]
fn running_programs_do_not_notice_a_crash_of_the_daemon() {
    if !has_peers("running_programs_do_not_notice_a_crash_of_the_daemon") {
        return;
    }
    let mut lab = Lab::running(Settings::default());
    let program = start_looping(&lab);
    std::thread::sleep(Duration::from_secs(1));
    lab.kill_daemon();
    std::thread::sleep(Duration::from_secs(1));
    // A new program goes on with nsswitch.conf.
    assert_eq!(lab.getent("passwd", "bob"), "");
    assert!(lab.getent("passwd", "root").starts_with("root:"));
    lab.start_daemon();
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    assert_eq!(names_seen(program), 1);
}

fn start_looping(lab: &Lab) -> Child {
    lab.program(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "looping_program", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the looping program, which fails if it missed a single look-up.
fn names_seen(program: Child) -> u32 {
    let output = program.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = text.lines().find(|line| line.contains("saw ")).unwrap();
    println!("{line}");
    line.split("saw ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_look_up_online_is_seen_by_libc_at_once() {
    if !has_peers("a_look_up_online_is_seen_by_libc_at_once") {
        return;
    }
    // Polling is too slow to have a part in this, and the server does not tell.
    let lab = Lab::running(Settings {
        refresh: "1h",
        more_ldap: "change-interval = \"1h\"\nsyncrepl = false",
        ..Settings::default()
    });
    let client = lab.client();
    let account = |name: &str| client.account(name, Duration::from_secs(3)).unwrap();
    let Lookup::Found(bob) = account("bob") else {
        panic!("no bob")
    };
    assert!(bob.fresh && bob.age < Duration::from_secs(3), "{bob:?}");
    assert_eq!(bob.ssh_keys.len(), 1);
    assert_eq!(
        bob.groups,
        [
            (1500, "people".into()),
            (1510, "physics".into()),
            (1512, "science".into())
        ]
    );
    // A key is revoked, a group is left, the account is locked.
    lab.modify(
        "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\ndelete: sshPublicKey\n-\n\
         replace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n\n\
         dn: cn=physics,ou=groups,dc=example,dc=org\nchangetype: modify\ndelete: member\n\
         member: uid=bob,ou=people,dc=example,dc=org\n",
    );
    let Lookup::Found(stale) = client.account("bob", Duration::ZERO).unwrap() else {
        panic!("no bob");
    };
    assert!(!stale.fresh);
    assert_eq!(stale.ssh_keys.len(), 1);
    let Lookup::Found(bob) = account("bob") else {
        panic!("no bob")
    };
    assert_eq!(bob.ssh_keys, [""; 0]);
    assert_eq!(bob.state, directory_client::AccountState::Locked);
    assert_eq!(bob.groups, [(1500, "people".into())]);
    assert_eq!(lab.groups("bob"), [1500]);
    // A new user in a new group.
    lab.modify(
        "dn: uid=frank,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: account\n\
         objectClass: posixAccount\nuid: frank\ncn: Frank\nuidNumber: 1510\ngidNumber: 1500\n\
         homeDirectory: /home/frank\nloginShell: /bin/sh\n\n\
         dn: cn=new,ou=groups,dc=example,dc=org\nchangetype: add\nobjectClass: groupOfMembers\n\
         objectClass: posixGroup\ncn: new\ngidNumber: 1520\n\
         member: uid=frank,ou=people,dc=example,dc=org\n\
         member: uid=carol,ou=people,dc=example,dc=org\n",
    );
    assert_eq!(lab.getent("passwd", "frank"), "");
    let Lookup::Found(frank) = account("frank") else {
        panic!("no frank")
    };
    assert_eq!(
        frank.groups,
        [(1500, "people".into()), (1520, "new".into())]
    );
    assert_eq!(
        lab.getent("passwd", "frank"),
        "frank:*:1510:1500:Frank:/home/frank:/bin/sh"
    );
    assert_eq!(lab.groups("frank"), [1500, 1520]);
    // The new group's other members follow by themselves.
    wait("the new group is whole", || {
        (lab.getent("group", "new") == "new:*:1520:carol,frank").then_some(())
    });
    // And he goes again.
    lab.modify("dn: uid=frank,ou=people,dc=example,dc=org\nchangetype: delete\n");
    assert_eq!(account("frank"), Lookup::NotFound);
    assert_eq!(lab.getent("passwd", "frank"), "");
    assert_eq!(account("nosuch"), Lookup::NotFound);
    assert_eq!(account("../etc"), Lookup::NotFound);
    assert_eq!(account("*"), Lookup::NotFound);
    // Names are told apart by case, unlike in the directory.
    assert_eq!(account("Bob"), Lookup::NotFound);
}

#[test]
fn a_change_is_seen_within_an_interval() {
    if !has_peers("a_change_is_seen_within_an_interval") {
        return;
    }
    // The long interval is for servers without a mark of their last change.
    let lab = Lab::running(Settings {
        refresh: "1h",
        more_ldap: "change-interval = \"200ms\"",
        ..Settings::default()
    });
    lab.modify("dn: uid=carol,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: loginShell\nloginShell: /bin/zsh\n");
    wait("the new shell", || {
        lab.getent("passwd", "carol")
            .ends_with(":/bin/zsh")
            .then_some(())
    });
    let before = lab.until(|_| true).generation;
    // Without a change there is no new generation, and still the replica stays young.
    std::thread::sleep(Duration::from_millis(600));
    let status = lab.until(|_| true);
    assert_eq!(status.generation, before);
    assert!(
        status.age.unwrap() < Duration::from_millis(500),
        "{status:?}"
    );
}

#[test]
fn local_files_are_followed_and_win() {
    if !has_peers("local_files_are_followed_and_win") {
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let (passwd, group) = (files.path().join("passwd"), files.path().join("group"));
    let root = "root:x:0:0:root:/root:/bin/bash\n";
    std::fs::write(&passwd, root).unwrap();
    std::fs::write(&group, "root:x:0:\n").unwrap();
    let more = format!("passwd-file = {passwd:?}\ngroup-file = {group:?}");
    let lab = Lab::running(Settings {
        more,
        ..Settings::default()
    });
    assert_eq!(lab.getent("passwd", "root"), root.trim_end());
    assert_eq!(lab.getent("passwd", "local"), "");
    assert!(lab.getent("passwd", "bob").starts_with("bob:*:1501:"));
    // As `useradd` does it: a new file in the place of the old one.
    let fresh = files.path().join("passwd+");
    let local = "local:x:1900:1900::/:/bin/sh\n";
    let bob = "bob:x:1234:1234:local Bob:/:/bin/sh\n";
    std::fs::write(&fresh, [root, local, bob].concat()).unwrap();
    std::fs::rename(&fresh, &passwd).unwrap();
    std::fs::write(&group, "root:x:0:\nlab:x:999:carol\n").unwrap();
    // What `nscd --invalidate passwd` sends; other users are not heard.
    let answer = directory_answer(&lab, 10, b"passwd");
    if nix::unistd::geteuid().is_root() {
        assert_eq!(answer, 0i32.to_ne_bytes());
    }
    wait("the local user", || {
        (lab.getent("passwd", "local") == local.trim_end()).then_some(())
    });
    assert_eq!(lab.getent("passwd", "bob"), bob.trim_end());
    assert_eq!(lab.getent("passwd", "1501"), "");
    assert!(lab.groups("carol").contains(&999));
    assert_eq!(
        lab.client().account("bob", Duration::from_secs(1)).unwrap(),
        Lookup::NotFound
    );
    assert!(lab.log().contains("'bob' is a local name"), "{}", lab.log());
    // A file that is gone for a moment costs nobody their name.
    std::fs::rename(&passwd, &fresh).unwrap();
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(lab.getent("passwd", "local"), local.trim_end());
    std::fs::write(&passwd, root).unwrap();
    wait("bob of the directory", || {
        lab.getent("passwd", "bob")
            .starts_with("bob:*:1501:")
            .then_some(())
    });
}

#[test]
fn a_frozen_directory_server_stops_nobody() {
    if !has_peers("a_frozen_directory_server_stops_nobody") {
        return;
    }
    let mut lab = Lab::running(Settings::default());
    lab.signal_slapd(Signal::SIGSTOP);
    let client = lab.client();
    for _ in 0..20 {
        assert!(lab.getent("passwd", "bob").starts_with("bob:"));
        assert_eq!(lab.getent("passwd", "nosuch"), "");
        assert_eq!(lab.groups("carol"), [1500, 1510, 1511, 1512]);
    }
    let Lookup::Found(bob) = client.account("bob", Duration::from_millis(300)).unwrap() else {
        panic!("no bob");
    };
    assert!(!bob.fresh);
    assert_eq!(bob.ssh_keys.len(), 1);
    assert_eq!(
        client
            .account("nosuch", Duration::from_millis(300))
            .unwrap(),
        Lookup::NotFound
    );
    lab.until(|status| !status.problem.is_empty() && status.complete);
    assert!(client.refresh().is_err());
    lab.signal_slapd(Signal::SIGCONT);
    lab.until(|status| status.problem.is_empty());
    let fresh = wait("a fresh answer", || {
        match client.account("bob", Duration::from_secs(1)) {
            Ok(Lookup::Found(bob)) if bob.fresh => Some(bob),
            _ => None,
        }
    });
    assert_eq!(fresh.uid, 1501);
    lab.assert_alive();
}

#[test]
fn a_start_without_the_directory_server_serves_the_kept_replica() {
    if !has_peers("a_start_without_the_directory_server_serves_the_kept_replica") {
        return;
    }
    let mut lab = Lab::running(Settings::default());
    lab.stop_daemon();
    lab.stop_slapd();
    lab.start_daemon();
    let status = lab.until(|status| !status.problem.is_empty());
    assert!(status.complete && status.server.is_empty(), "{status:?}");
    assert!(lab.getent("passwd", "bob").starts_with("bob:*:1501:"));
    assert_eq!(lab.getent("passwd", "nosuch"), "");
    assert_eq!(lab.groups("carol"), [1500, 1510, 1511, 1512]);
    let Lookup::Found(bob) = lab.client().account("bob", Duration::from_secs(1)).unwrap() else {
        panic!("no bob");
    };
    assert!(!bob.fresh && bob.ssh_keys.len() == 1);
    assert!(lab.log().contains("serving_replica=true"), "{}", lab.log());
    // It comes back by itself.
    lab.start_slapd();
    lab.until(|status| status.problem.is_empty() && !status.server.is_empty());
}

#[test]
fn without_a_replica_only_local_names_are_known() {
    if !has_peers("without_a_replica_only_local_names_are_known") {
        return;
    }
    let mut lab = Lab::running(Settings::default());
    lab.stop_daemon();
    lab.stop_slapd();
    std::fs::write(lab.path("state/replica"), "rubbish").unwrap();
    lab.start_daemon();
    lab.until(|status| !status.problem.is_empty());
    assert!(lab.log().contains("replica.not_loaded"), "{}", lab.log());
    assert!(lab.getent("passwd", "root").starts_with("root:x:0:0:"));
    assert_eq!(lab.groups("root"), [0]);
    let answer = lab
        .client()
        .account("bob", Duration::from_millis(500))
        .unwrap();
    assert_eq!(answer, Lookup::Unavailable);
    assert_eq!(
        lab.client().account("root", Duration::ZERO).unwrap(),
        Lookup::NotFound
    );
    // "Not served here", so that libc asks whoever else nsswitch.conf names.
    let answer = directory_answer(&lab, 0, b"bob");
    assert_eq!(answer[4..8], (-1i32).to_ne_bytes());
    assert_eq!(directory_answer(&lab, 0, b"root")[4..8], 1i32.to_ne_bytes());
    lab.start_slapd();
    lab.until(|status| status.complete);
    assert_eq!(directory_answer(&lab, 0, b"bob")[4..8], 1i32.to_ne_bytes());
    assert_eq!(
        directory_answer(&lab, 0, b"nosuch")[4..8],
        0i32.to_ne_bytes()
    );
}

fn directory_answer(lab: &Lab, kind: i32, key: &[u8]) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut socket = std::os::unix::net::UnixStream::connect(lab.path("nscd/socket")).unwrap();
    socket
        .write_all(&directory_map::protocol::encode_request(kind, key))
        .unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    answer
}
