//! What can go wrong between a program and the directory daemon.
//!
//! "Not found" and "unavailable" are answers, not errors: see [`crate::Lookup`].

use std::{error::Error, fmt, io, path::PathBuf};

/// Why the daemon gave no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket could not be reached: no daemon, or no permission on the path.
    Connect {
        /// The control socket.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The answer did not arrive in time.
    Deadline {
        /// The control socket.
        path: PathBuf,
    },
    /// The connection broke in mid-talk.
    Talk {
        /// The control socket.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The daemon does not serve this peer.
    Denied {
        /// The control socket.
        path: PathBuf,
    },
    /// The bytes of the answer make no sense.
    Malformed {
        /// The control socket.
        path: PathBuf,
        /// What is wrong with them.
        source: crate::codec::CodecError,
    },
    /// The daemon understood and failed; the text is for a log.
    Daemon(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { path, .. } => {
                write!(f, "connect to directory daemon at '{}'", path.display())
            }
            Self::Deadline { path } => {
                write!(
                    f,
                    "directory daemon at '{}' did not answer in time",
                    path.display()
                )
            }
            Self::Talk { path, .. } => {
                write!(f, "talk to directory daemon at '{}'", path.display())
            }
            Self::Denied { path } => {
                write!(
                    f,
                    "directory daemon at '{}' does not serve this user",
                    path.display()
                )
            }
            Self::Malformed { path, .. } => {
                write!(f, "answer of directory daemon at '{}'", path.display())
            }
            Self::Daemon(reason) => write!(f, "directory daemon: {reason}"),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Talk { source, .. } => Some(source),
            Self::Malformed { source, .. } => Some(source),
            Self::Deadline { .. } | Self::Denied { .. } | Self::Daemon(_) => None,
        }
    }
}
