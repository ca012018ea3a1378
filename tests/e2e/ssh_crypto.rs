//! What the gateway offers before anybody has logged in, and how long it waits.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tests::{lab, run};

/// Names in the server's proposal, as the stock client prints it.
fn proposal() -> String {
    let lab = lab();
    let alice = lab.person("alice");
    let done = run(lab.ssh_with(&alice, &["-vv"]).arg("true"));
    let from = done
        .err
        .find("peer server KEXINIT proposal")
        .expect("a proposal");
    let until = done.err[from..].find("kex: algorithm").expect("a choice");
    done.err[from..from + until].to_owned()
}

#[test]
fn nothing_weak_is_offered() {
    let offered = proposal();
    // Finite-field groups cost a second of CPU each (T6); the rest is what an audit finds (T15).
    for weak in [
        "diffie-hellman",
        "sha1",
        "ssh-rsa",
        "-cbc",
        "zlib",
        "umac-64",
        "hmac-md5",
    ] {
        assert!(!offered.contains(weak), "{weak} in {offered}");
    }
    for strong in [
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "aes256-gcm@openssh.com",
    ] {
        assert!(offered.contains(strong), "{strong} not in {offered}");
    }
    assert!(
        offered.contains("kex-strict-s-v00@openssh.com"),
        "{offered}"
    );
}

#[test]
fn the_banner_names_no_library() {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{}", lab().port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut banner = [0; 64];
    let n = stream.read(&mut banner).unwrap();
    assert_eq!(&banner[..n.min(21)], b"SSH-2.0-slurm-login\r\n");
}

#[test]
fn several_wrong_keys_before_the_right_one() {
    let lab = lab();
    let alice = lab.person("alice");
    let wrong: Vec<String> = (1..5)
        .map(|n| format!("IdentityFile={}", lab.new_key(&format!("w{n}")).display()))
        .collect();
    let mut options = Vec::new();
    for file in &wrong {
        options.extend(["-o", file]);
    }
    // Identities are tried in the order of the command line: `-i` comes first, so name it again
    // behind the wrong ones of another person.
    let right = format!("IdentityFile={}", alice.key.display());
    options.extend(["-o", &right]);
    let person = tests::Person {
        key: lab.new_key("w0"),
        ..alice.clone()
    };
    assert_eq!(
        run(lab.ssh_with(&person, &options).arg("id -un")).ok(),
        "alice"
    );
}

#[test]
fn garbage_is_closed_and_others_go_on() {
    let lab = lab();
    let alice = lab.person("alice");
    let noise: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff",
        b"SSH-1.5-old\r\n",
        &[0; 70_000],
        b"SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ];
    let open: Vec<TcpStream> = noise
        .iter()
        .map(|bytes| {
            let mut stream = TcpStream::connect(format!("127.0.0.1:{}", lab.port)).unwrap();
            let _ = stream.write_all(bytes);
            stream
        })
        .collect();
    assert_eq!(lab.ssh(&alice, "echo fine").ok(), "fine");
    for mut stream in open.into_iter().take(4) {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut rest = Vec::new();
        // Closed or reset, but not left hanging.
        let ended = stream.read_to_end(&mut rest);
        let hung = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!hung);
    }
}
