//! `login-gateway-session`: runs as the user, and does what the user could do without it: start
//! shells and commands, and read the user's own files.
//!
//! **Invariant:** it holds no secret and no right that the user's shell does not have.
#![forbid(unsafe_code)]

mod auth_file;
mod command;
mod display;
mod environment;
mod files;
mod forwards;
mod greeting;
mod keepers;
mod kept;
mod key_files;
mod oom;
mod permitted;
mod programs;
mod rc;
mod record;
mod skel;
mod stage;
mod start;
mod terminal_modes;

use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use gateway_wire::MAX_MESSAGE;
use gateway_wire::session::{KeyQuestion, Setup};
use nix::sys::signal::Signal;
use service::{Exit, Failure};
use sys::signals::Signals;

use crate::record::Record;

/// Descriptor of the socket to net.
const NET: i32 = 3;
/// Descriptor of the socket to the monitor.
const RECORD: i32 = 4;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    service::run("login-gateway-session", || match arguments.as_slice() {
        [command] if command == "find-key" => find_key(),
        [command] if command == "stage" => stage::run(),
        [command] if command == "keep" => kept::keeper::run(),
        // What follows `serve` is room for the title in ps.
        [command, ..] if command == "serve" => serve(),
        _ => Err(Failure::new(
            Exit::Usage,
            "this program is started by login-gateway-monitor",
        )),
    })
}

fn serve() -> Result<(), Failure> {
    // Before the next line: the file is root's after it.
    if let Err(error) = oom::yield_to_the_service() {
        eprintln!("warn: raise oom_score_adj: {error}");
    }
    // Other programs of the user must not speak in this one's place.
    nix::sys::prctl::set_dumpable(false)?;
    let net = sys::fds::take_inherited(NET)?;
    let record = Arc::new(Record::new(sys::fds::take_inherited(RECORD)?));
    let setup = sys::fds::read_shared(&std::io::stdin(), MAX_MESSAGE)?;
    let setup: Setup = gateway_wire::decode(&setup)?;
    let signals = Signals::of(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP])?;
    let _ = sys::process::set_title(&format!("login-gateway-session: {}", setup.user));
    if let Some(skel) = &setup.skel
        && let Err(error) = skel::copy(skel, &setup.home)
    {
        eprintln!("warn: {}", service::exit::chain(&error));
    }
    Ok(programs::serve(net.as_fd(), &signals, &setup, record)?)
}

fn find_key() -> Result<(), Failure> {
    // Other processes of the user must not answer in this one's place.
    sys::process::no_dump()?;
    let question = sys::fds::read_shared(&std::io::stdin(), MAX_MESSAGE)?;
    let question: KeyQuestion = gateway_wire::decode(&question)?;
    let answer = key_files::answer(&question);
    std::io::stdout().write_all(&gateway_wire::encode(&answer)?)?;
    Ok(())
}
