//! Called by sackd's name: into the background, one exit code, its options.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod running;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use running::{KEY, Shim, claims, run_as_sackd, wait_for};
use slurm_wire::sack::ANYBODY;

const CONF: &str = "ClusterName=lab\nAuthType=auth/slurm\n";

#[test]
fn goes_into_the_background_once_it_serves() {
    let (folder, output) = run_as_sackd(CONF, "", &[], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // The caller is back, so it serves already.
    let token = running::token_at(&folder.path().join("run/sack.socket"), ANYBODY).unwrap();
    claims(&token, KEY);
    let status = running::status_at(&folder.path().join("run/status.socket"));
    let pid = Pid::from_raw(i32::try_from(status["pid"].as_i64().unwrap()).unwrap());
    assert_ne!(
        nix::unistd::getsid(Some(pid)).unwrap(),
        nix::unistd::getsid(None).unwrap()
    );
    kill(pid, Signal::SIGTERM).unwrap();
    wait_for("its end", || kill(pid, None).is_err() || is_zombie(pid));
}

/// What systemd hears from start to end.
#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let hears = |words: &str| {
        let mut datagram = [0; 1024];
        loop {
            let n = manager.recv(&mut datagram).expect(words);
            let text = String::from_utf8_lossy(&datagram[..n]).into_owned();
            if text.starts_with(words) {
                return text;
            }
        }
    };
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "60000000"),
    ];
    let shim = Shim::start_in(CONF, "", &variables);
    let own = format!("MAINPID={}", shim.pid());
    assert!(hears("READY=1\n").contains(&own));
    assert_eq!(hears("STATUS="), "STATUS=lab: a configuration of its own");
    hears("WATCHDOG=1");
    let pid = Pid::from_raw(shim.pid());
    kill(pid, Signal::SIGHUP).unwrap();
    assert!(hears("RELOADING=1\n").contains("MONOTONIC_USEC="));
    assert!(hears("READY=1\n").contains(&own));
    shim.replace("slurm.key", b"", 0o600);
    assert!(hears("STATUS=").ends_with(", the key file is bad"));
    kill(pid, Signal::SIGTERM).unwrap();
    hears("STOPPING=1");
}

fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains(") Z ")
}

#[test]
fn whatever_goes_wrong_is_one() {
    let check = |more: &str, arguments: &[&str], variables: &[(&str, &str)], words: &str| {
        let (_folder, output) = run_as_sackd(CONF, more, arguments, variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
    };
    check("colour = 1", &[], &[], "unknown field `colour`");
    check("colour = 1", &["-D"], &[], "unknown field `colour`");
    check("", &["-p", "7000"], &[], "unexpected argument");
    check("", &["--systemd"], &[], "--systemd needs NOTIFY_SOCKET");
    check(
        "",
        &["--systemd", "-D"],
        &[("NOTIFY_SOCKET", "/x")],
        "exclude each other",
    );
    check(
        "",
        &["-D", "--ca-cert-file", "/x"],
        &[],
        "TLS to slurmctld (TLSType=tls/s2n, Slurm 25.05 and later) is not spoken here",
    );
    check("", &["-D", "--key-file", "/nowhere"], &[], "'/nowhere'");
    check(
        "",
        &["-D"],
        &[("RUNTIME_DIRECTORY", "/run/")],
        "below /run/",
    );
    let (_folder, output) = run_as_sackd(CONF, "", &["-h"], &[]);
    assert_eq!(output.status.code(), Some(0));
}
