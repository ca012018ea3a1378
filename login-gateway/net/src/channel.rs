//! One channel's bytes between russh and a descriptor, whatever the descriptor is.
//!
//! The reader takes messages from russh and never waits for whoever is behind the descriptor (T1,
//! T4): what has not been taken yet lies in the inbox. How much may lie there is `flow`'s matter.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use russh::server::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::activity::Activity;
use crate::inbox::Inbox;
use crate::pieces;

/// What comes from the client on one channel. Dropping it ends the reader: russh forgets a channel
/// that we close first only with its connection, and would keep a waiting reader as long.
pub struct FromClient {
    /// The bytes.
    pub inbox: Arc<Inbox>,
    closed: watch::Receiver<bool>,
    reader: JoinHandle<()>,
}

impl FromClient {
    /// Starts to read.
    pub fn read(mut half: ChannelReadHalf, activity: Arc<Activity>) -> Self {
        let inbox = Arc::new(Inbox::default());
        let (close, closed) = watch::channel(false);
        let into = inbox.clone();
        let reader = tokio::spawn(async move {
            while let Some(message) = half.wait().await {
                match message {
                    ChannelMsg::Data { data } => {
                        activity.received(data.len());
                        into.push(data);
                    }
                    ChannelMsg::Eof => into.end(),
                    ChannelMsg::Close => break,
                    _ => {}
                }
            }
            into.end();
            let _ = close.send(true);
        });
        Self {
            inbox,
            closed,
            reader,
        }
    }

    /// Resolves when the client has closed the channel or the connection is gone. What it sent
    /// before is in the inbox.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error is a reader that has ended.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

impl Drop for FromClient {
    fn drop(&mut self) {
        self.reader.abort();
        self.inbox.refuse();
    }
}

/// Descriptor to client, until whoever is behind the descriptor sends no more.
///
/// `copy` sees everything first.
///
/// # Errors
/// Those of `read(2)` and of `copy`; the client's end is none.
pub async fn pump(
    from: &AsyncFd<OwnedFd>,
    to: &ChannelWriteHalf<Msg>,
    stream: Option<u32>,
    activity: &Activity,
    copy: impl Fn(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let data = read(from).await?;
        if data.is_empty() {
            return Ok(());
        }
        copy(&data)?;
        let bytes = data.len();
        let sent = match stream {
            None => to.data_bytes(data).await,
            Some(stream) => to.extended_data_bytes(stream, data).await,
        };
        if sent.is_err() {
            return Ok(());
        }
        activity.sent(bytes);
    }
}

/// Client to descriptor, until the client sends no more; `false` if whoever is behind the descriptor
/// takes no more, and whatever still comes is for nobody.
pub async fn feed(to: &AsyncFd<OwnedFd>, inbox: &Inbox) -> bool {
    while let Some(data) = inbox.pop().await {
        if write_all(to, &data).await.is_err() {
            inbox.refuse();
            return false;
        }
    }
    true
}

/// The next bytes; none at the end.
async fn read(from: &AsyncFd<OwnedFd>) -> io::Result<Bytes> {
    loop {
        let mut ready = from.readable().await?;
        let taken = ready.try_io(|fd| {
            let mut buffer = pieces::take();
            match nix::unistd::read(fd.get_ref(), &mut buffer) {
                Ok(n) => Ok(pieces::bytes(buffer, n)),
                Err(error) => {
                    pieces::give_back(buffer);
                    Err(error.into())
                }
            }
        });
        if let Ok(taken) = taken {
            return taken;
        }
    }
}

async fn write_all(to: &AsyncFd<OwnedFd>, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let mut ready = to.writable().await?;
        if let Ok(written) = ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), data)?)) {
            data = &data[written?..];
        }
    }
    Ok(())
}
