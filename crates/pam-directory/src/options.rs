//! The module's arguments in a PAM file.
//!
//! `use_first_pass`, `try_first_pass`, `use_authtok` and `authtok_type=` are libpam's own, read where it
//! asks for passwords.

use std::{path::PathBuf, time::Duration};

use directory_client::Client;

/// The arguments with their defaults. Unknown ones are ignored, so that an older module does not shut out
/// everybody.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// `socket=PATH`: directoryd's control socket.
    pub socket: PathBuf,
    /// `timeout=SECONDS`: how long the directory server may take to confirm an account.
    pub timeout: Duration,
    /// `quiet`: say nothing to the user about why an account is closed.
    pub quiet: bool,
}

impl Options {
    /// Reads them.
    pub fn parse(arguments: &[String]) -> Self {
        let mut options = Self {
            socket: Client::DEFAULT_PATH.into(),
            timeout: Duration::from_secs(2),
            quiet: false,
        };
        for argument in arguments {
            match argument.split_once('=') {
                Some(("socket", path)) => options.socket = path.into(),
                Some(("timeout", text)) => {
                    if let Ok(seconds @ 0..=30) = text.parse() {
                        options.timeout = Duration::from_secs(seconds);
                    }
                }
                None if argument == "quiet" => options.quiet = true,
                _ => {}
            }
        }
        options
    }
}
