//! The record of tokens: one line for each made or refused. Never the token itself; the digest
//! of its signature ties a token found elsewhere to its line here.

use slurm_auth::{Claims, TokenError, message_hash, signature_digest};
use sys::peer::PeerCredentials;

use crate::identity::Answer;
use crate::signer::{Create, Refusal};

/// A token was made.
pub fn made(peer: PeerCredentials, answer: &Answer, claims: &Claims, token: &str) {
    tracing::info!(
        target: "audit",
        event = "token.made",
        uid = peer.uid,
        user = user(answer),
        gid = peer.gid,
        pid = peer.pid,
        ruid = claims.ruid,
        hash = message_hash::kind(&claims.payload),
        exp = claims.exp,
        signature_sha256 = signature_digest(token),
    );
}

/// No token was made.
pub fn refused(peer: PeerCredentials, answer: &Answer, request: &Create, why: &Refusal) {
    tracing::warn!(
        target: "audit",
        event = "token.refused",
        uid = peer.uid,
        user = user(answer),
        gid = peer.gid,
        pid = peer.pid,
        ruid = request.ruid,
        hash = message_hash::kind(&request.payload),
        why = %why,
    );
}

/// A token was checked.
pub fn checked(peer: PeerCredentials, token: &str, result: &Result<Claims, TokenError>) {
    let signature_sha256 = signature_digest(token);
    match result {
        Ok(claims) => tracing::info!(
            target: "audit",
            event = "token.verified",
            uid = peer.uid,
            pid = peer.pid,
            of_uid = claims.uid,
            context = claims.context.as_str(),
            signature_sha256,
        ),
        // The reason may quote the token's own claims, which anybody can write: escaped.
        Err(error) => tracing::info!(
            target: "audit",
            event = "token.not_verified",
            uid = peer.uid,
            pid = peer.pid,
            why = ?error.to_string(),
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
