//! A `SOCK_SEQPACKET` socket under tokio: one message in, one message out, descriptors with them.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use gateway_wire::MAX_MESSAGE;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::unix::AsyncFd;
use zeroize::Zeroizing;

/// Makes a descriptor non-blocking and known to tokio.
#[expect(
    deprecated,
    reason = "`new` is unsound for types that lie about their descriptor; OwnedFd does not"
)]
pub fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    set_nonblocking(&fd)?;
    AsyncFd::new(fd)
}

/// By `fcntl(2)`: std would use an `ioctl(2)`, which the sandbox does not have.
pub fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The sending half.
pub struct Sender<Out> {
    fd: Arc<AsyncFd<OwnedFd>>,
    kind: PhantomData<fn(Out)>,
}

/// The receiving half.
pub struct Receiver<In> {
    fd: Arc<AsyncFd<OwnedFd>>,
    buffer: Vec<u8>,
    kind: PhantomData<fn() -> In>,
}

/// Splits a socket into its halves.
pub fn split<Out, In>(socket: OwnedFd) -> io::Result<(Sender<Out>, Receiver<In>)> {
    let fd = Arc::new(register(socket)?);
    let buffer = vec![0; MAX_MESSAGE];
    Ok((
        Sender {
            fd: fd.clone(),
            kind: PhantomData,
        },
        Receiver {
            fd,
            buffer,
            kind: PhantomData,
        },
    ))
}

impl<Out: Serialize> Sender<Out> {
    /// Sends one message.
    pub async fn send(&self, message: &Out) -> io::Result<()> {
        // It may hold a password.
        let bytes = Zeroizing::new(gateway_wire::encode(message).map_err(io::Error::other)?);
        loop {
            let mut ready = self.fd.writable().await?;
            match ready.try_io(|fd| sys::fds::send_with_fds(&fd.as_fd(), &bytes, &[])) {
                Ok(sent) => return sent,
                Err(_would_block) => {}
            }
        }
    }
}

impl<In: DeserializeOwned> Receiver<In> {
    /// Receives one message; `None` at the end.
    pub async fn receive(&mut self) -> io::Result<Option<(In, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.fd.readable().await?;
            let buffer = &mut self.buffer;
            match ready.try_io(|fd| sys::fds::recv_with_fds(&fd.as_fd(), buffer)) {
                Ok(Ok((0, _))) => return Ok(None),
                Ok(Ok((n, fds))) => {
                    let message = gateway_wire::decode(&buffer[..n]).map_err(io::Error::other)?;
                    return Ok(Some((message, fds)));
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

impl<In> Receiver<In> {
    /// The same socket, from which messages of another kind follow.
    pub fn then<Next>(self) -> Receiver<Next> {
        Receiver {
            fd: self.fd,
            buffer: self.buffer,
            kind: PhantomData,
        }
    }
}
