//! Listening sockets in the file system.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Listens on a Unix stream socket at `path` with permission bits `mode`.
///
/// The socket is made under another name and renamed into place: clients see the old one or the
/// new one with its final mode, never a gap, and the process-wide umask plays no part.
///
/// # Errors
/// If the folder is missing or not writable.
pub fn unix_stream(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_os_string();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    let placed = fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&fresh, path));
    if placed.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    placed.map(|()| listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_stale_socket_and_has_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.socket");
        drop(unix_stream(&path, 0o600).unwrap());
        let listener = unix_stream(&path, 0o777).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o777);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
