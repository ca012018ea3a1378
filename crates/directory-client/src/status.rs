//! How the directory daemon is: for readiness, `status` and tests.
//!
//! Numbers only; the metrics format belongs to whoever publishes them.

use std::time::Duration;

/// The daemon's own view of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// True once a whole replica is held (from the server or from disk): only then is a missing
    /// name "not found".
    pub complete: bool,
    /// True if a user was found just now the way libc finds users: over the daemon's own socket.
    pub resolves: bool,
    /// Time since the directory server last confirmed the whole replica; absent if it never did.
    pub age: Option<Duration>,
    /// Count of map generations published since start.
    pub generation: u64,
    /// Directory users served.
    pub users: u64,
    /// Directory groups served.
    pub groups: u64,
    /// Users from `/etc/passwd` served.
    pub local_users: u64,
    /// Groups from `/etc/group` served.
    pub local_groups: u64,
    /// Directory entries refused (duplicate, forbidden or invalid).
    pub refused: u64,
    /// URI of the connected directory server; empty while there is none.
    pub server: String,
    /// Why there is no connection, or why the last refresh failed; empty if all is well.
    pub problem: String,
    /// How many passwords are kept for when no server answers; absent where none are to be.
    pub offline_passwords: Option<u64>,
    /// What is wrong with those; empty if nothing is.
    pub offline_problem: String,
    /// Each domain; the only one has an empty name.
    pub domains: Vec<Domain>,
}

/// How it is with one domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// True once all of it is held.
    pub complete: bool,
    /// As in [`Status`].
    pub age: Option<Duration>,
    /// User entries read, served or not.
    pub users: u64,
    /// Group entries read.
    pub groups: u64,
    /// The server tells of changes as they happen.
    pub following: bool,
    /// URI of the connected server; empty while there is none.
    pub server: String,
    /// What is wrong; empty if nothing is.
    pub problem: String,
}
