//! Controllers' addresses, and what the resolver makes of them.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::ConfigError;

/// A controller: a name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// As it was written, for messages.
    pub name: String,
    host: String,
    port: u16,
}

impl Controller {
    /// Reads `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`. A bare IPv6 address has no port.
    ///
    /// # Errors
    /// [`ConfigError::Address`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::Address(text.to_owned());
        let (host, port) = slurm_wire::address::parse(text).ok_or_else(bad)?;
        Ok(Self {
            name: text.to_owned(),
            host: host.to_owned(),
            port,
        })
    }

    /// All its addresses, as the resolver orders them now.
    ///
    /// # Errors
    /// [`ConfigError::System`].
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map(Iterator::collect)
            .map_err(ConfigError::system(format!(
                "find the address of '{}'",
                self.name
            )))
    }
}
