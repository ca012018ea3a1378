//! The home at the first login: made by root, owned by the user, never taken from anybody.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Component, Path};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

/// Makes `home` with mode 0700 unless something is there. True if it was made now.
///
/// It is made under another name, given to the user, and then renamed: whoever looks sees no home
/// or a finished one, and two first logins at once make one.
///
/// # Errors
/// If the path is not absolute and plain, or the file system refuses (a root-squashed one does).
pub fn make(home: &Path, uid: u32, gid: u32) -> io::Result<bool> {
    let plain = home
        .components()
        .skip(1)
        .all(|part| matches!(part, Component::Normal(_)));
    let (Some(parent), Some(name), true) = (home.parent(), home.file_name(), plain) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an absolute, plain path",
        ));
    };
    if !home.is_absolute() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an absolute, plain path",
        ));
    }
    if std::fs::symlink_metadata(home).is_ok() {
        return Ok(false);
    }
    let folder = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = match Dir::openat(AT_FDCWD, parent, folder, Mode::empty()) {
        Err(Errno::ENOENT) => {
            std::fs::DirBuilder::new().recursive(true).create(parent)?;
            Dir::openat(AT_FDCWD, parent, folder, Mode::empty())?
        }
        other => other?,
    };
    let mut fresh = OsStr::new(".new-").to_owned();
    fresh.push(name);
    fresh.push(format!(".{}", std::process::id()));
    mkdirat(parent.as_fd(), fresh.as_os_str(), Mode::S_IRWXU)?;
    let placed = (|| {
        let made = Dir::openat(
            parent.as_fd(),
            fresh.as_os_str(),
            folder | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )?;
        fchown(
            made.as_fd(),
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
        )?;
        renameat2(
            parent.as_fd(),
            fresh.as_os_str(),
            parent.as_fd(),
            name,
            RenameFlags::RENAME_NOREPLACE,
        )
    })();
    if placed.is_err() {
        let _ = unlinkat(parent.as_fd(), fresh.as_os_str(), UnlinkatFlags::RemoveDir);
    }
    match placed {
        Ok(()) => Ok(true),
        // Another login was faster.
        Err(Errno::EEXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn made_once_with_mode_and_owner() {
        let folder = tempfile::tempdir().unwrap();
        let me = (Uid::effective().as_raw(), nix::unistd::getegid().as_raw());
        let home = folder.path().join("group/alice");
        assert!(make(&home, me.0, me.1).unwrap());
        let meta = std::fs::metadata(&home).unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.gid()),
            (0o700, me.0, me.1)
        );
        assert!(!make(&home, me.0, me.1).unwrap());
        assert_eq!(
            std::fs::read_dir(folder.path().join("group"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn a_link_or_a_strange_path_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("bob");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(!make(&link, 1, 1).unwrap());
        for bad in ["relative/alice", "/", "/home/../etc/alice"] {
            assert!(make(Path::new(bad), 1, 1).is_err(), "{bad}");
        }
    }
}
