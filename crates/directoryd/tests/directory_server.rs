//! Directory servers that cannot be trusted, and configurations that cannot work.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use directory_client::{Lookup, Verdict};
use support::{Lab, Settings, accepted, attempt, has_peers, persons, run, wait};

#[test]
fn a_certificate_of_another_ca_gets_no_password() {
    if !has_peers("a_certificate_of_another_ca_gets_no_password") {
        return;
    }
    let mut other = Lab::new(Settings::default());
    other.start_slapd();
    let ca = other.path("slapd/tls/ca.pem");
    let mut lab = Lab::new(Settings {
        ca: Some(ca),
        ..Settings::default()
    });
    lab.start_slapd();
    lab.start_daemon();
    let status = lab.until(|status| !status.problem.is_empty());
    assert!(
        status.problem.contains("tls") && status.problem.contains("certificate"),
        "{status:?}"
    );
    assert!(!status.complete);
}

#[test]
fn an_expired_certificate_costs_freshness_alone() {
    if !has_peers("an_expired_certificate_costs_freshness_alone") {
        return;
    }
    let mut lab = Lab::running(Settings::default());
    let bob = lab.getent("passwd", "bob");
    lab.stop_slapd();
    let folder = lab.path("slapd/tls");
    let sign = "cp server.pem good.pem && openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key \
                -CAcreateserial -days -1 -extfile server.ext -out server.pem";
    let mut command = Command::new("sh");
    command.args(["-c", sign]).current_dir(&folder);
    let signed = command.stderr(Stdio::null()).status().unwrap();
    assert!(signed.success());
    lab.start_slapd();
    let status = lab.until(|status| status.problem.contains("Expired"));
    assert!(status.complete && status.server.is_empty(), "{status:?}");
    assert_eq!(lab.getent("passwd", "bob"), bob);
    let found = lab.client().account("bob", Duration::from_millis(100));
    assert!(!found.unwrap().found().unwrap().fresh);
    // No password either: neither good nor bad.
    assert_eq!(attempt(&lab, "bob", &persons(&lab)), Verdict::Unavailable);

    lab.stop_slapd();
    fs::rename(folder.join("good.pem"), folder.join("server.pem")).unwrap();
    lab.start_slapd();
    lab.until(|status| status.problem.is_empty() && !status.server.is_empty());
    assert_eq!(attempt(&lab, "bob", &persons(&lab)), accepted());
}

/// The base is here and what is below it elsewhere, and elsewhere says that it is here.
#[test]
fn referrals_lead_nowhere() {
    if !has_peers("referrals_lead_nowhere") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut lab = Lab::new(Settings::default());
    // A server that is named and must not be asked, and ourselves.
    let extra = format!(
        "dn: ou=elsewhere,ou=people,dc=example,dc=org\nobjectClass: referral\nobjectClass: extensibleObject\n\
         ou: elsewhere\nref: ldap://127.0.0.1:{port}/ou=people,dc=example,dc=org\n\n\
         dn: ou=round,ou=people,dc=example,dc=org\nobjectClass: referral\nobjectClass: extensibleObject\n\
         ou: round\nref: ldap://127.0.0.1:{}/ou=round,ou=people,dc=example,dc=org\n",
        lab.port
    );
    lab.settings.extra = Box::leak(extra.into_boxed_str());
    lab.start_slapd();
    lab.start_daemon();
    let status = lab.until(|status| status.complete);
    assert_eq!((status.problem.as_str(), status.users > 0), ("", true));
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    let bob = lab.client().account("bob", Duration::from_secs(3)).unwrap();
    assert!(bob.found().unwrap().fresh);
    let nobody = lab.client().account("mallory", Duration::from_secs(3));
    assert_eq!(nobody.unwrap(), Lookup::NotFound);

    // A base that is elsewhere as a whole is a mistake of ours, and said so.
    lab.stop_daemon();
    let text = fs::read_to_string(lab.path("directoryd.toml")).unwrap();
    let text = text.replace("\"ou=people,", "\"ou=round,ou=people,");
    fs::write(lab.path("directoryd.toml"), text).unwrap();
    lab.start_daemon();
    let status = lab.until(|status| status.problem.contains("referral (code 10)"));
    assert!(!status.complete, "the copy is of another base: {status:?}");
    let unknown = lab.client().account("bob", Duration::from_secs(3));
    assert_eq!(unknown.unwrap(), Lookup::Unavailable);
    assert!(listener.accept().is_err(), "nobody was sent there");
}

