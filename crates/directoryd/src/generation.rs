//! A view as libc sees it: two maps in memory files, immutable but for their life signs; and the
//! place where the present one hangs.
//!
//! Readers take an `Arc` and never wait for a writer that builds.

use std::{
    fmt::Write,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use directory_map::{
    BuildError, Map, MapBuilder, Place, header,
    protocol::{Database, Query},
    record,
};
use sys::memfd::{Draft, Shared};

use crate::view::View;

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

/// One map in its memory file. Nothing of it is held twice.
#[derive(Debug)]
struct Shelf {
    memory: Shared,
    reader: OwnedFd,
    /// The head as it was built: its life signs change.
    head: [u8; header::SIZE],
}

/// The directory's users by name, with the normal DNs of their entries: one text for all.
#[derive(Debug, Default)]
pub struct Accounts {
    text: String,
    /// Where each name begins and ends; its DN ends where the next name begins.
    places: Vec<(usize, usize)>,
}

/// What is served between two changes.
#[derive(Debug)]
pub struct Generation {
    /// Counts up from 1.
    pub number: u64,
    /// The directory's users in it.
    pub accounts: Accounts,
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
        let shelf = self.shelf(query.database());
        Map::of(&shelf.head, shelf.memory.rest())
            .ok()?
            .find(query, key)
    }

    /// A read-only descriptor of a map, and the map's size in bytes.
    pub fn map(&self, database: Database) -> (BorrowedFd<'_>, u64) {
        let shelf = self.shelf(database);
        (shelf.reader.as_fd(), shelf.memory.len() as u64)
    }

    /// Writes a map to a file, from one part of the kernel to another.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_to(&self, database: Database, file: &mut File) -> io::Result<()> {
        let mut map = File::from(self.shelf(database).memory.reader()?);
        io::copy(&mut map, file).map(drop)
    }

    fn shelf(&self, database: Database) -> &Shelf {
        match database {
            Database::Passwd => &self.passwd,
            Database::Group => &self.group,
        }
    }
}

impl Accounts {
    fn of(view: &View<'_>) -> Self {
        let mut accounts = Self::default();
        accounts.places.reserve_exact(view.accounts().count());
        let lengths = view.accounts().map(|(name, dn)| name.len() + dn.len());
        accounts.text.reserve_exact(lengths.sum());
        for (name, dn) in view.accounts() {
            let start = accounts.text.len();
            accounts.text.push_str(name);
            accounts.places.push((start, accounts.text.len()));
            accounts.text.push_str(dn);
        }
        accounts
    }

    /// The DN of a user.
    pub fn dn(&self, name: &str) -> Option<&str> {
        let places = &self.places;
        let at = places
            .binary_search_by(|(start, end)| self.text[*start..*end].cmp(name))
            .ok()?;
        let end = places.get(at + 1).map_or(self.text.len(), |next| next.0);
        self.text.get(places[at].1..end)
    }

    /// The name of any of them.
    pub fn any(&self) -> Option<&str> {
        let (start, end) = self.places.first()?;
        self.text.get(*start..*end)
    }
}

/// A map on its way into a memory file, compared with the one of before.
struct Writing<'a> {
    draft: Draft,
    old: Option<&'a Arc<Shelf>>,
    head: [u8; header::SIZE],
    same: bool,
    /// A piece of the old one.
    piece: Vec<u8>,
}

impl Place for Writing<'_> {
    fn put(&mut self, at: usize, piece: &[u8]) -> io::Result<()> {
        if let (0, Some(head)) = (at, piece.first_chunk()) {
            self.head = *head;
            self.same &= self.old.is_some_and(|old| old.head == *head);
        } else if let (true, Some(old)) = (self.same, self.old) {
            self.piece.resize(piece.len(), 0);
            // Read rather than looked at in place, where it would count as ours. One that ends early is
            // another.
            let read = old.file()?.read_exact_at(&mut self.piece, at as u64);
            self.same = read.is_ok() && self.piece == piece;
        }
        self.draft.write_all_at(piece, at as u64)
    }
}

