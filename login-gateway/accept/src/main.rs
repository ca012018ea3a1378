//! `login-gateway-accept`: takes connections from any host, reads the PROXY header and nothing
//! after it, passes sockets to the listener, and answers health checks. One thread, no rights.
//!
//! **Invariant:** no byte of an SSH connection is read here.
#![forbid(unsafe_code)]

#[cfg(feature = "captured")]
mod captured;
mod health_check;
mod link;
mod pending;
mod refusal;
mod sandbox;
mod server;

use std::net::TcpListener;
use std::process::ExitCode;

use clap::Parser;
use gateway_wire::Settings;
use service::{Exit, Failure};

/// Started by login-gateway: descriptor 0 holds the settings, 3 is the listener's socket, and the
/// listening sockets follow.
#[derive(Debug, Parser)]
#[command(name = "login-gateway-accept", version)]
struct Arguments {
    /// Listening sockets for SSH, from descriptor 4 on.
    #[arg(long)]
    listeners: u16,
    /// Listening sockets for health checks, after those.
    #[arg(long)]
    health: u16,
    #[command(flatten)]
    log: service::log::LogArgs,
}

/// Descriptor of the listener's socket; listening sockets follow.
const LINK: i32 = 3;

fn main() -> ExitCode {
    service::run("login-gateway-accept", || {
        let arguments = Arguments::parse();
        service::log::init(&arguments.log);
        let first = LINK + 1;
        let link = link::Link::new(inherited(LINK)?)?;
        let health = first + i32::from(arguments.listeners);
        let ssh = listeners(first, arguments.listeners)?;
        let health = listeners(health, arguments.health)?;
        let settings = sys::fds::read_shared(&std::io::stdin(), gateway_wire::MAX_MESSAGE)?;
        let settings: Settings = gateway_wire::decode(&settings)?;
        sandbox::enter(&settings)?;
        #[cfg(feature = "captured")]
        captured::report();
        Ok(server::Server::new(link, ssh, health, settings.proxy_protocol).run()?)
    })
}

fn inherited(number: i32) -> Result<std::os::fd::OwnedFd, Failure> {
    sys::fds::take_inherited(number)
        .map_err(|e| Failure::new(Exit::Usage, e).hint("this program is started by login-gateway"))
}

fn listeners(first: i32, count: u16) -> Result<Vec<TcpListener>, Failure> {
    let listener = |at| {
        let listener = TcpListener::from(inherited(first + i32::from(at))?);
        // A process before and after this one may accept from the same socket.
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    (0..count).map(listener).collect()
}
