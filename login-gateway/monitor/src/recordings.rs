//! Files of recorded terminals. They belong to root, so no user can change them; net appends to them
//! and cannot read. When a terminal closes, its file's digest goes into the audit log, which leaves
//! this machine: a file that is changed later no longer fits it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_wire::{UserName, digest};
use sys::clock::local_time;

/// The recordings of one login. Dropping it closes them.
pub struct Recordings {
    folder: PathBuf,
    user: UserName,
    login: String,
    open: BTreeMap<u32, PathBuf>,
}

impl Recordings {
    /// None yet; they will lie in `folder`.
    pub fn new(folder: &Path, user: UserName, login: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            user,
            login: login.to_owned(),
            open: BTreeMap::new(),
        }
    }

    /// Makes the file for the terminal `/dev/pts/number`; whoever gets it can append.
    ///
    /// # Errors
    /// If the folder is not there or not root's alone, and those of `open(2)`.
    pub fn open(&mut self, number: u32) -> io::Result<OwnedFd> {
        let folder = fs::metadata(&self.folder)?;
        let owner = nix::unistd::geteuid().as_raw();
        if !folder.is_dir() || folder.uid() != owner || folder.mode() & 0o022 != 0 {
            return Err(io::Error::other(
                "not a folder of root's that others cannot write",
            ));
        }
        let name = format!("{}-{}-{}-pts{number}", stamp(), self.user, self.login);
        // A terminal's number may come again within a second.
        let names = std::iter::once(name.clone()).chain((2..100).map(|n| format!("{name}.{n}")));
        for name in names {
            let path = self.folder.join(format!("{name}.cast"));
            let file = OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match file {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    tracing::info!(target: "audit", event = "recording.opened", file = %path.display());
                    self.close(number);
                    self.open.insert(number, path);
                    return Ok(file.into());
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Puts the digest on the record.
    pub fn close(&mut self, number: u32) {
        let Some(path) = self.open.remove(&number) else {
            return;
        };
        let file = path.display();
        match File::open(&path).and_then(digest::of) {
            Ok((bytes, sha256)) => {
                tracing::info!(target: "audit", event = "recording.closed", %file, bytes, sha256);
            }
            Err(error) => {
                tracing::error!(target: "audit", event = "recording.lost", %file, %error);
            }
        }
    }
}

impl Drop for Recordings {
    fn drop(&mut self) {
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(number);
        }
    }
}

/// `20261123-100102`, local time.
fn stamp() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let time = i64::try_from(now).ok().and_then(local_time);
    time.map_or_else(
        || now.to_string(),
        |t| {
            let (month, day) = (t.month + 1, t.day);
            let clock = format!("{:02}{:02}{:02}", t.hour, t.minute, t.second);
            format!("{}{month:02}{day:02}-{clock}", t.year)
        },
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_new_closed_to_others_and_only_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let user = UserName::try_from("carol".to_owned()).unwrap();
        let mut recordings = Recordings::new(folder.path(), user, "0123abcd");
        for _ in 0..3 {
            let mut file = File::from(recordings.open(7).unwrap());
            file.write_all(b"x").unwrap();
            assert!(file.read(&mut [0]).is_err());
        }
        drop(recordings);
        let files: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|f| f.unwrap())
            .collect();
        assert_eq!(files.len(), 3);
        for file in files {
            assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
            let name = file.file_name().into_string().unwrap();
            assert!(name.contains("-carol-0123abcd-pts7"), "{name}");
            let (bytes, sha256) = digest::of(File::open(file.path()).unwrap()).unwrap();
            assert_eq!(bytes, 1);
            assert!(
                sha256.starts_with("2d711642b726b04401627ca9fbac32f5"),
                "{sha256}"
            );
        }
    }

    #[test]
    fn a_folder_of_others_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let user = UserName::try_from("carol".to_owned()).unwrap();
        let mut recordings = Recordings::new(folder.path(), user, "0123abcd");
        assert!(recordings.open(7).is_err());
        recordings.folder = folder.path().join("missing");
        assert!(recordings.open(7).is_err());
    }
}
