//! The file that `SSH_USER_AUTH` names: how the user authenticated, a line per factor, as
//! `ExposeAuthInfo` of sshd_config(5) has it. It is there as long as the login.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::unistd::mkstemp;

/// The file; dropping it removes it.
pub struct AuthFile(PathBuf);

impl AuthFile {
    /// Writes it, for the user's eyes only.
    ///
    /// # Errors
    /// Those of `mkstemp(3)` and `write(2)`.
    pub fn new(folder: &Path, factors: &[String]) -> io::Result<Self> {
        // mkstemp makes it with mode 0600 under a name that nobody can guess.
        let (fd, path) = mkstemp(&folder.join("sshauth.XXXXXX"))?;
        let file = Self(path);
        let mut text = File::from(fd);
        for factor in factors {
            writeln!(text, "{factor}")?;
        }
        Ok(file)
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for AuthFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn there_for_the_user_alone_and_gone_with_the_login() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuthFile::new(folder.path(), &["publickey x".into(), "password".into()]);
        let file = file.unwrap();
        let path = file.path().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "publickey x\npassword\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        drop(file);
        assert!(!path.exists());
    }
}
