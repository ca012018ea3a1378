//! An open file: reading, writing, syncing, copying, closing. Each call does all that was asked for
//! or says why not; nothing is acknowledged before the kernel has taken it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, PosixFadviseAdvice, copy_file_range, posix_fadvise};
use nix::sys::stat::Mode;

use crate::attributes::Attributes;
use crate::handles::{Handle, Handles, Open};
use crate::packet::{MAX_DATA, Packet};
use crate::paths::Paths;
use crate::refusal::Refusal;
use crate::reply;
use crate::request::OpenFlags;

/// How far the kernel is asked to read ahead of a client that reads in order: several requests of
/// the largest size, since each stripe of a parallel file system answers on its own.
const AHEAD: u64 = 8 * 1024 * 1024;
/// Reads in order before that begins.
const IN_ORDER: u32 = 4;
/// Bytes that are copied in one call, so that a copy can be seen to move.
const COPY: u64 = 64 * 1024 * 1024;
/// OpenSSH copies in pieces of this size, which decides when an early end is an error.
const PIECE: u64 = 64 * 1024;

/// What is known of how a file is read.
#[derive(Debug, Default)]
pub struct Ahead {
    next: u64,
    in_order: u32,
    /// Up to where the kernel knows.
    advised: u64,
}

impl Ahead {
    /// Notes a read, and tells the kernel what comes after it.
    fn note(&mut self, file: &File, offset: u64, length: usize) {
        self.in_order = if offset == self.next {
            self.in_order + 1
        } else {
            0
        };
        self.next = offset.saturating_add(length as u64);
        if self.in_order < IN_ORDER {
            self.advised = self.next;
        } else if self.next + AHEAD / 2 > self.advised {
            let from = self.advised.max(self.next);
            let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
            if let (Ok(from), Ok(length)) = (i64::try_from(from), i64::try_from(AHEAD)) {
                // Advice only: a file system that takes none is read as well.
                let _ = posix_fadvise(file, from, length, advice);
            }
            self.advised = from + AHEAD;
        }
        if self.in_order == IN_ORDER {
            let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
        }
    }
}

/// The flags of `open(2)` for those of a client. Neither reading nor writing is reading.
fn kernel_flags(flags: OpenFlags) -> OFlag {
    let mut result = match (flags.any(OpenFlags::READ), flags.any(OpenFlags::WRITE)) {
        (true, true) => OFlag::O_RDWR,
        (false, true) => OFlag::O_WRONLY,
        _ => OFlag::O_RDONLY,
    };
    for (bit, flag) in [
        (OpenFlags::APPEND, OFlag::O_APPEND),
        (OpenFlags::CREATE, OFlag::O_CREAT),
        (OpenFlags::TRUNCATE, OFlag::O_TRUNC),
        (OpenFlags::EXCLUSIVE, OFlag::O_EXCL),
    ] {
        if flags.any(bit) {
            result |= flag;
        }
    }
    result
}

/// The permissions that an open may give to a new file.
pub fn mode(attributes: &Attributes) -> u32 {
    attributes.permissions.unwrap_or(0o666)
}

/// `SSH_FXP_OPEN`.
///
/// # Errors
/// Those of `open(2)`.
pub fn open(
    handles: &Handles,
    paths: &Paths,
    id: u32,
    path: &[u8],
    flags: OpenFlags,
    attributes: &Attributes,
) -> Result<Packet, Refusal> {
    let mode = Mode::from_bits_truncate(mode(attributes));
    let file = paths.open(path, kernel_flags(flags), mode)?.into();
    let open = Open::File {
        file,
        ahead: Ahead::default(),
    };
    let appends = flags.any(OpenFlags::APPEND);
    Ok(reply::handle(
        id,
        handles.insert(paths, path, appends, open),
    ))
}

