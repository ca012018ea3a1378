//! Becoming SlurmUser for good and closing the process against others of the same user.
//! Done before the key is read, so that a file SlurmUser cannot read again later is noticed now.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, getgrouplist};

use crate::config::{Limits, Settings, SlurmUser};
use crate::error::ShimError;
use crate::origin::KEPT_PROCESSES;

/// Descriptors besides those of connections: the processes remembered, look-ups, sockets and files.
const SPARE: usize = KEPT_PROCESSES + 128;
/// Connections at least, however few descriptors there are.
const FEWEST: usize = 8;

/// Makes the run directories if it is missing and, as root, becomes SlurmUser.
///
/// # Errors
/// [`ShimError::System`]. The process must then end.
pub fn drop(settings: &Settings) -> Result<(), ShimError> {
    for cluster in &settings.clusters {
        make_run_dir(&cluster.run_dir, &settings.slurm_user)?;
    }
    let user = &settings.slurm_user;
    if !become_slurm_user(user)? && Uid::effective() != user.uid {
        tracing::info!(
            event = "shim.user",
            uid = Uid::effective().as_raw(),
            slurm_user = user.name,
            "not running as SlurmUser"
        );
    }
    raise_descriptors(settings.limits.connections);
    sys::process::no_new_privs().map_err(ShimError::system("set no_new_privs"))?;
    sys::process::no_dump().map_err(ShimError::system("forbid core dumps"))?;
    lock_memory();
    Ok(())
}

/// As root, becomes SlurmUser for good; `true` if that was done.
///
/// # Errors
/// [`ShimError::System`].
pub fn become_slurm_user(user: &SlurmUser) -> Result<bool, ShimError> {
    if !Uid::effective().is_root() || user.uid.is_root() {
        return Ok(false);
    }
    let name = std::ffi::CString::new(user.name.as_str()).unwrap_or_default();
    let groups = getgrouplist(&name, user.gid).unwrap_or_else(|_| vec![user.gid]);
    become_user(user.uid, user.gid, &groups)?;
    Ok(true)
}

fn become_user(uid: Uid, gid: Gid, groups: &[Gid]) -> Result<(), ShimError> {
    sys::identity::drop_to(uid.as_raw(), gid.as_raw(), groups)
        .map_err(ShimError::system(format!("become uid {uid}")))
}

fn make_run_dir(path: &Path, user: &SlurmUser) -> Result<(), ShimError> {
    if path.exists() {
        return Ok(());
    }
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .and_then(|()| {
            if Uid::effective().is_root() {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
            Ok(())
        });
    made.map_err(ShimError::system(format!(
        "make run directory '{}'",
        path.display()
    )))
}

/// A descriptor for each connection, for the processes remembered and some for look-ups, as far as
/// the hard limit goes.
fn raise_descriptors(connections: usize) {
    let wanted = (connections + SPARE) as u64;
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    let Ok((soft, hard)) = limit else { return };
    if soft < wanted {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
    }
    if hard < wanted {
        tracing::warn!(
            event = "shim.descriptors",
            hard,
            wanted,
            "raise LimitNOFILE or lower 'limits.connections'"
        );
    }
}

/// No more connections than there are descriptors for, so that look-ups find some left.
pub fn within_descriptors(limits: Limits) -> Limits {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return limits;
    };
    let most = usize::try_from(soft).unwrap_or(usize::MAX);
    let connections = limits
        .connections
        .min(most.saturating_sub(SPARE).max(FEWEST));
    Limits {
        connections,
        ..limits
    }
}

/// Only where there is no limit: with a small one, memory asked for later would be refused.
fn lock_memory() {
    let unlimited =
        getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    let locked = unlimited && sys::process::lock_memory().is_ok();
    tracing::debug!(event = "memory.locked", locked);
}
