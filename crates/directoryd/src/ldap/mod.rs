//! The only room that speaks LDAP: connections, searches, and what entries mean.
//!
//! The library (`ldap3`) is used behind a link of our own ([`link`]) and through one search function
//! ([`search`]), where its limits are made good: total deadlines, sizes, paging, no referrals.

mod ber;
mod entry;
mod link;
mod search;
mod session;

use std::io;

pub use link::{Server, trust};
pub use session::{Found, Session};

/// Why the directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LdapError {
    /// No usable CA certificates.
    #[error("take certificates from {place}: {problem}")]
    Trust {
        /// The file, or the system.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The bind password could not be read.
    #[error("read the bind password")]
    Password(#[source] service::config::ConfigError),
    /// Nobody there.
    #[error("connect to '{uri}'")]
    Connect {
        /// The server.
        uri: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// StartTLS was not to be had.
    #[error("start tls: {0}")]
    StartTls(String),
    /// The handshake or the certificate.
    #[error("tls with '{uri}'")]
    Tls {
        /// The server.
        uri: String,
        /// What TLS says.
        #[source]
        source: io::Error,
    },
    /// The link broke.
    #[error("relay")]
    Relay {
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Bytes that are no LDAP.
    #[error("read from the server")]
    Ber(#[from] ber::BerError),
    /// The server took too long.
    #[error("the server did not answer in time ({0})")]
    Deadline(&'static str),
    /// The server said no.
    #[error("{action}: {text} (code {code})")]
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
    /// Several entries for one name.
    #[error("several entries are named '{0}'")]
    Ambiguous(String),
}