/// `SSH_FXP_READ`: as much as one call of `pread(2)` gives, at most [`MAX_DATA`].
///
/// # Errors
/// Those of `pread(2)`, [`Refusal::End`].
pub fn read(handle: &Handle, id: u32, offset: u64, length: u32) -> Result<Packet, Refusal> {
    let length = MAX_DATA.min(length as usize);
    let Open::File { file, ahead } = &mut *handle.lock() else {
        return Err(Refusal::WrongHandle);
    };
    position(offset)?;
    let mut packet = Packet::with_room(reply::DATA_HEADER + length);
    if length == 0 {
        return Ok(reply::data(id, packet, 0));
    }
    let got = loop {
        match file.read_at(&mut packet[reply::DATA_HEADER..], offset) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if got == 0 {
        return Err(Refusal::End);
    }
    ahead.note(file, offset, got);
    handle.count_read(got);
    Ok(reply::data(id, packet, got))
}

/// `SSH_FXP_WRITE`: all of it.
///
/// # Errors
/// Those of `pwrite(2)`: a part of the bytes may be in the file then, as with any failed write.
pub fn write(handle: &Handle, offset: u64, data: &[u8]) -> Result<(), Refusal> {
    let Open::File { file, .. } = &*handle.lock() else {
        return Err(Refusal::WrongHandle);
    };
    // Linux writes to the end of a file that was opened to append, wherever pwrite(2) points.
    let offset = if handle.appends { 0 } else { offset };
    position(offset)?;
    write_all(file, offset, data)?;
    handle.count_written(data.len());
    Ok(())
}

fn write_all(file: &File, mut offset: u64, mut data: &[u8]) -> Result<(), Refusal> {
    loop {
        match file.write_at(data, offset) {
            Ok(0) if !data.is_empty() => return Err(Errno::EIO.into()),
            Ok(written) => {
                data = data.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if data.is_empty() {
            return Ok(());
        }
    }
}

/// Offsets of the kernel are signed.
fn position(offset: u64) -> Result<i64, Errno> {
    i64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// `SSH_FXP_FSTAT`.
///
/// # Errors
/// Those of `fstat(2)`.
pub fn stat(handle: &Handle, id: u32) -> Result<Packet, Refusal> {
    match &*handle.lock() {
        Open::File { file, .. } => Ok(reply::attributes(id, &nix::sys::stat::fstat(file)?)),
        _ => Err(Refusal::WrongHandle),
    }
}

/// `fstatvfs@openssh.com`.
///
/// # Errors
/// Those of `fstatvfs(3)`.
pub fn file_system(handle: &Handle, id: u32) -> Result<Packet, Refusal> {
    match &*handle.lock() {
        Open::File { file, .. } => Ok(reply::file_system(id, &nix::sys::statvfs::fstatvfs(file)?)),
        _ => Err(Refusal::WrongHandle),
    }
}

/// `fsync@openssh.com`.
///
/// # Errors
/// Those of `fsync(2)`.
pub fn sync(handle: &Handle) -> Result<(), Refusal> {
    match &*handle.lock() {
        Open::File { file, .. } => Ok(nix::unistd::fsync(file)?),
        _ => Err(Refusal::NoSuchHandle),
    }
}

/// `SSH_FXP_CLOSE`: what `close(2)` says is said on, since that is where a quota may be found
/// exceeded.
///
/// # Errors
/// Those of `close(2)`.
pub fn close(handle: &Handle) -> Result<(), Refusal> {
    match std::mem::replace(&mut *handle.lock(), Open::Closed) {
        Open::File { file, .. } => Ok(nix::unistd::close(file)?),
        Open::Folder(_) => Ok(()),
        Open::Closed => Err(Refusal::NoSuchHandle),
    }
}

/// `copy-data` (draft-ietf-secsh-filexfer-extensions-00, section 7): inside the kernel where the
/// file system can. A length of 0 copies to the end.
///
/// # Errors
/// [`Refusal::End`] if the source ends before the last 64 KiB of what was asked for (OpenSSH forgives
/// an end in those); [`Refusal::Same`]; those of `copy_file_range(2)`, `pread(2)` and `pwrite(2)`.
pub fn copy(
    from: &Handle,
    offset: u64,
    length: u64,
    to: &Handle,
    to_offset: u64,
) -> Result<(), Refusal> {
    if from.id == to.id || from.path == to.path {
        return Err(Refusal::Same);
    }
    // The order of the locks is that of the numbers; nobody waits for the other way round.
    let (one, other) = if from.id < to.id {
        let one = from.lock();
        (one, to.lock())
    } else {
        let other = to.lock();
        (from.lock(), other)
    };
    let (Open::File { file: source, .. }, Open::File { file: target, .. }) = (&*one, &*other)
    else {
        return Err(Refusal::WrongHandle);
    };
    position(offset)?;
    let mut to_offset = if to.appends { 0 } else { to_offset };
    position(to_offset)?;
    let mut offset = offset;
    let mut left = if length == 0 { u64::MAX } else { length };
    // Not for files that are appended to (EBADF), across file systems of old kernels, or /proc.
    let mut in_kernel = !to.appends;
    while left > 0 {
        let copied = if in_kernel {
            match in_one_call(source, offset, target, to_offset, left.min(COPY)) {
                // Special files call themselves empty: what is read decides.
                Ok(0) | Err(Errno::EXDEV | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                    in_kernel = false;
                    continue;
                }
                Err(Errno::EINTR) => continue,
                other => other?,
            }
        } else {
            through_memory(source, offset, target, to_offset, left)?
        };
        if copied == 0 {
            let done = length.wrapping_sub(left).div_ceil(PIECE);
            let forgiven = length == 0 || done + 1 >= length.div_ceil(PIECE);
            return if forgiven { Ok(()) } else { Err(Refusal::End) };
        }
        from.count_read(copied);
        to.count_written(copied);
        offset += copied as u64;
        to_offset += copied as u64;
        left -= copied as u64;
    }
    Ok(())
}

fn in_one_call(
    source: impl AsFd,
    offset: u64,
    target: impl AsFd,
    to_offset: u64,
    length: u64,
) -> Result<usize, Errno> {
    let (mut offset, mut to_offset) = (position(offset)?, position(to_offset)?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    copy_file_range(
        source,
        Some(&mut offset),
        target,
        Some(&mut to_offset),
        length,
    )
}

fn through_memory(
    source: &File,
    offset: u64,
    target: &File,
    to_offset: u64,
    length: u64,
) -> Result<usize, Refusal> {
    let length = usize::try_from(length).unwrap_or(MAX_DATA).min(MAX_DATA);
    let mut buffer = Packet::with_room(length);
    let got = loop {
        match source.read_at(&mut buffer, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if got > 0 {
        write_all(target, to_offset, &buffer[..got])?;
    }
    Ok(got)
}
