//! What the real program may do once its sandbox is closed, found out by code inside it.
//!
//! `cargo test -p login-gateway-net --features captured --test sandbox` builds the program that
//! tries; the shipped one has no such code.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use gateway_wire::Settings;
use gateway_wire::monitor::FromNet;
use support::start;

/// Host keys lie in this process (T14), and nothing else does.
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
