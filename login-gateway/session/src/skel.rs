//! A new home's first files, copied as the user.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file of the skeleton that could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("copy '{path}' into the new home", path = path.display())]
pub struct SkelError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Copies what lies in `skel` into `home`; what is there already stays as it is.
///
/// # Errors
/// The first file that failed; the rest is left out.
pub fn copy(skel: &Path, home: &Path) -> Result<(), SkelError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SkelError { path, source }
    };
    let entries = match fs::read_dir(skel) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed(skel))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed(skel))?;
        let (from, to) = (entry.path(), home.join(entry.file_name()));
        if fs::symlink_metadata(&to).is_ok() {
            continue;
        }
        let kind = entry.file_type().map_err(failed(&from))?;
        if kind.is_dir() {
            fs::create_dir(&to).map_err(failed(&from))?;
            copy(&from, &to)?;
        } else if kind.is_symlink() {
            fs::read_link(&from)
                .and_then(|target| std::os::unix::fs::symlink(target, &to))
                .map_err(failed(&from))?;
        } else if kind.is_file() {
            fs::copy(&from, &to).map_err(failed(&from))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_files_folders_and_links_and_keeps_what_is_there() {
        let (skel, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(skel.path().join("d")).unwrap();
        for (name, text) in [(".bashrc", "new"), ("d/f", "deep"), (".profile", "p")] {
            fs::write(skel.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("d/f", skel.path().join("l")).unwrap();
        fs::write(home.path().join(".bashrc"), "mine").unwrap();
        copy(skel.path(), home.path()).unwrap();
        let read = |name: &str| fs::read_to_string(home.path().join(name)).unwrap();
        assert_eq!(
            (read(".bashrc"), read("d/f"), read("l")),
            ("mine".into(), "deep".into(), "deep".into())
        );
        assert!(copy(Path::new("/nonexistent"), home.path()).is_ok());
    }
}
