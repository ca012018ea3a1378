//! A connection that we end: the client is told why and does not see a reset (T23).
#![allow(clippy::unwrap_used)]

mod support;

use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use support::Gateway;

/// A client that prints what the server says at the end.
fn client(gateway: &Gateway, more: &[&str]) -> Child {
    let mut ssh = Command::new("ssh");
    ssh.args(["-p", &gateway.port.to_string(), "-F", "none", "-i"])
        .arg(gateway.folder.path().join("home/.ssh/id_ed25519"))
        .args(["-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null"])
        .args(["-o", "StrictHostKeyChecking=no", "carol@127.0.0.1"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn said(client: Child) -> (Option<i32>, String) {
    let output = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

#[test]
fn logins_that_are_ended_hear_it() {
    if !support::possible("logins_that_are_ended_hear_it") {
        return;
    }
    let gateway = Gateway::start("");
    let client = client(&gateway, &["head -c 5 /dev/zero; exec sleep 600"]);
    gateway.logged("session.opened", 1);
    gateway.signal(Signal::SIGTERM);
    gateway.logged("gateway.stopping", 1);
    gateway.signal(Signal::SIGTERM);
    let (code, text) = said(client);
    assert_eq!(code, Some(255), "{text}");
    assert!(
        text.contains("Received disconnect from 127.0.0.1"),
        "{text}"
    );
    assert!(text.contains("The server has ended this login"), "{text}");
    gateway.logged("session.closed", 1);
}

#[test]
fn a_session_that_pam_refuses_is_told() {
    if !support::possible("a_session_that_pam_refuses_is_told") {
        return;
    }
    let gateway = Gateway::start("");
    let service = gateway.folder.path().join("pam.d/login-gateway");
    let refusing = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_deny.so\n";
    std::fs::write(service, refusing).unwrap();
    // Those that ask for a terminal, or set a variable, wait for the policy, which never comes.
    for more in [
        &["true"][..],
        &["-tt", "true"],
        &["-o", "SendEnv=HOME", "true"],
    ] {
        for _ in 0..5 {
            let (code, text) = said(client(&gateway, more));
            assert_eq!(code, Some(255), "{text}");
            assert!(text.contains("Your session could not be opened"), "{text}");
        }
    }
}

#[test]
fn who_is_refused_altogether_is_told() {
    if !support::possible("who_is_refused_altogether_is_told") {
        return;
    }
    let gateway = Gateway::start("[[match]]\nuser = [\"carol\"]\nrefuse-connection = true");
    let (code, text) = said(client(&gateway, &["true"]));
    assert_eq!(code, Some(255), "{text}");
    assert!(text.contains("Not allowed at this time"), "{text}");
}
