//! Several domains in one daemon: two real slapds, or one and a file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    os::unix::net::UnixStream,
    time::Duration,
};

use directory_client::{Change, Explanation, Lookup, Verdict};
use nix::sys::signal::Signal;
use support::{Lab, Settings, accepted, attempt, has_peers, password, persons, run, wait};

/// People of the second directory. The others there have names and numbers of the first.
const EXTRA: &str = "dn: uid=zoe,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\n\
objectClass: posixAccount\nuid: zoe\ncn: Zoe\nsn: Zoe\nuidNumber: 1700\ngidNumber: 1701\nhomeDirectory: /home/zoe\n\n\
dn: uid=yan,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\n\
objectClass: posixAccount\nuid: yan\ncn: Yan\nsn: Yan\nuidNumber: 1501\ngidNumber: 1701\nhomeDirectory: /home/yan\n\n";
const BIS: &str = "dn: cn=guests,ou=groups,dc=example,dc=org\nobjectClass: groupOfMembers\nobjectClass: posixGroup\n\
cn: guests\ngidNumber: 1701\nmember: uid=zoe,ou=people,dc=example,dc=org\nmember: uid=bob,ou=people,dc=example,dc=org\n";
const PLAIN: &str = "dn: cn=guests,ou=groups,dc=example,dc=org\nobjectClass: posixGroup\n\
cn: guests\ngidNumber: 1701\nmemberUid: zoe\nmemberUid: bob\n";

fn ldap(lab: &Lab, schema: &str) -> String {
    let path = |name: &str| lab.path(name).display().to_string();
    format!(
        "uris = [\"ldap://127.0.0.1:{}\"]\nca-file = \"{}\"\nbind-dn = \"cn=reader,dc=example,dc=org\"\n\
         bind-password-file = \"{}\"\nschema = \"{schema}\"\nbase = \"dc=example,dc=org\"\n\
         user-base = \"ou=people,dc=example,dc=org\"\ngroup-base = \"ou=groups,dc=example,dc=org\"\n\
         refresh-interval = \"200ms\"\nlookup-timeout = \"1s\"\n",
        lab.port,
        path("slapd/tls/ca.pem"),
        path("password"),
    )
}

fn configure(lab: &Lab, more: &str) {
    let path = |name: &str| lab.path(name).display().to_string();
    let text = format!(
        "nscd-socket = \"{}\"\ncontrol-socket = \"{}\"\nstate-dir = \"{}\"\nmetrics-listen = \"{}\"\n{more}\n\
         [password]\nrefusal-time = \"50ms\"\ntimeout = \"2s\"\nuser-failures = 50\n",
        path("nscd/socket"),
        path("run/control.sock"),
        path("state"),
        path("run/metrics"),
    );
    fs::write(lab.path("directoryd.toml"), text).unwrap();
}

/// Two directories; everything runs, and the daemon knows both.
fn two(schema: &'static str) -> (Lab, Lab) {
    let groups = if schema == "rfc2307" { PLAIN } else { BIS };
    let mut first = Lab::new(Settings::default());
    let mut second = Lab::new(Settings {
        schema,
        extra: Box::leak(format!("{EXTRA}{groups}").into_boxed_str()),
        ..Settings::default()
    });
    first.start_slapd();
    second.start_slapd();
    let password = persons(&second);
    second.modify(&format!(
        "dn: uid=zoe,ou=people,dc=example,dc=org\nchangetype: modify\nadd: userPassword\nuserPassword: {password}\n"
    ));
    configure(
        &first,
        &format!(
            "domains = [\"main\", \"guests.example\"]\n[domain.main.ldap]\n{}\n\
             [domain.\"guests.example\".ldap]\n{}\n",
            ldap(&first, "rfc2307bis"),
            ldap(&second, schema)
        ),
    );
    first.start_daemon();
    first.until(|status| status.complete);
    (first, second)
}

/// Whether the user is known, and whether the server has just said so.
fn fresh(lab: &Lab, user: &str) -> Lookup<bool> {
    let found = lab.client().account(user, Duration::from_millis(1500));
    match found.unwrap() {
        Lookup::Found(account) => Lookup::Found(account.fresh),
        Lookup::NotFound => Lookup::NotFound,
        Lookup::Unavailable => Lookup::Unavailable,
    }
}

fn explain(lab: &Lab, user: &str) -> Explanation {
    lab.client().explain(user, Duration::from_secs(1)).unwrap()
}

