//! The record of tokens: one line for each made, refused or checked, whatever the log level. Never
//! the token itself; the digest of its signature ties a token found elsewhere to its line here.

use slurm_auth::{Claims, TokenError, message_hash, signature_digest};
use sys::peer::PeerCredentials;

use crate::identity::Answer;
use crate::origin::Origin;
use crate::signer::{Create, Refusal};

/// Who asked, at which socket.
#[derive(Debug)]
pub struct Asker<'a> {
    /// The cluster whose socket it was.
    pub cluster: &'a str,
    /// From the kernel.
    pub peer: PeerCredentials,
    /// From /proc.
    pub origin: &'a Origin,
}

/// A token was made.
pub fn made(asker: &Asker<'_>, answer: &Answer, claims: &Claims, kid: Option<&str>, token: &str) {
    tracing::info!(
        target: service::log::AUDIT,
        event = "token.made",
        cluster = asker.cluster,
        uid = asker.peer.uid,
        user = user(answer),
        gid = asker.peer.gid,
        pid = asker.peer.pid,
        exe = asker.origin.exe,
        cgroup = asker.origin.cgroup,
        login = asker.origin.login,
        ruid = claims.ruid,
        hash = message_hash::kind(&claims.payload),
        kid,
        exp = claims.exp,
        signature_sha256 = signature_digest(token),
    );
}

/// No token was made.
pub fn refused(asker: &Asker<'_>, answer: &Answer, request: &Create, why: &Refusal) {
    tracing::warn!(
        target: service::log::AUDIT,
        event = "token.refused",
        cluster = asker.cluster,
        uid = asker.peer.uid,
        user = user(answer),
        gid = asker.peer.gid,
        pid = asker.peer.pid,
        exe = asker.origin.exe,
        cgroup = asker.origin.cgroup,
        login = asker.origin.login,
        ruid = request.ruid,
        hash = message_hash::kind(&request.payload),
        why = %why,
    );
}

/// So many requests were refused because they came too fast; told at most once a second.
pub fn too_fast(cluster: &str, peer: PeerCredentials, requests: u64) {
    tracing::warn!(
        target: service::log::AUDIT,
        event = "token.refused",
        cluster,
        uid = peer.uid,
        gid = peer.gid,
        pid = peer.pid,
        requests,
        why = "too many requests",
    );
}

/// A token was checked.
pub fn checked(asker: &Asker<'_>, token: &str, result: &Result<Claims, TokenError>) {
    let signature_sha256 = signature_digest(token);
    match result {
        Ok(claims) => tracing::info!(
            target: service::log::AUDIT,
            event = "token.verified",
            cluster = asker.cluster,
            uid = asker.peer.uid,
            pid = asker.peer.pid,
            exe = asker.origin.exe,
            login = asker.origin.login,
            of_uid = claims.uid,
            context = claims.context.as_str(),
            signature_sha256,
        ),
        // The reason may quote the token's own claims, which anybody can write: escaped.
        Err(error) => tracing::info!(
            target: service::log::AUDIT,
            event = "token.not_verified",
            cluster = asker.cluster,
            uid = asker.peer.uid,
            pid = asker.peer.pid,
            exe = asker.origin.exe,
            login = asker.origin.login,
            why = error.to_string(),
            signature_sha256,
        ),
    }
}

fn user(answer: &Answer) -> &str {
    match answer {
        Answer::Found(identity) => &identity.name,
        Answer::Absent | Answer::Unavailable => "-",
    }
}
