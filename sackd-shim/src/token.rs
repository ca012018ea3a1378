//! `sackd-shim token`, run by any user: turns a SACK token of that user into a bearer token for
//! slurmrestd. What it may and how long it lives is decided at the other ends of the two sockets.

use std::path::Path;
use std::time::Duration;

use service::{Exit, Failure};
use slurm_auth::message_hash;
use slurm_wire::ProtocolVersion;
use slurm_wire::auth_token::AuthTokenRequest;
use slurm_wire::rpc::MessageType;
use slurm_wire::sack::{ANYBODY, Request, parse_token_reply};

use crate::ask::ask;

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
    let sack = run_dir.join("sack.socket");
    let reply = ask(&sack, &request.encode(), TIMEOUT, LIMIT)?;
    let Some(sack) = parse_token_reply(&reply)? else {
        let words = "no SACK token for this user";
        let hint = "the rules in sackd-shim.toml say no; its log has why, at event=token.refused";
        return Err(Failure::new(Exit::Permission, words).hint(hint));
    };
    let line = format!("{lifespan} {sack}\n");
    let rest = run_dir.join("rest.socket");
    if !rest.exists() {
        let words = format!("there is no '{}'", rest.display());
        let hint = "tokens for slurmrestd are made where [rest] is in sackd-shim.toml";
        return Err(Failure::new(Exit::Failure, words).hint(hint));
    }
    let reply = ask(&rest, line.as_bytes(), TIMEOUT, LIMIT)?;
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
