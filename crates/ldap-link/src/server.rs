//! Where a server is: `ldap://`, `ldaps://` and `ldapi://`.

use std::path::PathBuf;

use rustls::pki_types::ServerName;

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The URI as configured, for logs.
    pub uri: String,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host by name or number, without brackets.
    Tcp {
        host: String,
        port: u16,
        ldaps: bool,
    },
    /// A socket on this machine.
    Unix(PathBuf),
}

/// Why a URI is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme.
    #[error("only ldap://, ldaps:// and ldapi:// are served")]
    Scheme,
    /// No host, or something behind host and port.
    #[error("expected ldap://host, ldap://host:port or ldapi://%2Fpath")]
    Shape,
}

impl Server {
    /// Reads `ldap://host[:port]` and `ldaps://host[:port]`, IPv6 addresses in brackets (RFC 4516),
    /// and `ldapi://` with a path in which `/` is `%2F`.
    ///
    /// # Errors
    /// [`UriError`].
    pub fn parse(uri: &str) -> Result<Self, UriError> {
        let (scheme, rest) = uri.split_once("://").ok_or(UriError::Scheme)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let place = match scheme.to_ascii_lowercase().as_str() {
            "ldap" => tcp(rest, false)?,
            "ldaps" => tcp(rest, true)?,
            "ldapi" => {
                let path = PathBuf::from(rest.replace("%2F", "/").replace("%2f", "/"));
                if !path.is_absolute() || rest.contains('/') {
                    return Err(UriError::Shape);
                }
                Place::Unix(path)
            }
            _ => return Err(UriError::Scheme),
        };
        Ok(Self {
            uri: uri.to_owned(),
            place,
        })
    }

    /// True if bytes to this server travel over a network in the clear when StartTLS is off.
    pub fn is_plain(&self) -> bool {
        matches!(self.place, Place::Tcp { ldaps: false, .. })
    }

    /// True if no byte to this server leaves the machine.
    pub fn is_here(&self) -> bool {
        match &self.place {
            Place::Tcp { host, .. } => {
                host == "localhost"
                    || host
                        .parse()
                        .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            }
            Place::Unix(_) => true,
        }
    }

    /// The host, if it is reached over a network.
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { host, .. } => Some(host),
            Place::Unix(_) => None,
        }
    }
}

fn tcp(rest: &str, ldaps: bool) -> Result<Place, UriError> {
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(UriError::Shape)?)),
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| UriError::Shape)?,
        None if ldaps => 636,
        None => 389,
    };
    if host.is_empty() || ServerName::try_from(host).is_err() {
        return Err(UriError::Shape);
    }
    let host = host.to_owned();
    Ok(Place::Tcp { host, port, ldaps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let check = |uri: &str, expected: Result<(&str, u16, bool), UriError>| {
            let expected = expected.map(|(host, port, ldaps)| Place::Tcp {
                host: host.to_owned(),
                port,
                ldaps,
            });
            assert_eq!(Server::parse(uri).map(|s| s.place), expected, "{uri}");
        };
        check(
            "ldap://ldap.example.org",
            Ok(("ldap.example.org", 389, false)),
        );
        check(
            "LDAPS://ldap.example.org/",
            Ok(("ldap.example.org", 636, true)),
        );
        check("ldap://127.0.0.1:3890", Ok(("127.0.0.1", 3890, false)));
        check("ldap://[::1]:3890", Ok(("::1", 3890, false)));
        check("ldaps://[::1]", Ok(("::1", 636, true)));
        check("http://x", Err(UriError::Scheme));
        check("ldap.example.org", Err(UriError::Scheme));
        check("ldap://", Err(UriError::Shape));
        check("ldap://x:99999", Err(UriError::Shape));
        check("ldap://x/dc=example", Err(UriError::Shape));
        check("ldap://u@x", Err(UriError::Shape));
        check("ldap://[::1", Err(UriError::Shape));
        check("ldapi://run/ldapi", Err(UriError::Shape));
        check("ldapi:///run/ldapi", Err(UriError::Shape));
        let socket = Server::parse("ldapi://%2Frun%2fldapi").unwrap();
        assert_eq!(socket.place, Place::Unix("/run/ldapi".into()));
        assert!(socket.is_here() && Server::parse("ldap://[::1]").is_ok_and(|s| s.is_here()));
        assert!(!Server::parse("ldap://192.0.2.1").is_ok_and(|s| s.is_here()));
        assert!(!socket.is_plain() && socket.host().is_none());
    }
}
