//! `login-gateway import-sshd-config` as an administrator uses it: the result loads, losses are
//! listed, `--strict` makes them an error.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Debian's default file, comments left out.
const DEBIAN: &str = "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\n\
                      UsePAM yes\nX11Forwarding yes\nPrintMotd no\nAcceptEnv LANG LC_*\n\
                      Subsystem\tsftp\t/usr/lib/openssh/sftp-server\n";
/// What Slinky's operator writes, and a site's own text behind it.
const SLINKY: &str = "Include \"/etc/ssh/sshd_config.d/*.conf\"\nUsePAM yes\nX11Forwarding yes\n\
                      Subsystem sftp internal-sftp\nUsePAM no\nAllowGroups hpc\n\
                      Match Group sftponly\n  ForceCommand internal-sftp\n  ChrootDirectory %h\n";

fn import(folder: &Path, text: &str, more: &[&str]) -> Output {
    let file = folder.join("sshd_config");
    fs::write(&file, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_login-gateway"))
        .arg("import-sshd-config")
        .arg(file)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn the_result_loads() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        DEBIAN,
        SLINKY,
        "",
        include_str!("../../fuzz/corpus/sshd_config/nasty"),
    ] {
        let output = import(folder.path(), text, &[]);
        assert!(output.status.success(), "{output:?}");
        let config = folder.path().join("gateway.toml");
        fs::write(&config, &output.stdout).unwrap();
        let check = Command::new(env!("CARGO_BIN_EXE_login-gateway"))
            .args(["check", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        // Whether this machine has what it names is another matter.
        let said = String::from_utf8_lossy(&check.stderr);
        assert!(!said.contains("gateway.toml:"), "{said}");
        assert!(
            String::from_utf8_lossy(&check.stdout).contains("host-keys"),
            "{said}"
        );
    }
}

#[test]
fn losses_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let text = "GSSAPIAuthentication yes\nRequiredRSASize 3072\nHostKey /k\n";
    let output = import(folder.path(), text, &["--strict"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("sshd_config:1: GSSAPIAuthentication: "),
        "{said}"
    );
    let output = import(folder.path(), "HostKey /k\n", &["--strict"]);
    assert!(output.status.success(), "{output:?}");
    let output = import(folder.path(), text, &["--json"]);
    let notes: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(notes[0]["keyword"], "GSSAPIAuthentication");
    let output = import(folder.path(), "Port\n", &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("sshd_config:1: Port without a value")
    );
}
