//! The way to the server: TCP or a Unix socket, TLS, and a relay that hands only whole, well-shaped
//! messages to the LDAP library. What they say does not matter here.
//!
//! TLS is done here and not in the library, so that what it decrypts can be looked at, and so that
//! StartTLS either succeeds or ends the connection.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::{AdminError, Answer, Cause};
use crate::message;
use crate::settings::{Address, Settings};

/// Largest CA file, in bytes: the system's bundle has about 220,000.
const MAX_CA_FILE: u64 = 4 << 20;
/// The StartTLS request as message 1 (RFC 4511, 4.14.1).
const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why the relay ended, once it has.
pub type Ending = Arc<Mutex<Option<String>>>;

/// Connects and returns the library's end of the relay, which runs until either side ends.
///
/// # Errors
/// [`AdminError::Trust`] or [`AdminError::Connect`]. The caller sets the deadline.
pub async fn open(settings: &Settings) -> Result<(StdUnixStream, Ending), AdminError> {
    let connect = |source: Cause| AdminError::Connect {
        uri: settings.uri.clone(),
        source,
    };
    let tls = match settings.tls() {
        true => Some(Arc::new(trust(settings.ca_file.as_deref())?)),
        false => None,
    };
    let stream: Box<dyn Stream> = match (&settings.address, tls) {
        (Address::Unix(path), _) => Box::new(
            UnixStream::connect(path)
                .await
                .map_err(|e| connect(e.into()))?,
        ),
        (Address::Tcp { host, port }, None) => Box::new(dial(host, *port).await.map_err(connect)?),
        (Address::Tcp { host, port }, Some(tls)) => {
            let name = ServerName::try_from(host.clone()).map_err(|e| connect(e.into()))?;
            let mut tcp = dial(host, *port).await.map_err(connect)?;
            if settings.start_tls {
                ask_for_tls(&mut tcp).await.map_err(connect)?;
            }
            let secured = TlsConnector::from(tls).connect(name, tcp).await;
            Box::new(secured.map_err(|e| connect(e.into()))?)
        }
    };
    let (ours, theirs) = StdUnixStream::pair().map_err(|e| connect(e.into()))?;
    ours.set_nonblocking(true).map_err(|e| connect(e.into()))?;
    let ours = UnixStream::from_std(ours).map_err(|e| connect(e.into()))?;
    let ending = Ending::default();
    let note = Arc::clone(&ending);
    tokio::spawn(async move {
        if let Err(error) = relay(stream, ours).await
            && let Ok(mut ending) = note.lock()
        {
            *ending = Some(error.to_string());
        }
    });
    Ok((theirs, ending))
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, Cause> {
    let tcp = TcpStream::connect((host, port)).await?;
    // Requests and answers are single small messages that wait for each other.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Asks for TLS; reads the answer and not one byte after it, so that nothing sent in the clear is
/// taken for something said under TLS.
async fn ask_for_tls(tcp: &mut TcpStream) -> Result<(), Cause> {
    tcp.write_all(START_TLS).await?;
    let answer = next(tcp)
        .await?
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    match message::extended_result(&answer) {
        Some(0) => Ok(()),
        Some(code) => Err(Answer {
            code: code.into(),
            text: "StartTLS was refused".into(),
        }
        .into()),
        None => Err(Answer {
            code: 2,
            text: "no answer to StartTLS".into(),
        }
        .into()),
    }
}

async fn relay(stream: Box<dyn Stream>, library: UnixStream) -> Result<(), Cause> {
    let (from_server, mut to_server) = tokio::io::split(stream);
    let mut from_server = BufReader::with_capacity(64 << 10, from_server);
    let (mut from_library, mut to_library) = library.into_split();
    let up = async {
        tokio::io::copy(&mut from_library, &mut to_server).await?;
        Ok(to_server.shutdown().await?)
    };
    let down = async {
        while let Some(message) = next(&mut from_server).await? {
            to_library.write_all(&message).await?;
        }
        Err("the server closed it".into())
    };
    // Half a connection is of no use: the first to end ends both.
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// The next message, whole and checked; none where the stream ends between two.
async fn next(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>, Cause> {
    let mut bytes = Vec::new();
    let size = loop {
        if let Some(size) = message::size(&bytes)? {
            break size;
        }
        match from.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && bytes.is_empty() => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    };
    // The buffer grows with what arrives, not with what the length promises.
    let rest = size - bytes.len();
    if from.take(rest as u64).read_to_end(&mut bytes).await? < rest {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    message::check(&bytes)?;
    Ok(Some(bytes))
}

/// TLS with the certificates of `ca_file`, or the system's, and no way around them.
fn trust(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, AdminError> {
    let from = ca_file.map_or("the system".into(), |path| path.display().to_string());
    let fail = |source| AdminError::Trust {
        from: from.clone(),
        source,
    };
    let mut roots = rustls::RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let mut pem = Vec::new();
            let file = File::open(path).map_err(fail)?;
            file.take(MAX_CA_FILE).read_to_end(&mut pem).map_err(fail)?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|e| fail(io::Error::other(e.to_string())))?;
                roots
                    .add(certificate)
                    .map_err(|e| fail(io::Error::other(e.to_string())))?;
            }
        }
        // One odd file among the system's must not take the others' trust away.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(fail(io::Error::new(
            io::ErrorKind::InvalidData,
            "no certificate in it",
        )));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|e| fail(io::Error::other(e.to_string())))
}
