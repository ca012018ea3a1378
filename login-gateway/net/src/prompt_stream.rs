//! The SSH socket, with an eye on the client's time: while the connection is young, every read is
//! acknowledged at once.
//!
//! OpenSSH's client writes its key exchange in two small pieces without switching Nagle's algorithm
//! off, so its kernel keeps the second until the first is acknowledged; our kernel would wait up to
//! 40 ms for data that could carry the acknowledgement (`TCP_QUICKACK`, tcp(7)). Measured: 78 ms a
//! login with that wait, 40 ms without.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Reads after which a connection is no longer young: key exchange, authentication and the first
/// channel take about fifteen.
const YOUNG: u32 = 64;

/// The socket of a client, or of a program that relays for one.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A stream that acknowledges its first reads at once, where there is anything to acknowledge.
pub struct PromptStream {
    socket: Socket,
    young: u32,
}

impl PromptStream {
    /// Wraps a fresh connection.
    pub fn tcp(stream: TcpStream) -> Self {
        Self {
            socket: Socket::Tcp(stream),
            young: YOUNG,
        }
    }

    /// Wraps a socket of this machine's.
    pub fn unix(stream: UnixStream) -> Self {
        Self {
            socket: Socket::Unix(stream),
            young: 0,
        }
    }
}

impl AsyncRead for PromptStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let young = self.young > 0;
        let stream = match &mut self.socket {
            Socket::Unix(stream) => return Pin::new(stream).poll_read(cx, buf),
            Socket::Tcp(stream) => stream,
        };
        let read = Pin::new(&mut *stream).poll_read(cx, buf);
        if young && read.is_ready() {
            // The kernel forgets the wish as soon as we answer, so it is said each time.
            let _ = sys::socket::acknowledge_now(stream);
            self.young -= 1;
        }
        read
    }
}

impl AsyncWrite for PromptStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
