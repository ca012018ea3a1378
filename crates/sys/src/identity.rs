//! Becoming another user for good, before any thread exists; and looking at a user's files with that
//! user's rights alone, in a thread that is root's.

use std::io;

use nix::unistd::{Gid, Uid, getresgid, getresuid, setfsuid, setgroups, setresgid, setresuid};

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

/// Runs `work` with the file access of the user `uid`, setfsuid(2): root in a container without
/// `CAP_DAC_OVERRIDE` may not open what is closed to others, and one that has it should not. Groups
/// stay the thread's own. Whoever may not change it goes on as before.
pub fn with_files_of<T>(uid: u32, work: impl FnOnce() -> T) -> T {
    struct Back(Uid);
    impl Drop for Back {
        fn drop(&mut self) {
            setfsuid(self.0);
        }
    }
    let _back = Back(setfsuid(Uid::from_raw(uid)));
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_the_user_and_then_ours_again() {
        if !Uid::effective().is_root() {
            println!("skipped: files_are_those_of_the_user needs root");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || std::fs::File::open(file.path()).is_ok();
        assert!(open());
        assert!(!with_files_of(65534, open), "nobody reads root's file");
        assert!(open());
    }
}
