//! Landlock (`landlock(7)`): a process gives up files, TCP and signals for good, without privilege.
//! Which ones is the caller's list. Where the kernel knows only a part of it, that part holds.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
/// Removing and making of every kind, bits 4 to 12.
const CHANGE_DIR: u64 = 0x1ff0;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// Rights that a rule on a file, not a folder, may give.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
/// Binding and connecting TCP sockets.
const ALL_TCP: u64 = 3;
/// Abstract Unix sockets and signals.
const SCOPE_ABSTRACT: u64 = 1;
const SCOPE_SIGNAL: u64 = 2;

/// What is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Give {
    /// Reading and running files, but for those granted; writing is always given up.
    pub reading: bool,
    /// Binding and connecting TCP sockets.
    pub tcp: bool,
    /// Abstract Unix sockets of processes outside.
    pub abstract_sockets: bool,
}

/// A file or folder, with all below it, that stays reachable.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// Where it is; one that is not there is passed over.
    pub path: &'a Path,
    /// Whether it may be changed as well as read.
    pub write: bool,
}

/// `struct landlock_ruleset_attr`.
#[repr(C)]
struct Ruleset {
    fs: u64,
    net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// Restricts the calling thread and all that it starts from now on; needs `no_new_privs`. Gives the
/// version of Landlock that holds: 0 is none, from 4 on TCP counts, from 6 on signals do.
///
/// # Errors
/// Those of the system calls; a kernel without Landlock is none.
pub fn restrict(give: Give, grants: &[Grant<'_>]) -> io::Result<u32> {
    let Some(version) = version() else {
        return Ok(0);
    };
    let since = |abi: u32, bits: u64| if version >= abi { bits } else { 0 };
    let writing = WRITE_FILE | CHANGE_DIR | since(2, REFER) | since(3, TRUNCATE);
    let reading = if give.reading {
        READ_FILE | READ_DIR
    } else {
        0
    };
    let handled = EXECUTE | writing | reading | since(5, IOCTL_DEV);
    let scopes = SCOPE_SIGNAL
        | if give.abstract_sockets {
            SCOPE_ABSTRACT
        } else {
            0
        };
    let attributes = Ruleset {
        fs: handled,
        net: if give.tcp { since(4, ALL_TCP) } else { 0 },
        scoped: since(6, scopes),
    };
    // Older kernels know a shorter structure.
    let size = match version {
        ..4 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    // SAFETY: the kernel reads `size` bytes of the structure, which has 24.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size as libc::size_t,
            0,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    for grant in grants {
        // What can be written is not run.
        let rights = if grant.write {
            READ_FILE | READ_DIR | writing | IOCTL_DEV
        } else {
            EXECUTE | READ_FILE | READ_DIR
        };
        allow(&ruleset, grant.path, rights & handled)?;
    }
    // SAFETY: takes a descriptor that is open.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    if done == 0 {
        Ok(version)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn version() -> Option<u32> {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: u32 = 1;
    // SAFETY: with this flag the kernel takes no structure.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0 as libc::size_t,
            VERSION,
        )
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

fn allow(ruleset: &OwnedFd, path: &Path, rights: u64) -> io::Result<()> {
    /// `LANDLOCK_RULE_PATH_BENEATH`.
    const PATH_BENEATH: u32 = 1;
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let of_kind = if file.metadata()?.is_dir() {
        !0
    } else {
        OF_FILES
    };
    let rule = PathBeneath {
        allowed: rights & of_kind,
        parent: file.as_raw_fd(),
    };
    // SAFETY: the kernel reads one structure; both descriptors are open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            PATH_BENEATH,
            &raw const rule,
            0,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The restriction stays for the life of its thread, so the test takes one of its own.
    fn inside(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            scope.spawn(test).join().unwrap();
        });
    }

    #[test]
    fn what_is_not_granted_is_gone() {
        if version().is_none() {
            println!("skipped: landlock: this kernel has none");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (open, closed) = (folder.path().join("open"), folder.path().join("closed"));
        std::fs::create_dir(&open).unwrap();
        std::fs::write(&closed, "secret").unwrap();
        std::fs::write(open.join("file"), "text").unwrap();
        inside(|| {
            let give = Give {
                reading: true,
                tcp: true,
                abstract_sockets: true,
            };
            let missing = folder.path().join("missing");
            crate::process::no_new_privs().unwrap();
            let version = restrict(
                give,
                &[
                    Grant {
                        path: &open,
                        write: true,
                    },
                    Grant {
                        path: &missing,
                        write: false,
                    },
                ],
            )
            .unwrap();
            assert_eq!(std::fs::read(open.join("file")).unwrap(), b"text");
            std::fs::write(open.join("new"), "x").unwrap();
            std::fs::rename(open.join("new"), open.join("other")).unwrap();
            let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
            assert!(std::fs::read(&closed).is_err_and(denied));
            assert!(std::fs::write(&closed, "x").is_err_and(denied));
            assert!(std::fs::read_dir(folder.path()).is_err_and(denied));
            let link = open.join("link");
            std::os::unix::fs::symlink(&closed, &link).unwrap();
            assert!(std::fs::read(&link).is_err_and(denied));
            if version >= 4 {
                let listener = std::net::TcpListener::bind("127.0.0.1:0");
                assert!(listener.is_err_and(denied));
            }
        });
        assert_eq!(std::fs::read(&closed).unwrap(), b"secret");
    }
}
