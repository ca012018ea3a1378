//! A client that says raw bytes, as any user.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Gid, Uid, setegid, seteuid};
use slurm_wire::ProtocolVersion;
use slurm_wire::sack::{ANYBODY, Request, parse_token_reply};

/// A server that says nothing for so long has failed the case.
const PATIENCE: Duration = Duration::from_secs(20);

/// Does something as another user. The process has one thread.
pub fn as_user<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> T {
    setegid(Gid::from_raw(gid)).unwrap();
    seteuid(Uid::from_raw(uid)).unwrap();
    let result = work();
    be_root();
    result
}

/// Root again.
pub fn be_root() {
    seteuid(Uid::from_raw(0)).unwrap();
    setegid(Gid::from_raw(0)).unwrap();
}

pub fn create(ruid: u32, payload: &[u8]) -> Vec<u8> {
    let version = ProtocolVersion::V24_11;
    let payload = payload.to_vec();
    Request::Create {
        version,
        ruid,
        payload,
    }
    .encode()
}

pub fn verify(token: &str) -> Vec<u8> {
    let version = ProtocolVersion::V24_11;
    let token = token.to_owned();
    Request::Verify { version, token }.encode()
}

pub fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that is said until the server closes.
pub fn rest(mut stream: UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("no end of stream: {error}"),
    }
}

pub fn say(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(socket);
    // A server may close before it has read all of what it does not want.
    let _ = stream.write_all(bytes);
    rest(stream)
}

/// Says it and closes its half.
pub fn say_and_close(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(socket);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    rest(stream)
}

/// The token in an answer; the whole answer, with its NUL and nothing behind it.
pub fn token_in(reply: &[u8]) -> String {
    let token = parse_token_reply(reply).unwrap().expect("a token");
    assert_eq!(reply.len(), 4 + token.len() + 1, "bytes behind the token");
    assert_eq!(reply.last(), Some(&0));
    token
}

/// A token that anybody may read.
pub fn token(socket: &Path) -> String {
    token_in(&say(socket, &create(ANYBODY, b"")))
}
