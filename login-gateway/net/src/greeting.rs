//! The client's first line, RFC 4253 section 4.2. russh ends a connection whose line is none of SSH's
//! without a word, and waits for the end of one that can never become one. Here such a client is told
//! at once, in sshd's words, and the connection ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Longest line, its end included, in bytes.
const LONGEST: usize = 255;
/// Of a line that is no greeting, so much is named in the log.
const NAMED: usize = 64;
/// Time to take the answer. A socket that is closed with bytes unread throws away what it sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// The answers, as sshd has them.
const INVALID: &[u8] = b"Invalid SSH identification string.\r\n";
const OTHER_VERSION: &[u8] = b"Protocol major versions differ.\r\n";

/// A stream whose first line is judged as it is read.
pub struct Greeted<S> {
    stream: S,
    state: State,
}

enum State {
    /// The line so far.
    Judging(Vec<u8>),
    /// It is good; nothing is looked at any more.
    Good,
    /// It is not.
    Refusing(Box<Refusing>),
}

struct Refusing {
    /// What the client has not been told yet.
    answer: &'static [u8],
    told: bool,
    end: Pin<Box<Sleep>>,
    reason: String,
}

impl<S> Greeted<S> {
    /// Wraps a fresh connection.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            state: State::Judging(Vec::new()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let State::Judging(line) = &mut this.state {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            line.extend_from_slice(&buf.filled()[before..]);
            match judge(line) {
                Verdict::Unfinished => return Poll::Ready(Ok(())),
                Verdict::Good => {
                    this.state = State::Good;
                    return Poll::Ready(Ok(()));
                }
                Verdict::Refused(answer) => {
                    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
                    let named = line[..line.len().min(NAMED)].trim_ascii();
                    this.state = State::Refusing(Box::new(Refusing {
                        answer,
                        told: false,
                        end: Box::pin(sleep(PATIENCE)),
                        reason: format!("no SSH greeting: '{}'", named.escape_ascii()),
                    }));
                }
            }
        }
        match &mut this.state {
            State::Refusing(refusing) => {
                let waited = refusing.end.as_mut().poll(cx);
                if waited.is_pending() {
                    ready!(refusing.tell(&mut this.stream, cx));
                }
                Poll::Ready(Err(io::Error::other(refusing.reason.clone())))
            }
            _ => Pin::new(&mut this.stream).poll_read(cx, buf),
        }
    }
}

impl Refusing {
    /// Ready when the client has closed its side, or is gone.
    fn tell<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        while !self.answer.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, self.answer)) {
                Ok(n) if n > 0 => self.answer = &self.answer[n..],
                _ => return Poll::Ready(()),
            }
        }
        if !self.told {
            let _ = ready!(Pin::new(&mut *stream).poll_shutdown(cx));
            self.told = true;
        }
        let mut rest = [0; 1024];
        loop {
            let mut rest = ReadBuf::new(&mut rest);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut rest)) {
                Ok(()) if !rest.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Unfinished,
    Good,
    Refused(&'static [u8]),
}

/// Judges what has come so far, as soon as it can be judged.
fn judge(bytes: &[u8]) -> Verdict {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..end.unwrap_or(bytes.len())];
    let whole = line.strip_suffix(b"\r").unwrap_or(line);
    let known = whole.len().min(4);
    if whole[..known] != b"SSH-"[..known] || whole.contains(&0) || whole.contains(&b'\r') {
        return Verdict::Refused(INVALID);
    }
    match end {
        Some(end) if end < LONGEST => {}
        None if bytes.len() < LONGEST => return Verdict::Unfinished,
        _ => return Verdict::Refused(INVALID),
    }
    // russh reads it as text.
    let Ok(text) = std::str::from_utf8(whole) else {
        return Verdict::Refused(INVALID);
    };
    let mut parts = text.splitn(3, '-').skip(1);
    let (version, software) = (parts.next(), parts.next());
    let Some((major, minor)) = version.and_then(|version| version.split_once('.')) else {
        return Verdict::Refused(INVALID);
    };
    let number = |text: &str| text.parse::<u32>().ok();
    match (number(major), number(minor), software) {
        (_, _, None | Some("")) | (None, ..) | (_, None, _) => Verdict::Refused(INVALID),
        (Some(2), Some(0), _) | (Some(1), Some(99), _) => Verdict::Good,
        // russh takes no other 2.x, and there is none.
        (Some(2), ..) => Verdict::Refused(INVALID),
        _ => Verdict::Refused(OTHER_VERSION),
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
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

    #[test]
    fn lines() {
        let longest = [&b"SSH-2.0-"[..], &[b'x'; 245], b"\r\n"].concat();
        let longer = [&b"SSH-2.0-"[..], &[b'x'; 246], b"\r\n"].concat();
        for good in [
            &b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n"[..],
            b"SSH-2.0-x\n",
            b"SSH-1.99-x\r\nmore",
            b"SSH-2.0--\n",
            &longest,
        ] {
            assert_eq!(judge(good), Verdict::Good, "{}", good.escape_ascii());
            // What could still become good is waited for.
            let line = good.iter().position(|byte| *byte == b'\n').unwrap();
            for cut in 0..line {
                assert_eq!(judge(&good[..cut]), Verdict::Unfinished, "{cut}");
            }
        }
        for bad in [
            &b"GET"[..],
            b"\n",
            b"\x16\x03\x01",
            b"\0",
            b"ssh-2.0-x\n",
            b"SSH-2.0-\n",
            b"SSH-2.0\n",
            b"SSH-2-x\n",
            b"SSH-2.0-a\0b",
            b"SSH-2.0-a\rb",
            b"SSH-2.0-\xff\n",
            b"SSH-2.1-x\n",
            b"SSH--x\n",
            &longer,
            &longer[..255],
        ] {
            assert_eq!(
                judge(bad),
                Verdict::Refused(INVALID),
                "{}",
                bad.escape_ascii()
            );
        }
        for old in [&b"SSH-1.5-HALLO\n"[..], b"SSH-3.0-x\r\n"] {
            assert_eq!(judge(old), Verdict::Refused(OTHER_VERSION));
        }
    }

    #[tokio::test]
    async fn who_greets_otherwise_hears_why_and_the_rest_is_read() {
        let (mut client, server) = duplex(64);
        let talk = tokio::spawn(async move {
            let said = [b'G'; 10_000];
            client.write_all(&said).await.unwrap();
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            heard
        });
        let mut greeted = Greeted::new(server);
        let error = greeted.read(&mut [0; 100]).await.unwrap_err().to_string();
        drop(greeted);
        assert!(
            error.starts_with("no SSH greeting: 'GGGG") && error.len() < 100,
            "{error}"
        );
        assert_eq!(talk.await.unwrap(), INVALID);
    }

    #[tokio::test]
    async fn a_good_line_is_handed_on_with_what_follows() {
        let (mut client, server) = duplex(64);
        client.write_all(b"SSH-2.0-x\r\n\0\0GET").await.unwrap();
        drop(client);
        let mut got = Vec::new();
        Greeted::new(server).read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"SSH-2.0-x\r\n\0\0GET");
    }
}
