//! What is kept of passwords, on disk: [`Content`] in postcard, in a [`checked_file`]. A damaged one costs the offline
//! check until the next login of each user, and nothing else.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use service::config::{ConfigError, read_secret};

use super::verifier::{Salt, Tag, Verifier};
use crate::checked_file;

const MAGIC: &[u8] = b"directoryd offline passwords 2\n";
/// Most passwords that are kept.
pub const MOST: usize = 50_000;
/// Largest file read, in bytes: that many with long DNs.
const MAX_FILE: u64 = 32 << 20;

/// Why the file was not taken or not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read, or others may read it.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// It is not what was written.
    #[error("'{path}' is damaged: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It could not be written.
    #[error("write '{path}'", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

/// All that is in the file.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// With which secret the tags were made.
    pub mark: Option<(Salt, Tag)>,
    /// One for each user.
    pub verifiers: Vec<Verifier>,
}

/// Where it is.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// In this folder.
    pub fn new(folder: &Path) -> Self {
        Self(folder.join("offline-passwords"))
    }

    /// What an earlier run left; nothing if there was none.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn load(&self) -> Result<Content, FileError> {
        let bytes = match read_secret(&self.0, MAX_FILE) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Content::default());
            }
            bytes => bytes?,
        };
        let damaged = |what| FileError::Damaged {
            path: self.0.clone(),
            what,
        };
        let body = checked_file::body(bytes.expose(), MAGIC).map_err(damaged)?;
        match postcard::from_bytes::<Content>(body) {
            Ok(content) if content.verifiers.len() <= MOST => Ok(content),
            Ok(_) => Err(damaged("it holds too much")),
            Err(_) => Err(damaged("its content cannot be read")),
        }
    }

    /// Puts a new file in the place of the old one. If that fails, on a full disk for instance, the old one
    /// goes as well: it might hold what was to be forgotten.
    ///
    /// # Errors
    /// [`FileError::Write`].
    pub fn save(&self, content: &Content) -> Result<(), FileError> {
        let body = postcard::to_stdvec(content).map_err(io::Error::other);
        let written = body.and_then(|body| checked_file::replace(&self.0, MAGIC, &body));
        if written.is_err() {
            let _ = fs::remove_file(&self.0);
        }
        written.map_err(|source| FileError::Write {
            path: self.0.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::offline::verifier::Bond;

    fn content() -> Content {
        let bond = Bond {
            user: "bob".into(),
            domain: "a".into(),
            dn: "uid=bob".into(),
            uuid: Some([1; 16]),
            changed: None,
            since: 5,
            until: 6,
        };
        Content {
            mark: Some(([2; 16], [3; 32])),
            verifiers: vec![Verifier {
                bond,
                salt: [4; 16],
                tag: [5; 32],
            }],
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path());
        assert_eq!(place.load().unwrap(), Content::default());
        place.save(&content()).unwrap();
        assert_eq!(place.load().unwrap(), content());
        let mode = fs::metadata(&place.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let bytes = fs::read(&place.0).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            fs::write(&place.0, damaged).unwrap();
            assert!(
                matches!(place.load(), Err(FileError::Damaged { .. })),
                "byte {at}"
            );
            fs::write(&place.0, &bytes[..at]).unwrap();
            assert!(place.load().is_err(), "length {at}");
        }
        fs::write(&place.0, &bytes).unwrap();
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(place.load(), Err(FileError::Read(_))));
    }

    #[test]
    fn what_cannot_be_written_is_not_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path());
        place.save(&content()).unwrap();
        // A folder in the way of the new file stands for every failure to write it.
        let obstacle = folder.path().join("offline-passwords.new");
        fs::create_dir(&obstacle).unwrap();
        fs::write(obstacle.join("x"), "").unwrap();
        let failed = place.save(&Content::default());
        assert!(matches!(failed, Err(FileError::Write { .. })));
        assert_eq!(place.load().unwrap(), Content::default());
    }
}
