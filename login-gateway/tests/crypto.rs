//! Algorithms, host keys and rekeying with the real `ssh`: every name of every preset, certificates
//! of hosts, new keys in the middle of traffic.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::Gateway;

const MODERN_KEX: &[&str] = &[
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
];
const NIST: &[&str] = &[
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
];
const AES: &[&str] = &[
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
];
const CHACHA: &[&str] = &["chacha20-poly1305@openssh.com"];
const ETM: &[&str] = &[
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256-etm@openssh.com",
];
const PLAIN: &[&str] = &["hmac-sha2-512", "hmac-sha2-256"];

/// Preset and, by option, what it offers and what it does not.
type Preset = (
    &'static str,
    [(&'static str, Vec<&'static str>, Vec<&'static str>); 3],
);

fn presets() -> [Preset; 3] {
    let list = |parts: &[&[&'static str]]| parts.concat();
    let aead = list(&[AES, CHACHA]);
    [
        (
            "modern",
            [
                (
                    "KexAlgorithms",
                    list(&[MODERN_KEX]),
                    list(&[NIST, &["diffie-hellman-group14-sha256"]]),
                ),
                ("Ciphers", aead.clone(), vec!["aes128-cbc"]),
                (
                    "MACs",
                    list(&[ETM]),
                    list(&[PLAIN, &["hmac-sha1", "umac-64@openssh.com"]]),
                ),
            ],
        ),
        (
            "compatible",
            [
                (
                    "KexAlgorithms",
                    list(&[MODERN_KEX, NIST]),
                    vec!["diffie-hellman-group14-sha256"],
                ),
                ("Ciphers", aead, vec!["aes128-cbc"]),
                ("MACs", list(&[ETM, PLAIN]), vec!["hmac-sha1"]),
            ],
        ),
        (
            "fips-140-3",
            [
                (
                    "KexAlgorithms",
                    list(&[NIST]),
                    list(&[&MODERN_KEX[1..], &["diffie-hellman-group14-sha256"]]),
                ),
                ("Ciphers", list(&[AES]), list(&[CHACHA])),
                ("MACs", list(&[ETM, PLAIN]), vec!["hmac-sha1"]),
            ],
        ),
    ]
}

#[test]
fn every_name_of_every_preset() {
    if !support::possible("every_name_of_every_preset") {
        return;
    }
    let known: String = ["kex", "cipher", "mac"]
        .map(|what| {
            let output = Command::new("ssh").args(["-Q", what]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
        .concat();
    for (preset, lists) in presets() {
        let gateway = Gateway::start(&format!("crypto-policy = \"{preset}\""));
        let mut refusals = 0;
        for (option, offered, refused) in lists {
            let all = offered.iter().map(|n| (n, true));
            for (name, expected) in all.chain(refused.iter().map(|n| (n, false))) {
                if !known.lines().any(|line| line == *name) {
                    println!("not tried: {name} (unknown to this ssh)");
                    continue;
                }
                let mut ssh = gateway.ssh("head -c 300000 /dev/zero | wc -c");
                ssh.args(["-o", &format!("{option}={name}")]);
                // A MAC is used only with a cipher that has none of its own.
                if option == "MACs" {
                    ssh.args(["-o", "Ciphers=aes128-ctr"]);
                }
                let output = options_first(&ssh).stdin(Stdio::null()).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.success(), expected, "{preset} {name}: {said}");
                if !expected {
                    refusals += 1;
                    gateway.logged("No common", refusals);
                }
            }
        }
    }
}

/// The same command with its options before the host.
fn options_first(ssh: &Command) -> Command {
    let arguments: Vec<_> = ssh.get_args().map(|a| a.to_owned()).collect();
    let at = arguments
        .iter()
        .position(|a| {
            a.to_string_lossy().contains('@') && a.to_string_lossy().ends_with("127.0.0.1")
        })
        .unwrap();
    let mut command = Command::new("ssh");
    command
        .args(&arguments[..at])
        .args(&arguments[at + 2..])
        .args(&arguments[at..at + 2]);
    command
}

#[test]
fn host_keys_of_every_kind_and_certificates() {
    if !support::possible("host_keys_of_every_kind_and_certificates") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let keygen = |arguments: &[&str]| support::run("ssh-keygen", arguments);
    for (name, kind, bits) in [
        ("ca", "ed25519", "0"),
        ("ed25519", "ed25519", "0"),
        ("ecdsa", "ecdsa", "384"),
        ("rsa", "rsa", "3072"),
    ] {
        let mut arguments = vec!["-q", "-t", kind, "-N", "", "-f"];
        let path = at(name);
        arguments.push(&path);
        if bits != "0" {
            arguments.extend(["-b", bits]);
        }
        keygen(&arguments);
    }
    keygen(&[
        "-q",
        "-s",
        &at("ca"),
        "-I",
        "host",
        "-h",
        "-n",
        "127.0.0.1",
        &at("rsa.pub"),
    ]);
    keygen(&[
        "-q",
        "-s",
        &at("ca"),
        "-I",
        "host",
        "-h",
        "-n",
        "127.0.0.1",
        "-V",
        "-2d:-1d",
        &at("ecdsa.pub"),
    ]);
    let list = |names: &[&str]| {
        let quoted: Vec<String> = names.iter().map(|n| format!("\"{}\"", at(n))).collect();
        format!("[{}]", quoted.join(", "))
    };
    let gateway = Gateway::start(&format!(
        "host-keys = {}\nhost-certificates = {}\n",
        list(&["ed25519", "ecdsa", "rsa"]),
        list(&["rsa-cert.pub", "ecdsa-cert.pub"])
    ));
    let ca = fs::read_to_string(at("ca.pub")).unwrap();
    fs::write(at("known"), format!("@cert-authority * {ca}")).unwrap();
    let tried = |algorithm: &str, known: &str, strict: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
            .args(["-p", &gateway.port.to_string(), "-i"])
            .arg(gateway.folder.path().join("home/.ssh/id_ed25519"))
            .args(["-o", &format!("UserKnownHostsFile={known}")])
            .args(["-o", &format!("StrictHostKeyChecking={strict}")])
            .args(["-o", &format!("HostKeyAlgorithms={algorithm}")])
            .args(["carol@127.0.0.1", "echo in"]);
        let output = ssh.stdin(Stdio::null()).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for algorithm in [
        "ssh-ed25519",
        "ecdsa-sha2-nistp384",
        "rsa-sha2-512",
        "rsa-sha2-256",
    ] {
        let (done, said) = tried(algorithm, "/dev/null", "no");
        assert!(done, "{algorithm}: {said}\n{}", gateway.log());
    }
    for algorithm in [
        "rsa-sha2-512-cert-v01@openssh.com",
        "rsa-sha2-256-cert-v01@openssh.com",
    ] {
        let (done, said) = tried(algorithm, &at("known"), "yes");
        assert!(done, "{algorithm}: {said}\n{}", gateway.log());
    }
    // One that has expired is not shown.
    assert!(
        !tried(
            "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            &at("known"),
            "yes"
        )
        .0
    );
    gateway.logged("has expired", 1);
}

#[test]
fn new_keys_under_load() {
    if !support::possible("new_keys_under_load") {
        return;
    }
    // Both sides ask for new keys, by bytes and by time, while data flows both ways on several
    // channels of one connection. The time limit is only there to catch a stall.
    let gateway = Gateway::start("rekey-bytes = 1048576\nrekey-interval = \"1s\"\n");
    let alone = options_first(&gateway.ssh("cat"));
    let script = r#"
        set -e
        head -c 16000000 /dev/urandom > data
        for n in 1 2 3; do
            timeout 240 "$@" < data > back$n &
            pids="$pids $!"
        done
        for pid in $pids; do wait $pid; done
        for n in 1 2 3; do cmp data back$n; done
        echo whole"#;
    for limit in ["default", "512K", "4M 1s"] {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("mux");
        let mut arguments = vec!["ssh".to_owned()];
        arguments.extend(alone.get_args().map(|a| a.to_string_lossy().into_owned()));
        let options = [
            "-o".into(),
            format!("ControlPath={}", control.display()),
            "-o".into(),
            "ControlMaster=auto".into(),
            "-o".into(),
            "ControlPersist=20".into(),
            "-o".into(),
            format!("RekeyLimit={limit}"),
        ];
        arguments.splice(1..1, options);
        let output = Command::new("sh")
            .args(["-c", script, "sh"])
            .args(&arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "whole\n",
            "{limit}: {said}\n{}",
            gateway.log()
        );
        let _ = Command::new("ssh")
            .arg("-S")
            .arg(&control)
            .args(["-O", "exit", "x"])
            .output();
    }
}
