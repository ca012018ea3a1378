//! The control group of a user's programs (cgroups(7), version 2), where one is delegated to us: what
//! all logins of a user use together is bounded, and memory that runs out there ends that user's
//! programs alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gateway_wire::Policy;

/// Tries to enter a group that another login of the user removes at that moment.
const TRIES: usize = 10;

/// What keeps a login from its control group.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// It cannot be made.
    #[error("make the control group '{}'", .0.display())]
    Make(PathBuf, #[source] io::Error),
    /// A limit cannot be set.
    #[error("set '{}'; is its controller delegated?", .0.display())]
    Limit(PathBuf, #[source] io::Error),
    /// The session cannot be put into it.
    #[error("enter the control group '{}'", .0.display())]
    Enter(PathBuf, #[source] io::Error),
}

/// The group that a login's programs are in. It goes with the last login of its user, unless programs
/// are left.
#[derive(Debug)]
pub struct UserGroup {
    folder: PathBuf,
    /// Programs that the kernel had ended there before, because memory ran out.
    killed: u64,
}

impl UserGroup {
    /// Puts the process `pid`, which has started nothing yet, into the user's group below `parent`,
    /// with the limits of this login's policy.
    ///
    /// # Errors
    /// If there is no such group to be had, or not with these limits.
    pub fn enter(parent: &Path, uid: u32, policy: &Policy, pid: u32) -> Result<Self, GroupError> {
        let folder = parent.join(format!("user-{uid}"));
        let mut tries = 1..TRIES;
        loop {
            let entered = Self::try_enter(&folder, policy, pid);
            let is_gone = matches!(&entered, Err(e) if e.is_gone()) && !folder.exists();
            if !is_gone || tries.next().is_none() {
                return entered;
            }
        }
    }

    fn try_enter(folder: &Path, policy: &Policy, pid: u32) -> Result<Self, GroupError> {
        match fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(GroupError::Make(folder.to_owned(), e));
            }
            Ok(()) | Err(_) => {}
        }
        let memory = (policy.memory_max > 0).then(|| policy.memory_max.to_string());
        limit(folder, "memory.max", memory)?;
        let processes = (policy.processes_max > 0).then(|| policy.processes_max.to_string());
        limit(folder, "pids.max", processes)?;
        fs::write(folder.join("cgroup.procs"), pid.to_string())
            .map_err(|e| GroupError::Enter(folder.to_owned(), e))?;
        let killed = killed(folder);
        Ok(Self {
            folder: folder.to_owned(),
            killed,
        })
    }

    /// When the login has ended.
    pub fn leave(self) {
        let killed = killed(&self.folder).saturating_sub(self.killed);
        if killed > 0 {
            tracing::warn!(
                target: "audit",
                event = "memory.exceeded",
                group = %self.folder.display(),
                killed
            );
        }
        // Other logins of the user, or programs that go on, keep it.
        let _ = fs::remove_dir(&self.folder);
    }
}

impl GroupError {
    /// Whether the group has been removed meanwhile.
    fn is_gone(&self) -> bool {
        let (Self::Make(_, e) | Self::Limit(_, e) | Self::Enter(_, e)) = self;
        e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(nix::libc::ENODEV)
    }
}

/// Sets a limit, or takes one away that an earlier login has set.
fn limit(folder: &Path, file: &str, value: Option<String>) -> Result<(), GroupError> {
    let path = folder.join(file);
    match value {
        Some(value) => fs::write(&path, value).map_err(|e| GroupError::Limit(path, e)),
        // Without its controller there is no such file, and no limit.
        None => {
            let _ = fs::write(&path, "max");
            Ok(())
        }
    }
}

/// How many programs of it the kernel has ended for lack of memory, by its `memory.events`.
fn killed(folder: &Path) -> u64 {
    let events = fs::read_to_string(folder.join("memory.events")).unwrap_or_default();
    let mut lines = events.lines();
    let count = lines.find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}
