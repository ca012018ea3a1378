//! A read buffer that is as large as the connection needs: russh reads each packet in two calls,
//! which a buffer turns into one, but a thousand idle logins should not hold 64 KiB each for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pause::Pause;

/// Size at the start, in bytes.
const LEAST: usize = 2 * 1024;
/// Size that is not exceeded, in bytes.
const MOST: usize = 64 * 1024;
/// Bytes after which others have their turn: programs that are fed, and the client's other channels.
const TURN: usize = 128 * 1024;

/// Reads through a buffer that doubles whenever a read has filled it. Writes go straight on.
pub struct GrowingReader<S> {
    stream: S,
    buffer: Vec<u8>,
    /// What has been read and not taken.
    start: usize,
    end: usize,
    /// What has been read since others had their turn.
    turn: usize,
    /// How often there was nothing to read.
    dry: Arc<AtomicU64>,
    pause: Pause,
    paused: bool,
}

impl<S> GrowingReader<S> {
    /// Wraps a stream; `dry` counts how often it had nothing to read. In a pause nothing is read.
    pub fn new(stream: S, dry: Arc<AtomicU64>, pause: Pause) -> Self {
        Self {
            stream,
            buffer: vec![0; LEAST],
            start: 0,
            end: 0,
            turn: 0,
            dry,
            pause,
            paused: false,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GrowingReader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.pause.poll(cx).is_pending() {
            this.paused = true;
            return Poll::Pending;
        }
        if std::mem::take(&mut this.paused) {
            // What was waited for goes out before anything else is read.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.start == this.end {
            // The last read filled the buffer, so more is likely to wait.
            if this.end == this.buffer.len() && this.end < MOST {
                let size = this.end * 2;
                this.buffer = vec![0; size];
            }
            if this.turn >= TURN {
                this.turn = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut inner = ReadBuf::new(&mut this.buffer);
            if Pin::new(&mut this.stream)
                .poll_read(cx, &mut inner)?
                .is_pending()
            {
                this.turn = 0;
                this.dry.fetch_add(1, Ordering::Relaxed);
                return Poll::Pending;
            }
            this.start = 0;
            this.end = inner.filled().len();
            this.turn += this.end;
        }
        let n = buf.remaining().min(this.end - this.start);
        buf.put_slice(&this.buffer[this.start..this.start + n]);
        this.start += n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GrowingReader<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    // The library reads each packet in two calls (T22).
    #[tokio::test]
    async fn bytes_are_whole_and_the_buffer_grows_to_its_limit_only() {
        let (mut from, to) = duplex(1 << 20);
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        from.write_all(&sent).await.unwrap();
        drop(from);
        let mut reader = GrowingReader::new(to, Arc::default(), Pause::default());
        let mut got = Vec::new();
        let mut piece = [0; 777];
        loop {
            match reader.read(&mut piece).await.unwrap() {
                0 => break,
                n => got.extend_from_slice(&piece[..n]),
            }
        }
        assert_eq!(got, sent);
        assert_eq!(reader.buffer.len(), MOST);
    }

    #[tokio::test]
    async fn small_talk_leaves_it_small() {
        let (mut from, to) = duplex(1 << 16);
        let mut reader = GrowingReader::new(to, Arc::default(), Pause::default());
        for n in 0..100u8 {
            from.write_all(&[n; 100]).await.unwrap();
            let mut got = [0; 100];
            reader.read_exact(&mut got).await.unwrap();
            assert_eq!(got, [n; 100]);
        }
        assert_eq!(reader.buffer.len(), LEAST);
    }
}
