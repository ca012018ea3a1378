//! The only room that speaks LDAP: connections, searches, and what entries mean.
//!
//! The library (`ldap3`) is used behind a link of our own ([`ldap_link`]) and through one search function
//! ([`search`]), where its limits are made good: total deadlines, sizes, paging, no referrals.

mod advice;
mod bind;
mod connection;
mod dns;
pub mod entry;
mod feed;
mod look_up;
pub mod names;
mod policy;
mod primary;
mod search;
mod servers;
mod session;
mod sync_info;

pub use advice::told;
pub use bind::{Bound, Changed, ask, change};
pub use feed::Feed;
pub use ldap_link::{Identity, LinkError, Server, Trust, trust};
pub use look_up::Found;
pub use policy::{Policy, PolicyError};
pub use search::Entry;
pub use servers::{Servers, check as check_uri};
pub use session::Session;

/// Whether a text is a search filter in parentheses (RFC 4515).
pub fn is_filter(text: &str) -> bool {
    text.starts_with('(') && ldap3::parse_filter(text).is_ok()
}

/// Why the directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LdapError {
    /// The bind password, or our key, could not be read.
    #[error("read the bind password or key")]
    Password(#[source] service::config::ConfigError),
    /// No connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// DNS has none.
    #[error("dns has no server for the domains in uris")]
    Unfound,
    /// The server took too long.
    #[error("the server did not answer in time ({0})")]
    Deadline(&'static str),
    /// The server said no.
    #[error("{action}: {} (code {code})", if text.is_empty() { advice::meaning(*code) } else { text })]
    Refused {
        /// What was asked.
        action: String,
        /// The result code (RFC 4511 appendix A).
        code: u32,
        /// The server's words.
        text: String,
    },
    /// The connection ended, or the library gave up.
    #[error("{action}")]
    Library {
        /// What was asked.
        action: String,
        /// What the library says.
        #[source]
        source: Box<ldap3::LdapError>,
    },
    /// More entries than are held in memory.
    #[error("more than {0} entries under '{1}'")]
    TooMany(usize, String),
    /// No user is left although there were some: more likely a right was lost than everybody.
    #[error("the directory shows no user any more, where there were {0}; keeping those")]
    Vanished(usize),
    /// The rest of a long attribute does not come.
    #[error("the server does not give all members of '{0}'")]
    Range(String),
    /// What keeps us in step is not as RFC 4533 has it.
    #[error("the server's content synchronisation cannot be read")]
    Feed,
    /// The library gave up in its own way.
    #[error("the server's answer cannot be read")]
    Panic,
    /// Nobody says which entry has a number, or whether one has.
    #[error("whether an entry has '{0}' cannot be asked")]
    Unasked(String),
    /// Several entries for one name.
    #[error("several entries are named '{0}'")]
    Ambiguous(String),
}

impl LdapError {
    /// True if there was no server to speak to: it cannot be reached, does not answer, hangs up, or says
    /// that it cannot work now. A server that said anything else was there.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Link(_)
            | Self::Unfound
            | Self::Deadline(_)
            | Self::Library { .. }
            | Self::Panic => true,
            // busy, unavailable (RFC 4511 appendix A).
            Self::Refused { code, .. } => matches!(code, 51 | 52),
            _ => false,
        }
    }
}