impl Shelf {
    /// A place for a new map.
    fn write<'a>(name: &str, old: Option<&'a Arc<Self>>) -> Result<Writing<'a>, GenerationError> {
        Ok(Writing {
            draft: Draft::new(name).map_err(GenerationError::Memory)?,
            old,
            head: [0; header::SIZE],
            same: old.is_some(),
            piece: Vec::new(),
        })
    }

    /// The shelf of before if the map is the same, so that libc need not fetch it again.
    fn finish(builder: MapBuilder<Writing<'_>>) -> Result<Arc<Self>, GenerationError> {
        let (writing, _) = builder.finish(0)?;
        if let (true, Some(old)) = (writing.same, writing.old) {
            return Ok(old.clone());
        }
        let sealed = writing.draft.seal(header::SIZE).and_then(|memory| {
            let reader = memory.reader()?;
            Ok(Self {
                memory,
                reader,
                head: writing.head,
            })
        });
        let shelf = sealed.map_err(GenerationError::Memory)?;
        shelf.stamp(life_sign());
        Ok(Arc::new(shelf))
    }

    fn file(&self) -> io::Result<File> {
        Ok(self.reader.try_clone()?.into())
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
    pub fn new(view: &View<'_>, complete: bool) -> Result<Self, GenerationError> {
        Ok(Self(RwLock::new(Arc::new(build(view, complete, None)?))))
    }

    /// What is served now.
    pub fn get(&self) -> Arc<Generation> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells programs that hold the maps to ask for others: there will be somebody else to answer.
    pub fn end(&self) {
        let present = self.get();
        for shelf in [&present.passwd, &present.group] {
            shelf.stamp(0);
        }
    }

    /// Puts a new generation in place; programs that hold an old map are told to ask again.
    ///
    /// # Errors
    /// [`GenerationError`]; the old generation then stays.
    pub fn replace(
        &self,
        view: &View<'_>,
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
    view: &View<'_>,
    complete: bool,
    old: Option<&Arc<Generation>>,
) -> Result<Generation, GenerationError> {
    let (users, groups) = (view.users(), view.groups());
    let mut passwd = MapBuilder::new(
        Shelf::write("passwd", old.map(|old| &old.passwd))?,
        2 * users.0,
    );
    let mut group = MapBuilder::new(
        Shelf::write("group", old.map(|old| &old.group))?,
        2 * groups.0 + users.0,
    );
    let mut record = Vec::new();
    let mut number = String::new();
    view.each_group(|entry, local| {
        record.clear();
        entry.append_to(&mut record);
        let keys = [
            (Query::GroupByName, entry.name.as_bytes()),
            (Query::GroupById, decimal(&mut number, entry.gid)),
        ];
        match local {
            true => group.add_local(&record, &keys),
            false => group.add(&record, &keys),
        }
    })?;
    view.each_user(|user, list, local| {
        let name = user.name.as_bytes();
        record.clear();
        user.append_to(&mut record);
        let keys = [
            (Query::UserByName, name),
            (Query::UserById, decimal(&mut number, user.uid)),
        ];
        match local {
            true => passwd.add_local(&record, &keys)?,
            false => passwd.add(&record, &keys)?,
        }
        // A user in no group has a record too: otherwise libc would ask the socket each time.
        record.clear();
        record::append_groups_of_user(&mut record, list);
        let keys = [(Query::GroupsOfUser, name)];
        match local {
            true => group.add_local(&record, &keys),
            false => group.add(&record, &keys),
        }
    })?;
    Ok(Generation {
        number: old.map_or(1, |old| old.number + 1),
        users,
        groups,
        refused: view.refused.len(),
        accounts: Accounts::of(view),
        complete,
        passwd: Shelf::finish(passwd)?,
        group: Shelf::finish(group)?,
    })
}

/// A number as the key that it is in a map.
fn decimal(text: &mut String, number: u32) -> &[u8] {
    text.clear();
    // Into a text it always can be written.
    let _ = write!(text, "{number}");
    text.as_bytes()
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
    use crate::{
        config::Schema,
        id_map::IdMap,
        local::Local,
        replica::{Replica, User},
        view::Rules,
    };
    use std::path::Path;

    /// Shows exactly these users.
    fn show(present: Option<&Present>, names: &[&str]) -> Arc<Generation> {
        let mut replica = Replica::empty();
        for name in names {
            let user = User {
                name: (*name).to_owned(),
                uid: 2000 + name.len() as u32,
                gid: 2000,
                home: "/".to_owned(),
                ..User::default()
            };
            replica.set_user(&format!("uid={name}"), &user);
        }
        let rules = Rules {
            minimum_id: 1000,
            schema: Schema::Rfc2307bis,
            ids: IdMap::parse(""),
        };
        let nobody = Path::new("/dev/null");
        let local = Local::read(nobody, nobody).unwrap();
        let view = View::new(&local, &replica, &rules);
        match present {
            Some(present) => present.replace(&view, true).unwrap(),
            None => Present::new(&view, true).unwrap().get(),
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
        let present = Present(RwLock::new(show(None, &["a"])));
        let first = present.get();
        assert!(first.find(Query::UserByName, b"a").is_some());
        assert!(timestamp(first.map(Database::Passwd).0) > 0);
        let second = show(Some(&present), &["a"]);
        assert!(Arc::ptr_eq(&first.passwd, &second.passwd));
        assert!(timestamp(first.map(Database::Passwd).0) > 0);
        let third = show(Some(&present), &["bb"]);
        assert_eq!(timestamp(first.map(Database::Passwd).0), 0);
        assert!(timestamp(third.map(Database::Passwd).0) > 0);
        assert!(third.find(Query::UserById, b"2002").is_some());
        assert!(third.find(Query::UserByName, b"a").is_none());
        present.beat();
        assert_eq!(timestamp(first.map(Database::Passwd).0), 0);
        assert_eq!(third.number, 3);
    }
}
