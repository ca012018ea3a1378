//! The listener's own life: reloads, crashes of its children, the end. Whoever is logged in must
//! not notice.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Gateway, possible, programs, until};

#[test]
fn numbers_follow_a_login() {
    if !possible("numbers_follow_a_login") {
        return;
    }
    let gateway = Gateway::start("");
    assert_eq!(gateway.says("echo $LOGNAME; id -u"), "carol\n1501\n");
    let login = gateway.stays();
    until("one login, none unfinished", || {
        gateway.metric("logins ") == 1 && gateway.metric("startups ") == 0
    });
    assert_eq!(gateway.metric("connections_total "), 2);
    assert_eq!(gateway.metric("logins_total "), 2);
    login.leave();
    until("no login", || gateway.metric("logins ") == 0);
    gateway.logged("connection.closed", 2);
    assert!(gateway.log().contains("event=\"connection.opened\" login="));
}

#[test]
fn a_reload_is_noticed_by_nobody() {
    if !possible("a_reload_is_noticed_by_nobody") {
        return;
    }
    let gateway = Gateway::start("warm = 1\naccept-env = [\"LANG\"]");
    let mut login = gateway.stays();
    let unfinished = gateway.connect().unwrap();
    until("one started", || gateway.metric("startups ") == 1);
    let accepts = gateway.children("login-gateway-accept");
    let before = gateway.children("login-gateway-monitor");
    assert_eq!((accepts.len(), before.len()), (1, 3));

    gateway.configure("warm = 2\naccept-env = [\"COLOUR\"]");
    gateway.signal(Signal::SIGHUP);
    gateway.logged("gateway.ready", 2);
    login.lives();
    until("the old accept has ended, two are warm", || {
        let accept = gateway.children("login-gateway-accept");
        let monitors = gateway.children("login-gateway-monitor");
        accept.len() == 1 && accept != accepts && monitors.len() == 4
    });
    // The one that waited has the old settings and is gone; those with connections are not.
    let after = gateway.children("login-gateway-monitor");
    assert_eq!(before.iter().filter(|pid| after.contains(pid)).count(), 2);
    assert_eq!(
        (gateway.metric("logins "), gateway.metric("startups ")),
        (1, 1)
    );
    assert_eq!(gateway.metric("connections_total "), 2);

    // The new settings hold for new logins.
    let mut ssh = gateway.ssh("echo $COLOUR");
    let output = ssh
        .env("COLOUR", "blue")
        .stdin(std::process::Stdio::null())
        .output();
    assert_eq!(output.unwrap().stdout, b"blue\n");
    drop(unfinished);
    until("the unfinished one is gone", || {
        gateway.metric("startups ") == 0
    });

    // And once more: descriptors that have been carried are carried again.
    gateway.signal(Signal::SIGHUP);
    gateway.logged("gateway.ready", 3);
    login.lives();
    assert_eq!(gateway.says("echo again"), "again\n");
    until("all are counted", || gateway.metric("logins_total ") == 3);
    login.leave();
    until("all have left", || gateway.metric("logins ") == 0);
}

#[test]
fn reloads_in_a_hurry() {
    if !possible("reloads_in_a_hurry") {
        return;
    }
    // A signal that comes while the program is being replaced must neither end it nor be lost.
    let gateway = Gateway::start("warm = 1");
    let mut login = gateway.stays();
    for pause in 0..40 {
        gateway.signal(Signal::SIGHUP);
        std::thread::sleep(std::time::Duration::from_micros(pause * 331));
    }
    gateway.says("true");
    login.lives();
    until("one accept is left", || {
        gateway.children("login-gateway-accept").len() == 1
    });
    until("it is counted", || gateway.metric("logins_total ") == 2);
}