fn http(lab: &Lab, path: &str) -> String {
    let mut stream = UnixStream::connect(lab.path("run/metrics")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_first_domain_wins_and_each_answers_for_its_own() {
    if !has_peers("the_first_domain_wins_and_each_answers_for_its_own") {
        return;
    }
    for schema in ["rfc2307bis", "rfc2307"] {
        let (first, second) = two(schema);
        let (ours, theirs) = (persons(&first), persons(&second));
        assert!(
            first
                .getent("passwd", "bob")
                .starts_with("bob:*:1501:1500:")
        );
        assert!(
            first
                .getent("passwd", "zoe")
                .starts_with("zoe:*:1700:1701:")
        );
        // He has bob's number in a domain that stands behind.
        assert_eq!(first.getent("passwd", "yan"), "");
        assert!(first.getent("passwd", "1501").starts_with("bob:"));
        let log = first.log();
        for part in [
            "uid=yan,ou=people,dc=example,dc=org (guests.example)",
            "id 1501 is one of domain 'main', which stands before",
            "'bob' is a name of domain 'main', which stands before",
        ] {
            assert!(log.contains(part), "{part} is not in\n{log}");
        }
        // Bob of the second is nobody, so he does not get into its groups.
        assert_eq!(first.getent("group", "guests"), "guests:*:1701:zoe");
        assert!(!first.groups("bob").contains(&1701));
        assert_eq!(first.groups("zoe"), [1701]);
        let source = first
            .client()
            .entry(directory_client::Database::Passwd, "zoe");
        let Lookup::Found(entry) = source.unwrap() else {
            panic!("zoe is served");
        };
        assert!(entry.source.ends_with(" (guests.example)"), "{entry:?}");

        assert_eq!(attempt(&first, "bob", &ours), accepted());
        assert_eq!(attempt(&first, "zoe", &theirs), accepted());
        assert_eq!(attempt(&first, "bob", &theirs), Verdict::Refused);
        assert_eq!(attempt(&first, "zoe", &ours), Verdict::Refused);
        assert_eq!(attempt(&first, "yan", &theirs), Verdict::Refused);
        let client = first.client();
        let change = client.change_password("zoe", password(&theirs), password("another one"), "");
        assert_eq!(change.unwrap(), Change::Done);
        assert_eq!(attempt(&first, "zoe", "another one"), accepted());

        // A change in either is seen.
        second.modify(
            "dn: uid=zoe,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: cn\ncn: Zoe Two\n",
        );
        wait("the change", || {
            let line = first.getent("passwd", "zoe");
            line.contains("Zoe Two").then_some(())
        });
        let told = explain(&first, "zoe");
        let about = |what: &str| {
            let found = told.findings.iter().find(|finding| finding.what == what);
            found.unwrap().detail.clone()
        };
        assert!(told.may && about("entry").contains("of domain 'guests.example'"));
        let uri = format!("guests.example: 'ldap://127.0.0.1:{}'", second.port);
        assert!(about("server").starts_with(&uri), "{told:?}");
        let (code, text, _) = run(&first, &["explain", "yan"]);
        assert!(
            code != Some(0) && text.contains("which stands before"),
            "{text}"
        );
    }
}

#[test]
fn a_domain_that_is_away_costs_its_own_people_alone() {
    if !has_peers("a_domain_that_is_away_costs_its_own_people_alone") {
        return;
    }
    let (mut first, mut second) = two("rfc2307bis");
    let (ours, theirs) = (persons(&first), persons(&second));
    assert_eq!(fresh(&first, "zoe"), Lookup::Found(true));
    second.signal_slapd(Signal::SIGSTOP);
    assert_eq!(fresh(&first, "zoe"), Lookup::Found(false));
    assert_eq!(fresh(&first, "bob"), Lookup::Found(true));
    // Both are known, if one from its copy.
    assert_eq!(fresh(&first, "nosuch"), Lookup::NotFound);
    assert_eq!(attempt(&first, "bob", &ours), accepted());
    assert_eq!(attempt(&first, "zoe", &theirs), Verdict::Unavailable);
    first.modify(
        "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: gecos\ngecos: Robert\n",
    );
    wait("the change", || {
        let line = first.getent("passwd", "bob");
        line.contains("Robert").then_some(())
    });
    assert!(first.getent("passwd", "zoe").starts_with("zoe:"));
    let status = first.until(|status| !status.problem.is_empty());
    assert!(status.problem.starts_with("guests.example: "), "{status:?}");
    let [main, guests] = &status.domains[..] else {
        panic!("{status:?}");
    };
    assert!(
        main.problem.is_empty() && !main.server.is_empty(),
        "{status:?}"
    );
    assert!(guests.complete && guests.server.is_empty(), "{status:?}");
    let metrics = http(&first, "/metrics");
    for line in [
        "directoryd_domain_problem{domain=\"main\"} 0\n",
        "directoryd_domain_problem{domain=\"guests.example\"} 1\n",
        "directoryd_domain_following{domain=\"main\"} 1\n",
        "directoryd_complete 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let (code, text, _) = run(&first, &["status"]);
    assert!(
        code == Some(0) && text.contains("domain guests.example: "),
        "{text}"
    );

    // What was held of it outlives a restart.
    first.stop_daemon();
    assert!(first.path("state/replica.main").exists());
    assert!(first.path("state/replica.guests.example").exists());
    first.start_daemon();
    assert!(first.getent("passwd", "zoe").starts_with("zoe:"));
    assert_eq!(fresh(&first, "nosuch"), Lookup::NotFound);

    // Without it, whom the domain may have is not known, and who is of the other is.
    first.stop_daemon();
    fs::remove_file(first.path("state/replica.guests.example")).unwrap();
    first.start_daemon();
    first.until(|status| status.domains[0].following);
    assert_eq!(fresh(&first, "bob"), Lookup::Found(true));
    assert_eq!(fresh(&first, "zoe"), Lookup::Unavailable);
    assert_eq!(fresh(&first, "nosuch"), Lookup::Unavailable);
    assert!(first.getent("passwd", "bob").starts_with("bob:"));
    assert_eq!(attempt(&first, "bob", &ours), accepted());
    assert_ne!(run(&first, &["status"]).0, Some(0));
    assert_eq!(run(&first, &["status", "--domain", "main"]).0, Some(0));
    assert_ne!(
        run(&first, &["status", "--domain", "guests.example"]).0,
        Some(0)
    );
    assert_ne!(run(&first, &["status", "--domain", "nosuch"]).0, Some(0));
    for (path, code) in [
        ("/readyz", "503"),
        ("/readyz/main", "200"),
        ("/readyz/guests.example", "503"),
        ("/readyz/nosuch", "503"),
    ] {
        let answer = http(&first, path);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {code}")),
            "{path}: {answer}"
        );
    }
    // And it comes back by itself.
    second.signal_slapd(Signal::SIGCONT);
    first.until(|status| status.complete);
    assert_eq!(fresh(&first, "zoe"), Lookup::Found(true));
    assert_eq!(attempt(&first, "zoe", &theirs), accepted());
    second.stop_slapd();
}

#[test]
fn a_directory_and_a_file() {
    if !has_peers("a_directory_and_a_file") {
        return;
    }
    let mut lab = Lab::new(Settings::default());
    lab.start_slapd();
    // The password is that of the published vector.
    let people = "[[users]]\nname = \"admin1\"\nuid = 1900\ngid = 1900\n\
        password-hash = \"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1\"\n\
        [[users]]\nname = \"carol\"\nuid = 1901\ngid = 1900\n\
        [[groups]]\nname = \"admins\"\ngid = 1900\nmembers = [\"carol\"]\n";
    let file = lab.path("people.toml");
    fs::write(&file, people).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(lab.path("offline-secret"), "k".repeat(32)).unwrap();
    let secret = lab.path("offline-secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    configure(
        &lab,
        &format!(
            "domains = [\"local\", \"site\"]\n[offline-passwords]\nsecret-file = \"{}\"\n\
             [domain.local.file]\npath = \"{}\"\n[domain.site.ldap]\n{}",
            secret.display(),
            file.display(),
            ldap(&lab, "rfc2307bis")
        ),
    );
    assert_eq!(run(&lab, &["check"]).0, Some(0));
    lab.start_daemon();
    lab.until(|status| status.complete);
    let right = persons(&lab);
    assert!(lab.getent("passwd", "carol").starts_with("carol:*:1901:"));
    assert_eq!(lab.getent("group", "admins"), "admins:*:1900:carol");
    assert_eq!(attempt(&lab, "bob", &right), accepted());
    assert_eq!(attempt(&lab, "admin1", "Hello world!"), accepted());
    // Carol of the directory has a password, carol of the file has none.
    assert_eq!(attempt(&lab, "carol", &right), Verdict::Refused);
    let change = |user: &str, old: &str| {
        let client = lab.client();
        let change = client.change_password(user, password(old), password("another one"), "");
        change.unwrap()
    };
    assert!(matches!(
        change("admin1", "Hello world!"),
        Change::NotAccepted(_)
    ));
    lab.until(|status| status.offline_passwords == Some(1));
    lab.stop_slapd();
    // The file is always there; of the directory's people the last password counts.
    assert_eq!(attempt(&lab, "admin1", "Hello world!"), accepted());
    assert_eq!(attempt(&lab, "admin1", "wrong"), Verdict::Refused);
    assert!(matches!(
        attempt(&lab, "bob", &right),
        Verdict::Accepted { notices, .. } if notices.len() == 1
    ));
    // A broken file leaves what there was, and nobody of the other out.
    fs::write(&file, "[[users]]\nname = 3\n").unwrap();
    let status = lab.until(|status| status.problem.contains("local: "));
    assert!(status.problem.contains("people.toml:2:8"), "{status:?}");
    assert!(lab.getent("passwd", "admin1").starts_with("admin1:"));
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    let (code, ..) = run(&lab, &["check"]);
    assert_ne!(code, Some(0));
}
