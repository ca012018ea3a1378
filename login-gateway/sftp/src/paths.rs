//! From a client's path to something the kernel can act on, with or without a confined root.
//!
//! Without a root, paths go to the kernel as they came. With one, each is resolved by
//! `openat2(2)` with `RESOLVE_IN_ROOT`: `..` and absolute links stay inside, whatever is renamed
//! meanwhile, and no privilege is needed. Nothing below ever follows a link of its own accord.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

/// How often a path is tried again that was renamed while it was resolved.
const TRIES: usize = 64;

/// Where a client's paths lead.
#[derive(Debug)]
pub struct Paths {
    root: Option<OwnedFd>,
    /// Where relative paths begin, as the client sees it.
    start: Vec<u8>,
}

/// A name in a folder, for calls of the `*at` kind.
#[derive(Debug)]
pub struct Place {
    folder: Option<OwnedFd>,
    name: Vec<u8>,
    /// What `name` refers to, if it is a name in `/proc`.
    _object: Option<OwnedFd>,
}

impl Place {
    /// The folder.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_ref().map_or(AT_FDCWD, AsFd::as_fd)
    }

    /// The name in it.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    fn as_given(path: &[u8]) -> Self {
        Self {
            folder: None,
            name: path.to_vec(),
            _object: None,
        }
    }
}

impl Paths {
    /// Paths as the kernel sees them.
    ///
    /// # Errors
    /// If there is no working folder.
    pub fn whole() -> Result<Self, Errno> {
        use std::os::unix::ffi::OsStringExt;
        let start = nix::unistd::getcwd()?.into_os_string().into_vec();
        Ok(Self { root: None, start })
    }

    /// Paths inside `root`; relative ones begin in `start`, a path inside it.
    ///
    /// # Errors
    /// If `root` or `start` is no folder, the kernel has no `openat2(2)` (Linux 5.6), or `/proc` is
    /// not mounted.
    pub fn confined(root: &Path, start: &[u8]) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut paths = Self {
            root: Some(openat(AT_FDCWD, root, flags, Mode::empty())?),
            start: b"/".to_vec(),
        };
        paths.start = crate::realpath::resolve(&paths, start)?;
        paths.open(
            &paths.start,
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            Mode::empty(),
        )?;
        let place = paths.followed(b"/")?;
        fstatat(place.folder(), place.name(), AtFlags::empty())?;
        Ok(paths)
    }

    /// If there is a confined root.
    pub fn are_confined(&self) -> bool {
        self.root.is_some()
    }

    /// Where relative paths begin.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The path from the root on, as text; links in it are not looked at.
    pub fn absolute(&self, path: &[u8]) -> Vec<u8> {
        if path.starts_with(b"/") {
            path.to_vec()
        } else {
            [&self.start, &b"/"[..], path].concat()
        }
    }

    /// Opens a file or a folder.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(&self, path: &[u8], flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut flags = flags | OFlag::O_CLOEXEC;
        if !flags.contains(OFlag::O_PATH) {
            flags |= OFlag::O_NOCTTY;
        }
        let Some(root) = &self.root else {
            return openat(AT_FDCWD, path, flags, mode);
        };
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mode = if flags.contains(OFlag::O_CREAT) {
            mode
        } else {
            Mode::empty()
        };
        let how = OpenHow::new()
            .flags(flags)
            .mode(mode)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let path = self.absolute(path);
        for _ in 0..TRIES {
            match openat2(root, path.as_slice(), how) {
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// What the path leads to, links followed to the end.
    ///
    /// # Errors
    /// Those of `open(2)` with `O_PATH`.
    pub fn followed(&self, path: &[u8]) -> Result<Place, Errno> {
        if self.root.is_none() {
            return Ok(Place::as_given(path));
        }
        let object = self.open(path, OFlag::O_PATH, Mode::empty())?;
        Ok(Place {
            folder: None,
            // The kernel leads this name to the object itself, without resolving a path again.
            name: format!("/proc/self/fd/{}", object.as_raw_fd()).into_bytes(),
            _object: Some(object),
        })
    }

    /// The last component of the path in its folder, for calls that take a name and follow nothing:
    /// making, removing, renaming, and linking to. The kernel refuses `.` and `..` there itself, and
    /// a slash behind a name only says that it must be a folder.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn entry(&self, path: &[u8]) -> Result<Place, Errno> {
        if self.root.is_none() {
            return Ok(Place::as_given(path));
        }
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let (folder, name) = split(path);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        Ok(Place {
            folder: Some(self.open(folder, flags, Mode::empty())?),
            name: name.to_vec(),
            _object: None,
        })
    }

    /// As [`Self::entry`], for calls that would follow a name with a slash behind it, or a `..`:
    /// `None` if it is one of these.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn object(&self, path: &[u8]) -> Result<Option<Place>, Errno> {
        let (_, name) = split(path);
        let follows = name.ends_with(b"/") || name == b"." || name == b"..";
        if self.root.is_some() && follows {
            return Ok(None);
        }
        self.entry(path).map(Some)
    }

    /// `lstat(2)`.
    ///
    /// # Errors
    /// Those of `lstat(2)`.
    pub fn lstat(&self, path: &[u8]) -> Result<FileStat, Errno> {
        match &self.root {
            None => fstatat(AT_FDCWD, path, AtFlags::AT_SYMLINK_NOFOLLOW),
            Some(_) => fstat(self.open_link(path)?),
        }
    }

    /// `stat(2)`.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    pub fn stat(&self, path: &[u8]) -> Result<FileStat, Errno> {
        match &self.root {
            None => fstatat(AT_FDCWD, path, AtFlags::empty()),
            Some(_) => fstat(self.open(path, OFlag::O_PATH, Mode::empty())?),
        }
    }

    /// `readlink(2)`.
    ///
    /// # Errors
    /// Those of `readlink(2)`.
    pub fn readlink(&self, path: &[u8]) -> Result<OsString, Errno> {
        match &self.root {
            None => readlinkat(AT_FDCWD, path),
            // An empty name means the descriptor itself, and what is no link is not there then.
            Some(_) => match readlinkat(self.open_link(path)?, "") {
                Err(Errno::ENOENT) => Err(Errno::EINVAL),
                other => other,
            },
        }
    }

    fn open_link(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())
    }
}

/// The folder of a path, and its last component with the slashes behind it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let Some(last) = path.iter().rposition(|b| *b != b'/') else {
        return (b"/", b".");
    };
    match path[..last].iter().rposition(|b| *b == b'/') {
        Some(slash) => path.split_at(slash + 1),
        None => (b".", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        for (path, folder, name) in [
            ("a", ".", "a"),
            ("/a", "/", "a"),
            ("a/b", "a/", "b"),
            ("/a//b//", "/a//", "b//"),
            ("a/..", "a/", ".."),
            ("./", ".", "./"),
            ("/", "/", "."),
            ("//", "/", "."),
        ] {
            assert_eq!(
                split(path.as_bytes()),
                (folder.as_bytes(), name.as_bytes()),
                "{path}"
            );
        }
    }
}
