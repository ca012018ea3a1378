//! Messages with descriptors over local sockets: `SCM_RIGHTS`, `unix(7)`.

use std::collections::BTreeSet;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

/// Most descriptors in one message: a command's three.
pub const MAX_FDS: usize = 3;

/// A connected pair of `SOCK_SEQPACKET` sockets, close-on-exec: one message is one record.
///
/// # Errors
/// Those of `socketpair(2)`.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Sends one message with its descriptors, without raising `SIGPIPE`.
///
/// # Errors
/// Those of `sendmsg(2)`; `WriteZero` if the message did not go out whole.
pub fn send_with_fds(socket: &impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let sent = loop {
        match sendmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Receives one message into `buffer`; the descriptors that came with it are close-on-exec.
/// A length of 0 is the end of the connection.
///
/// # Errors
/// Those of `recvmsg(2)`; `InvalidData` if the message or its descriptors did not fit: what was
/// received is closed, nothing of it is used.
pub fn recv_with_fds(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = match recvmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        let mut fds = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                for fd in raw {
                    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
                    fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        // Padding of the control buffer may let one more through than was asked for.
        let cut = message
            .flags
            .intersects(MsgFlags::MSG_CTRUNC | MsgFlags::MSG_TRUNC);
        if cut || fds.len() > MAX_FDS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "message too long",
            ));
        }
        return Ok((message.bytes, fds));
    }
}

/// Takes over a descriptor that this program was started with, once; it becomes close-on-exec.
///
/// # Errors
/// `NotFound` if no such descriptor is open, or it was taken before.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());
    let first = TAKEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(number);
    if number < 3 || !first {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: only sets a flag; fails if the descriptor is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: it is open, programs take it before they open anything of their own, and the set
    // above gives each number away once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets `poll(2)` call a stream socket readable only once `bytes` have arrived (or its peer has
/// ended): `SO_RCVLOWAT`, `socket(7)`. The kernel's default is 1.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn readable_at(socket: &impl AsFd, bytes: u16) -> io::Result<()> {
    let value = libc::c_int::from(bytes);
    // SAFETY: the descriptor is open for the borrow, and the kernel reads one int.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads a file that several processes share from its start, without moving its offset.
///
/// # Errors
/// Those of `pread(2)`; `InvalidData` above `limit` bytes.
pub fn read_shared(file: &impl AsFd, limit: usize) -> io::Result<Vec<u8>> {
    let file = std::fs::File::from(file.as_fd().try_clone_to_owned()?);
    let mut bytes = vec![
        0;
        usize::try_from(file.metadata()?.len())
            .unwrap_or(usize::MAX)
            .min(limit + 1)
    ];
    file.read_exact_at(&mut bytes, 0)?;
    if bytes.len() > limit {
        Err(io::ErrorKind::InvalidData.into())
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_message() {
        let (a, b) = seqpacket_pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        send_with_fds(&a, b"take", &[file.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let (n, mut fds) = recv_with_fds(&b, &mut buffer).unwrap();
        assert_eq!((&buffer[..n], fds.len()), (&b"take"[..], 1));
        let mut got = std::fs::File::from(fds.remove(0));
        got.rewind().unwrap();
        let mut text = String::new();
        got.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        drop(a);
        assert_eq!(recv_with_fds(&b, &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn too_long_is_refused_and_the_next_message_is_whole() {
        let (a, b) = seqpacket_pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send_with_fds(&a, &[1; 100], &[]).unwrap();
        send_with_fds(&a, b"x", &[file.as_fd(); MAX_FDS + 1]).unwrap();
        send_with_fds(&a, b"next", &[]).unwrap();
        let mut buffer = [0; 16];
        for _ in 0..2 {
            let error = recv_with_fds(&b, &mut buffer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(recv_with_fds(&b, &mut buffer).unwrap().0, 4);
    }
}
