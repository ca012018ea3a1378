//! Ways in, with the real programs and OpenSSH's client: passwords and dialogues through PAM, several
//! factors, keys with options, certificates, revocation, the account for emergencies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod break_glass;
mod certificates;
mod factors;
mod host;
mod keys;
mod other_clients;
mod passwords;
#[path = "../support/mod.rs"]
mod support;
