//! The SACK socket's place: who may own its folder, and the listening socket itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::config::SlurmUser;
use crate::error::ShimError;

/// Name of the socket in the run directory; clients look for exactly this.
const NAME: &str = "sack.socket";
/// Everybody may connect: who asks is known from the kernel.
const MODE: u32 = 0o777;

/// The SACK socket in a run directory.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join(NAME)
}

/// Listens on the SACK socket in `folder`, in place of an older one.
///
/// # Errors
/// [`ShimError::RunDirectory`] if somebody else could replace the socket, [`ShimError::System`].
pub fn listen(folder: &Path, slurm_user: &SlurmUser) -> Result<UnixListener, ShimError> {
    let meta = fs::metadata(folder).map_err(ShimError::system(format!(
        "look at run directory '{}'",
        folder.display()
    )))?;
    let own = nix::unistd::Uid::effective().as_raw();
    if ![0, own, slurm_user.uid.as_raw()].contains(&meta.uid()) {
        return Err(ShimError::RunDirectory {
            path: folder.to_owned(),
            owner: meta.uid(),
        });
    }
    let path = path(folder);
    let doing = format!("listen on '{}'", path.display());
    let listener = sys::listen::unix_stream(&path, MODE)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(ShimError::system(doing))?;
    tracing::info!(event = "sack.listening", path = %path.display());
    Ok(listener)
}
