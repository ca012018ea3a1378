//! A login's own view of the machine: a /tmp of the user's, a /proc without other users' processes.
//! They are mounts in a namespace of this monitor, which the session and all that it starts inherit.
//!
//! mount(2) and unshare(2) need CAP_SYS_ADMIN, which the chart does not give.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gateway_wire::{Policy, Settings};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};

/// What becomes the user's own, and the name of its folder.
const SHARED: [(&str, &str); 2] = [("/tmp", "tmp"), ("/var/tmp", "var-tmp")];

/// Why a login does not get the view that its policy wants.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// A namespace of its own, or a mount in it.
    #[error("{0}; it needs CAP_SYS_ADMIN, and a seccomp profile that permits unshare and mount")]
    Mount(&'static str, #[source] Errno),
    /// The folder for private folders.
    #[error("private-tmp-folder '{}'", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// The mounts that are there.
    #[error("read /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
}

/// Gives this process, and whatever it starts from now on, the view that `policy` wants for `uid`.
///
/// # Errors
/// If one part of it cannot be had. The process is then fit for no session.
pub fn enter(settings: &Settings, policy: &Policy, uid: u32) -> Result<(), ViewError> {
    if !policy.private_tmp && !policy.hide_processes {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|e| ViewError::Mount("a mount namespace of its own", e))?;
    // File systems that are mounted later are seen here too; what is mounted here stays here.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    change("its mount namespace", "/", slave)?;
    if policy.private_tmp {
        private_tmp(&settings.private_tmp_folder, uid)?;
    }
    if policy.hide_processes {
        hide_processes()?;
    }
    Ok(())
}

/// Changes a mount that is there.
fn change(what: &'static str, target: &str, flags: MsFlags) -> Result<(), ViewError> {
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .map_err(|e| ViewError::Mount(what, e))
}

fn private_tmp(root: &Path, uid: u32) -> Result<(), ViewError> {
    let folders = folders(root, uid).map_err(|e| ViewError::Folder(root.to_owned(), e))?;
    let mut done: Vec<PathBuf> = Vec::new();
    for ((target, _), folder) in SHARED.into_iter().zip(&folders) {
        // Some images have one of the two as a link to the other, or not at all.
        let Ok(real) = fs::canonicalize(target) else {
            continue;
        };
        if done.contains(&real) {
            continue;
        }
        let strict = statvfs(target).is_ok_and(|now| now.flags().contains(FsFlags::ST_NOEXEC));
        mount(
            Some(folder.as_path()),
            target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|e| ViewError::Mount("a private /tmp", e))?;
        let mut flags =
            MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        flags.set(MsFlags::MS_NOEXEC, strict);
        change("a private /tmp", target, flags)?;
        done.push(real);
    }
    Ok(())
}

/// The user's folders below `root`, made when they are not there. Nobody but root gets past the one
/// that they stand in; each is then what /tmp is to everybody.
fn folders(root: &Path, uid: u32) -> io::Result<Vec<PathBuf>> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder.recursive(true).create(root)?;
    let closed = root.join(uid.to_string());
    trusted(root, 0o022)?;
    builder.create(&closed)?;
    trusted(&closed, 0o077)?;
    let made = SHARED.into_iter().map(|(_, name)| {
        let folder = closed.join(name);
        builder.create(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o1777))?;
        Ok(folder)
    });
    made.collect()
}

/// A folder of ours, without the permissions `closed`.
fn trusted(folder: &Path, closed: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    let owner = nix::unistd::geteuid().as_raw();
    if meta.is_dir() && meta.uid() == owner && meta.mode() & closed == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "'{}' is not a folder of root's that is closed to others",
        folder.display()
    )))
}

/// Mounts /proc anew with `hidepid` (proc(5)). Container runtimes mask files of the old one, or make
/// them read-only, by mounts; these are carried over.
fn hide_processes() -> Result<(), ViewError> {
    let mounts = fs::read("/proc/self/mountinfo").map_err(ViewError::Mounts)?;
    let masks = below_proc(&mounts);
    let masks: Vec<(PathBuf, OwnedFd)> = masks
        .into_iter()
        .map(|path| {
            let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let fd = open(&path, flags, Mode::empty())
                .map_err(|e| ViewError::Mount("what covers a part of /proc", e))?;
            Ok((path, fd))
        })
        .collect::<Result<_, ViewError>>()?;
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        // "invisible"; before Linux 5.8 there were numbers only.
        Some("hidepid=2"),
    )
    .map_err(|e| ViewError::Mount("a /proc of its own", e))?;
    for (path, fd) in masks {
        // Through the new /proc, which has our descriptors as the old one had.
        let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
        mount(
            Some(from.as_str()),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|e| ViewError::Mount("what covers a part of /proc", e))?;
    }
    Ok(())
}

/// Where something is mounted below /proc, in the order of mounting: the fifth field of each line,
/// in which spaces and line ends are octal (proc_pid_mountinfo(5)).
fn below_proc(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|b| *b == b'\n');
    let points = lines.filter_map(|line| line.split(|b| *b == b' ').nth(4));
    let below = points.filter(|point| point.starts_with(b"/proc/"));
    below.map(plain).collect()
}

fn plain(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..3).filter(|_| *first == b'\\');
        let octal = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[3..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_parts_of_proc_is_found() {
        let lines = b"22 1 0:20 / /proc rw,nosuid - proc proc rw\n\
            23 22 0:20 /sys /proc/sys ro - proc proc rw\n\
            24 1 0:21 / /processes rw - tmpfs tmpfs rw\n\
            25 22 0:22 / /proc/a\\040b\\134 ro - tmpfs tmpfs ro\n\nnonsense\n";
        let found = below_proc(lines);
        assert_eq!(found, [Path::new("/proc/sys"), Path::new("/proc/a b\\")]);
        assert_eq!(plain(b"/x\\04"), Path::new("/x\\04"));
    }

    #[test]
    fn folders_are_the_users_and_nobody_elses_way_in() {
        let root = tempfile::tempdir().unwrap();
        let made = folders(&root.path().join("new/tmp"), 4711).unwrap();
        assert_eq!(made.len(), 2);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&made[0]), 0o1777);
        assert_eq!(mode(made[0].parent().unwrap()), 0o700);
        assert_eq!(folders(&root.path().join("new/tmp"), 4711).unwrap(), made);

        let open = root.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        folders(&open, 4711).unwrap_err();

        let link = root.path().join("link");
        fs::create_dir(&link).unwrap();
        fs::set_permissions(&link, Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("/", link.join("4711")).unwrap();
        folders(&link, 4711).unwrap_err();
    }
}
