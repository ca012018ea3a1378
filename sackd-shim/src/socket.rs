//! The SACK socket's place: who may own its folder, and the listening socket itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use crate::config::Settings;
use crate::error::ShimError;

/// Name of the socket in the run directory; clients look for exactly this.
const NAME: &str = "sack.socket";
/// Everybody may connect: who asks is known from the kernel.
const MODE: u32 = 0o777;

/// Listens on the SACK socket, in place of an older one.
///
/// # Errors
/// [`ShimError::RunDirectory`] if somebody else could replace the socket, [`ShimError::System`].
pub fn listen(settings: &Settings) -> Result<UnixListener, ShimError> {
    let folder = &settings.run_dir;
    let meta = fs::metadata(folder).map_err(ShimError::system(format!(
        "look at run directory '{}'",
        folder.display()
    )))?;
    if meta.uid() != settings.slurm_user.uid.as_raw() && meta.uid() != 0 {
        return Err(ShimError::RunDirectory {
            path: folder.clone(),
            owner: meta.uid(),
        });
    }
    let path = folder.join(NAME);
    let doing = format!("listen on '{}'", path.display());
    let listener = sys::listen::unix_stream(&path, MODE)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(ShimError::system(doing))?;
    tracing::info!(event = "sack.listening", path = %path.display());
    Ok(listener)
}