#[test]
fn a_server_without_start_tls_gets_no_password() {
    // Answers every first request with "protocol error" and listens for what comes then.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("ldap://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 31];
        stream.read_exact(&mut request).unwrap();
        stream
            .write_all(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00")
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    // The password file comes with slapd; any CA file will do.
    let mut lab = Lab::new(Settings {
        uri: Some(uri),
        ..Settings::default()
    });
    if !has_peers("a_server_without_start_tls_gets_no_password") {
        return;
    }
    lab.start_slapd();
    lab.start_daemon();
    let status = lab.until(|status| !status.problem.is_empty());
    assert!(status.problem.contains("start tls"), "{status:?}");
    assert_eq!(server.join().unwrap(), b"");
}

#[test]
fn a_hostile_server_costs_the_connection_and_nothing_else() {
    if !has_peers("a_hostile_server_costs_the_connection_and_nothing_else") {
        return;
    }
    let bound = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00";
    let mut deep = b"\x04\x00".to_vec();
    while deep.len() < 60_000 {
        let length = u32::try_from(deep.len()).unwrap().to_be_bytes();
        deep = [&[0x30, 0x84], &length[..], &deep[..]].concat();
    }
    let replies: Vec<Vec<u8>> = vec![
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"\x30\x84\xff\xff\xff\xff".to_vec(),
        deep,
        b"\x30\x05\x02\x01\x01\x7a\x00".to_vec(),
        b"\x30\x00".to_vec(),
        b"\x30\x03\x02\x01\x01".to_vec(),
        [&bound[..], b"\x30\x07\x02\x01\x02\x64\x02\x04\x00"].concat(),
        // A page with an odd control, which the library would trip over.
        [
            &bound[..],
            b"\x30\x2e\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00\xa0\x20\x30\x1e\x04\x16\
            1.2.840.113556.1.4.319\x04\x04\x30\x02\x02\x00",
        ]
        .concat(),
        // An entry, or an intermediate message, where an answer to the bind is due.
        b"\x30\x09\x02\x01\x01\x64\x04\x04\x00\x30\x00".to_vec(),
        b"\x30\x0b\x02\x01\x01\x79\x06\x80\x011\x81\x01x".to_vec(),
        Vec::new(),
    ];
    for reply in replies {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("ldap://{}", listener.local_addr().unwrap());
        let shown = reply.iter().take(20).copied().collect::<Vec<u8>>();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(&reply);
                thread::sleep(Duration::from_millis(100));
            }
        });
        let settings = Settings {
            uri: Some(uri),
            start_tls: false,
            ..Settings::default()
        };
        let mut lab = Lab::new(settings);
        fs::write(lab.path("password"), "secret").unwrap();
        fs::set_permissions(lab.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
        lab.start_daemon();
        let status = lab.until(|status| !status.problem.is_empty());
        assert!(!status.complete, "{shown:02x?} {status:?}");
        let unknown = lab
            .client()
            .account("bob", Duration::from_millis(100))
            .unwrap();
        assert_eq!(unknown, Lookup::Unavailable, "{shown:02x?}");
        assert!(
            lab.getent("passwd", "root").starts_with("root:"),
            "{shown:02x?}"
        );
        lab.assert_alive();
    }
}

