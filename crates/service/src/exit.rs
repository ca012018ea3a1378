//! How a program ends: named exit codes, one error chain printed once, a hint on the second line.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Exit codes, as `sysexits.h` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something failed that is not one of the below.
    Failure = 1,
    /// The command line is wrong.
    Usage = 64,
    /// A fault of ours.
    Software = 70,
    /// The operation needs a right that the caller does not have.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
    /// The connection failed, as ssh(1) says it.
    Connection = 255,
}

/// Why a program ends early: the exit code, the cause, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    cause: Box<dyn Error>,
    hint: Option<String>,
}

impl Failure {
    /// A failure with this exit code and cause.
    pub fn new(exit: Exit, cause: impl Into<Box<dyn Error>>) -> Self {
        Self {
            exit,
            cause: cause.into(),
            hint: None,
        }
    }

    /// The same failure with another exit code, for a program that stands in for another one.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Adds the sentence that tells the reader what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(cause: E) -> Self {
        let exit = if (&cause as &dyn Error).is::<crate::config::ConfigError>() {
            Exit::Config
        } else {
            Exit::Failure
        };
        Self::new(exit, cause)
    }
}

/// The text of an error and of everything that caused it, joined by `: `.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

/// Runs a program's `main`: a panic is logged and aborts, a failure is printed as
/// `program: message: cause` with its hint below, and becomes the exit code.
pub fn run(program: &str, main: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    let name = program.to_owned();
    std::panic::set_hook(Box::new(move |info| {
        // Aborting keeps a half-finished privileged step from going on in another state.
        crate::log::flush();
        eprintln!("{name}: internal error: {info}");
        std::process::abort();
    }));
    let ended = main();
    crate::log::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {}", chain(failure.cause.as_ref()));
            if let Some(hint) = failure.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_each_cause_once() {
        let error = crate::config::ConfigError::Read {
            path: "/etc/x".into(),
            source: std::io::Error::other("gone"),
        };
        assert_eq!(chain(&error), "read '/etc/x': gone");
    }

    #[test]
    fn a_config_error_exits_with_78() {
        let failure = Failure::from(crate::config::ConfigError::Empty("/etc/x".into()));
        assert_eq!(failure.exit, Exit::Config);
    }
}
