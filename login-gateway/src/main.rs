//! `login-gateway`, the listener: it starts accept and monitors, gives each connection to a monitor
//! of its own, and keeps count. It is root, so it does little: no runtime, no threads.
//!
//! **Invariant:** it reads fixed records of its own children and its configuration, nothing that a
//! client sent.
#![forbid(unsafe_code)]

mod accept_child;
mod arguments;
mod backoff;
mod check;
mod config;
mod control;
mod control_group;
mod dev;
mod doors;
mod gateway;
mod host_keys;
mod import;
mod inetd;
mod login_records;
mod manual;
mod monitors;
mod out_of_memory;
mod pages;
mod penalties;
mod programs;
mod reexec;
mod replay;
mod sessions;
mod sockets;
mod stopping;
mod why;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use gateway::Gateway;
use service::{Exit, Failure};

fn main() -> ExitCode {
    let arguments = match arguments::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    service::run("login-gateway", || match &arguments.command {
        None | Some(Command::Serve) => serve(&arguments),
        Some(Command::Check(options)) => check::run(arguments.config(), options),
        Some(Command::Sessions(options)) => sessions::sessions(&arguments, options),
        Some(Command::Status(options)) => sessions::status(&arguments, options.json),
        Some(Command::Drain(options)) => sessions::drain(&arguments, options),
        Some(Command::Why(options)) => why::run(&arguments, options),
        Some(Command::Replay(options)) => replay::run(options),
        Some(Command::GenerateHostKeys) => host_keys::generate(arguments.config()),
        Some(Command::ImportSshdConfig(options)) => import::run(options),
        Some(Command::Inetd(options)) => inetd::run(options, &arguments),
        Some(Command::Dev(options)) => dev::run(options, &arguments),
        Some(Command::ExampleConfig) => pages::example(),
        Some(Command::Man { section }) => pages::man(if section == "5" { 5 } else { 8 }),
        Some(Command::Completion { shell }) => pages::completion(*shell),
    })
}

fn serve(arguments: &Arguments) -> Result<(), Failure> {
    service::log::init(&arguments.log);
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(Exit::Permission, "serving logins needs root")
            .hint("to try it as yourself, run \"login-gateway dev\""));
    }
    let resumed = reexec::resume()?;
    let settings = match &resumed {
        None => config::load_sound(arguments.config()).map_err(config::Unsound::failure)?,
        // Whoever is logged in must not suffer from a file that changed in the last instant.
        Some(resumed) => config::load_sound(arguments.config()).unwrap_or_else(|error| {
            tracing::error!(event = "reload.failed", %error, "going on with the last settings");
            resumed.settings.clone()
        }),
    };
    let programs = programs::Programs::find(&arguments.log)?;
    let reload = reexec::Reload::Config(arguments.config().into());
    Ok(Gateway::start(settings, programs, reload, resumed)?.run()?)
}
