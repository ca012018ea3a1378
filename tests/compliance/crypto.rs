//! Algorithms and session keys: what is spoken, what is not, new keys under load.

use std::time::Duration;

use tests::{Server, User};

use crate::both::{Config, PLAIN, case, host};
use crate::channels::Shared;
use crate::peers::{Beside, delayed};

const REKEY: Config = Config {
    theirs: "RekeyLimit 1M\n",
    ours: "rekey-bytes = 1048576\n",
    ..PLAIN
};
const REKEY_LONG: Config = Config {
    theirs: "RekeyLimit 64M\n",
    ours: "rekey-bytes = 67108864\n",
    ..PLAIN
};
const REKEY_TIME: Config = Config {
    theirs: "RekeyLimit default 1s\n",
    ours: "rekey-interval = \"1s\"\n",
    ..PLAIN
};
const COMPATIBLE: Config = Config {
    theirs: "",
    ours: "crypto-policy = \"compatible\"\n",
    ..PLAIN
};
const HOST_KEYS: Config = Config {
    theirs: "HostKey {}/host_ed25519\nHostKey {}/host_ecdsa\nHostKey {}/host_rsa\n\
             HostCertificate {}/host_ed25519-cert.pub\n",
    ours: "host-keys = [\"{}/host_ed25519\", \"{}/host_ecdsa\", \"{}/host_rsa\"]\n\
           host-certificates = [\"{}/host_ed25519-cert.pub\"]\n",
    ..PLAIN
};

fn works(server: &Server, user: &User, options: &[&str]) {
    let done = tests::run_with(
        server.ssh(user, options).arg("cat"),
        &[b'x'; 100_000],
        tests::SOON,
    );
    assert!(
        done.code == 0 && done.out.len() == 100_000,
        "{options:?} {}: {}",
        done.code,
        done.err
    );
}

case!(ciphers, |server| {
    let ann = host().user();
    for cipher in [
        "chacha20-poly1305@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-gcm@openssh.com",
    ] {
        works(server, &ann, &["-c", cipher]);
    }
});

case!(older_ciphers_and_macs, COMPATIBLE, |server| {
    let ann = host().user();
    for cipher in ["aes256-ctr", "aes192-ctr", "aes128-ctr"] {
        for mac in [
            "hmac-sha2-256-etm@openssh.com",
            "hmac-sha2-512-etm@openssh.com",
            "hmac-sha2-256",
            "hmac-sha2-512",
        ] {
            works(server, &ann, &["-c", cipher, "-m", mac]);
        }
    }
});

case!(key_exchanges, |server| {
    let ann = host().user();
    for kex in ["curve25519-sha256", "curve25519-sha256@libssh.org"] {
        works(server, &ann, &["-o", &format!("KexAlgorithms={kex}")]);
    }
});

case!(older_key_exchanges, COMPATIBLE, |server| {
    let ann = host().user();
    for kex in [
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
    ] {
        works(server, &ann, &["-o", &format!("KexAlgorithms={kex}")]);
    }
});

case!(nothing_that_is_broken, |server| {
    let ann = host().user();
    for option in [
        "Ciphers=3des-cbc",
        "KexAlgorithms=diffie-hellman-group1-sha1",
        "HostKeyAlgorithms=ssh-rsa",
    ] {
        let done = tests::run(
            server
                .ssh(&ann, &["-o", "LogLevel=INFO", "-o", option])
                .arg("true"),
        );
        assert_eq!(done.code, 255, "{option}");
        assert!(
            done.err.contains("Unable to negotiate"),
            "{option}: {}",
            done.err
        );
    }
});

case!(
    a_client_that_asks_for_compression_goes_on_without,
    |server| {
        let ann = host().user();
        works(server, &ann, &["-C"]);
    }
);

case!(rekey_by_the_client, |server| {
    let ann = host().user();
    for cipher in ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"] {
        let options = ["-o", "RekeyLimit=256k", "-c", cipher];
        let much = vec![b'x'; 5_000_000];
        let done = tests::run_with(
            server.ssh(&ann, &options).arg("cat"),
            &much,
            tests::SOON * 2,
        );
        assert!(
            done.code == 0 && done.out.len() == much.len(),
            "{cipher} {} {}",
            done.code,
            done.out.len()
        );
    }
});

