//! The directory as it was read: users, groups, who is in what. Facts only; what of it is served is
//! decided in [`crate::view`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::marks::Marks;

/// One user entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The entry's DN as the server spells it, for binds.
    pub dn: String,
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
    /// `host`.
    pub hosts: Vec<String>,
    /// `authorizedService`.
    pub services: Vec<String>,
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
    /// How long a lock after failures counts, if the directory says (Active Directory's
    /// `lockoutDuration`).
    pub lockout: Option<Duration>,
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
            lockout: None,
        }
    }

    /// True if `other` says the same, whenever it was confirmed.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.users == other.users
            && self.groups == other.groups
            && self.unusable == other.unusable
            && self.lockout == other.lockout
    }

    /// Takes what an online look-up of `name` said about the user. True if that is news.
    pub fn put_user(&mut self, name: &str, found: Option<(String, User)>) -> bool {
        let old = self
            .users
            .iter()
            .find(|(_, user)| user.name == name)
            .map(|(dn, _)| dn.clone());
        let same = match (&old, &found) {
            (None, None) => true,
            (Some(old), Some((dn, user))) => old == dn && self.users.get(dn) == Some(user),
            _ => false,
        };
        if !same {
            self.users.retain(|_, user| user.name != name);
            self.users.extend(found);
        }
        !same
    }

    /// Takes what an online look-up said about the groups that list one of `members`: exactly
    /// `holders`. For more than one member it is not said which group lists whom.
    pub fn put_holders(&mut self, members: &[String], holders: &[Holder]) -> News {
        let mut news = News::default();
        let holding: BTreeMap<&str, &Holder> = holders
            .iter()
            .map(|holder| (holder.dn.as_str(), holder))
            .collect();
        for (dn, group) in &mut self.groups {
            if !holding.contains_key(dn.as_str()) {
                for member in members {
                    news.changed |= group.members.remove(member);
                }
            }
        }
        for (dn, holder) in holding {
            let group = self.groups.entry(dn.to_owned()).or_insert_with(|| {
                news.unknown = true;
                Group {
                    name: String::new(),
                    gid: None,
                    members: BTreeSet::new(),
                }
            });
            if group.name != holder.name || group.gid != holder.gid {
                group.name.clone_from(&holder.name);
                group.gid = holder.gid;
                news.changed = true;
            }
            match members {
                [member] => news.changed |= group.members.insert(member.clone()),
                _ => news.unknown |= !members.iter().any(|member| group.members.contains(member)),
            }
        }
        news
    }
}

/// What an online look-up brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// Something is other than it was.
    pub changed: bool,
    /// There is more to know: a whole reading is due.
    pub unknown: bool,
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
        let mut put = |member: &[&str], holders: &[Holder]| {
            let members: Vec<String> = member.iter().map(|name| (*name).to_owned()).collect();
            let news = replica.put_holders(&members, holders);
            (news.changed, news.unknown)
        };
        assert_eq!(put(&["uid=a"], &[head("x"), head("y")]), (true, true));
        assert_eq!(put(&["uid=a"], &[head("x"), head("y")]), (false, false));
        assert_eq!(put(&["uid=b"], &[head("y")]), (true, false));
        assert_eq!(put(&["uid=a"], &[head("y")]), (true, false));
        // One of two groups is in y now: which, only a whole reading says.
        assert_eq!(put(&["cn=p", "cn=q"], &[head("y")]), (false, true));
        assert_eq!(put(&["uid=a", "cn=q"], &[head("y")]), (false, false));
        assert_eq!(put(&["uid=a", "cn=q"], &[]), (true, false));
        assert!(replica.groups["cn=x"].members.is_empty());
        assert_eq!(replica.groups["cn=y"].members, ["uid=b".to_owned()].into());
    }
}
