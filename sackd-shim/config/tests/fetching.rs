//! Fetching: versions, standby controllers, controllers that are away, and what must not be
//! written.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod scripted;

use std::net::TcpListener;
use std::time::Duration;

use scripted::{Answer, Config, controller, listener, wait_for};
use slurm_wire::ProtocolVersion;
use slurm_wire::configuration::{ConfigRequest, Wanted};
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::MessageType;

const CONF: (&str, Option<&str>) = ("slurm.conf", Some("ClusterName=Lab\nSlurmdPort=1\n"));
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn steps_down_until_the_version_is_spoken() {
    // 24.11 says "authentication" of newer versions, 26.05 answers older ones in HTTP, and
    // others close.
    let (listener, address) = listener();
    let requests = controller(listener, |request| match request.version {
        ProtocolVersion::V26_05 => Answer::Raw(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n"),
        ProtocolVersion::V25_11 => Answer::Close,
        ProtocolVersion::V25_05 => Answer::code(ReturnCode::AUTHENTICATION),
        _ => Answer::files(&[CONF, ("plugstack.conf", Some("")), ("oci.conf", None)]),
    });
    let config = Config::start(&[], &[address]);
    for version in &ProtocolVersion::NEWEST_FIRST[..4] {
        let request = requests.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            (request.version, request.message_type),
            (*version, MessageType::REQUEST_CONFIG)
        );
        let decoded = ConfigRequest::decode(&request.body, *version).unwrap();
        assert_eq!(
            decoded,
            ConfigRequest {
                wanted: Wanted::ClientAndRegister,
                port: 0
            }
        );
    }
    wait_for("slurm.conf", || {
        config.file("slurm.conf").as_deref() == CONF.1
    });
    assert_eq!(config.names(), ["plugstack.conf", "slurm.conf"]);
}

#[test]
fn a_silent_refusal_is_not_met_twice() {
    let (listener, address) = listener();
    let requests = controller(listener, |request| match request.version {
        ProtocolVersion::V26_05 => Answer::Silence,
        _ => Answer::files(&[CONF]),
    });
    let config = Config::start(&["--disable-reconfig"], &[address]);
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    let versions: Vec<_> = requests.try_iter().map(|request| request.version).collect();
    assert_eq!(versions, [ProtocolVersion::V26_05, ProtocolVersion::V24_11]);
}

#[test]
fn a_controller_that_names_its_version_is_asked_in_it() {
    let (listener, address) = listener();
    let requests = controller(listener, |request| match request.version {
        ProtocolVersion::V24_11 => Answer::files(&[CONF]),
        _ => {
            let code = ReturnCode::AUTHENTICATION.encode();
            Answer::ReplyIn(ProtocolVersion::V24_11, MessageType::RETURN_CODE, code)
        }
    });
    let config = Config::start(&["--disable-reconfig"], &[address]);
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    let versions: Vec<_> = requests.try_iter().map(|request| request.version).collect();
    assert_eq!(versions, [ProtocolVersion::V26_05, ProtocolVersion::V24_11]);
}

#[test]
fn a_standby_sends_to_the_next() {
    let (first, first_address) = listener();
    let (second, second_address) = listener();
    let standby = controller(first, |_| Answer::code(ReturnCode::STANDBY_USE_BACKUP));
    let active = controller(second, |_| Answer::files(&[CONF]));
    let arguments = ["--disable-reconfig", "--port", "7001"];
    let config = Config::start(&arguments, &[first_address, second_address]);
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    assert_eq!(standby.try_iter().count(), 1);
    let request = active.recv_timeout(PATIENCE).unwrap();
    let decoded = ConfigRequest::decode(&request.body, request.version).unwrap();
    assert_eq!(
        decoded,
        ConfigRequest {
            wanted: Wanted::Client,
            port: 7001
        }
    );
    assert!(config.log().contains("controller in standby"));
    assert!(!config.log().contains("push.listening"));
}

#[test]
fn a_controller_may_come_up_late() {
    let (closed, address) = listener();
    drop(closed);
    let config = Config::start(&["--disable-reconfig"], &[address]);
    config.waits_for_log("fetch.failed");
    let requests = controller(TcpListener::bind(address).unwrap(), |_| {
        Answer::files(&[CONF])
    });
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    assert!(requests.try_iter().count() >= 1);
}

#[test]
fn what_is_refused_never_reaches_the_disk() {
    let evil: [&[(&str, Option<&str>)]; 4] = [
        &[CONF, ("../evil.conf", Some("x"))],
        &[("slurm.conf", None)],
        &[("slurm.conf", Some("ClusterName=other\n"))],
        &[CONF, ("good.conf", Some("x"))],
    ];
    let (listener, address) = listener();
    let mut at = 0;
    let requests = controller(listener, move |_| {
        at += 1;
        Answer::files(evil[(at - 1).min(3)])
    });
    let config = Config::start(&["--disable-reconfig", "--cluster", "LAB"], &[address]);
    for _ in 0..3 {
        requests.recv_timeout(PATIENCE).unwrap();
        assert!(config.file("slurm.conf").is_none());
    }
    wait_for("slurm.conf", || config.file("good.conf").is_some());
    for words in [
        "../evil.conf",
        "it has no slurm.conf",
        "of cluster 'other', not of 'lab'",
    ] {
        config.waits_for_log(words);
    }
    assert!(!config.folder.path().join("evil.conf").exists());
}

#[test]
fn says_why_a_controller_gives_nothing() {
    for (code, words) in [
        (
            ReturnCode::AUTHENTICATION,
            "refuses the token in every protocol version",
        ),
        (
            ReturnCode::CONFIGLESS_DISABLED,
            "enable_configless is not set",
        ),
        (ReturnCode(4242), "return code 4242"),
    ] {
        let (listener, address) = listener();
        let _requests = controller(listener, move |_| Answer::code(code));
        let config = Config::start(&["--disable-reconfig"], &[address]);
        config.waits_for_log(words);
        assert!(config.file("slurm.conf").is_none());
    }
    let (listener, address) = listener();
    let _requests = controller(listener, |_| Answer::Raw(b"\x7f\xff\xff\xff"));
    Config::start(&["--disable-reconfig"], &[address]).waits_for_log("the limit is");
}

#[test]
fn the_keeper_starts_the_work_again() {
    let (listener, address) = listener();
    let requests = controller(listener, |_| Answer::files(&[CONF]));
    let config = Config::start(&["--disable-reconfig"], &[address]);
    requests.recv_timeout(PATIENCE).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", config.pid());
    let worker = std::fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(worker),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
    config.waits_for_log("config.restarting");
    requests.recv_timeout(PATIENCE).unwrap();
}
