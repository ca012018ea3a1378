//! A directory user as a login needs it, and the three results a look-up can have.
//!
//! No I/O and no policy: whether an old answer or a locked account is good enough is the caller's.

use std::time::Duration;

/// The result of a look-up. The last two are kept apart on purpose: a user must not vanish because
/// the directory server did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// The entry exists.
    Found(T),
    /// The entry does not exist; said only by a daemon that holds the whole directory.
    NotFound,
    /// It is not known whether the entry exists.
    Unavailable,
}

impl<T> Lookup<T> {
    /// The entry, if there is one.
    pub fn found(self) -> Option<T> {
        match self {
            Lookup::Found(entry) => Some(entry),
            Lookup::NotFound | Lookup::Unavailable => None,
        }
    }
}

/// Whether the directory lets this account in at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountState {
    /// Nothing stands against a login.
    Active,
    /// Locked by an administrator or by the password policy (`pwdAccountLockedTime`, a `shadowExpire`
    /// of 0 or 1, or `nsAccountLock`).
    Locked,
    /// Past its end (`shadowExpire`, days since 1970-01-01; `pwdEndTime`).
    Expired,
    /// Not yet begun (`pwdStartTime`).
    NotYet,
    /// The login shell is one that refuses logins (`nologin`, `false`).
    NoLogin,
    /// Not now: outside the hours the directory allows (`logonHours`).
    Hours,
    /// This service does not let the account in: a rule about users, groups, hosts or services.
    Denied,
}

/// One directory user. Local users (`/etc/passwd`) are never reported here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name, as the directory spells it.
    pub name: String,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric id of the primary group.
    pub gid: u32,
    /// Full name and the like.
    pub gecos: String,
    /// Home directory, absolute.
    pub home: String,
    /// Login shell, absolute.
    pub shell: String,
    /// Every group of the user, the primary group first (with an empty name where no group has its
    /// number), the others by number.
    pub groups: Vec<(u32, String)>,
    /// Public keys as `type base64`, without options and comment. A stored key with options is left
    /// out: dropping `from=` or `command=` would grant more than was written.
    pub ssh_keys: Vec<String>,
    /// Whether the directory lets this account in.
    pub state: AccountState,
    /// Time since the directory server confirmed this entry.
    pub age: Duration,
    /// True if the directory server confirmed it for this very request.
    pub fresh: bool,
}
