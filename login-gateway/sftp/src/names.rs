//! What is done to files by name: looking, renaming, linking, removing, resolving. Setting
//! attributes lives in `change`.

use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::SFlag;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use crate::packet::Packet;
use crate::paths::{Paths, Place};
use crate::people::People;
use crate::realpath;
use crate::refusal::Refusal;
use crate::reply;

/// `SSH_FXP_STAT`.
///
/// # Errors
/// Those of `stat(2)`.
pub fn stat(paths: &Paths, id: u32, path: &[u8]) -> Result<Packet, Refusal> {
    Ok(reply::attributes(id, &paths.stat(path)?))
}

/// `SSH_FXP_LSTAT`.
///
/// # Errors
/// Those of `lstat(2)`.
pub fn lstat(paths: &Paths, id: u32, path: &[u8]) -> Result<Packet, Refusal> {
    Ok(reply::attributes(id, &paths.lstat(path)?))
}

/// `statvfs@openssh.com`.
///
/// # Errors
/// Those of `statvfs(3)`.
pub fn file_system(paths: &Paths, id: u32, path: &[u8]) -> Result<Packet, Refusal> {
    // Without a root the place is the path itself: statvfs(3) begins at the working folder too.
    let place = paths.followed(path)?;
    Ok(reply::file_system(
        id,
        &nix::sys::statvfs::statvfs(place.name())?,
    ))
}

/// `SSH_FXP_READLINK`.
///
/// # Errors
/// Those of `readlink(2)`.
pub fn readlink(paths: &Paths, id: u32, path: &[u8]) -> Result<Packet, Refusal> {
    Ok(reply::name(id, paths.readlink(path)?.as_bytes()))
}

/// `SSH_FXP_SYMLINK`. Where the link leads is nobody's business until it is followed.
///
/// # Errors
/// Those of `symlink(2)`.
pub fn symlink(paths: &Paths, target: &[u8], link: &[u8]) -> Result<(), Refusal> {
    let place = paths.entry(link)?;
    Ok(symlinkat(target, place.folder(), place.name())?)
}

/// `SSH_FXP_REMOVE`.
///
/// # Errors
/// Those of `unlink(2)`.
pub fn remove(paths: &Paths, path: &[u8]) -> Result<(), Refusal> {
    Ok(unlink(&paths.entry(path)?)?)
}

fn unlink(place: &Place) -> Result<(), Errno> {
    unlinkat(place.folder(), place.name(), UnlinkatFlags::NoRemoveDir)
}

/// `hardlink@openssh.com`. A symbolic link is linked, not what it leads to.
///
/// # Errors
/// Those of `link(2)`.
pub fn hardlink(paths: &Paths, old: &[u8], new: &[u8]) -> Result<(), Refusal> {
    let Some(old_place) = paths.object(old)? else {
        // What is said to be a folder is one, or an error; and a folder gets no second name.
        paths.stat(old)?;
        paths.entry(new)?;
        let end = new
            .iter()
            .rposition(|b| *b != b'/')
            .map_or(1, |last| last + 1);
        let there = paths.lstat(&new[..end]).is_ok();
        return Err(if there { Errno::EEXIST } else { Errno::EPERM }.into());
    };
    Ok(link(&old_place, &paths.entry(new)?)?)
}

fn link(old: &Place, new: &Place) -> Result<(), Errno> {
    linkat(
        old.folder(),
        old.name(),
        new.folder(),
        new.name(),
        AtFlags::empty(),
    )
}

/// `posix-rename@openssh.com`: replaces what has the new name.
///
/// # Errors
/// Those of `rename(2)`.
pub fn posix_rename(paths: &Paths, old: &[u8], new: &[u8]) -> Result<(), Refusal> {
    Ok(rename_over(&paths.entry(old)?, &paths.entry(new)?)?)
}

fn rename_over(old: &Place, new: &Place) -> Result<(), Errno> {
    renameat(old.folder(), old.name(), new.folder(), new.name())
}

/// `SSH_FXP_RENAME`: never replaces. Files are linked and unlinked, so that nothing can come
/// between; where that cannot be, and for folders, the new name is looked at first.
///
/// # Errors
/// [`Refusal::Exists`]; those of `link(2)`, `unlink(2)` and `rename(2)`.
pub fn rename(paths: &Paths, old: &[u8], new: &[u8]) -> Result<(), Refusal> {
    let kind = paths.lstat(old)?.st_mode & SFlag::S_IFMT.bits();
    let (from, to) = (paths.entry(old)?, paths.entry(new)?);
    if kind == SFlag::S_IFREG.bits() {
        match link(&from, &to) {
            Ok(()) => {
                return Ok(unlink(&from).inspect_err(|_| {
                    let _ = unlink(&to);
                })?);
            }
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EXDEV) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if paths.stat(new).is_ok() {
        return Err(Refusal::Exists);
    }
    Ok(rename_over(&from, &to)?)
}

/// `SSH_FXP_REALPATH`; nothing is the start folder.
///
/// # Errors
/// Those of [`realpath::resolve`].
pub fn real(paths: &Paths, id: u32, path: &[u8]) -> Result<Packet, Refusal> {
    let path = if path.is_empty() { b"." } else { path };
    Ok(reply::name(id, &realpath::resolve(paths, path)?))
}

/// `expand-path@openssh.com`: as above, and `~` is the start folder, `~name` somebody's home.
///
/// # Errors
/// [`Refusal::NoSuchUser`], those of [`realpath::resolve`].
pub fn expand(paths: &Paths, people: &People, id: u32, path: &[u8]) -> Result<Packet, Refusal> {
    let path = match path {
        b"~" => paths.start().to_vec(),
        [b'~', b'/', rest @ ..] => [paths.start(), b"/", rest].concat(),
        [b'~', rest @ ..] => {
            let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
            let home = people.home(&rest[..end]).ok_or(Refusal::NoSuchUser)?;
            [&home, &rest[end..]].concat()
        }
        path => path.to_vec(),
    };
    real(paths, id, &path)
}
