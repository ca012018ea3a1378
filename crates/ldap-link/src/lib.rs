//! The way to an LDAP server: where it is, whom TLS trusts, and a relay that lets only checked
//! messages through to the LDAP library, which gets a local socket for it. What the messages say does
//! not matter here.
//!
//! TLS is done here and not in the library, so that what it decrypts can be looked at, and so that
//! StartTLS either succeeds or ends the connection.
#![forbid(unsafe_code)]

mod message;
mod relay;
mod server;
mod trust;

use std::io;

pub use message::{MAX_MESSAGE, MessageError};
pub use relay::open;
pub use server::{Server, UriError};
pub use trust::{Identity, Trust, trust};

/// Why there is no connection, or no more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No usable CA certificates.
    #[error("take certificates from '{place}': {problem}")]
    Trust {
        /// The file, or the system.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No usable certificate of our own.
    #[error("take our certificate from '{place}': {problem}")]
    Identity {
        /// The file.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
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
    /// The server took too long.
    #[error("the server did not answer in time ({0})")]
    Deadline(&'static str),
    /// The link broke.
    #[error("relay")]
    Relay {
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// Bytes that are no LDAP.
    #[error("read from the server")]
    Message(#[from] MessageError),
}