case!(rekey_by_the_server, REKEY, |server| {
    let ann = host().user();
    let much = vec![b'x'; 5_000_000];
    let done = tests::run_with(server.ssh(&ann, &[]).arg("cat"), &much, tests::SOON * 2);
    assert!(
        done.code == 0 && done.out.len() == much.len(),
        "{} {}",
        done.code,
        done.out.len()
    );
});

case!(rekey_by_the_server_is_seen_by_the_client, REKEY, |server| {
    let ann = host().user();
    let log = host().folder().join(format!("{}.rekey", ann.name));
    let mut ssh = server.ssh(
        &ann,
        &["-o", "LogLevel=DEBUG1", "-E", &log.display().to_string()],
    );
    ssh.arg("head -c 5000000 /dev/zero");
    assert_eq!(tests::run(&mut ssh).out.len(), 5_000_000);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.matches("SSH2_MSG_NEWKEYS received").count() > 2,
        "{text}"
    );
});

case!(rekey_of_many_channels_under_load, REKEY, |server| {
    let ann = host().user();
    let shared = Shared::start(server, &ann, &["-o", "RekeyLimit=700k"]);
    let mut down: Vec<Beside> = (0..4)
        .map(|_| {
            Beside::start(
                shared
                    .ssh(&[])
                    .arg("head -c 10000000 /dev/zero | tr '\\0' x; echo; sha256sum"),
            )
        })
        .collect();
    for client in &mut down {
        assert_eq!(client.line().len(), 10_000_000);
        client.say("word");
        client.input = None;
        assert!(client.line().len() > 64);
        assert_eq!(client.end(), Some(0));
    }
});

case!(rekey_of_many_uploads_on_a_long_line, REKEY_LONG, |server| {
    let ann = host().user();
    let port = format!("Port={}", delayed(server.port, Duration::from_millis(100)));
    let alias = format!("HostKeyAlias=[127.0.0.1]:{}", server.port);
    let shared = Shared::start(server, &ann, &["-o", &port, "-o", &alias]);
    let much = vec![b'x'; 60_000_000];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut upload = shared.ssh(&[]);
                let done = tests::run_with(upload.arg("wc -c"), &much, Duration::from_secs(100));
                assert_eq!(done.out.trim(), much.len().to_string(), "{}", done.err);
            });
        }
    });
});

case!(rekey_by_time_while_idle, REKEY_TIME, |server| {
    let ann = host().user();
    let log = host().folder().join(format!("{}.rekey", ann.name));
    let mut ssh = server.ssh(
        &ann,
        &["-o", "LogLevel=DEBUG1", "-E", &log.display().to_string()],
    );
    ssh.arg("for n in 1 2 3 4; do echo $n; sleep 1.1; done");
    assert_eq!(tests::run(&mut ssh).out, "1\n2\n3\n4\n");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.matches("SSH2_MSG_NEWKEYS received").count() > 2,
        "{text}"
    );
});

case!(each_host_key, HOST_KEYS, |server| {
    let ann = host().user();
    for kind in [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "rsa-sha2-512",
        "rsa-sha2-256",
    ] {
        works(server, &ann, &["-o", &format!("HostKeyAlgorithms={kind}")]);
    }
});

case!(a_host_certificate, HOST_KEYS, |server| {
    let ann = host().user();
    let known = host().folder().join(format!("{}.known", ann.name));
    let ca = std::fs::read_to_string(host().folder().join("host_ca.pub")).unwrap();
    std::fs::write(&known, format!("@cert-authority * {ca}")).unwrap();
    let known = format!("UserKnownHostsFile={}", known.display());
    works(
        server,
        &ann,
        &[
            "-o",
            &known,
            "-o",
            "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com",
        ],
    );
});

case!(host_keys_are_announced, HOST_KEYS, |server| {
    let ann = host().user();
    let known = host().folder().join(format!("{}.known", ann.name));
    let key = std::fs::read_to_string(host().folder().join("host_ed25519.pub")).unwrap();
    std::fs::write(&known, format!("[127.0.0.1]:{} {key}", server.port)).unwrap();
    let known_option = format!("UserKnownHostsFile={}", known.display());
    let options = [
        &known_option,
        "UpdateHostKeys=yes",
        "HostKeyAlgorithms=ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512",
    ];
    let options: Vec<&str> = options.iter().flat_map(|option| ["-o", option]).collect();
    tests::run(server.ssh(&ann, &options).arg("sleep 0.5")).ok();
    let text = std::fs::read_to_string(&known).unwrap();
    assert!(
        text.contains("ecdsa-sha2-nistp256") && text.contains("ssh-rsa"),
        "{text}"
    );
});
