//! How a daemon starts and stops: configuration file, secrets, logging, error chain, exit codes,
//! readiness. What a daemon does in between does not live here, and no kernel call that needs
//! `unsafe` (those are in `sys`).
#![forbid(unsafe_code)]

pub mod config;
pub mod exit;
pub mod log;
pub mod ready;
pub mod regular_file;
pub mod secret;
pub mod trusted_program;

pub use exit::{Exit, Failure, run};
pub use ready::ready;
pub use secret::Secret;

use std::io;
use std::path::PathBuf;

/// The path of another program of this project: it lies beside the running one.
///
/// `/proc/self/exe` is resolved first, so a symbolic link in `/usr/sbin` leads to the folder where
/// all programs are.
///
/// # Errors
/// If `/proc/self/exe` cannot be read.
pub fn sibling(name: &str) -> io::Result<PathBuf> {
    let mut path = std::env::current_exe()?;
    path.set_file_name(name);
    Ok(path)
}
