//! The socket of the client's agent, in a folder that is closed to everybody but the user.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;

use super::listen::{self, ListenError, Listener};

/// Where the folder is made.
const BASE: &str = "/tmp";

/// The folder and the path in it; both go when it is dropped.
pub struct AgentSocket {
    folder: PathBuf,
    path: PathBuf,
}

impl AgentSocket {
    /// Makes the folder, mode 0700, and listens in it.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn make() -> Result<(Self, Listener), ListenError> {
        let template = Path::new(BASE).join("ssh-XXXXXXXXXX");
        let folder = mkdtemp(&template).map_err(|source| ListenError::Folder {
            folder: BASE.into(),
            source: source.into(),
        })?;
        let path = folder.join(format!("agent.{}", std::process::id()));
        let socket = Self { folder, path };
        let listener = listen::unix(&socket.path)?;
        Ok((socket, listener))
    }

    /// For `SSH_AUTH_SOCK`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn is_closed_to_others_and_leaves_nothing() {
        let (socket, mut listener) = AgentSocket::make().unwrap();
        let folder = socket.path().parent().unwrap().to_owned();
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        UnixStream::connect(socket.path()).unwrap();
        listener.accept().unwrap().unwrap();
        drop(socket);
        drop(listener);
        assert!(!folder.exists());
    }
}