#[test]
fn an_upgraded_program_is_picked_up() {
    if !possible("an_upgraded_program_is_picked_up") {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ours = ["-accept", "-monitor", "-net", "-session", ""];
    let names = ours.map(|part| format!("login-gateway{part}"));
    for name in names.into_iter().chain(["sftp-server".to_owned()]) {
        std::fs::copy(programs().join(&name), folder.path().join(&name)).unwrap();
    }
    let program = folder.path().join("login-gateway");
    let gateway = Gateway::start_program(&program, "");
    let mut login = gateway.stays();
    let upgraded = folder.path().join("upgraded");
    std::fs::copy(&program, &upgraded).unwrap();
    std::fs::rename(&upgraded, &program).unwrap();
    let runs = || std::fs::read_link(format!("/proc/{}/exe", gateway.child.id())).unwrap();
    assert_ne!(runs(), program);
    gateway.signal(Signal::SIGHUP);
    gateway.logged("gateway.ready", 2);
    assert_eq!(runs(), program);
    login.lives();

    // One that cannot be started, since it is half written or nobody may, changes nothing.
    for (at, mode) in [0o755, 0o644].into_iter().enumerate() {
        std::fs::write(&upgraded, "").unwrap();
        std::fs::set_permissions(&upgraded, PermissionsExt::from_mode(mode)).unwrap();
        std::fs::rename(&upgraded, &program).unwrap();
        gateway.signal(Signal::SIGHUP);
        gateway.logged("reload.failed", at + 1);
        login.lives();
    }
    assert_eq!(gateway.says("echo as before"), "as before\n");
}

#[test]
fn a_broken_configuration_changes_nothing() {
    if !possible("a_broken_configuration_changes_nothing") {
        return;
    }
    let gateway = Gateway::start("");
    let mut login = gateway.stays();
    let accepts = gateway.children("login-gateway-accept");
    for (at, broken) in ["colour = 1", "max-startups = 0", "host-keys = []"]
        .into_iter()
        .enumerate()
    {
        gateway.configure(broken);
        gateway.signal(Signal::SIGHUP);
        gateway.logged("reload.failed", at + 1);
    }
    assert!(
        gateway.log().contains("unknown field `colour`"),
        "{}",
        gateway.log()
    );
    login.lives();
    assert_eq!(gateway.says("echo still here"), "still here\n");
    assert_eq!(gateway.children("login-gateway-accept"), accepts);
}

#[test]
fn a_crash_costs_what_it_must() {
    if !possible("a_crash_costs_what_it_must") {
        return;
    }
    let gateway = Gateway::start("warm = 1");
    let crash = |pid: i32| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let mut first = gateway.stays();
    let with_one = gateway.children("login-gateway-monitor");
    let mut second = gateway.stays();

    // accept: another one takes its place, nobody is logged out.
    crash(gateway.children("login-gateway-accept")[0]);
    gateway.logged("gateway.ready", 2);
    first.lives();
    second.lives();
    assert_eq!(gateway.says("echo accepted"), "accepted\n");

    // A monitor that waits: another one takes its place.
    until("one waits", || {
        gateway.children("login-gateway-monitor").len() == 3
    });
    let waits = *gateway.children("login-gateway-monitor").last().unwrap();
    crash(waits);
    gateway.logged("monitor.failed", 1);
    assert_eq!(gateway.says("echo replaced"), "replaced\n");

    // A monitor with a connection: that connection, no other.
    crash(with_one[0]);
    until("the first is out", || {
        first.child.try_wait().unwrap().is_some()
    });
    second.lives();
    until("it is counted", || gateway.metric("logins ") == 1);
    gateway.logged("ended=\"SIGKILL\"", 2);
}

#[test]
fn the_end_waits_for_the_last_login() {
    if !possible("the_end_waits_for_the_last_login") {
        return;
    }
    let mut gateway = Gateway::start("");
    let mut login = gateway.stays();
    assert_eq!(gateway.status("/readyz"), "200");
    gateway.signal(Signal::SIGTERM);
    until("not ready, but alive", || {
        gateway.status("/readyz") == "503" && gateway.status("/healthz") == "200"
    });
    let turned_away = gateway.ssh("true").output().unwrap();
    let words = String::from_utf8_lossy(&turned_away.stderr);
    assert!(words.contains("takes no more logins"), "{words}");
    assert_eq!(turned_away.status.code(), Some(255));
    login.lives();
    login.leave();
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn the_second_signal_waits_for_nobody() {
    if !possible("the_second_signal_waits_for_nobody") {
        return;
    }
    let mut gateway = Gateway::start("");
    let mut login = gateway.stays();
    gateway.signal(Signal::SIGINT);
    gateway.logged("stage=\"draining\"", 1);
    login.lives();
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.exit_code(), Some(0));
    assert!(!login.child.wait().unwrap().success());
    gateway.logged("session.closed", 1);
}

#[test]
fn beyond_max_startups_connections_are_closed() {
    if !possible("beyond_max_startups_connections_are_closed") {
        return;
    }
    let gateway = Gateway::start("max-startups = 3\nwarm = 1");
    let mut login = gateway.stays();
    until("authenticated", || gateway.metric("startups ") == 0);
    let held: Vec<_> = (0..3).map(|_| gateway.connect().unwrap()).collect();
    until("three unfinished", || gateway.metric("startups ") == 3);
    let mut one_more = gateway.connect().unwrap();
    assert_eq!(one_more.read(&mut [0]).unwrap_or(0), 0);
    until("it is counted", || gateway.metric("refused_total ") == 1);
    login.lives();
    drop(held);
    until("there is room", || gateway.metric("startups ") == 0);
    assert_eq!(gateway.says("echo in"), "in\n");
}
