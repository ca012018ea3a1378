//! What goes wrong between controller, signer and disk. Each is logged with its cause; none ends
//! the program, since the configuration of yesterday is better than none.

use std::io;
use std::path::PathBuf;

use slurm_auth::TokenError;
use slurm_wire::return_code::ReturnCode;
use slurm_wire::{ProtocolVersion, WireError};

/// Why a configuration was not fetched, taken or written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A controller's name is not HOST, HOST:PORT or [V6]:PORT.
    #[error("'{0}' is not a controller's address")]
    Address(String),
    /// No domain has the service.
    #[error("no SRV record _slurmctld._tcp in the domains '{0}'")]
    NoService(String),
    /// No name server answered well.
    #[error("ask for the SRV records '{name}'")]
    Resolver {
        /// What was asked for.
        name: String,
        /// What came of it.
        #[source]
        source: io::Error,
    },
    /// A file that the sandbox was built upon was replaced.
    #[error("start again: a file that names are looked up in was replaced")]
    Outdated,
    /// Network or socket trouble.
    #[error("{doing}")]
    System {
        /// What was being done, with whom.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The other side said something that cannot be read.
    #[error("read the message of '{peer}'")]
    Wire {
        /// Who sent it.
        peer: String,
        /// What is wrong with it.
        #[source]
        source: WireError,
    },
    /// The signer closed without a token.
    #[error("the signer gave no token")]
    NoToken,
    /// No controller spoke any of our versions, or all refused the token.
    #[error("'{0}' refuses the token in every protocol version: is the key right, the clock?")]
    Refused(String),
    /// The controller cannot be asked in this version; try another one.
    #[error("'{server}' does not speak the version of the request")]
    Version {
        /// Which controller.
        server: String,
        /// The version it speaks, where it says so.
        speaks: Option<ProtocolVersion>,
    },
    /// The controller answered with a code.
    #[error("'{server}' answered: {code}")]
    Code {
        /// Which controller.
        server: String,
        /// What it said.
        code: ReturnCode,
    },
    /// All controllers failed; each was logged.
    #[error("none of the controllers gave a configuration")]
    NoServer,
    /// A configuration that must not be installed.
    #[error("refuse the configuration: {0}")]
    Unacceptable(String),
    /// The new directory could not be made or swapped.
    #[error("write '{path}'", path = path.display())]
    Write {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A message that is no push: slurmctld and its nodes use this port for others as well.
    #[error("refuse the push: it is another kind of message")]
    NoPush,
    /// A push that nobody may send.
    #[error("refuse the push: {0}")]
    Push(&'static str),
    /// A request for a bearer token that is not carried out.
    #[error("{0}")]
    Rest(&'static str),
    /// A token cannot be read.
    #[error("refuse the token")]
    PushToken(#[source] TokenError),
}

impl ConfigError {
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

    /// Wraps what is wrong with a peer's bytes.
    pub fn wire(peer: impl Into<String>) -> impl FnOnce(WireError) -> Self {
        let peer = peer.into();
        move |source| Self::Wire { peer, source }
    }
}
