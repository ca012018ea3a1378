//! The keys that whoever starts `dev` already has.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Key files that `ssh` offers without being told to.
const DEFAULT_KEYS: [&str; 4] = ["id_rsa", "id_ecdsa", "id_ed25519", "id_ed25519_sk"];

/// `authorized_keys` and the public half of every key pair.
pub fn authorized_keys(ssh_folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(ssh_folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let named = path.file_name() == Some(OsStr::new("authorized_keys"))
                || path.extension() == Some(OsStr::new("pub"));
            named && fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0)
        })
        .collect();
    files.sort();
    files
}

/// A private key that `ssh` must be told about, if it would offer none by itself.
pub fn identity(ssh_folder: &Path) -> Option<PathBuf> {
    let offered = |name| ssh_folder.join(name).is_file();
    if DEFAULT_KEYS.into_iter().any(offered) {
        return None;
    }
    let mut pairs = authorized_keys(ssh_folder).into_iter();
    pairs.find_map(|path| Some(path.with_extension("")).filter(|p| p != &path && p.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_keys_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(authorized_keys(path).is_empty() && authorized_keys(&path.join("no")).is_empty());
        for (name, text) in [
            ("authorized_keys", ""),
            ("work.pub", "ssh-ed25519 A"),
            ("work", "private"),
            ("config", "Host x"),
        ] {
            fs::write(path.join(name), text).unwrap();
        }
        assert_eq!(authorized_keys(path), [path.join("work.pub")]);
        assert_eq!(identity(path), Some(path.join("work")));
        fs::write(path.join("id_ed25519"), "private").unwrap();
        assert_eq!(identity(path), None);
    }
}
