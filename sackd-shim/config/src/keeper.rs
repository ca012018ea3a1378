//! Keeps the work running: starts it, and starts it again when it ends. Needed because the
//! signer that starts us can start nothing more once its filter is in place.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::{ExitStatusExt, parent_id};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sys::spawn::Spawn;

use crate::error::ConfigError;
use crate::options::Options;

/// Longest wait between two starts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A run of this length counts as a success: the next wait is short again.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// Keeps the work running until the signer or the service manager ends us.
///
/// # Errors
/// [`ConfigError::Address`] for a controller that cannot be one; [`ConfigError::System`] if our
/// own program cannot be found.
pub fn run(options: &Options) -> Result<(), ConfigError> {
    if let Some(parent) = options.parent.first().copied() {
        end_with(parent)?;
    }
    for server in &options.servers {
        crate::address::Controller::parse(server)?;
    }
    let orders = std::io::stdin();
    let program = std::env::current_exe().map_err(ConfigError::system("find our own program"))?;
    // Ours before those we were given: of several `--parent`, the first counts.
    let own = std::process::id().to_string();
    let first = ["--work", "--parent", &own].map(OsString::from);
    let arguments: Vec<OsString> = first
        .into_iter()
        .chain(std::env::args_os().skip(1))
        .collect();
    let mut wait = Duration::from_secs(1);
    loop {
        let began = Instant::now();
        let environment = std::env::vars_os();
        // The signer's orders come in on standard input.
        let orders = orders.as_fd().try_clone_to_owned();
        let orders = orders.map_err(ConfigError::system("hand standard input on"))?;
        let ended = Spawn::new(&program)
            .arg0("sackd-shim-config")
            .args(&arguments)
            .env(environment)
            .fd(0, orders)
            .inherit_stderr()
            .start()
            .and_then(|mut child| child.wait());
        if began.elapsed() > GOOD_RUN {
            wait = Duration::from_secs(1);
        }
        let wait_s = wait.as_secs();
        match ended {
            // The signer has ended, and the work with its orders.
            Ok(ended) if ended.code() == Some(0) => return Ok(()),
            Ok(ended) => tracing::error!(
                event = "config.restarting",
                code = ended.code(),
                signal = ended.signal(),
                wait_s
            ),
            // No process or memory is left, for the moment.
            Err(error) => tracing::error!(event = "config.not_started", %error, wait_s),
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Ends this process when its parent does, and at once if the parent has ended already.
///
/// # Errors
/// [`ConfigError::System`].
pub fn end_with(parent: u32) -> Result<(), ConfigError> {
    sys::process::parent_death_signal(Signal::SIGTERM)
        .map_err(ConfigError::system("ask to end with our parent"))?;
    if parent_id() == parent {
        return Ok(());
    }
    Err(ConfigError::System {
        doing: format!("find our parent, process {parent}"),
        source: std::io::ErrorKind::NotFound.into(),
    })
}
