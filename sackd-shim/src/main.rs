//! `sackd-shim`, the signer: answers SACK requests of local users with tokens of the cluster key.
//! It never opens a network socket; the configuration is fetched by its child, `sackd-shim-config`.
#![forbid(unsafe_code)]

mod admission;
mod audit;
mod check;
mod child;
mod config;
mod connection;
mod error;
mod filter;
mod identity;
mod keys;
mod nscd;
mod options;
mod policy;
mod privileges;
mod server;
mod signer;
mod socket;
mod stamp;
mod tally;

use std::process::ExitCode;

use service::Failure;

fn main() -> ExitCode {
    let options = match options::Options::from_command_line() {
        Ok(options) => options,
        Err(exit) => return exit,
    };
    service::run("sackd-shim", move || run(&options))
}

fn run(options: &options::Options) -> Result<(), Failure> {
    service::log::init(&options.log_args());
    if options.is_check() {
        return check::run(options);
    }
    serve(options).map_err(error::ShimError::into_failure)
}

fn serve(options: &options::Options) -> Result<(), error::ShimError> {
    let settings = config::Settings::load(options).map_err(error::ShimError::first_of)?;
    settings.report();
    privileges::drop(&settings)?;
    let keys = keys::Keys::load(settings.key.clone())?;
    let policy = policy::Policy::new(&settings);
    let signer = signer::Signer::new(keys, policy)?;
    let listener = socket::listen(&settings)?;
    // From here on signals are read, not handled; the child and the threads come after the mask.
    let signals = server::signals()?;
    child::start(&settings, &options.log_args())?;
    let identities = identity::Identities::start()?;
    filter::enter()?;
    service::ready();
    server::Server::new(listener, signals, identities, signer, settings.limits).run()?;
    service::ready::stopping();
    Ok(())
}
