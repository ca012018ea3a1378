//! An open folder, and making and removing folders.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::listing;
use crate::packet::Packet;
use crate::paths::Paths;
use crate::people::People;
use crate::refusal::Refusal;
use crate::reply::{self, Names};

/// An answer is sent when it has grown to this many bytes: draft-ietf-secsh-filexfer-02, section 3,
/// lets a client stop at 34,000, and an entry has at most about 900.
const ENOUGH: usize = 32_000;

/// An open folder with its position.
pub struct Folder {
    entries: OwningIter,
    /// The same folder, to look its entries up in.
    folder: OwnedFd,
    path: Vec<u8>,
    ended: bool,
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Folder {
    /// Opens a folder.
    ///
    /// # Errors
    /// Those of `opendir(3)`.
    pub fn open(paths: &Paths, path: &[u8]) -> Result<Self, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
        let folder = paths.open(path, flags, Mode::empty())?;
        let again = folder.try_clone().map_err(|_| Errno::last())?;
        Ok(Self {
            entries: Dir::from_fd(folder)?.into_iter(),
            folder: again,
            path: paths.absolute(path),
            ended: false,
        })
    }

    /// The next names.
    ///
    /// # Errors
    /// [`Refusal::End`] behind the last one.
    pub fn read(&mut self, id: u32, paths: &Paths, people: &People) -> Result<Packet, Refusal> {
        let mut names = Names::new(id);
        while !self.ended && names.length() < ENOUGH {
            // An error of the folder ends it too, as with readdir(3) in OpenSSH.
            let Some(Ok(entry)) = self.entries.next() else {
                self.ended = true;
                break;
            };
            let name = entry.file_name();
            // What was removed in the meantime is left out.
            let Ok(stat) = self.look(paths, name) else {
                continue;
            };
            let long = listing::line(people, name.to_bytes(), &stat);
            names.push(name.to_bytes(), &long, &stat);
        }
        names.end().ok_or(Refusal::End)
    }

    fn look(&self, paths: &Paths, name: &CStr) -> Result<FileStat, Errno> {
        if paths.are_confined() && name.to_bytes() == b".." {
            // What lies above the root is not shown.
            let above = [&self.path, &b"/.."[..]].concat();
            return paths.stat(&above).or_else(|_| self.look(paths, c"."));
        }
        fstatat(&self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }
}

/// `SSH_FXP_MKDIR`.
///
/// # Errors
/// Those of `mkdir(2)`.
pub fn make(paths: &Paths, path: &[u8], mode: u32) -> Result<(), Refusal> {
    let place = paths.entry(path)?;
    Ok(mkdirat(
        place.folder(),
        place.name(),
        Mode::from_bits_truncate(mode),
    )?)
}

/// `SSH_FXP_RMDIR`.
///
/// # Errors
/// Those of `rmdir(2)`.
pub fn remove(paths: &Paths, path: &[u8]) -> Result<(), Refusal> {
    let place = paths.entry(path)?;
    Ok(unlinkat(
        place.folder(),
        place.name(),
        UnlinkatFlags::RemoveDir,
    )?)
}

/// The names that a folder's handle gives next, as an answer.
///
/// # Errors
/// Those of [`Folder::read`]; [`Refusal::WrongHandle`].
pub fn answer(
    handle: &crate::handles::Handle,
    id: u32,
    paths: &Paths,
    people: &People,
) -> Result<Packet, Refusal> {
    match &mut *handle.lock() {
        crate::handles::Open::Folder(folder) => folder.read(id, paths, people),
        _ => Err(Refusal::WrongHandle),
    }
}

/// `SSH_FXP_OPENDIR`.
///
/// # Errors
/// Those of `opendir(3)`.
pub fn open(
    handles: &crate::handles::Handles,
    paths: &Paths,
    id: u32,
    path: &[u8],
) -> Result<Packet, Refusal> {
    let folder = crate::handles::Open::Folder(Folder::open(paths, path)?);
    Ok(reply::handle(
        id,
        handles.insert(paths, path, false, folder),
    ))
}
