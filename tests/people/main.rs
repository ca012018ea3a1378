//! What people find when they log in to our gateway: environment, greeting, rc, login records,
//! banner. Where Debian's sshd does the same, `tests/compliance` holds the two side by side.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod cgroup;
mod greeting;
mod motd_slurm;
mod program;
mod records;
mod slurm;
mod view;

use std::sync::OnceLock;

use tests::{Host, possible};

/// The host of all cases; `None` where there can be none.
fn host(test: &str) -> Option<&'static Host> {
    static HOST: OnceLock<Host> = OnceLock::new();
    possible(test).then(|| HOST.get_or_init(Host::start))
}
