//! What tests across rooms need of the world: the running lab and people in its directory, or a
//! private host with accounts and servers of a test's own; the real `ssh` with and without a
//! terminal. It starts real processes and fakes nothing.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod host;
mod lab;
mod process;
mod server;
mod terminal;

pub use host::{Account, Host, PAM, User, possible};
pub use lab::{Lab, Person, lab, repo};
pub use process::{Done, run, run_with};
pub use server::{SOON, Server, Start, Whose, free_port, programs};
pub use terminal::Terminal;
