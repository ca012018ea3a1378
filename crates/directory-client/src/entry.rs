//! What libc sees of a user, a group, or a user's groups, with where it comes from: for administrators and
//! their tools. Programs ask libc.

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A user by name or number.
    Passwd,
    /// A group by name or number.
    Group,
    /// The groups of a user, by name.
    Initgroups,
}

/// A record and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What libc sees.
    pub record: Record,
    /// DN of the entry (of a group in normal form), or the path of the local file.
    pub source: String,
}

/// What libc sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// As in passwd(5).
    User {
        /// Login name.
        name: String,
        /// User id.
        uid: u32,
        /// Primary group.
        gid: u32,
        /// Full name and the like.
        gecos: String,
        /// Home directory.
        home: String,
        /// Login shell.
        shell: String,
    },
    /// As in group(5).
    Group {
        /// Name.
        name: String,
        /// Group id.
        gid: u32,
        /// Names of its members.
        members: Vec<String>,
    },
    /// A user's groups without the primary one.
    Groups {
        /// Login name.
        user: String,
        /// Number, name and source of each.
        groups: Vec<(u32, String, String)>,
    },
}
