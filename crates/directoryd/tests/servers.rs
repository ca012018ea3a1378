//! Which server is asked, and who we are there: preferred and backup servers, those that DNS names, and a
//! certificate in place of a password.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{fs, net::UdpSocket, process::Command, thread};

use directory_client::{Password, Verdict};
use support::{Lab, Settings, has_peers, wait};

const GINA: &str = "dn: uid=gina,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: account\n\
    objectClass: posixAccount\nuid: gina\ncn: Gina\nuidNumber: 1600\ngidNumber: 1500\n\
    homeDirectory: /home/gina\n";

#[test]
fn a_backup_serves_until_the_preferred_server_is_back() {
    if !has_peers("a_backup_serves_until_the_preferred_server_is_back") {
        return;
    }
    let mut preferred = Lab::new(Settings {
        start_tls: false,
        ..Settings::default()
    });
    preferred.start_slapd();
    let mut backup = Lab::new(Settings::default());
    fs::create_dir(backup.path("slapd/secret")).unwrap();
    fs::copy(
        preferred.path("slapd/secret/reader-password"),
        backup.path("slapd/secret/reader-password"),
    )
    .unwrap();
    backup.start_slapd();
    backup.modify(GINA);

    let more = format!(
        "backup-uris = [\"ldap://127.0.0.1:{}\"]\nprimary-interval = \"200ms\"",
        backup.port
    );
    preferred.settings.more_ldap = more.leak();
    preferred.write_config();
    let port = |lab: &Lab| format!(":{}", lab.port);
    let (first, second) = (port(&preferred), port(&backup));
    let mut lab = preferred;
    lab.stop_slapd();
    lab.start_daemon();
    lab.until(|status| status.server.ends_with(&second) && status.complete);
    assert!(lab.getent("passwd", "gina").starts_with("gina:"));
    // Passwords are tried at the backup too.
    let persons = fs::read_to_string(backup.path("slapd/secret/person-password")).unwrap();
    let typed = Password::new(persons.into_bytes()).unwrap();
    let verdict = lab.client().authenticate("bob", typed, "").unwrap();
    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");

    lab.start_slapd();
    lab.until(|status| status.server.ends_with(&first) && status.problem.is_empty());
    wait("what the preferred server says", || {
        lab.getent("passwd", "gina").is_empty().then_some(())
    });
    // And there it stays, until that one is gone again.
    lab.stop_slapd();
    lab.until(|status| status.server.ends_with(&second));
    wait("what the backup says", || {
        (!lab.getent("passwd", "gina").is_empty()).then_some(())
    });
}

#[test]
fn a_certificate_says_who_we_are() {
    if !has_peers("a_certificate_says_who_we_are") {
        return;
    }
    let mut lab = Lab::new(Settings::default());
    lab.start_slapd();
    lab.stop_slapd();
    let script = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key \
        -out client.csr -subj /CN=directoryd && echo extendedKeyUsage=clientAuth >client.ext && openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key \
        -CAcreateserial -days 30 -extfile client.ext -out client.pem && chmod 600 client.key";
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(lab.path("slapd/tls"))
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let path = lab.path("slapd/slapd.conf");
    let config = fs::read_to_string(&path).unwrap();
    let config = config.replace(
        "disallow bind_anon\n",
        "disallow bind_anon\nTLSVerifyClient try\n\
         authz-regexp \"^cn=directoryd$\" \"cn=reader,dc=example,dc=org\"\n",
    );
    // Nobody is let in as the reader with a password.
    fs::write(&path, config).unwrap();
    fs::remove_file(lab.path("password")).unwrap();
    let running = Command::new("slapd")
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .arg("-f")
        .arg(&path)
        .args(["-h", &format!("ldap://127.0.0.1:{}", lab.port)])
        .status()
        .unwrap();
    assert!(running.success());
    lab.adopt_slapd();
    let tls = lab.path("slapd/tls").display().to_string();
    let config = fs::read_to_string(lab.path("directoryd.toml")).unwrap();
    let config: String = config
        .lines()
        .filter(|line| !line.starts_with("bind-"))
        .map(|line| format!("{line}\n"))
        .collect();
    let with = |key: &str| {
        let lines = format!(
            "[ldap]\nclient-certificate = \"{tls}/client.pem\"\nclient-key = \"{tls}/{key}\"\n"
        );
        fs::write(
            lab.path("directoryd.toml"),
            config.replace("[ldap]\n", &lines),
        )
        .unwrap();
    };
    // A key that others may read, and one of another certificate, are refused.
    for (key, said) in [
        ("open.key", "may be read by others"),
        ("ca.key", "KeyMismatch"),
    ] {
        fs::copy(
            lab.path("slapd/tls/client.key"),
            lab.path("slapd/tls/open.key"),
        )
        .unwrap();
        let _ = Command::new("chmod")
            .arg("644")
            .arg(lab.path("slapd/tls/open.key"))
            .status();
        let _ = Command::new("chmod")
            .arg("600")
            .arg(lab.path("slapd/tls/ca.key"))
            .status();
        with(key);
        let check = Command::new(env!("CARGO_BIN_EXE_directoryd"))
            .arg("--config")
            .arg(lab.path("directoryd.toml"))
            .arg("check")
            .output()
            .unwrap();
        let text = String::from_utf8(check.stderr).unwrap();
        assert!(
            check.status.code() == Some(78) && text.contains(said),
            "{key}: {text}"
        );
    }
    with("client.key");
    lab.start_daemon();
    lab.until(|status| status.complete && status.problem.is_empty());
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
}

#[test]
fn servers_are_found_by_dns() {
    if !has_peers("servers_are_found_by_dns") {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped servers_are_found_by_dns: port 53 and /etc/resolv.conf need root");
        return;
    }
    let lab = Lab::new(Settings {
        uri: Some("ldap+srv://localhost".into()),
        resolv_conf: Some("nameserver 127.7.7.7\n"),
        ..Settings::default()
    });
    let port = lab.port;
    let socket = UdpSocket::bind("127.7.7.7:53").unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((size, from)) = socket.recv_from(&mut buffer) {
            let asked = b"\x05_ldap\x04_tcp\x09localhost\0";
            let mut answer = buffer[..2].to_vec();
            if buffer[12..size].starts_with(asked) {
                answer.extend(b"\x81\x80\0\0\0\x02\0\0\0\0");
                // Somebody else's, though it comes first, and ours.
                for (priority, port, target) in [
                    (0, port, &b"\x04evil\x07example\0"[..]),
                    (1, port, b"\x09localhost\0"),
                ] {
                    answer.extend(b"\0\0\x21\0\x01\0\0\0\x3c\0");
                    answer.push(6 + target.len() as u8);
                    answer.extend([0, priority, 0, 0]);
                    answer.extend(u16::to_be_bytes(port));
                    answer.extend(target);
                }
            } else {
                answer.extend(b"\x81\x83\0\0\0\0\0\0\0\0");
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    let mut lab = lab;
    lab.start_slapd();
    lab.start_daemon();
    let status = lab.until(|status| status.complete);
    assert_eq!(status.server, format!("ldap://localhost:{port}"));
    assert!(lab.getent("passwd", "bob").starts_with("bob:"));
    let log = lab.log();
    assert!(
        log.contains("dns.foreign_server") && log.contains("evil.example"),
        "{log}"
    );
    assert!(!lab.log().contains("ldap://evil"));
}
