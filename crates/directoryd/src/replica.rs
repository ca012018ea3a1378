//! The directory as it was read: users, groups, who is in what. Facts only; what of it is served is
//! decided in [`crate::view`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::marks::Marks;

/// One user entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// `uidNumber`.
    pub uid: u32,
    /// `gidNumber`.
    pub gid: u32,
    /// `gecos`, else `cn`.
    pub gecos: String,
    /// `homeDirectory`.
    pub home: String,
    /// `loginShell`; empty if there is none.
    pub shell: String,
    /// `sshPublicKey`, as `type base64`.
    pub keys: Vec<String>,
    /// How many stored keys were refused.
    pub refused_keys: usize,
    /// What stands against a login.
    pub marks: Marks,
}

/// One group entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// `cn`.
    pub name: String,
    /// `gidNumber`; a group without one only connects others.
    pub gid: Option<u32>,
    /// What it lists: names (rfc2307) or DNs in normal form (rfc2307bis).
    pub members: BTreeSet<String>,
}

/// Everything, by DN in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// When the directory server last confirmed all of it.
    pub confirmed: SystemTime,
    /// User entries.
    pub users: BTreeMap<String, User>,
    /// Group entries.
    pub groups: BTreeMap<String, Group>,
    /// Entries that lack what they must have, with the reason.
    pub unusable: BTreeMap<String, String>,
}

/// A group that lists somebody, as an online look-up shows it: without its other members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// DN in normal form.
    pub dn: String,
    /// `cn`.
    pub name: String,
    /// `gidNumber`.
    pub gid: Option<u32>,
}

impl Replica {
    /// A replica of nothing, for a daemon that has not reached its directory yet.
    pub fn empty() -> Self {
        Self {
            confirmed: SystemTime::UNIX_EPOCH,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            unusable: BTreeMap::new(),
        }
    }

    /// True if `other` says the same, whenever it was confirmed.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.users == other.users && self.groups == other.groups && self.unusable == other.unusable
    }

    /// Takes what an online look-up of `name` said about the user.
    pub fn put_user(&mut self, name: &str, found: Option<(String, User)>) {
        self.users.retain(|_, user| user.name != name);
        if let Some((dn, user)) = found {
            self.users.insert(dn, user);
        }
    }

    /// Takes what an online look-up said about the groups that list `member` directly: exactly
    /// `holders`. True if one of them was not known, so that its other members are not either.
    pub fn put_holders(&mut self, member: &str, holders: &[Holder]) -> bool {
        for (dn, group) in &mut self.groups {
            if !holders.iter().any(|holder| holder.dn == *dn) {
                group.members.remove(member);
            }
        }
        let mut new = false;
        for holder in holders {
            let group = self.groups.entry(holder.dn.clone()).or_insert_with(|| {
                new = true;
                Group {
                    name: String::new(),
                    gid: None,
                    members: BTreeSet::new(),
                }
            });
            group.name.clone_from(&holder.name);
            group.gid = holder.gid;
            group.members.insert(member.to_owned());
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_online_look_up_adds_and_takes_away() {
        let mut replica = Replica::empty();
        let head = |name: &str| Holder {
            dn: format!("cn={name}"),
            name: name.into(),
            gid: Some(1),
        };
        assert!(replica.put_holders("uid=a", &[head("x"), head("y")]));
        assert!(!replica.put_holders("uid=b", &[head("y")]));
        assert!(!replica.put_holders("uid=a", &[head("y")]));
        assert!(replica.groups["cn=x"].members.is_empty());
        assert_eq!(replica.groups["cn=y"].members.len(), 2);
    }
}
