//! Active Directory's primary groups: no list of members has those whose primary group it is, and still they are in
//! all groups above it.

use std::collections::BTreeMap;

use super::{entry, search::Entry};
use crate::{
    key::Key,
    replica::{Replica, Seen, What},
};

/// Who has which primary group, while everything is read: users first.
#[derive(Debug, Default)]
pub struct Primaries(BTreeMap<String, Primary>);

#[derive(Debug, Default)]
struct Primary {
    people: Vec<Key>,
    /// The group's normal DN.
    group: Option<String>,
}

impl Primaries {
    /// Notes what an entry that was read says about them.
    pub fn note(&mut self, replica: &mut Replica, entry: &Entry, seen: &Seen) {
        match &seen.what {
            What::User(dn, _) => {
                if let Some(sid) = entry::primary_of(entry) {
                    self.0.entry(sid).or_default().people.push(replica.key(dn));
                }
            }
            What::Group(dn, _) => {
                let primary = entry::sid_of(entry).and_then(|sid| self.0.get_mut(&sid));
                if let Some(primary) = primary {
                    primary.group = Some(dn.clone());
                }
            }
            What::Unusable(_) | What::Nothing => {}
        }
    }

    /// The SIDs of those whose groups have not been read.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.0.iter().filter(|(_, one)| one.group.is_none());
        missing.map(|(sid, _)| sid.clone()).collect()
    }

    /// Notes where such a group is.
    pub fn found(&mut self, sid: &str, dn: String) {
        if let Some(primary) = self.0.get_mut(sid) {
            primary.group = Some(dn);
        }
    }

    /// Puts them into what was read; `shown` if they count as members of the group itself, too.
    pub fn put(self, replica: &mut Replica, shown: bool) {
        for primary in self.0.into_values() {
            if let Some(group) = primary.group {
                replica.put_primary(&group, primary.people, shown);
            }
        }
    }
}
