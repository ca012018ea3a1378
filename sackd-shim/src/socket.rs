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

/// A socket file as it was made.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    made: Option<(u64, u64)>,
}

/// What is at a socket's path by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The socket that was made.
    Ours,
    /// Another one: whoever starts last has the path.
    Another,
    /// None: clients find nobody.
    Nothing,
}

impl Place {
    fn new(path: PathBuf) -> Self {
        let made = file(&path);
        Self { path, made }
    }

    /// Looks.
    pub fn look(&self) -> Found {
        match file(&self.path) {
            None => Found::Nothing,
            found if found == self.made => Found::Ours,
            Some(_) => Found::Another,
        }
    }

    /// Where it was made.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn file(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// The SACK socket in a run directory.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join(NAME)
}

/// Listens on the SACK socket in `folder`, in place of an older one.
///
/// # Errors
/// [`ShimError::RunDirectory`] if somebody else could replace the socket, [`ShimError::System`].
pub fn listen(folder: &Path, slurm_user: &SlurmUser) -> Result<(UnixListener, Place), ShimError> {
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
    Ok((listener, Place::new(path)))
}
