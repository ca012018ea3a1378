//! Net and session, monitor and session. The session runs as the user: it does what it is asked,
//! since the user could do all of it without being asked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::UserName;
use crate::accept::Endpoints;

/// From the monitor to a session: what the session is to know, in its descriptor 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The account.
    pub user: UserName,
    /// Its home.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: PathBuf,
    /// For `SSH_CLIENT` and `SSH_CONNECTION`.
    pub endpoints: Endpoints,
    /// As in [`crate::monitor::Connection`].
    pub login: String,
    /// What PAM wants in the environment.
    pub pam_env: Vec<(OsString, OsString)>,
    /// Search path of the user's programs.
    pub path: String,
    /// Set if the home has just been made: copy this into it.
    pub skel: Option<PathBuf>,
    /// Programs by subsystem name.
    pub subsystems: BTreeMap<String, String>,
}

/// From net to session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToSession {
    /// Start a program for this channel; answered by [`FromSession::Started`] or
    /// [`FromSession::Refused`].
    Start {
        /// Number of the channel, chosen by net.
        channel: u32,
        /// What to start.
        program: Program,
        /// The terminal, if one was asked for.
        pty: Option<Pty>,
        /// Variables from the client; net has applied the allow-list.
        env: Vec<(String, String)>,
    },
    /// The client's window has changed.
    Resize {
        /// The channel.
        channel: u32,
        /// The new size.
        size: WindowSize,
    },
    /// Deliver a signal, RFC 4254 section 6.9: its name without `SIG`.
    Signal {
        /// The channel.
        channel: u32,
        /// The name.
        name: String,
    },
    /// The channel is gone: hang up its terminal, forget it when its program has ended.
    Closed {
        /// The channel.
        channel: u32,
    },
}

/// What runs on a channel, RFC 4254 section 6.5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Program {
    /// The login shell.
    Shell,
    /// A command line for the login shell, as the client sent it.
    Exec(Vec<u8>),
    /// A subsystem by name.
    Subsystem(String),
}

/// A terminal as the client wants it, RFC 4254 section 6.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pty {
    /// For `TERM`.
    pub term: String,
    /// Its size.
    pub size: WindowSize,
    /// Modes by opcode, RFC 4254 section 8.
    pub modes: Vec<(u8, u32)>,
}

/// Size of a terminal in characters and pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Columns, in characters.
    pub columns: u16,
    /// Rows, in characters.
    pub rows: u16,
    /// Width, in pixels; 0 if unknown.
    pub width: u16,
    /// Height, in pixels; 0 if unknown.
    pub height: u16,
}

/// From session to net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromSession {
    /// The program runs. Descriptors: the terminal's master side, or the program's standard input,
    /// output and error.
    Started {
        /// The channel.
        channel: u32,
    },
    /// It does not.
    Refused {
        /// The channel.
        channel: u32,
        /// Why, for the user's terminal and the log.
        reason: String,
    },
    /// The program has ended.
    Exited {
        /// The channel.
        channel: u32,
        /// How.
        status: ExitStatus,
    },
}

/// How a program ended, RFC 4254 section 6.10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(u32),
    /// By a signal.
    Signal {
        /// Its name without `SIG`.
        name: String,
        /// Whether it dumped core.
        core: bool,
    },
}

/// From the monitor to a session program that only looks for a key: is this key among the user's
/// own? Its exit code is the answer, see [`KEY_FOUND`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyQuestion {
    /// The user's home.
    pub home: PathBuf,
    /// Files of authorised keys, relative to the home unless absolute.
    pub files: Vec<PathBuf>,
    /// The key in SSH wire form.
    pub key: Vec<u8>,
}

/// Exit code of a session program that found the key of a [`KeyQuestion`]; any other is no.
pub const KEY_FOUND: i32 = 33;
