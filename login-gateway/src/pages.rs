//! What is printed and nothing else: manual pages, an example, completions.

use std::io::{self, Write};

use clap::CommandFactory;
use service::Failure;

use crate::arguments::Arguments;
use crate::manual;

/// Prints a manual page in roff: login-gateway(8) or login-gateway.toml(5).
pub fn man(section: u8) -> Result<(), Failure> {
    print(&match section {
        5 => manual::file::page()?,
        _ => manual::program::page()?,
    })
}

/// Prints every key with its meaning and its default, as a configuration file.
pub fn example() -> Result<(), Failure> {
    print(manual::example::text()?.as_bytes())
}

/// Prints a completion script.
pub fn completion(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut Arguments::command(),
        "login-gateway",
        &mut script,
    );
    print(&script)
}

/// A reader that has seen enough is no failure.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
