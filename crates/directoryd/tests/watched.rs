//! What administrators and their monitoring see: `getent` with sources, numbers, readiness.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use support::{Lab, Settings, has_peers, run, wait};

fn lab() -> Lab {
    let mut lab = Lab::new(Settings::default());
    lab.settings.more = format!(
        "metrics-listen = \"{}\"",
        lab.path("run/metrics.sock").display()
    );
    lab.write_config();
    // Certificates and passwords are there, and the server is not.
    lab.start_slapd();
    lab.stop_slapd();
    lab
}

/// The code and the body.
fn get(lab: &Lab, path: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(lab.path("run/metrics.sock")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split_whitespace().nth(1).unwrap();
    (code.parse().unwrap(), body.to_owned())
}

fn number(lab: &Lab, name: &str) -> Option<f64> {
    let text = get(lab, "/metrics").1;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().parse().unwrap())
}

#[test]
fn entries_are_shown_with_where_they_come_from() {
    if !has_peers("entries_are_shown_with_where_they_come_from") {
        return;
    }
    let mut lab = lab();
    // Before the directory was ever read, it is not known who there is.
    lab.start_daemon();
    let (code, _, said) = run(&lab, &["getent", "passwd", "bob"]);
    assert!(code == Some(1) && said.contains("is not known"), "{said}");
    lab.start_slapd();
    lab.until(|status| status.complete);
    let json = |arguments: &[&str]| {
        let (code, text, said) = run(&lab, &[&["getent", "--json"], arguments].concat());
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let bob = json(&["passwd", "bob"]);
    assert_eq!(bob["source"], "uid=bob,ou=people,dc=example,dc=org");
    assert_eq!(
        (&bob["uid"], &bob["home"]),
        (&1501.into(), &"/home/bob".into())
    );
    assert_eq!(json(&["passwd", "1501"]), bob);
    let (_, line, _) = run(&lab, &["getent", "passwd", "bob"]);
    assert_eq!(line.lines().next().unwrap(), lab.getent("passwd", "bob"));
    let group = json(&["group", "1510"]);
    assert_eq!(group["name"], "physics");
    assert_eq!(group["source"], "cn=physics,ou=groups,dc=example,dc=org");
    let members = group["members"].as_array().unwrap();
    assert!(members.contains(&"bob".into()), "{group}");
    let groups = json(&["initgroups", "bob"]);
    let of = |field: &str| {
        let groups = groups["groups"].as_array().unwrap();
        groups
            .iter()
            .map(|group| group[field].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("name"), ["physics", "science"]);
    assert!(of("source").contains(&"cn=science,ou=groups,dc=example,dc=org".into()));
    assert_eq!(json(&["passwd", "root"])["source"], "/etc/passwd");
    assert_eq!(json(&["group", "root"])["source"], "/etc/group");
    let (code, _, said) = run(&lab, &["getent", "passwd", "nosuch"]);
    assert!(
        code == Some(1) && said.contains("there is no 'nosuch'"),
        "{said}"
    );
    assert_eq!(run(&lab, &["getent", "hosts", "localhost"]).0, Some(64));
}

#[test]
fn numbers_and_readiness_are_told() {
    if !has_peers("numbers_and_readiness_are_told") {
        return;
    }
    let mut lab = lab();
    lab.start_daemon();
    let (code, body) = get(&lab, "/readyz");
    assert!(code == 503 && body.contains("has not been read"), "{body}");
    assert_eq!(get(&lab, "/healthz").0, 200);
    assert_eq!(number(&lab, "directoryd_complete"), Some(0.0));
    assert_eq!(number(&lab, "directoryd_replica_age_seconds"), None);
    assert_eq!(run(&lab, &["status"]).0, Some(1));

    lab.start_slapd();
    lab.until(|status| status.complete && status.resolves);
    assert_eq!(get(&lab, "/readyz"), (200, "users resolve\n".into()));
    assert_eq!(run(&lab, &["status"]).0, Some(0));
    wait("the server to tell", || {
        (number(&lab, "directoryd_following") == Some(1.0)).then_some(())
    });
    let users = "directoryd_entries{kind=\"users\",origin=\"directory\"}";
    assert_eq!(number(&lab, users), Some(4.0));
    let uri = format!("{{uri=\"ldap://127.0.0.1:{}\"}}", lab.port);
    assert_eq!(
        number(&lab, &format!("directoryd_server_up{uri}")),
        Some(1.0)
    );
    assert_eq!(
        number(&lab, &format!("directoryd_server_connected{uri}")),
        Some(1.0)
    );
    lab.client().account("bob", Duration::from_secs(2)).unwrap();
    lab.client()
        .account("nosuch", Duration::from_secs(2))
        .unwrap();
    let lookups = |question: &str, result: &str| {
        let path = if question == "account" {
            "control"
        } else {
            "map"
        };
        format!(
            "directoryd_lookups_total{{path=\"{path}\",question=\"{question}\",result=\"{result}\"}}"
        )
    };
    assert_eq!(number(&lab, &lookups("account", "fresh")), Some(1.0));
    assert_eq!(number(&lab, &lookups("account", "not_found")), Some(1.0));
    let count = "directoryd_server_seconds_count{what=\"look-up\"}";
    assert_eq!(number(&lab, count), Some(2.0));
    // libc takes the map, and asks itself from then on.
    assert!(!lab.getent("passwd", "bob").is_empty());
    assert!(number(&lab, &lookups("passwd", "handed_out")).unwrap() >= 1.0);

    // A server that is gone shows, and users resolve all the same.
    lab.stop_slapd();
    wait("the loss", || {
        (number(&lab, &format!("directoryd_server_up{uri}")) == Some(0.0)).then_some(())
    });
    assert_eq!(
        number(&lab, &format!("directoryd_server_connected{uri}")),
        Some(0.0)
    );
    assert_eq!(number(&lab, "directoryd_problem"), Some(1.0));
    assert_eq!(number(&lab, "directoryd_following"), Some(0.0));
    assert_eq!(get(&lab, "/readyz").0, 200);
    assert!(number(&lab, "directoryd_replica_age_seconds").unwrap() > 0.0);

    // Others are told nothing, and hold nobody up.
    assert_eq!(get(&lab, "/").0, 404);
    let _silent = UnixStream::connect(lab.path("run/metrics.sock")).unwrap();
    assert_eq!(get(&lab, "/healthz").0, 200);
}

#[test]
fn users_that_do_not_resolve_are_not_ready() {
    if !has_peers("users_that_do_not_resolve_are_not_ready") {
        return;
    }
    let lab = Lab::running(Settings::default());
    lab.until(|status| status.resolves);
    // Somebody else's socket stands where libc asks.
    std::fs::remove_file(lab.path("nscd/socket")).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(lab.path("nscd/socket")).unwrap();
    let status = lab.until(|status| !status.resolves);
    assert!(status.complete);
    let (code, _, said) = run(&lab, &["status"]);
    assert!(
        code == Some(1) && said.contains("users do not resolve"),
        "{said}"
    );
}
