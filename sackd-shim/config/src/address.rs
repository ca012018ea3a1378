//! Controllers' addresses as people write them.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::ConfigError;

/// SlurmctldPort where nobody says otherwise.
const DEFAULT_PORT: u16 = 6817;

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
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            (
                host,
                rest.strip_prefix(':')
                    .or(rest.is_empty().then_some(""))
                    .ok_or_else(bad)?,
            )
        } else if text.matches(':').count() > 1 {
            (text, "")
        } else {
            text.split_once(':').unwrap_or((text, ""))
        };
        let wrong_end = text.ends_with(':') && !host.contains(':');
        let port = if port.is_empty() {
            DEFAULT_PORT
        } else {
            port.parse().map_err(|_| bad())?
        };
        if host.is_empty() || port == 0 || wrong_end {
            return Err(bad());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let parsed = Controller::parse(text).ok();
            assert_eq!(
                parsed.as_ref().map(|c| (c.host.as_str(), c.port)),
                expected,
                "{text}"
            );
        };
        check("ctl", Some(("ctl", 6817)));
        check("ctl:7000", Some(("ctl", 7000)));
        check("10.0.0.1:1", Some(("10.0.0.1", 1)));
        check("[fd00::1]:7000", Some(("fd00::1", 7000)));
        check("[fd00::1]", Some(("fd00::1", 6817)));
        check("fd00::1", Some(("fd00::1", 6817)));
        for bad in [
            "",
            ":1",
            "ctl:",
            "ctl:x",
            "ctl:0",
            "ctl:70000",
            "[fd00::1",
            "[::1]7",
        ] {
            check(bad, None);
        }
    }
}
