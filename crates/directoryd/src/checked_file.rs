//! A file of our own in `state-dir`: checked as a whole, replaced as a whole, for nobody else to read.
//!
//! Shape: a line with the format's name and version, SHA-256 of what follows, and that.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

const SUM: usize = 32;

/// What follows the checksum.
///
/// # Errors
/// What is wrong with the file.
pub fn body<'a>(bytes: &'a [u8], head: &[u8]) -> Result<&'a [u8], &'static str> {
    let rest = bytes.strip_prefix(head);
    let rest = rest.ok_or("it does not begin as such a file does")?;
    let (sum, body) = rest.split_at_checked(SUM).ok_or("it is cut short")?;
    match Sha256::digest(body)[..] == *sum {
        true => Ok(body),
        false => Err("its checksum does not fit"),
    }
}

/// Writes a new file beside the old one (`.new`) and puts it in its place. On any error, a full disk included, the old
/// one stays as it was. One writer at a time.
///
/// # Errors
/// The kernel's.
pub fn replace(path: &Path, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let written = write(&fresh, head, body).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write(fresh: &Path, head: &[u8], body: &[u8]) -> io::Result<()> {
    // What an earlier run did not finish.
    let _ = fs::remove_file(fresh);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(fresh)?;
    file.write_all(head)?;
    file.write_all(&Sha256::digest(body))?;
    file.write_all(body)?;
    file.sync_all()
}
