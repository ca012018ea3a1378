//! Keeps the work running: starts it, and starts it again when it ends. Needed because the
//! signer that starts us can start nothing more once its filter is in place.

use std::os::unix::process::ExitStatusExt;
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
    let _ = sys::process::parent_death_signal(Signal::SIGTERM);
    for server in &options.servers {
        crate::address::Controller::parse(server)?;
    }
    let program = std::env::current_exe().map_err(ConfigError::system("find our own program"))?;
    let arguments = ["--work".into()]
        .into_iter()
        .chain(std::env::args_os().skip(1));
    let arguments: Vec<std::ffi::OsString> = arguments.collect();
    let mut wait = Duration::from_secs(1);
    loop {
        let began = Instant::now();
        let environment = std::env::vars_os();
        let ended = Spawn::new(&program)
            .arg0("sackd-shim-config")
            .args(&arguments)
            .env(environment)
            .inherit_stderr()
            .start()
            .and_then(|mut child| child.wait())
            .map_err(ConfigError::system("start the work"))?;
        if began.elapsed() > GOOD_RUN {
            wait = Duration::from_secs(1);
        }
        tracing::error!(
            event = "config.restarting",
            code = ended.code(),
            signal = ended.signal(),
            wait_s = wait.as_secs()
        );
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
