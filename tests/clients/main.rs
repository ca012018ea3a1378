//! Clients other than OpenSSH's of this machine, against our gateway: each logs in, runs a command
//! with an exit code, and carries files of a few MiB both ways, with a terminal where it has one. A
//! client that is not here is skipped by name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod editors;
mod libraries;
mod programs;
mod releases;
mod world;
