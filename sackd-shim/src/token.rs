//! `sackd-shim token`, run by any user: turns a SACK token of that user into a bearer token for
//! slurmrestd. What it may and how long it lives is decided at the other ends of the two sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use service::{Exit, Failure};
use slurm_auth::message_hash;
use slurm_wire::ProtocolVersion;
use slurm_wire::auth_token::AuthTokenRequest;
use slurm_wire::rpc::MessageType;
use slurm_wire::sack::{ANYBODY, Request, parse_token_reply};

use crate::error::ShimError;

/// Patience with either socket; slurmctld is asked meanwhile.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest answer, in bytes.
const LIMIT: u64 = 256 * 1024;

/// Prints `SLURM_JWT=TOKEN`.
///
/// # Errors
/// [`Failure`] with the reason the service gives.
pub fn run(lifespan: Option<Duration>, run_dir: &Path) -> Result<(), Failure> {
    let lifespan = lifespan.map_or(0, |life| u32::try_from(life.as_secs()).unwrap_or(u32::MAX));
    let body = AuthTokenRequest {
        lifespan,
        user: None,
    };
    let hash = message_hash::k12(MessageType::REQUEST_AUTH_TOKEN.0, &body.encode());
    let request = Request::Create {
        version: ProtocolVersion::V24_11,
        ruid: ANYBODY,
        payload: hash.to_vec(),
    };
    let reply = ask(&run_dir.join("sack.socket"), &request.encode())?;
    let Some(sack) = parse_token_reply(&reply)? else {
        return Err(Failure::new(
            Exit::Permission,
            "no SACK token for this user",
        ));
    };
    let line = format!("{lifespan} {sack}\n");
    let reply = ask(&run_dir.join("rest.socket"), line.as_bytes())
        .map_err(|failure| failure.hint("is [rest] in sackd-shim.toml?"))?;
    let reply = String::from_utf8_lossy(&reply);
    let mut words = reply.trim_end().splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("ok"), Some(_), Some(token)) => {
            println!("SLURM_JWT={token}");
            Ok(())
        }
        (Some("no"), ..) => Err(Failure::new(
            Exit::Failure,
            reply.trim_end()[2..].trim_start().to_owned(),
        )),
        _ => Err(Failure::new(
            Exit::Failure,
            "the service closed without an answer",
        )),
    }
}

fn ask(socket: &Path, request: &[u8]) -> Result<Vec<u8>, Failure> {
    let exchange = || -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(request)?;
        let mut reply = Vec::new();
        stream.take(LIMIT).read_to_end(&mut reply)?;
        Ok(reply)
    };
    let doing = format!("ask '{}'", socket.display());
    exchange().map_err(|source| ShimError::System { doing, source }.into_failure())
}
