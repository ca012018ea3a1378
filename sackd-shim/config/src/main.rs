//! `sackd-shim-config`: fetches Slurm's configuration, keeps it whole in the run directory and
//! takes pushed changes. It holds no key: tokens come from the signer's socket, as any client's.
#![forbid(unsafe_code)]

mod address;
mod cache;
mod crowd;
mod error;
mod exchange;
mod fetch;
mod hush;
mod keeper;
mod metrics;
mod options;
mod ping;
mod push;
mod report;
mod rest;
mod sack;
mod sandbox;
mod srv;
mod worker;

use std::process::ExitCode;

use service::Failure;

use crate::options::{Command, Options};

fn main() -> ExitCode {
    let options = match Options::from_command_line() {
        Ok(options) => options,
        Err(exit) => return exit,
    };
    service::run("sackd-shim-config", move || run(&options))
}

fn run(options: &Options) -> Result<(), Failure> {
    service::log::init(&options.log);
    sys::process::no_new_privs()?;
    match &options.command {
        Some(Command::Ping { servers }) => ping::run(servers),
        None if options.work => Ok(worker::run(options)?),
        None => Ok(keeper::run(options)?),
    }
}
