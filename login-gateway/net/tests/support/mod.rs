//! The real program, started as the monitor starts it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use gateway_wire::Settings;
use sys::memfd::Shared;
use sys::spawn::Spawn;

/// Starts net with `settings` and a fresh host key. Its standard output and the monitor's end of
/// its socket.
pub fn start(settings: &mut Settings, folder: &Path) -> (std::process::Child, OwnedFd, OwnedFd) {
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
