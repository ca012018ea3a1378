//! Connecting, StartTLS, and the relay between the server and the LDAP library.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::server::Place;
use crate::{LinkError, Server, Trust, message, trust};

/// How long sent bytes may stay unacknowledged; also when an idle peer is probed.
const SILENCE: Duration = Duration::from_secs(10);
/// The StartTLS request as message 1 (RFC 4511 4.14.1).
const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects and returns the library's end of the relay, which runs as a task until either side ends;
/// `ended` is told why. `step` is how long connecting, and then TLS, may take each. Certificates
/// are read anew each time, since they are renewed while daemons run.
///
/// # Errors
/// [`LinkError`]; with `start_tls`, any doubt about TLS is one.
pub async fn open(
    server: &Server,
    start_tls: bool,
    of: Trust<'_>,
    step: Duration,
    ended: impl FnOnce(LinkError) + Send + 'static,
) -> Result<StdUnixStream, LinkError> {
    let io = |source| LinkError::Connect {
        uri: server.uri.clone(),
        source,
    };
    let late = |_| LinkError::Deadline("connect");
    let stream: Box<dyn Stream> = match &server.place {
        Place::Unix(path) => {
            let connected = timeout(step, UnixStream::connect(path)).await;
            Box::new(connected.map_err(late)?.map_err(io)?)
        }
        Place::Tcp { host, port, ldaps } => {
            let connected = timeout(step, TcpStream::connect((host.as_str(), *port))).await;
            let tcp = connected.map_err(late)?.map_err(io)?;
            watch(&tcp).map_err(io)?;
            if *ldaps || start_tls {
                let tls = trust(of)?;
                let secured = timeout(step, secure(server, host, tcp, !ldaps, tls)).await;
                secured.map_err(|_| LinkError::Deadline("tls"))??
            } else {
                Box::new(tcp)
            }
        }
    };
    let (ours, theirs) = StdUnixStream::pair().map_err(io)?;
    ours.set_nonblocking(true).map_err(io)?;
    let ours = UnixStream::from_std(ours).map_err(io)?;
    tokio::spawn(async move {
        if let Err(error) = relay(stream, ours).await {
            ended(error);
        }
    });
    Ok(theirs)
}

/// Without these a peer that vanished would be waited for without end.
fn watch(tcp: &TcpStream) -> io::Result<()> {
    // Requests and answers are single small messages that wait for each other.
    tcp.set_nodelay(true)?;
    let millis = u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX);
    let seconds = u32::try_from(SILENCE.as_secs()).unwrap_or(u32::MAX);
    setsockopt(tcp, sockopt::KeepAlive, &true)?;
    setsockopt(tcp, sockopt::TcpKeepIdle, &seconds)?;
    setsockopt(tcp, sockopt::TcpKeepInterval, &seconds)?;
    setsockopt(tcp, sockopt::TcpUserTimeout, &millis)?;
    Ok(())
}

async fn secure(
    server: &Server,
    host: &str,
    mut tcp: TcpStream,
    ask: bool,
    tls: Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, LinkError> {
    if ask {
        ask_for_tls(&mut tcp).await?;
    }
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| LinkError::StartTls("the host has no name to check".to_owned()))?;
    let stream = TlsConnector::from(tls).connect(name, tcp).await;
    match stream {
        Ok(stream) => Ok(Box::new(stream)),
        Err(source) => Err(LinkError::Tls {
            uri: server.uri.clone(),
            source,
        }),
    }
}

/// Asks for TLS; reads the answer and not one byte after it, so that nothing sent in the clear is
/// taken for something said under TLS.
async fn ask_for_tls(tcp: &mut TcpStream) -> Result<(), LinkError> {
    let broken = |error: io::Error| LinkError::StartTls(error.to_string());
    tcp.write_all(START_TLS).await.map_err(broken)?;
    let (head, bytes) = next(tcp, &mut Vec::new())
        .await?
        .ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))?;
    match message::extended_code(&bytes[head..]) {
        Some(0) => Ok(()),
        Some(code) => Err(LinkError::StartTls(format!(
            "the server answers with code {code}"
        ))),
        None => Err(LinkError::StartTls(
            "the server answers something else".to_owned(),
        )),
    }
}

async fn relay(stream: Box<dyn Stream>, library: UnixStream) -> Result<(), LinkError> {
    let broken = |source| LinkError::Relay { source };
    let (from_server, mut to_server) = tokio::io::split(stream);
    let mut from_server = BufReader::with_capacity(64 << 10, from_server);
    let (mut from_library, mut to_library) = library.into_split();
    let up = async {
        tokio::io::copy(&mut from_library, &mut to_server)
            .await
            .map_err(broken)?;
        to_server.shutdown().await.map_err(broken)
    };
    let down = async {
        let mut buffer = Vec::new();
        while let Some((_, bytes)) = next(&mut from_server, &mut buffer).await? {
            to_library.write_all(&bytes).await.map_err(broken)?;
        }
        Err(LinkError::Closed)
    };
    // Whichever ends first ends both: half a connection is of no use.
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// The next checked message, whole, with the size of its head; `None` at the end of the stream.
/// Reads not one byte more than the message.
async fn next(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<Option<(usize, Vec<u8>)>, LinkError> {
    let broken = |source| LinkError::Relay { source };
    buffer.clear();
    let (head, size) = loop {
        match message::frame(buffer)? {
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
    message::check(&bytes[head..])?;
    Ok(Some((head, bytes)))
}
