//! The way into a sandbox, the same for every process that faces the network: an empty root folder,
//! an account without rights, no new processes, a filter. What the filter allows is the caller's.

use std::io;
use std::path::Path;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::seccomp::{self, Allow, FilterError};
use crate::{identity, process};

/// Why a sandbox could not be closed; the process must end, it may be half inside.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The account of the sandbox does not exist.
    #[error("look up user '{0}': no such user")]
    NoSuchUser(String),
    /// A step failed.
    #[error("{step}")]
    Step {
        /// What was being done.
        step: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The filter was refused.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// Gives up everything but `filter` and [`seccomp::RUNTIME`], for good. The process ends with its
/// parent. Without `user` (no root, so nothing to give up) ids and root folder stay as they are and
/// the filter alone holds.
///
/// # Errors
/// [`SandboxError`].
pub fn enter(user: Option<&str>, empty_root: &Path, filter: &[Allow]) -> Result<(), SandboxError> {
    let step = |step: String| move |source: io::Error| SandboxError::Step { step, source };
    if let Some(name) = user {
        let looking = format!("look up user '{name}'");
        let found = User::from_name(name).map_err(|e| step(looking)(e.into()))?;
        let user = found.ok_or_else(|| SandboxError::NoSuchUser(name.to_owned()))?;
        process::enter_root(empty_root)
            .map_err(step(format!("enter empty root '{}'", empty_root.display())))?;
        identity::drop_to(user.uid.as_raw(), user.gid.as_raw(), &[user.gid])
            .map_err(step(format!("become user '{name}'")))?;
    }
    process::parent_death_signal(Signal::SIGTERM)
        .map_err(step("set the parent-death signal".into()))?;
    process::no_dump().map_err(step("switch core dumps off".into()))?;
    process::no_new_privs().map_err(step("set no-new-privileges".into()))?;
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)
        .map_err(|e| step("forbid new processes".into())(e.into()))?;
    Ok(seccomp::install(&[filter, seccomp::RUNTIME].concat())?)
}
