//! The directory as it was read: users, groups, who is in what. Facts only; what of it is served is
//! decided in [`crate::view`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{dn, key::Key, marks::Marks};

/// One user entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The entry's DN as the server spells it, for binds.
    pub dn: Key,
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
    pub shell: Key,
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
    pub members: BTreeSet<Key>,
}

/// Everything, by DN in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// When the directory server last confirmed all of it.
    pub confirmed: SystemTime,
    /// User entries.
    pub users: BTreeMap<Key, User>,
    /// Group entries.
    pub groups: BTreeMap<Key, Group>,
    /// Entries that lack what they must have, with the reason.
    pub unusable: BTreeMap<String, String>,
    /// How long a lock after failures counts, if the directory says (Active Directory's
    /// `lockoutDuration`).
    pub lockout: Option<Duration>,
    /// How far the user entries are in step.
    pub user_step: Step,
    /// How far the group entries are.
    pub group_step: Step,
}

/// The two halves of a replica, which a server is asked for one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// User entries.
    Users,
    /// Group entries.
    Groups,
}

/// What does not change when an entry is renamed (RFC 4530).
pub type Uuid = [u8; 16];

/// How far a part is in step with the server that it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The server's word for this state (RFC 4533 2.1.2); empty without one.
    pub cookie: Vec<u8>,
    /// The entries, by DN as the server spells it.
    pub entries: BTreeMap<Uuid, Key>,
    /// An entry came without its UUID, so that its end would go unnoticed.
    pub gaps: bool,
}

/// One entry as it was read.
#[derive(Debug)]
pub struct Seen {
    /// DN as the server spells it.
    pub dn: String,
    /// Its UUID, if the server tells.
    pub uuid: Option<Uuid>,
    /// What it is.
    pub what: What,
}

/// What an entry is.
#[derive(Debug)]
pub enum What {
    /// A user by normal DN.
    User(Key, Box<User>),
    /// A group by normal DN.
    Group(Key, Group),
    /// It lacks what it must have.
    Unusable(String),
    /// Nothing to us, and that is no mistake.
    Nothing,
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
            user_step: Step::default(),
            group_step: Step::default(),
        }
    }

    /// How far a part is in step.
    pub fn step(&self, part: Part) -> &Step {
        match part {
            Part::Users => &self.user_step,
            Part::Groups => &self.group_step,
        }
    }

    /// The same, to note more.
    pub fn step_mut(&mut self, part: Part) -> &mut Step {
        match part {
            Part::Users => &mut self.user_step,
            Part::Groups => &mut self.group_step,
        }
    }

    /// Takes an entry, new or changed or renamed. True if that is news.
    pub fn put(&mut self, part: Part, seen: Seen) -> bool {
        let step = self.step_mut(part);
        let before = match seen.uuid {
            Some(uuid) => step.entries.insert(uuid, Key::from(&seen.dn)),
            None => {
                step.gaps = true;
                None
            }
        };
        let renamed = before.filter(|before| **before != *seen.dn);
        let mut news = self.forget_free(part, renamed.into_iter().collect());
        news |= match seen.what {
            What::User(dn, user) if self.users.get(&dn) == Some(&*user) => false,
            What::User(dn, user) => {
                self.unusable.remove(&seen.dn);
                self.users.insert(dn, *user);
                true
            }
            What::Group(dn, group) if self.groups.get(&dn) == Some(&group) => false,
            What::Group(dn, group) => {
                self.unusable.remove(&seen.dn);
                self.groups.insert(dn, group);
                true
            }
            What::Unusable(why) if self.unusable.get(&seen.dn) == Some(&why) => false,
            What::Unusable(why) => {
                self.forget(part, &seen.dn);
                self.unusable.insert(seen.dn, why);
                true
            }
            What::Nothing => self.forget(part, &seen.dn),
        };
        news
    }

    /// Takes entries away. True if that is news.
    pub fn take_away(&mut self, part: Part, uuids: &[Uuid]) -> bool {
        let entries = &mut self.step_mut(part).entries;
        let dns = uuids
            .iter()
            .filter_map(|uuid| entries.remove(uuid))
            .collect();
        self.forget_free(part, dns)
    }

    /// Forgets DNs but those that another entry has by now: names are given anew before it is said that
    /// they became free.
    fn forget_free(&mut self, part: Part, mut dns: BTreeSet<Key>) -> bool {
        if !dns.is_empty() {
            for held in self.step(part).entries.values() {
                dns.remove(held);
            }
        }
        dns.iter()
            .fold(false, |news, dn| self.forget(part, dn) | news)
    }

    fn forget(&mut self, part: Part, spelled: &str) -> bool {
        let unusable = self.unusable.remove(spelled).is_some();
        let Some(dn) = dn::normal(spelled) else {
            return unusable;
        };
        let gone = match part {
            Part::Users => self.users.remove(dn.as_str()).is_some(),
            Part::Groups => self.groups.remove(dn.as_str()).is_some(),
        };
        gone || unusable
    }

    /// True if `other` says the same, whenever it was confirmed.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.users == other.users
            && self.groups == other.groups
            && self.unusable == other.unusable
            && self.lockout == other.lockout
    }

    /// Takes what an online look-up of `name` said about the user. True if that is news.
    pub fn put_user(&mut self, name: &str, found: Option<(Key, User)>) -> bool {
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
            if !holding.contains_key(&**dn) {
                for member in members {
                    news.changed |= group.members.remove(member.as_str());
                }
            }
        }
        for (dn, holder) in holding {
            let group = self.groups.entry(dn.into()).or_insert_with(|| {
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
                [member] => news.changed |= group.members.insert(member.into()),
                _ => {
                    news.unknown |= !members
                        .iter()
                        .any(|member| group.members.contains(member.as_str()))
                }
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
        assert_eq!(replica.groups["cn=y"].members, ["uid=b".into()].into());
    }
}
