//! The replica on disk: the fingerprint of the configuration and the replica in postcard, in a [`checked_file`]. A
//! damaged, foreign or older file is as good as none.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{checked_file, replica::Replica};

const MAGIC: &[u8] = b"directoryd replica 8\n";
/// Largest file read, in bytes: several hundred thousand entries.
const MAX_FILE: u64 = 512 << 20;

/// Why the file was not taken or not written.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// The file system said no.
    #[error("{action} '{path}'", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The content is not a replica, or not a whole one.
    #[error("'{path}' is not a whole replica file", path = .0.display())]
    Damaged(PathBuf),
    /// It was read from another directory.
    #[error("'{path}' was read with another configuration", path = .0.display())]
    Foreign(PathBuf),
    /// It could not be encoded.
    #[error("encode the replica")]
    Encode(#[source] postcard::Error),
}

/// The replica's place in the file system.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    fingerprint: String,
    /// One writer at a time: the new file has one name.
    writing: Mutex<()>,
}

impl Store {
    /// A store in `folder` for a replica read with the configuration of `fingerprint`, of the domain of that
    /// name, or with an empty name of the only one.
    pub fn new(folder: &Path, domain: &str, fingerprint: String) -> Self {
        let dot = if domain.is_empty() { "" } else { "." };
        Self {
            path: folder.join(format!("replica{dot}{domain}")),
            fingerprint,
            writing: Mutex::new(()),
        }
    }

    /// The replica of an earlier run; `None` if there was none.
    ///
    /// # Errors
    /// [`PersistError`]; the caller goes on without.
    pub fn load(&self) -> Result<Option<Replica>, PersistError> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(MAX_FILE).read_to_end(&mut bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        }
        .map_err(|source| self.io("read", source))?;
        let damaged = || PersistError::Damaged(self.path.clone());
        let body = checked_file::body(&bytes, MAGIC).map_err(|_| damaged())?;
        let (fingerprint, rest) =
            postcard::take_from_bytes::<String>(body).map_err(|_| damaged())?;
        if fingerprint != self.fingerprint {
            return Err(PersistError::Foreign(self.path.clone()));
        }
        postcard::from_bytes(rest).map(Some).map_err(|_| damaged())
    }

    /// The bytes of a replica behind the sum.
    ///
    /// # Errors
    /// [`PersistError::Encode`].
    pub fn encode(&self, replica: &Replica) -> Result<Vec<u8>, PersistError> {
        postcard::to_stdvec(&self.fingerprint)
            .and_then(|body| postcard::to_extend(replica, body))
            .map_err(PersistError::Encode)
    }

    /// Writes what was encoded beside the old file and puts it in its place. On any error, a full disk
    /// included, the old file stays as it was.
    ///
    /// # Errors
    /// [`PersistError::Io`].
    pub fn save(&self, body: &[u8]) -> Result<(), PersistError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        checked_file::replace(&self.path, MAGIC, body).map_err(|source| self.io("write", source))
    }

    fn io(&self, action: &'static str, source: io::Error) -> PersistError {
        PersistError::Io {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::replica::{Group, User};

    fn replica() -> Replica {
        let mut replica = Replica::empty();
        let user = User {
            name: "bob".into(),
            uid: 1501,
            gid: 1500,
            gecos: "Bob".into(),
            home: "/home/bob".into(),
            shell: "/bin/sh".into(),
            keys: vec!["ssh-ed25519 AAAA".into()],
            refused_keys: 0,
            marks: crate::marks::Marks {
                expire_day: Some(3),
                ..Default::default()
            },
            ..User::default()
        };
        replica.set_user("uid=bob", &user);
        let group = Group {
            name: "x".into(),
            gid: Some(1510),
            members: ["uid=bob".into()].into(),
        };
        replica.set_group("cn=x", &group);
        replica
    }

    #[test]
    fn what_was_saved_is_loaded_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), "", "a".into());
        assert!(store.load().unwrap().is_none());
        store.save(&store.encode(&replica()).unwrap()).unwrap();
        store.save(&store.encode(&replica()).unwrap()).unwrap();
        assert_eq!(store.load().unwrap(), Some(replica()));
        let other = Store::new(folder.path(), "", "b".into());
        assert!(matches!(other.load(), Err(PersistError::Foreign(_))));
        let path = folder.path().join("replica");
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            fs::write(&path, damaged).unwrap();
            assert!(
                matches!(store.load(), Err(PersistError::Damaged(_))),
                "byte {at}"
            );
            fs::write(&path, &bytes[..at]).unwrap();
            assert!(
                matches!(store.load(), Err(PersistError::Damaged(_))),
                "length {at}"
            );
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), "", "a".into());
        store.save(&store.encode(&replica()).unwrap()).unwrap();
        // A folder in the way of the new file stands for every failure to write it.
        let obstacle = folder.path().join("replica.new");
        fs::create_dir(&obstacle).unwrap();
        fs::write(obstacle.join("x"), "").unwrap();
        assert!(matches!(
            store.save(&store.encode(&replica()).unwrap()),
            Err(PersistError::Io { .. })
        ));
        assert_eq!(store.load().unwrap(), Some(replica()));
    }
}
