//! `login-gateway-net`: one SSH connection. It reads what any host on the network sends, so it runs
//! with no rights: no capability, an empty root folder, a list of system calls without `open`,
//! `socket`, `connect` or `execve`.
//!
//! **Invariant:** it decides nothing about who may log in; it asks the monitor.
#![forbid(unsafe_code)]

mod activity;
mod authentication;
#[cfg(feature = "captured")]
mod captured;
mod certificate;
mod channel;
mod connection;
mod crypto;
mod flow;
mod forward;
mod greeting;
mod growing_reader;
mod host_certificate;
mod host_key;
mod inbox;
mod listeners;
mod meter;
mod monitor_link;
mod pause;
mod pieces;
mod program;
mod prompt_stream;
mod recording;
mod sandbox;
mod seqpacket;
mod session_channels;
mod session_link;
mod window;

use std::ffi::OsStr;
use std::process::ExitCode;
use std::sync::Arc;

use gateway_wire::Settings;
use gateway_wire::settings::MAX_BANNER;
use russh::server::Config;
use service::{Exit, Failure};
use tokio::runtime::Runtime;

/// Descriptor of the socket to the monitor.
const MONITOR: i32 = 3;
/// Bytes that this process may keep out of swap: key buffers, a few pages each.
const LOCKED_MEMORY: u64 = 4 << 20;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    service::run("login-gateway-net", || match arguments.as_slice() {
        [command, path] if command == "generate-host-key" => {
            Ok(host_key::generate(path.as_ref(), OsStr::new("ed25519"))?)
        }
        [command, path, kind] if command == "generate-host-key" => {
            Ok(host_key::generate(path.as_ref(), kind)?)
        }
        [command, path] if command == "check-host-key" => Ok(host_key::check(path.as_ref())?),
        [command] if command == "read-certificate" => certificate::read(),
        [command, path, keys @ ..] if command == "check-host-certificate" => {
            Ok(host_certificate::check(path.as_ref(), keys)?)
        }
        [] => serve(),
        _ => Err(Failure::new(
            Exit::Usage,
            "this program is started by login-gateway-monitor",
        )),
    })
}

fn serve() -> Result<(), Failure> {
    let started =
        |e| Failure::new(Exit::Usage, e).hint("this program is started by login-gateway-monitor");
    let monitor = sys::fds::take_inherited(MONITOR).map_err(started)?;
    match prepare() {
        Ok(ready) => {
            let serving = connection::serve(monitor, ready.settings, ready.config, ready.banner);
            ready.runtime.block_on(serving)?;
            // Tasks may still wait for a program that outlives the connection; the process ends here.
            ready.runtime.shutdown_background();
            Ok(())
        }
        Err(failure) => {
            // The monitor ends this process when the socket closes: not before the reason is told.
            std::mem::forget(monitor);
            Err(failure)
        }
    }
}

/// What a connection is served with.
struct Prepared {
    settings: Settings,
    config: Arc<Config>,
    banner: Option<String>,
    runtime: Runtime,
}

/// All that needs a right, then the sandbox.
fn prepare() -> Result<Prepared, Failure> {
    let settings = sys::fds::read_shared(&std::io::stdin(), gateway_wire::MAX_MESSAGE)?;
    let settings: Settings = gateway_wire::decode(&settings)?;
    let identity = host_key::Identity::load(&settings)?;
    let config = Arc::new(crypto::server_config(&settings, identity));
    // russh locks buffers with keys in memory, and says nothing where that fails (T17).
    sys::process::allow_locked_memory(LOCKED_MEMORY);
    // What is wrong with it, the listener has said when it started.
    let banner = settings.banner.as_deref();
    let banner = banner
        .and_then(|path| service::config::read_text(path, MAX_BANNER).ok())
        .map(|(text, _)| text)
        .filter(|text| !text.is_empty());
    // The runtime's descriptors are made before the filter, which knows no call to make them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(4)
        .build()?;
    sandbox::enter(&settings)?;
    #[cfg(feature = "captured")]
    captured::report();
    Ok(Prepared {
        settings,
        config,
        banner,
        runtime,
    })
}
