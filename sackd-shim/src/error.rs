//! Why the signer does not start. Once it serves, problems are logged and answered, not fatal.

use std::io;
use std::path::PathBuf;

use service::config::ConfigError;
use service::{Exit, Failure};
use slurm_auth::{KeyError, TokenError};

/// Why the signer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// A setting that the file's grammar cannot catch.
    #[error("{0}")]
    Setting(String),
    /// Neither slurm.jwks nor slurm.key is there.
    #[error("neither '{jwks}' nor '{key}' is there", jwks = jwks.display(), key = key.display())]
    NoKey {
        /// Where slurm.jwks was looked for.
        jwks: PathBuf,
        /// Where slurm.key was looked for.
        key: PathBuf,
    },
    /// The key file is there but cannot be used.
    #[error("use key '{path}'", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: KeyError,
    },
    /// The file's permissions or size are wrong, or it cannot be read.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The folder of the socket belongs to somebody who could replace the socket.
    #[error("run directory '{path}' belongs to uid {owner}, neither to root nor to SlurmUser", path = path.display())]
    RunDirectory {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A system call at start failed.
    #[error("{doing}")]
    System {
        /// What was being done, to which object.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system-call filter was refused.
    #[error(transparent)]
    Filter(#[from] sys::seccomp::FilterError),
    /// A token made for a test was not good.
    #[error("check a token made with the key itself")]
    SelfTest(#[from] TokenError),
}

impl ShimError {
    /// Wraps what the system said. A socket's time limit, which the system calls "Resource temporarily
    /// unavailable", is called what it is.
    pub fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| {
            let source = match source.kind() {
                io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
                _ => source,
            };
            Self::System { doing, source }
        }
    }

    /// The one problem that a start reports; "check" prints all.
    pub fn first_of(problems: Vec<Self>) -> Self {
        let nothing = || Self::Setting("the configuration cannot be used".to_owned());
        problems.into_iter().next().unwrap_or_else(nothing)
    }

    /// What to do about it, where that is known and the text does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoKey { .. } => Some("name it by 'key-file' or --key-file"),
            Self::Key { source, .. } => Some(match source {
                KeyError::Empty | KeyError::Weak(_) => {
                    "make a new key of 32 random bytes or more, here and on the controller"
                }
                _ => "mend the file, or put the controller's in its place",
            }),
            Self::File(error) => file_hint(error),
            Self::RunDirectory { .. } => Some("give the directory to SlurmUser, mode 0755"),
            Self::SelfTest(_) => {
                Some("is the clock right? Else the keys need one that has not expired")
            }
            Self::Setting(_) | Self::System { .. } | Self::Filter(_) => None,
        }
    }

    /// The exit code for it, with the hint.
    pub fn into_failure(self) -> Failure {
        let exit = match &self {
            Self::Setting(_)
            | Self::NoKey { .. }
            | Self::Key { .. }
            | Self::File(_)
            | Self::SelfTest(_) => Exit::Config,
            Self::RunDirectory { .. } => Exit::Permission,
            Self::System { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Permission
            }
            Self::System { .. } => Exit::Failure,
            Self::Filter(_) => Exit::Software,
        };
        let hint = self.hint();
        let failure = Failure::new(exit, self);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// About the settings and the key alike: the text names the file.
fn file_hint(error: &ConfigError) -> Option<&'static str> {
    Some(match error {
        ConfigError::Read { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => "is the name right, the link whole, the volume mounted?",
            io::ErrorKind::PermissionDenied => {
                "let SlurmUser read it: chown, or a group of its own and mode 0640; folders above it need x"
            }
            _ => "put the controller's file there",
        },
        ConfigError::Readable { .. } => "chmod 0600, or 0640 for a group of its own",
        ConfigError::Writable { .. } => "chmod 0644",
        ConfigError::Empty(_) | ConfigError::TooLarge { .. } => "put the controller's file there",
        ConfigError::Syntax { .. } => "sackd-shim.example.toml shows every setting",
    })
}
