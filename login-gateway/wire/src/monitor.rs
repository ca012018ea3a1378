//! Listener and monitor, monitor and net. The monitor trusts nothing that net says beyond what
//! SECURITY.md lists.

use serde::{Deserialize, Serialize};

use crate::UserName;
use crate::accept::Endpoints;

/// From the listener to a waiting monitor; the connection's socket is the one descriptor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Name of this connection in every log line, eight hexadecimal digits.
    pub login: String,
    /// Where it came from and went to.
    pub endpoints: Endpoints,
}

/// From a monitor to the listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromMonitor {
    /// Authentication is over; the connection no longer counts as a start-up.
    Authenticated(UserName),
}

/// From the monitor to net, once: the connection. Its socket is the one descriptor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Serve {
    /// As in [`Connection`].
    pub endpoints: Endpoints,
}

/// From net to the monitor. The two about keys are answered by one [`ToNet`] each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromNet {
    /// The sandbox is in place; send the connection.
    Sandboxed,
    /// May this key log in as this user? Asked before a signature exists, and the client learns
    /// the answer.
    KeyOffered {
        /// The account.
        user: UserName,
        /// The key in SSH wire form, RFC 4253 section 6.6.
        key: Vec<u8>,
    },
    /// The client has signed with this key; russh has checked the signature. If the answer is yes,
    /// [`ToNet::Session`] follows.
    KeyVerified {
        /// The account.
        user: UserName,
        /// The key in SSH wire form.
        key: Vec<u8>,
    },
    /// The connection has ended; for the record.
    Ended {
        /// Why, in net's words.
        reason: String,
        /// Bytes received for the user's programs.
        bytes_in: u64,
        /// Bytes sent by the user's programs.
        bytes_out: u64,
    },
}

/// From the monitor to net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNet {
    /// The key, or the login, is good.
    Accepted,
    /// It is not; no reason is given.
    Refused,
    /// The user's session has started; its socket is the one descriptor.
    Session,
}
