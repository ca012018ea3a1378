//! What the end-to-end tests need of the world: the running lab, people in its directory, the real
//! `ssh` with and without a terminal. It starts real processes and fakes nothing.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod lab;
mod process;
mod terminal;

pub use lab::{Lab, Person, lab, repo};
pub use process::{Done, run, run_with};
pub use terminal::Terminal;
