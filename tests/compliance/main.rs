//! The same cases against Debian's sshd first, then against our gateway: one case per behaviour, in
//! a file named for its theme. What we lack is listed in `lacking.rs` with its reason; a listed case
//! that passes fails the run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod both;
mod key_commands;
mod lacking;
mod peers;

mod agent_and_x11;
mod authorized_keys;
mod certificates;
mod channels;
mod crypto;
mod environment;
mod exit;
mod files;
mod forwarding;
mod greeting;
mod identity;
mod login_screen;
mod signatures;
mod streams;
mod terminal;
mod timeouts;
mod traps;
mod ways_in;
