//! Several users at one socket. One test in this program: it changes the ids of the process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod running;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setegid, seteuid};
use running::{KEY, Shim, keys, now, rest, wait_for};
use slurm_auth::{Claims, Verifier};
use slurm_wire::ProtocolVersion;
use slurm_wire::sack::{ANYBODY, Request};

const CONF: &str = "ClusterName=lab\nAuthType=auth/slurm\nAuthInfo=use_client_ids\n";

fn as_user<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> T {
    setegid(Gid::from_raw(gid)).unwrap();
    seteuid(Uid::from_raw(uid)).unwrap();
    let result = work();
    seteuid(Uid::from_raw(0)).unwrap();
    setegid(Gid::from_raw(0)).unwrap();
    result
}

fn claims(token: &str) -> Claims {
    slurm_auth::verify(token, &keys(KEY), Verifier { uid: 0, now: now() }).unwrap()
}

#[test]
fn users_are_told_apart_and_none_starves_another() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: several_users: it needs root to become other users");
        return;
    }
    identity_comes_from_the_kernel();
    rules_decide_and_are_read_again();
    a_thousand_idle_connections_hold_nobody_up();
    who_asks_too_fast_waits_and_then_is_refused();
    only_root_and_slurm_user_see_the_numbers();
    it_may_run_as_somebody_else_than_slurm_user();
    each_cluster_has_its_own_rules();
    a_client_of_another_pid_namespace_is_known_by_its_uid_alone();
    users_of_another_user_namespace_are_refused();
}

fn each_cluster_has_its_own_rules() {
    let two = "[access]\ndeny = [\"uid:1111\"]\n[[clusters]]\nname = \"two\"\nkey-file = \"@/slurm.key\"\n\
               conf = \"@/slurm.conf\"\nrun-dir = \"@/run2\"\naccess = { deny = [\"uid:2222\"] }";
    let shim = Shim::start(CONF, two);
    let at = |folder: &str| shim.path(folder).join("sack.socket");
    wait_for("the second socket", || at("run2").exists());
    for (uid, folder, expected) in [
        (1111, "run", false),
        (1111, "run2", true),
        (2222, "run", true),
        (2222, "run2", false),
    ] {
        let token = as_user(uid, 100, || running::token_at(&at(folder), ANYBODY));
        assert_eq!(token.is_some(), expected, "{uid} {folder}");
    }
}

/// As in a pod whose containers do not share processes: the kernel gives us no number of the client's.
fn a_client_of_another_pid_namespace_is_known_by_its_uid_alone() {
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let shim = Shim::start_within(&wrapper, CONF, "");
    let made = as_user(1234, 100, || {
        claims(&shim.token(ANYBODY, b"").expect("a token"))
    });
    assert_eq!((made.uid, made.gid), (1234, 100));
    let lacks = "uid=1234 user=\"-\" gid=100 pid=0 exe=\"-\" cgroup=\"-\" login=\"-\"";
    wait_for("the line", || shim.log().contains(lacks));
}

/// As in a pod with `hostUsers: false`, asked from outside of it: whom the kernel cannot name here gets nothing.
fn users_of_another_user_namespace_are_refused() {
    let wrapper = ["unshare", "--user", "--map-root-user"];
    let shim = Shim::start_within(&wrapper, CONF, "");
    assert_eq!(
        claims(&shim.token(ANYBODY, b"").expect("for root, who is mapped")).uid,
        0
    );
    assert!(as_user(1234, 100, || shim.token(ANYBODY, b"")).is_none());
    wait_for("the reason", || {
        let log = shim.log();
        log.contains("uid=65534") && log.contains("another user namespace")
    });
}

/// The configuration process, which runs as the signer does, has the controller's pushes verified: they
/// are for SlurmUser. Nobody else may.
fn it_may_run_as_somebody_else_than_slurm_user() {
    let shim = Shim::start_as(12345, CONF, "", "4711");
    // Its memory is root's: nobody of the same user may look into it.
    let memory = format!("/proc/{}/mem", shim.pid());
    assert_eq!(std::fs::metadata(memory).unwrap().uid(), 0);
    let (folder, socket) = (shim.path("run"), shim.socket());
    assert!(folder.exists() && socket.exists());
    let push = Claims {
        cluster: None,
        context: slurm_auth::Context::Auth,
        exp: now() + 60,
        gid: 4711,
        host: "ctl".to_owned(),
        iat: now(),
        id: None,
        payload: vec![],
        ruid: 4711,
        uid: 4711,
        ver: 0x2a00,
    };
    let token = slurm_auth::sign(&push, &keys(KEY)).unwrap();
    for (uid, verdict) in [
        (12345, [0; 4]),
        (4711, [0; 4]),
        (1234, [0xff; 4]),
        (0, [0xff; 4]),
    ] {
        assert_eq!(as_user(uid, 100, || shim.verify(&token)), verdict, "{uid}");
    }
    // It asks for tokens as well, though no rule names it.
    assert!(as_user(12345, 100, || shim.token(ANYBODY, b"")).is_some());
}

