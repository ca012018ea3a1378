//! Files that are read whole: a name may stand for a fifo or a terminal, which would hold the reader up,
//! or for more than there is room for. Whose files they are, and what is in them, is the caller's.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens a regular file, and nothing else; the metadata are those of what was opened.
///
/// # Errors
/// Those of `open(2)`, and one for what is no regular file.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    let meta = file.metadata()?;
    if meta.is_file() {
        Ok((file, meta))
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// All of it, which may be `limit` bytes.
///
/// # Errors
/// Those of `read(2)`, and one for what is larger.
pub fn whole(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_files_up_to_the_limit_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        let read = |limit| whole(open(&path).unwrap().0, limit).map_err(|e| e.to_string());
        assert_eq!(read(5), Ok(b"12345".to_vec()));
        assert_eq!(read(4), Err("larger than 4 bytes".into()));
        assert!(open(folder.path()).is_err());
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = open(&fifo).unwrap_err().to_string();
        assert_eq!(error, "not a regular file");
    }
}
