//! Programs that decide for us, so nobody but root may be able to change them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether a program and all folders above it are root's and closed to other writers, behind all
/// links; what sshd_config(5) demands of `AuthorizedKeysCommand`.
///
/// # Errors
/// What is wrong, in words.
pub fn check(program: &Path) -> Result<(), String> {
    let wrong = |path: &Path, why: &str| format!("'{}' {why}", path.display());
    if !program.is_absolute() {
        return Err(wrong(program, "is no absolute path"));
    }
    let failed = |path: &Path, error: std::io::Error| format!("'{}': {error}", path.display());
    let real = program.canonicalize().map_err(|e| failed(program, e))?;
    for path in real.ancestors() {
        let meta = std::fs::metadata(path).map_err(|e| failed(path, e))?;
        if path == real && !meta.is_file() {
            return Err(wrong(path, "is no file"));
        }
        if path == real && meta.mode() & 0o111 == 0 {
            return Err(wrong(path, "is not executable"));
        }
        if meta.uid() != 0 {
            return Err(wrong(path, "is not root's"));
        }
        if meta.mode() & 0o022 != 0 {
            return Err(wrong(path, "may be written by others"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn who_may_write_it() {
        assert_eq!(check(Path::new("/bin/sh")), Ok(()));
        let why = |path: &Path| check(path).unwrap_err();
        assert!(why(Path::new("bin/sh")).contains("no absolute path"));
        assert!(why(Path::new("/bin")).contains("is no file"));
        assert!(why(Path::new("/etc/passwd")).contains("is not executable"));
        assert!(why(Path::new("/nonexistent")).contains("No such file"));
        // In a folder that others may write.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(check(&path).is_err());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o775)).unwrap();
        assert!(check(&path).is_err());
    }
}
