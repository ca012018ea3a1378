//! End-to-end tests on the lab: real OpenSSH clients, slapd, Slurm, the image and the chart. One
//! file a claim of the project; each test name says what holds.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod bad_input;
mod campaign;
mod identity;
mod processes;
mod slurm;
mod ssh_commands;
mod ssh_crypto;
mod ssh_terminal;
