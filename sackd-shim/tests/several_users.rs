//! Several users at one socket. One test in this program: it changes the ids of the process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod running;

use std::os::unix::net::UnixStream;

use nix::unistd::{Gid, Uid, setegid, seteuid};
use running::{KEY, Shim, keys, now};
use slurm_auth::Verifier;
use slurm_wire::sack::ANYBODY;

fn as_user<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> T {
    setegid(Gid::from_raw(gid)).unwrap();
    seteuid(Uid::from_raw(uid)).unwrap();
    let result = work();
    seteuid(Uid::from_raw(0)).unwrap();
    setegid(Gid::from_raw(0)).unwrap();
    result
}

#[test]
fn one_user_cannot_starve_or_be_another() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: several_users::one_user_cannot_starve_or_be_another needs root");
        return;
    }
    let conf = "ClusterName=lab\nAuthType=auth/slurm\nAuthInfo=use_client_ids\n";
    let shim = Shim::start(
        conf,
        "[limits]\nconnections = 64\nconnections-per-user = 32",
    );
    let ask = || {
        let token = shim.token(ANYBODY, b"").expect("a token");
        slurm_auth::verify(&token, &keys(KEY), Verifier { uid: 0, now: now() }).unwrap()
    };
    let claims = as_user(1234, 5678, ask);
    assert_eq!((claims.uid, claims.gid), (1234, 5678));
    assert_eq!(claims.id, None, "a uid without an account");
    let claims = as_user(1, 1, ask);
    assert_eq!(
        (claims.uid, claims.id.unwrap().name.as_str()),
        (1, "daemon")
    );
    // 200 idle connections each of two users, and everybody is still answered.
    let hold = || -> Vec<UnixStream> {
        (0..200)
            .map(|_| UnixStream::connect(shim.socket()).unwrap())
            .collect()
    };
    let _greedy = (as_user(1234, 5678, hold), as_user(4321, 5678, hold));
    for uid in [0, 1, 999, 1234, 4321] {
        assert_eq!(as_user(uid, 100, ask).uid, uid);
    }
}
