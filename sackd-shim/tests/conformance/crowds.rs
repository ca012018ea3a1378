//! Case 8: one user's crowd does not keep another from a token.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use slurm_wire::sack::ANYBODY;

use crate::client::{as_user, connect, create, say, token};
use crate::server::{Kind, Peers};

/// The word by which this program is one of the flood.
pub const FLOOD: &str = "flood";

pub fn idle(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    let idle: Vec<UnixStream> = as_user(1002, 100, || {
        (0..200).map(|_| connect(&server.socket())).collect()
    });
    for uid in [1001, 1002, 0] {
        as_user(uid, 100, || token(&server.socket()));
    }
    drop(idle);
}

/// 26.05 answers it, we do not: no client of Slurm's sends more than 33 bytes. Both go on.
pub fn megabyte(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    let reply = as_user(1002, 100, || {
        say(&server.socket(), &create(ANYBODY, &vec![7; 1 << 20]))
    });
    match kind {
        Kind::Ours => assert_eq!(reply, b""),
        Kind::Theirs(_) => assert!(reply.len() > 1 << 20),
    }
    as_user(1001, 100, || token(&server.socket()));
}

/// As many as this machine can run ask without a pause.
pub fn flood(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    let own = std::env::current_exe().unwrap();
    // Where the user of the flood can reach it.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = folder.path().join("flood");
    std::fs::copy(own, &program).unwrap();
    let mut flood: Vec<_> = (0..16)
        .map(|_| {
            Command::new(&program)
                .arg(FLOOD)
                .arg(server.socket())
                .uid(1002)
                .gid(100)
                .spawn()
                .unwrap()
        })
        .collect();
    for _ in 0..200 {
        as_user(1001, 100, || token(&server.socket()));
    }
    let running = flood
        .iter_mut()
        .all(|one| one.try_wait().unwrap().is_none());
    for one in &mut flood {
        let _ = one.kill();
        let _ = one.wait();
    }
    assert!(running, "the flood ended by itself");
}

/// One of the flood.
pub fn ask_for_ever(socket: &Path) -> Infallible {
    let request = create(ANYBODY, &[2; 33]);
    loop {
        // Who is too fast is refused, and goes on.
        if let Ok(mut stream) = UnixStream::connect(socket) {
            let _ = stream.write_all(&request);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
}
