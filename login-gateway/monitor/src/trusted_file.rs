//! Files whose word the monitor takes: lists of authorities and of revoked keys. Users' files are
//! never read here.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use service::regular_file;

/// Largest such file, in bytes: a revocation list of a million hashes.
const MAX_FILE: u64 = 40 << 20;

/// Reads a file that nobody but root, or whoever runs this program, can write.
///
/// # Errors
/// Those of the system; a file that others own or may write, or that is too large, is not read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let (file, meta) = regular_file::open(path)?;
    let owner = meta.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other("it is not root's"));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write it"));
    }
    regular_file::whole(file, MAX_FILE)
}
