//! The administrator's commands and the listener, over the Unix socket `control-socket`: one request
//! and one answer for each connection, both JSON, each ended by the end of the stream. The socket is
//! root's, so nothing here is a stranger's.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::UserName;
use crate::monitor::Line;

/// Largest request in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;
/// Largest answer that is read, in bytes.
pub const MAX_ANSWER: u64 = 64 << 20;

/// What an administrator wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// [`Answer::Status`].
    Status,
    /// [`Answer::Sessions`].
    Sessions,
    /// Show words on terminals.
    Message {
        /// Whose.
        to: Whom,
        /// The words.
        text: String,
    },
    /// End connections. Logged-in clients are told the words.
    Kick {
        /// Whose.
        to: Whom,
        /// The words.
        text: String,
    },
    /// Take no more logins, and end with the last one.
    Drain {
        /// When those that are left are ended, from now; `None`: never.
        within: Option<Duration>,
        /// Why, for the people on the terminals. Empty: no reason is given.
        reason: String,
    },
    /// Take logins again.
    CancelDrain,
}

/// Connections that a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    /// All of them.
    All,
    /// Those of a user.
    User(UserName),
    /// One, by its name in every log line.
    Login(String),
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// State and numbers.
    Status(Status),
    /// All connections, the oldest first.
    Sessions(Vec<Connected>),
    /// It was done, for so many connections.
    Done(usize),
    /// Words are on their way to so many terminals.
    Told {
        /// Logins that were meant and could be told.
        logins: usize,
        /// Terminals that these have.
        terminals: usize,
    },
    /// It was not understood.
    Refused(String),
}

/// State and numbers of a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// "serving", "draining" or "ending".
    pub state: String,
    /// Whether new logins are taken: accept runs and nothing stops them.
    pub ready: bool,
    /// When logins that are left are ended, in seconds since the epoch.
    pub ends: Option<u64>,
    /// Version of the running program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Addresses on which SSH is served, with their real ports.
    pub listen: Vec<SocketAddr>,
    /// Connections that have not yet authenticated.
    pub startups: usize,
    /// Authenticated connections.
    pub logins: usize,
    /// Processes that wait for a connection.
    pub warm: usize,
    /// Connections taken since the service started, reloads included.
    pub connections_total: u64,
    /// Logins since then.
    pub logins_total: u64,
    /// Connections closed because `max-startups` was reached.
    pub refused_total: u64,
    /// What memory that runs out does, for people.
    #[serde(default)]
    pub memory: String,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connected {
    /// Its name in every log line.
    pub login: String,
    /// Who it is, once authenticated.
    pub user: Option<UserName>,
    /// The client's address.
    pub source: SocketAddr,
    /// When it was opened, in seconds since the epoch.
    pub opened: u64,
    /// Its monitor's process.
    pub pid: i32,
    /// N of each `/dev/pts/N` that it has.
    pub terminals: Vec<u32>,
    /// How it is reached.
    #[serde(default)]
    pub line: Line,
}
