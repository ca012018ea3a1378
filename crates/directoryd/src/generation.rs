//! A view as libc sees it: two maps in memory files, immutable but for their life signs; and the
//! place where the present one hangs.
//!
//! Readers take an `Arc` and never wait for a writer that builds.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use directory_map::{
    BuildError, Map, MapBuilder, header,
    protocol::{Database, Query},
    record,
};
use sys::memfd::Shared;

use crate::{key::Key, view::View};

/// How long, in seconds, running programs go on with a map after this daemon's last life sign. libc
/// counts from the map's timestamp, so the timestamp lies that much less than its own 300 s back. A
/// crashed daemon's maps thus end, and a restart goes unnoticed.
const SURVIVAL: u64 = 120;

/// Why a generation could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// Too much data for the format.
    #[error("build the map")]
    Build(#[from] BuildError),
    /// No memory file.
    #[error("make the memory file of the map")]
    Memory(#[source] io::Error),
}

/// One map and its memory file.
#[derive(Debug)]
struct Shelf {
    bytes: Vec<u8>,
    memory: Shared,
    reader: OwnedFd,
}

/// What is served between two changes.
#[derive(Debug)]
pub struct Generation {
    /// Counts up from 1.
    pub number: u64,
    /// The directory's users in it, with the DNs of their entries.
    pub accounts: HashMap<String, Key>,
    /// How many users and groups there are, and how many of them are local.
    pub users: (usize, usize),
    /// Groups, as `users`.
    pub groups: (usize, usize),
    /// How many entries of the directory were refused.
    pub refused: usize,
    /// True if a name that is not here does not exist.
    pub complete: bool,
    passwd: Arc<Shelf>,
    group: Arc<Shelf>,
}

impl Generation {
    /// The record for a look-up; the same bytes that libc finds in the map.
    pub fn find(&self, query: Query, key: &[u8]) -> Option<&[u8]> {
        Map::parse(&self.shelf(query.database()).bytes)
            .ok()?
            .find(query, key)
    }

    /// A read-only descriptor of a map, and the map's size in bytes.
    pub fn map(&self, database: Database) -> (BorrowedFd<'_>, u64) {
        let shelf = self.shelf(database);
        (shelf.reader.as_fd(), shelf.bytes.len() as u64)
    }

    /// The bytes of a map.
    pub fn bytes(&self, database: Database) -> &[u8] {
        &self.shelf(database).bytes
    }

    fn shelf(&self, database: Database) -> &Shelf {
        match database {
            Database::Passwd => &self.passwd,
            Database::Group => &self.group,
        }
    }
}

impl Shelf {
    /// The shelf of `old` if the bytes are the same, so that libc need not fetch it again.
    fn new(name: &str, bytes: Vec<u8>, old: Option<&Arc<Self>>) -> io::Result<Arc<Self>> {
        if let Some(old) = old
            && old.bytes == bytes
        {
            return Ok(old.clone());
        }
        let memory = Shared::new(name, &bytes)?;
        let reader = memory.reader()?;
        let shelf = Self {
            bytes,
            memory,
            reader,
        };
        shelf.stamp(life_sign());
        Ok(Arc::new(shelf))
    }

    fn stamp(&self, timestamp: u64) {
        // Inside the head, aligned: it cannot fail.
        let _ = self.memory.store_u64(header::TIMESTAMP, timestamp);
    }
}

/// The present generation.
#[derive(Debug)]
pub struct Present(RwLock<Arc<Generation>>);

impl Present {
    /// The first generation.
    ///
    /// # Errors
    /// [`GenerationError`].
    pub fn new(view: View<'_>, complete: bool) -> Result<Self, GenerationError> {
        Ok(Self(RwLock::new(Arc::new(build(view, complete, None)?))))
    }

    /// What is served now.
    pub fn get(&self) -> Arc<Generation> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts a new generation in place; programs that hold an old map are told to ask again.
    ///
    /// # Errors
    /// [`GenerationError`]; the old generation then stays.
    pub fn replace(
        &self,
        view: View<'_>,
        complete: bool,
    ) -> Result<Arc<Generation>, GenerationError> {
        let old = self.get();
        let new = Arc::new(build(view, complete, Some(&old))?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new.clone();
        // Only now: who asks again must get the new one.
        for (before, after) in [(&old.passwd, &new.passwd), (&old.group, &new.group)] {
            if !Arc::ptr_eq(before, after) {
                before.stamp(0);
            }
        }
        Ok(new)
    }

    /// Renews the life sign of the present maps.
    pub fn beat(&self) {
        let present = self.get();
        for shelf in [&present.passwd, &present.group] {
            shelf.stamp(life_sign());
        }
        // A switch may have come in between and have stamped these as old.
        let now = self.get();
        for (before, after) in [(&present.passwd, &now.passwd), (&present.group, &now.group)] {
            if !Arc::ptr_eq(before, after) {
                before.stamp(0);
            }
        }
    }
}

fn build(
    view: View<'_>,
    complete: bool,
    old: Option<&Arc<Generation>>,
) -> Result<Generation, GenerationError> {
    let mut passwd = MapBuilder::new();
    let mut group = MapBuilder::new();
    for (index, entry) in view.groups.iter().enumerate() {
        let gid = entry.gid.to_string();
        let keys = [
            (Query::GroupByName, entry.name.as_bytes()),
            (Query::GroupById, gid.as_bytes()),
        ];
        match index < view.local.1 {
            true => group.add_local(&entry.encode(), &keys)?,
            false => group.add(&entry.encode(), &keys)?,
        }
    }
    for (index, user) in view.users.iter().enumerate() {
        let (name, uid) = (user.name.as_bytes(), user.uid.to_string());
        let keys = [(Query::UserByName, name), (Query::UserById, uid.as_bytes())];
        let local = index < view.local.0;
        match local {
            true => passwd.add_local(&user.encode(), &keys)?,
            false => passwd.add(&user.encode(), &keys)?,
        }
        // A user in no group has a record too: otherwise libc would ask the socket each time.
        let list = view
            .lists
            .get(user.name.as_ref())
            .map_or(&[][..], Vec::as_slice);
        let (list, keys) = (
            record::encode_groups_of_user(list),
            [(Query::GroupsOfUser, name)],
        );
        match local {
            true => group.add_local(&list, &keys)?,
            false => group.add(&list, &keys)?,
        }
    }
    let passwd = Shelf::new("passwd", passwd.finish(0)?, old.map(|old| &old.passwd));
    let group = Shelf::new("group", group.finish(0)?, old.map(|old| &old.group));
    Ok(Generation {
        number: old.map_or(1, |old| old.number + 1),
        users: (view.users.len(), view.local.0),
        groups: (view.groups.len(), view.local.1),
        refused: view.refused.len(),
        accounts: view.accounts,
        complete,
        passwd: passwd.map_err(GenerationError::Memory)?,
        group: group.map_err(GenerationError::Memory)?,
    })
}

/// What a map's timestamp is now.
pub fn life_sign() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    now.saturating_sub(header::LIFETIME - SURVIVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use directory_map::record::Passwd;
    use std::{fs::File, os::unix::fs::FileExt};

    fn view(names: &[&'static str]) -> View<'static> {
        let user = |name: &&'static str| Passwd::<std::borrow::Cow<'static, str>> {
            name: (*name).into(),
            password: "*".into(),
            uid: 2000 + name.len() as u32,
            gid: 2000,
            gecos: "".into(),
            home: "/".into(),
            shell: "/bin/sh".into(),
        };
        View {
            users: names.iter().map(user).collect(),
            ..View::default()
        }
    }

    fn timestamp(fd: BorrowedFd<'_>) -> u64 {
        let mut bytes = [0; 8];
        let file = File::from(fd.try_clone_to_owned().unwrap());
        file.read_exact_at(&mut bytes, header::TIMESTAMP as u64)
            .unwrap();
        u64::from_ne_bytes(bytes)
    }

    #[test]
    fn a_switch_ends_the_old_map_and_an_equal_one_stays() {
        let present = Present::new(view(&["a"]), true).unwrap();
        let first = present.get();
        assert!(first.find(Query::UserByName, b"a").is_some());
        assert!(timestamp(first.map(Database::Passwd).0) > 0);
        let second = present.replace(view(&["a"]), true).unwrap();
        assert!(Arc::ptr_eq(&first.passwd, &second.passwd));
        assert!(timestamp(first.map(Database::Passwd).0) > 0);
        let third = present.replace(view(&["bb"]), true).unwrap();
        assert_eq!(timestamp(first.map(Database::Passwd).0), 0);
        assert!(timestamp(third.map(Database::Passwd).0) > 0);
        assert!(third.find(Query::UserById, b"2002").is_some());
        assert!(third.find(Query::UserByName, b"a").is_none());
        present.beat();
        assert_eq!(timestamp(first.map(Database::Passwd).0), 0);
        assert_eq!(third.number, 3);
    }
}
