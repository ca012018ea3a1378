//! The man page and completions, made from the command line's definition for the image's build.

use std::io::{self, Write};

use clap::CommandFactory;
use service::Failure;

use crate::arguments::Arguments;

/// Prints login-gateway(8) in roff.
pub fn man() -> Result<(), Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .section("8")
        .render(&mut page)?;
    print(&page)
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
