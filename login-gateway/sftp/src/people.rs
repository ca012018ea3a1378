//! Names of users and groups, looked up once each and remembered for a while, and their homes.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::{Gid, Group, Uid, User};

/// Names that are remembered before all are forgotten.
const REMEMBERED: usize = 4096;

type Names = Mutex<HashMap<u32, Option<String>>>;

/// The system's users and groups.
#[derive(Debug, Default)]
pub struct People {
    users: Names,
    groups: Names,
}

impl People {
    /// The name of a user, if there is one.
    pub fn user(&self, id: u32) -> Option<String> {
        remember(&self.users, id, |id| {
            Some(User::from_uid(Uid::from_raw(id)).ok()??.name)
        })
    }

    /// The name of a group, if there is one.
    pub fn group(&self, id: u32) -> Option<String> {
        remember(&self.groups, id, |id| {
            Some(Group::from_gid(Gid::from_raw(id)).ok()??.name)
        })
    }

    /// The home of a user; of the user who runs this if the name is empty.
    pub fn home(&self, name: &[u8]) -> Option<Vec<u8>> {
        let user = if name.is_empty() {
            User::from_uid(Uid::current()).ok()?
        } else {
            User::from_name(std::str::from_utf8(name).ok()?).ok()?
        };
        Some(user?.dir.as_os_str().as_bytes().to_vec())
    }
}

/// No lock is held while the system looks: that may take as long as a directory server likes.
fn remember(names: &Names, id: u32, ask: impl Fn(u32) -> Option<String>) -> Option<String> {
    fn lock(names: &Names) -> MutexGuard<'_, HashMap<u32, Option<String>>> {
        names.lock().unwrap_or_else(PoisonError::into_inner)
    }
    if let Some(known) = lock(names).get(&id) {
        return known.clone();
    }
    let name = ask(id);
    let mut names = lock(names);
    if names.len() >= REMEMBERED {
        names.clear();
    }
    names.insert(id, name.clone());
    name
}
