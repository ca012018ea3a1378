//! `login-gateway-monitor`: the authority over one connection. Runs as root, single-threaded and
//! blocking, since PAM modules act on the process that calls them.
//!
//! **Invariant:** it never parses SSH packets. From net it takes one closed set of messages, from
//! the user's side only exit codes.
#![forbid(unsafe_code)]

mod account;
mod acts;
mod authentication;
mod child;
mod connection;
mod home;
mod key;
mod key_command;
mod limits;
mod link;
mod local_account;
mod login_records;
mod net_process;
mod recordings;
mod relay;
mod terminals;
mod trace;
mod trusted_file;
mod user_group;
mod user_session;
mod view;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use gateway_wire::{MAX_MESSAGE, Settings};
use nix::sys::signal::Signal;
use service::{Exit, Failure};
use sys::signals::Signals;

use crate::connection::Monitor;
use crate::link::Link;
use crate::net_process::NetProcess;

/// Descriptor of the socket to the listener.
const LISTENER: i32 = 3;

fn main() -> ExitCode {
    service::run("login-gateway-monitor", || {
        let listener = sys::fds::take_inherited(LISTENER).map_err(|e| {
            Failure::new(Exit::Usage, e).hint("this program is started by login-gateway")
        })?;
        service::log::init_from_env();
        let settings = sys::fds::read_shared(&std::io::stdin(), MAX_MESSAGE)?;
        let settings: Settings = gateway_wire::decode(&settings)?;
        let signals = Signals::of(&[Signal::SIGCHLD, Signal::SIGTERM])?;
        let net = NetProcess::start()?;
        let link = Rc::new(RefCell::new(Link {
            listener,
            signals,
            net,
        }));
        Ok(Monitor { settings, link }.run()?)
    })
}