#[test]
fn a_directory_that_shows_nobody_any_more_is_not_believed() {
    if !has_peers("a_directory_that_shows_nobody_any_more_is_not_believed") {
        return;
    }
    let mut lab = Lab::running(Settings::default());
    // The reader loses its right: searches succeed and find nothing.
    let config = fs::read_to_string(lab.path("slapd/slapd.conf")).unwrap();
    let config = config.replace(
        "by dn.exact=\"cn=reader,dc=example,dc=org\" read",
        "by dn.exact=\"cn=reader,dc=example,dc=org\" search",
    );
    lab.stop_slapd();
    fs::write(lab.path("slapd/slapd.conf"), config).unwrap();
    let running = Command::new("slapd")
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .arg("-f")
        .arg(lab.path("slapd/slapd.conf"))
        .args(["-h", &format!("ldap://127.0.0.1:{}", lab.port)])
        .status()
        .unwrap();
    assert!(running.success());
    // Nothing has changed for who goes on where they were: what is gone shows when everything is read.
    let error = wait("the server's answer", || {
        let error = lab.client().refresh().unwrap_err().to_string();
        (!error.contains("is away")).then_some(error)
    });
    assert!(error.contains("no user any more"), "{error}");
    let status = lab.until(|status| status.problem.contains("no user any more"));
    assert_eq!(status.users, 4);
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    lab.adopt_slapd();
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_all_its_problems() {
    let lab = Lab::new(Settings::default());
    let run = |arguments: &[&str]| {
        let (code, _, said) = run(&lab, arguments);
        (code.unwrap(), said)
    };
    // Neither the CA nor the password is there.
    for arguments in [&["check"][..], &[]] {
        let (code, text) = run(arguments);
        assert_eq!(code, 78, "{text}");
        assert!(
            text.contains("ldap.ca-file") && text.contains("ldap.bind-password-file"),
            "{text}"
        );
    }
    fs::write(lab.path("password"), "secret").unwrap();
    fs::set_permissions(lab.path("password"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, text) = run(&["check"]);
    assert!(
        code == 78 && text.contains("may be read by others"),
        "{text}"
    );
    let config = fs::read_to_string(lab.path("directoryd.toml")).unwrap();
    fs::write(lab.path("directoryd.toml"), format!("colour = 1\n{config}")).unwrap();
    let (code, text) = run(&[]);
    assert!(
        code == 78 && text.contains("directoryd.toml:1:1: unknown field `colour`"),
        "{text}"
    );
    let problems = || {
        let (code, text, _) = support::run(&lab, &["check", "--json"]);
        assert_eq!(code, Some(78), "{text}");
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        told["problems"][0].as_str().unwrap().to_owned()
    };
    assert!(problems().contains(":1:1: unknown field"), "{}", problems());
    fs::write(lab.path("directoryd.toml"), config).unwrap();
    assert!(problems().contains("ldap.ca-file"), "{}", problems());
    assert_eq!(run(&["--nonsense"]).0, 64);
}

#[test]
fn a_wrong_password_of_ours_is_named_and_not_tried_all_the_time() {
    if !has_peers("a_wrong_password_of_ours_is_named_and_not_tried_all_the_time") {
        return;
    }
    let mut lab = Lab::new(Settings::default());
    lab.settings.more = format!("metrics-listen = \"{}\"", lab.path("run/metrics").display());
    lab.write_config();
    lab.start_slapd();
    let right = fs::read_to_string(lab.path("password")).unwrap();
    fs::write(lab.path("password"), "wrong").unwrap();
    lab.start_daemon();
    let said = "invalid credentials (code 49); check bind-dn and bind-password-file";
    lab.until(|status| status.problem.contains(said));
    // Logins do not have it tried once more.
    let tried = || {
        let mut stream = UnixStream::connect(lab.path("run/metrics")).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let count = text.lines().find_map(|line| {
            line.strip_prefix("directoryd_server_seconds_count{what=\"connect\"} ")
        });
        count.unwrap().parse::<u64>().unwrap()
    };
    let before = tried();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        let budget = Duration::from_millis(200);
        let bob = lab.client().account("bob", budget).unwrap();
        assert!(matches!(bob, Lookup::Unavailable), "{bob:?}");
    }
    assert_eq!((tried(), before), (before, 1));
    // It is put right, and the administrator says so.
    fs::write(lab.path("password"), right).unwrap();
    assert_eq!(run(&lab, &["refresh"]).0, Some(0));
    let status = lab.client().status().unwrap();
    assert!(status.complete && status.problem.is_empty(), "{status:?}");
}