fn identity_comes_from_the_kernel() {
    let shim = Shim::start(
        CONF,
        "[access]\nallow = [\"uid:1000-9999\", \"user:daemon\"]",
    );
    let ask = || claims(&shim.token(ANYBODY, b"").expect("a token"));
    let made = as_user(1234, 5678, ask);
    assert_eq!(
        (made.uid, made.gid, made.id),
        (1234, 5678, None),
        "no account"
    );
    let made = as_user(1, 1, ask);
    assert_eq!((made.uid, made.id.unwrap().name.as_str()), (1, "daemon"));
}

fn rules_decide_and_are_read_again() {
    let shim = Shim::start(CONF, "");
    let has_token = |uid, gid| as_user(uid, gid, || shim.token(ANYBODY, b"").is_some());
    for (uid, expected) in [
        (0, true),
        (1234, true),
        (1, false),
        (99, false),
        (999, false),
        (65534, false),
    ] {
        assert_eq!(has_token(uid, 100), expected, "{uid}");
    }
    wait_for("the reason", || {
        shim.log().contains("an account of the system")
    });
    // Verdicts are for everybody: they give nothing away.
    let token = shim.token(ANYBODY, b"").unwrap();
    assert_eq!(as_user(99, 99, || shim.verify(&token)), [0; 4]);
    shim.reconfigure("[access]\nallow = [\"uid:1000-1999\", \"gid:4242\"]\ndeny = [\"uid:1500\"]");
    wait_for("the new rules", || !has_token(1500, 100));
    for (uid, gid, expected) in [
        (0, 0, true),
        (1234, 100, true),
        (2000, 100, false),
        (2000, 4242, true),
        (1500, 4242, false),
    ] {
        assert_eq!(has_token(uid, gid), expected, "{uid} {gid}");
    }
    // A bad file changes nothing, and the log says so.
    shim.reconfigure("[access]\nallow = [\"everybody\"]");
    wait_for("the refusal", || shim.log().contains("settings.kept"));
    assert!(!has_token(1500, 100) && has_token(1234, 100));
}

fn a_thousand_idle_connections_hold_nobody_up() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
    let shim = Shim::start(CONF, "");
    let hold = |n: usize| -> Vec<UnixStream> {
        (0..n)
            .map(|_| UnixStream::connect(shim.socket()).unwrap())
            .collect()
    };
    let _greedy = as_user(1234, 5678, || hold(1000));
    let _other = as_user(4321, 5678, || hold(200));
    for uid in [0, 1000, 1234, 4321, 5000] {
        let made = as_user(uid, 100, || claims(&shim.token(ANYBODY, b"").unwrap()));
        assert_eq!(made.uid, uid);
    }
    assert!(shim.http("/metrics").contains("reason=\"evicted\""));
    // Half a request is no better than none.
    let mut half = as_user(1234, 5678, || hold(100));
    for stream in &mut half {
        let _ = stream.write_all(b"\x2a\x00");
    }
    assert!(as_user(5000, 100, || shim.token(ANYBODY, b"")).is_some());
    // And a megabyte is too much.
    let mut big =
        b"\x2a\x00\x00\x10\x00\x10\x00\x00\xfa\x01\xff\xff\xff\xff\x00\x10\x00\x00".to_vec();
    big.resize(1 << 20, 7);
    let mut stream = as_user(1234, 5678, || UnixStream::connect(shim.socket()).unwrap());
    let _ = stream.write_all(&big);
    assert_eq!(rest(stream), b"");
    assert!(as_user(1234, 100, || shim.token(ANYBODY, b"")).is_some());
}

fn who_asks_too_fast_waits_and_then_is_refused() {
    let limits = "[limits]\nrequests-per-second = 2\nburst = 3\nconnections-per-user = 64";
    let shim = Shim::start(CONF, limits);
    let request = Request::Create {
        version: ProtocolVersion::V24_11,
        ruid: ANYBODY,
        payload: vec![],
    };
    // All at once: three now, ten more within five seconds, the rest not at all.
    let streams: Vec<UnixStream> = as_user(1234, 100, || {
        let mut all = Vec::new();
        for _ in 0..20 {
            let mut stream = UnixStream::connect(shim.socket()).unwrap();
            stream.write_all(&request.encode()).unwrap();
            all.push(stream);
        }
        all
    });
    // Meanwhile others have their own measure, and the system has one for itself.
    for _ in 0..10 {
        assert!(shim.token(ANYBODY, b"").is_some());
    }
    assert!(as_user(4321, 100, || shim.token(ANYBODY, b"")).is_some());
    let answered = streams
        .into_iter()
        .map(rest)
        .filter(|reply| !reply.is_empty())
        .count();
    assert!((13..=14).contains(&answered), "{answered}\n{}", shim.log());
    wait_for("the reason", || shim.log().contains("too many requests"));
    let refused = 20 - answered;
    let line = format!("sackd_shim_refused_total{{cluster=\"lab\",reason=\"rate\"}} {refused}");
    assert!(shim.http("/metrics").contains(&line), "{line}");
}

fn only_root_and_slurm_user_see_the_numbers() {
    let shim = Shim::start(CONF, "");
    let socket = shim.path("run/status.socket");
    let connected = as_user(1234, 100, || UnixStream::connect(&socket).is_ok());
    assert!(!connected);
}
