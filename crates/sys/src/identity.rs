//! Becoming another user for good. One function, used before any thread exists.

use std::io;

use nix::unistd::{Gid, Uid, getresgid, getresuid, setgroups, setresgid, setresuid};

/// The ids that a process runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id, real, effective and saved.
    pub uid: u32,
    /// Group id, real, effective and saved.
    pub gid: u32,
    /// Supplementary groups, the whole list.
    pub groups: Vec<u32>,
}

/// Takes on `identity` and proves that the way back is closed. Allocates nothing, so it may run
/// between `fork` and `exec`.
///
/// # Errors
/// Those of the calls; `PermissionDenied` if the old identity could be taken back. After an error
/// the process must end: it may be half changed.
pub fn drop_to(uid: u32, gid: u32, groups: &[Gid]) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let (uids, gids) = (getresuid()?, getresgid()?);
    let taken = [uids.real, uids.effective, uids.saved]
        .iter()
        .all(|u| *u == uid)
        && [gids.real, gids.effective, gids.saved]
            .iter()
            .all(|g| *g == gid);
    let root = Uid::from_raw(0);
    let closed = uid.is_root() || setresuid(root, root, root).is_err();
    if taken && closed {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}
