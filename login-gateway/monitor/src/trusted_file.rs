//! Files whose word the monitor takes: lists of authorities and of revoked keys. Users' files are
//! never read here.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Largest such file, in bytes: a revocation list of a million hashes.
const MAX_FILE: u64 = 40 << 20;

/// Reads a file that nobody but root, or whoever runs this program, can write.
///
/// # Errors
/// Those of the system; a file that others own or may write, or that is too large, is not read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    let meta = file.metadata()?;
    let owner = meta.uid();
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other("it is not root's"));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write it"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}
