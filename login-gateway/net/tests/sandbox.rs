//! What the real program may do once its sandbox is closed, found out by code inside it.
//!
//! `cargo test -p login-gateway-net --features captured --test sandbox` builds the program that
//! tries; the shipped one has no such code.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use gateway_wire::Settings;
use gateway_wire::monitor::FromNet;
use sys::memfd::Shared;
use sys::spawn::Spawn;

/// Starts net with `settings` and a fresh host key. Its standard output and the monitor's end of
/// its socket.
fn start(settings: &mut Settings, folder: &Path) -> (std::process::Child, OwnedFd, OwnedFd) {
    let program = Path::new(env!("CARGO_BIN_EXE_login-gateway-net"));
    let key = folder.join("key");
    let made = Command::new(program)
        .arg("generate-host-key")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    settings.host_keys = vec![key];
    let bytes = gateway_wire::encode(settings).unwrap();
    let memory = Shared::new("settings", &bytes).unwrap().reader().unwrap();
    let (ours, theirs) = sys::fds::seqpacket_pair().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let child = Spawn::new(program)
        .fd(0, memory)
        .fd(1, writer.into())
        .fd(3, theirs)
        .inherit_stderr()
        .start()
        .unwrap();
    (child, reader.into(), ours)
}

#[test]
fn a_captured_net_can_do_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let mut settings = Settings {
        user: None,
        ..Settings::default()
    };
    if nix::unistd::geteuid().is_root() {
        settings.user = Some("nobody".into());
        settings.empty_root = empty.path().into();
    } else {
        println!("skipped: net's sandbox as another user needs root; the filter alone is tried");
    }
    let (mut child, output, monitor) = start(&mut settings, folder.path());
    let mut buffer = [0; 64];
    let (n, _) = sys::fds::recv_with_fds(&monitor, &mut buffer).unwrap();
    assert_eq!(gateway_wire::decode(&buffer[..n]), Ok(FromNet::Sandboxed));
    drop(monitor);
    child.wait().unwrap();
    let report = std::io::read_to_string(std::fs::File::from(output)).unwrap();
    if cfg!(feature = "captured") {
        let attempts: Vec<&str> = report.lines().collect();
        assert_eq!(attempts.len(), 14, "{report}");
        let done: Vec<_> = attempts
            .iter()
            .filter(|l| !l.ends_with(": refused"))
            .collect();
        // Without root there is no empty folder to enter, but nothing can be opened either.
        assert!(done.is_empty(), "{done:?}");
    } else {
        assert_eq!(report, "", "the shipped program holds no code of the test");
    }
}
