//! People and groups from a file, for sites without a directory server: read as a whole, taken as a
//! whole, or not at all.
//!
//! What an entry may say and who may log in is decided where it is for directory servers.

mod keeper;
mod ldif;
mod ldif_text;
mod list;

use std::{collections::HashMap, sync::Arc, time::SystemTime};

pub use keeper::keep;
use service::config::{ConfigError, read_trusted};

use crate::{config::PeopleFile, password_hash::Hash, replica::Replica};

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
        let mut replica = Replica::empty();
        replica.confirmed = SystemTime::now();
        Self {
            replica,
            hashes: HashMap::new(),
        }
    }

    /// Notes members that nobody is: a misspelt one is missing where it was meant to be.
    fn note_strangers(&mut self) {
        let replica = &self.replica;
        let text = |key| replica.keys().text(key);
        let mut strangers = Vec::new();
        for (dn, team) in replica.teams() {
            let unknown = team.members.iter().filter(|key| !replica.is_entry(**key));
            strangers.extend(unknown.map(|key| format!("{}: {}", text(dn), text(*key))));
        }
        let why = "the member is not in the file";
        let told = strangers.into_iter().map(|who| (who, why.to_owned()));
        self.replica.unusable.extend(told);
    }
}
