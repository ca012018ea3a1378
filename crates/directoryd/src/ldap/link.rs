//! The way to one server: TCP, TLS, and a relay that lets only checked messages through to the LDAP
//! library, which gets a local socket for it.
//!
//! TLS is ours and not the library's: StartTLS either succeeds or ends the connection, and trust is
//! what the configuration says.

use std::{io, os::unix::net::UnixStream, path::Path, sync::Arc, time::Duration};

use nix::sys::socket::{setsockopt, sockopt};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{LdapError, ber};

/// How long connecting, and then TLS, may take.
const STEP: Duration = Duration::from_secs(3);
/// How long sent bytes may stay unacknowledged; also when an idle peer is probed.
const SILENCE: Duration = Duration::from_secs(10);
/// The StartTLS request as message 1 (RFC 4511 4.14.1).
const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// One server of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The URI as configured, for logs.
    pub uri: String,
    host: String,
    port: u16,
    ldaps: bool,
}

/// Why a URI is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme.
    #[error("only ldap:// and ldaps:// are served")]
    Scheme,
    /// No host, or something behind host and port.
    #[error("expected ldap://host or ldap://host:port")]
    Shape,
}

impl Server {
    /// Reads `ldap://host[:port]` and `ldaps://host[:port]`; IPv6 addresses in brackets.
    ///
    /// # Errors
    /// [`UriError`].
    pub fn parse(uri: &str) -> Result<Self, UriError> {
        let (scheme, rest) = uri.split_once("://").ok_or(UriError::Scheme)?;
        let ldaps = match scheme.to_ascii_lowercase().as_str() {
            "ldap" => false,
            "ldaps" => true,
            _ => return Err(UriError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
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
        Ok(Self {
            uri: uri.to_owned(),
            host: host.to_owned(),
            port,
            ldaps,
        })
    }

    /// True if bytes to this server travel in the clear when StartTLS is off.
    pub fn is_plain(&self) -> bool {
        !self.ldaps
    }
}

/// The TLS side of a connection: the CAs of the file, or of the system.
///
/// # Errors
/// [`LdapError::Trust`] if there is not one usable certificate.
pub fn trust(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, LdapError> {
    let mut roots = RootCertStore::empty();
    let problem = match ca_file {
        Some(path) => {
            let certificates: Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            match certificates {
                Ok(certificates) => certificates
                    .into_iter()
                    .find_map(|certificate| roots.add(certificate).err())
                    .map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            }
        }
        None => {
            // One bad certificate of the system must not cost the others.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            None
        }
    };
    let place = ca_file.map_or_else(
        || "the system".to_owned(),
        |path| format!("'{}'", path.display()),
    );
    if problem.is_some() || roots.is_empty() {
        let problem = problem.unwrap_or_else(|| "no certificate".to_owned());
        return Err(LdapError::Trust { place, problem });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| LdapError::Trust {
            place,
            problem: error.to_string(),
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects and returns the library's end. The relay runs as a task until either side ends.
///
/// # Errors
/// [`LdapError`]; with `start_tls`, any doubt about TLS is one.
pub async fn open(
    server: &Server,
    start_tls: bool,
    tls: Arc<ClientConfig>,
) -> Result<UnixStream, LdapError> {
    let io = |source| LdapError::Connect {
        uri: server.uri.clone(),
        source,
    };
    let late = || LdapError::Deadline("connect");
    let address = (server.host.as_str(), server.port);
    let mut tcp = timeout(STEP, TcpStream::connect(address))
        .await
        .map_err(|_| late())?
        .map_err(io)?;
    tcp.set_nodelay(true).map_err(io)?;
    // Without these a peer that vanished would be waited for without end.
    let millis = u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX);
    let seconds = u32::try_from(SILENCE.as_secs()).unwrap_or(u32::MAX);
    let set = || -> nix::Result<()> {
        setsockopt(&tcp, sockopt::KeepAlive, &true)?;
        setsockopt(&tcp, sockopt::TcpKeepIdle, &seconds)?;
        setsockopt(&tcp, sockopt::TcpKeepInterval, &seconds)?;
        setsockopt(&tcp, sockopt::TcpUserTimeout, &millis)
    };
    set().map_err(|errno| io(errno.into()))?;
    let stream: Box<dyn Stream> = if server.ldaps || start_tls {
        let handshake = async {
            if !server.ldaps {
                ask_for_tls(&mut tcp).await?;
            }
            let name = ServerName::try_from(server.host.clone())
                .map_err(|_| LdapError::StartTls("the host has no name to check".to_owned()))?;
            let stream = TlsConnector::from(tls).connect(name, tcp).await;
            stream.map_err(|source| LdapError::Tls {
                uri: server.uri.clone(),
                source,
            })
        };
        Box::new(
            timeout(STEP, handshake)
                .await
                .map_err(|_| LdapError::Deadline("tls"))??,
        )
    } else {
        Box::new(tcp)
    };
    let (ours, theirs) = UnixStream::pair().map_err(io)?;
    ours.set_nonblocking(true).map_err(io)?;
    let ours = tokio::net::UnixStream::from_std(ours).map_err(io)?;
    let uri = server.uri.clone();
    tokio::spawn(async move {
        if let Err(error) = relay(stream, ours).await {
            tracing::warn!(event = "ldap.link", %uri, error = service::exit::chain(&error));
        }
    });
    Ok(theirs)
}

async fn ask_for_tls(tcp: &mut TcpStream) -> Result<(), LdapError> {
    let broken = |error: io::Error| LdapError::StartTls(error.to_string());
    tcp.write_all(START_TLS).await.map_err(broken)?;
    let body = message(tcp, &mut Vec::new())
        .await?
        .ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))?;
    match ber::extended_code(&body.1[body.0..]) {
        Some(0) => Ok(()),
        Some(code) => Err(LdapError::StartTls(format!(
            "the server answers with code {code}"
        ))),
        None => Err(LdapError::StartTls(
            "the server answers something else".to_owned(),
        )),
    }
}

async fn relay(stream: Box<dyn Stream>, local: tokio::net::UnixStream) -> Result<(), LdapError> {
    let broken = |source| LdapError::Relay { source };
    let (from_server, mut to_server) = tokio::io::split(stream);
    let mut from_server = tokio::io::BufReader::with_capacity(64 << 10, from_server);
    let (mut from_library, mut to_library) = local.into_split();
    let up = async {
        tokio::io::copy(&mut from_library, &mut to_server)
            .await
            .map_err(broken)?;
        to_server.shutdown().await.map_err(broken)
    };
    let down = async {
        let mut buffer = Vec::new();
        while let Some((_, bytes)) = message(&mut from_server, &mut buffer).await? {
            to_library.write_all(&bytes).await.map_err(broken)?;
        }
        Ok(())
    };
    // Whichever ends first ends both: half a connection is of no use.
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// The next checked message, whole, with the size of its head; `None` at the end of the stream.
/// Reads not one byte more than the message.
async fn message(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<Option<(usize, Vec<u8>)>, LdapError> {
    let broken = |source| LdapError::Relay { source };
    buffer.clear();
    let (head, size) = loop {
        match ber::frame(buffer)? {
            Some(found) => break found,
            None => match from.read_u8().await {
                Ok(byte) => buffer.push(byte),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && buffer.is_empty() => {
                    return Ok(None);
                }
                Err(error) => return Err(broken(error)),
            },
        }
    };
    let mut bytes = std::mem::take(buffer);
    // Grows with what arrives, not with what the length promises.
    let read = from
        .take(size as u64)
        .read_to_end(&mut bytes)
        .await
        .map_err(broken)?;
    if read < size {
        return Err(broken(io::ErrorKind::UnexpectedEof.into()));
    }
    ber::check(&bytes[head..])?;
    Ok(Some((head, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let check = |uri: &str, expected: Result<(&str, u16, bool), UriError>| {
            let expected = expected.map(|(host, port, ldaps)| Server {
                uri: uri.to_owned(),
                host: host.to_owned(),
                port,
                ldaps,
            });
            assert_eq!(Server::parse(uri), expected, "{uri}");
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
        check("ldap://[::1", Err(UriError::Shape));
    }

    #[test]
    fn trust_needs_a_certificate() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            trust(Some(file.path())),
            Err(LdapError::Trust { .. })
        ));
        assert!(matches!(
            trust(Some(Path::new("/nonexistent"))),
            Err(LdapError::Trust { .. })
        ));
    }
}
