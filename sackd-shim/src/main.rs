//! `sackd-shim`, the signer: answers SACK requests of local users with tokens of the cluster key.
//! It never opens a network socket; the configuration is fetched by its child, `sackd-shim-config`.
#![forbid(unsafe_code)]

mod access;
mod admission;
mod ask;
mod audit;
mod check;
mod child;
mod clock;
mod config;
mod connection;
mod detach;
mod error;
mod file;
mod filter;
mod identity;
mod keys;
mod metrics;
mod nscd;
mod options;
mod origin;
mod pace;
mod page;
mod policy;
mod privileges;
mod readiness;
mod reload;
mod server;
mod signer;
mod socket;
mod stamp;
mod status;
mod tally;
mod token;

use std::process::ExitCode;

use service::{Exit, Failure};

use crate::options::{Command, Options, is_sackd};

fn main() -> ExitCode {
    let options = match Options::from_command_line() {
        Ok(options) => options,
        Err(exit) => return exit,
    };
    let program = if is_sackd() { "sackd" } else { "sackd-shim" };
    service::run(program, move || {
        // sackd knows one code for everything that goes wrong.
        run(&options).map_err(|failure| match is_sackd() {
            true => failure.with_exit(Exit::Failure),
            false => failure,
        })
    })
}

fn run(options: &Options) -> Result<(), Failure> {
    service::log::init(&options.log_args());
    if let Some(command) = &options.command {
        return instead(command, options);
    }
    options.check().map_err(error::ShimError::into_failure)?;
    if is_sackd() && !options.foreground && !options.systemd {
        return detach::run();
    }
    serve(options).map_err(error::ShimError::into_failure)
}

fn instead(command: &Command, options: &Options) -> Result<(), Failure> {
    match command {
        Command::Check { json } => check::run(options, *json),
        Command::Status { json } => status::run(options, *json),
        Command::Token { lifespan, run_dir } => token::run(*lifespan, run_dir),
        Command::Man => page::man(),
        Command::Completion { shell } => page::completion(*shell),
    }
}

fn serve(options: &Options) -> Result<(), error::ShimError> {
    let settings = config::Settings::load(options).map_err(error::ShimError::first_of)?;
    settings.report();
    privileges::drop(&settings)?;
    // Keys before sockets: a signer that cannot sign takes no socket from one that can.
    let signers = signer::Signer::of_all(&settings)?;
    let mut listeners = Vec::new();
    for cluster in &settings.clusters {
        listeners.push(socket::listen(&cluster.run_dir, &settings.slurm_user)?);
    }
    // From here on signals are read, not handled; children and threads come after the mask.
    let signals = server::signals()?;
    let mut desks = Vec::new();
    let listeners = listeners.into_iter().zip(signers);
    for (((listener, place), signer), cluster) in listeners.zip(&settings.clusters) {
        let config = child::start(&settings, cluster, &options.log_args())?;
        desks.push(server::Desk {
            listener,
            place,
            found: socket::Found::Ours,
            signer,
            config,
        });
    }
    let status = status::listen(&settings.main().run_dir)?;
    // Children are started, folders are written: from here on every thread goes without.
    filter::give_up_files_and_network()?;
    let metrics = metrics::Metrics::new(desks.len());
    status::start(status, metrics.clone())?;
    let identities = identity::Identities::start()?;
    service::log::write_in_background()
        .map_err(error::ShimError::system("start the thread of the log"))?;
    server::be_quick();
    filter::enter()?;
    service::ready();
    detach::ready();
    server::Server::new(desks, signals, identities, metrics, options, settings)?.run()?;
    service::ready::stopping();
    Ok(())
}
