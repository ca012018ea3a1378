//! People and groups from a file, for sites without a directory server: read as a whole, taken as a
//! whole, or not at all.
//!
//! What an entry may say and who may log in is decided where it is for directory servers.

mod keeper;
mod ldif;
mod list;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::SystemTime,
};

pub use keeper::keep;
use service::config::{ConfigError, read_trusted};

use crate::{config::PeopleFile, key::Key, password_hash::Hash, replica::Replica};

/// Largest file read, in bytes: a few hundred thousand people.
const MAX_FILE: u64 = 128 << 20;

/// What a file says.
#[derive(Debug)]
pub struct People {
    /// Users and groups.
    pub replica: Replica,
    /// The users' password hashes by name.
    pub hashes: HashMap<String, Arc<Hash>>,
}

impl People {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`] with the line; a file with password hashes must not be readable for others, and
    /// none may be writable for them.
    pub fn read(file: &PeopleFile) -> Result<Self, ConfigError> {
        let path = &file.path;
        let (bytes, mode) = read_trusted(path, MAX_FILE)?;
        let is_ldif = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("ldif"));
        let people = match is_ldif {
            true => ldif::read(file, &bytes),
            false => list::read(file, &bytes),
        }?;
        if !people.hashes.is_empty() && mode & 0o007 != 0 {
            return Err(ConfigError::Readable {
                path: path.clone(),
                mode,
            });
        }
        Ok(people)
    }

    fn empty() -> Self {
        Self {
            replica: Replica {
                confirmed: SystemTime::now(),
                ..Replica::empty()
            },
            hashes: HashMap::new(),
        }
    }

    /// Notes members that nobody is: a misspelt one is missing where it was meant to be.
    fn note_strangers(&mut self) {
        let Replica {
            users,
            groups,
            unusable,
            ..
        } = &mut self.replica;
        let known: BTreeSet<&Key> = users.keys().chain(groups.keys()).collect();
        for (dn, group) in &*groups {
            for member in group
                .members
                .iter()
                .filter(|member| !known.contains(member))
            {
                unusable.insert(
                    format!("{dn}: {member}"),
                    "the member is not in the file".to_owned(),
                );
            }
        }
    }
}
