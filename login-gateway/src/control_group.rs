//! Preparing a delegated control group (cgroups(7), version 2): its processes move into a leaf of
//! their own, since only a group without processes hands controllers on to the users' below it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The leaf of the gateway's own processes.
const OWN: &str = "gateway";
/// What is handed on: processor time is then shared by users, not by processes.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Passes over its processes: some may start others while they are moved.
const PASSES: usize = 100;

/// What keeps a group from being used.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Not one of version 2.
    #[error("cgroup: '{}' is no control group of version 2", .0.display())]
    NoGroup(PathBuf),
    /// It is not ours to change.
    #[error("cgroup: write '{}'; is the group delegated to the gateway, and mounted writable?", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// It never runs empty.
    #[error("cgroup: '{}' has processes that do not leave it", .0.display())]
    Busy(PathBuf),
}

/// Moves all processes of `group` into its leaf and hands its controllers on to the groups below.
/// Once done, it changes nothing.
///
/// # Errors
/// If it is no such group, or may not be changed.
pub fn prepare(group: &Path) -> Result<(), GroupError> {
    let own = group.join(OWN);
    match fs::create_dir(&own) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(GroupError::Write(own, e));
        }
        Ok(()) | Err(_) => {}
    }
    empty(group, &own.join("cgroup.procs"))?;
    let has = has(group)?;
    let wanted = CONTROLLERS
        .iter()
        .filter(|c| has.contains(&(**c).to_owned()));
    let wanted: Vec<String> = wanted.map(|controller| format!("+{controller}")).collect();
    if !wanted.is_empty() {
        let file = group.join("cgroup.subtree_control");
        fs::write(&file, wanted.join(" ")).map_err(|e| GroupError::Write(file, e))?;
    }
    Ok(())
}

/// The controllers that `group` may hand on.
///
/// # Errors
/// If it is no control group of version 2.
pub fn has(group: &Path) -> Result<Vec<String>, GroupError> {
    let controllers = fs::read_to_string(group.join("cgroup.controllers"))
        .map_err(|_| GroupError::NoGroup(group.to_owned()))?;
    Ok(controllers.split_whitespace().map(str::to_owned).collect())
}

fn empty(group: &Path, own: &Path) -> Result<(), GroupError> {
    let file = group.join("cgroup.procs");
    for _ in 0..PASSES {
        let pids = fs::read_to_string(&file).map_err(|e| GroupError::Write(file.clone(), e))?;
        if pids.is_empty() {
            return Ok(());
        }
        // 0 is one of another process namespace, which cannot be named from here; written, it would be us.
        for pid in pids.lines().filter(|pid| *pid != "0") {
            match fs::write(own, pid) {
                // It has ended.
                Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => {}
                Err(e) => return Err(GroupError::Write(own.to_owned(), e)),
                Ok(()) => {}
            }
        }
    }
    Err(GroupError::Busy(group.to_owned()))
}
