//! Listener and accept. A socket travels beside [`FromAccept::Connection`]; the listener sends only
//! numbers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::numbers::{Channel, Numbers};

/// From accept to the listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromAccept {
    /// The sandbox is in place, connections are accepted.
    Ready,
    /// A connection; its socket is the message's one descriptor.
    Connection(Endpoints),
    /// The same, with what the balancer says beside the addresses: names and values in printable
    /// ASCII, at most [`MAX_SAID`] bytes.
    Balanced(Endpoints, Vec<(String, String)>),
    /// What accept has counted since it last said so. The listener answers with [`Health`], which has
    /// these counts in it; accept also asks in this way whether the listener still answers.
    Counted(Counts),
}

/// What only accept sees of connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Connections that began with a header about a client.
    pub proxied: u64,
    /// Connections of a balancer's own, such as health checks of the SSH port.
    pub local: u64,
    /// Connections without a header from a network that may send one.
    pub bare: u64,
    /// Connections closed for what they sent in place of a header.
    pub malformed: u64,
    /// Connections closed because the header did not arrive in time, or before it was whole.
    pub unfinished: u64,
    /// Connections closed because too many headers were awaited.
    pub crowded_out: u64,
    /// Connections turned away since no more logins are taken.
    pub drained: u64,
}

impl Counts {
    /// Adds what another process has counted, or this one since.
    pub fn add(&mut self, more: &Self) {
        let sums = [
            (&mut self.proxied, more.proxied),
            (&mut self.local, more.local),
            (&mut self.bare, more.bare),
            (&mut self.malformed, more.malformed),
            (&mut self.unfinished, more.unfinished),
            (&mut self.crowded_out, more.crowded_out),
            (&mut self.drained, more.drained),
        ];
        for (sum, number) in sums {
            *sum = sum.saturating_add(number);
        }
    }
}

/// Most bytes of names and values in [`FromAccept::Balanced`].
pub const MAX_SAID: usize = 512;

/// Where a connection came from and where it went, from the PROXY header or the socket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The client.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
}

/// Longest [`Health`] in bytes: some 140 numbers of ten bytes at most.
pub const MAX_HEALTH: usize = 2048;

/// From the listener to accept, after every change: what the health endpoint tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Whether new logins are welcome.
    pub ready: bool,
    /// Whether new connections are turned away with words instead of being passed on.
    pub draining: bool,
    /// Connections that have not yet authenticated.
    pub startups: u32,
    /// Authenticated connections.
    pub logins: u32,
    /// Connections taken since the listener started.
    pub connections_total: u64,
    /// Logins since the listener started.
    pub logins_total: u64,
    /// Connections closed because `max-startups` was reached.
    pub refused_total: u64,
    /// Connections closed before that, and logins refused.
    pub turned_away: TurnedAway,
    /// Penalties by [`crate::doors::Failure`].
    pub penalties: [u64; 6],
    /// Sources that are kept out now.
    pub penalised: u32,
    /// Terminals of logins.
    pub terminals: u32,
    /// Logins whose line has dropped and whose shells wait.
    pub detached: u32,
    /// Channels that are open, by [`Channel::ALL`].
    pub open: [u64; Channel::ALL.len()],
    /// What accept has counted, this one and those before it.
    pub counts: Counts,
    /// All other counts.
    pub numbers: Numbers,
}

/// Connections that were closed because of where they come from or by chance, and logins of which a
/// user has too many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TurnedAway {
    /// By `early-drop`.
    pub early: u64,
    /// By `per-source-max-startups`.
    pub source: u64,
    /// By a penalty of the source.
    pub penalty: u64,
    /// By `overflow`.
    pub overflow: u64,
    /// Logins, by `max-logins`.
    pub logins: u64,
}
