//! Telling the service manager how we are: `sd_notify(3)` datagrams. No-op where nobody listens.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Start-up is over, requests are served.
pub fn ready() {
    send(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// The daemon reads its configuration again; [`ready`] ends that.
pub fn reloading() {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let micros = now.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The daemon is alive, where the service manager wants to hear it now and then.
pub fn alive() {
    if std::env::var_os("WATCHDOG_USEC").is_some() {
        send("WATCHDOG=1");
    }
}

/// The daemon is about to end.
pub fn stopping() {
    send("STOPPING=1");
}

/// One line about the current state, for `systemctl status`.
pub fn status(text: &str) {
    send(&format!("STATUS={}", text.replace('\n', " ")));
}

fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let bytes = path.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|to| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &to)
    });
    if let Err(error) = sent {
        tracing::warn!(event = "notify.failed", %error);
    }
}
