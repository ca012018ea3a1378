//! The directory as it was read: users, groups, who is in what. Facts only; what of it is served is
//! decided in [`crate::view`].
//!
//! It is held small, since a site may have a million memberships: each DN once, users as the bytes that
//! they are on disk, members as numbers of DNs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};

use crate::{
    dn,
    key::{Key, Keys},
    marks::Marks,
};

/// One user entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    // The first six are those of `Person`, in its order.
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
    /// The entry's DN as the server spells it, for binds.
    #[serde(skip)]
    pub dn: String,
}

/// What everybody may see of a user, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Person<'a> {
    /// See [`User`].
    pub name: &'a str,
    /// See [`User`].
    pub uid: u32,
    /// See [`User`].
    pub gid: u32,
    /// See [`User`].
    pub gecos: &'a str,
    /// See [`User`].
    pub home: &'a str,
    /// See [`User`].
    pub shell: &'a str,
}

/// One group entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// `cn`.
    pub name: String,
    /// `gidNumber`; a group without one only connects others.
    pub gid: Option<u32>,
    /// What it lists: names (rfc2307) or DNs in normal form (rfc2307bis).
    pub members: BTreeSet<String>,
}

/// A group as it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    /// See [`Group`].
    pub name: Box<str>,
    /// See [`Group`].
    pub gid: Option<u32>,
    /// See [`Group`]; in the order of their numbers.
    pub members: Box<[Key]>,
}

/// Everything, by DN in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// When the directory server last confirmed all of it.
    pub confirmed: SystemTime,
    /// The directory cannot be listed: only what was asked for is here.
    pub partial: bool,
    /// Entries that lack what they must have, with the reason.
    pub unusable: BTreeMap<String, String>,
    /// How long a lock after failures counts, if the directory says (Active Directory's
    /// `lockoutDuration`).
    pub lockout: Option<Duration>,
    /// How far the user entries are in step.
    user_step: Step,
    /// How far the group entries are.
    group_step: Step,
    /// DNs and members.
    keys: Keys,
    /// User entries, at the places of their keys.
    users: Vec<Option<Kept>>,
    /// Group entries, the same.
    groups: Vec<Option<Box<Team>>>,
}

/// A user as it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The DN as the server spells it.
    spelled: Key,
    /// The rest, in postcard.
    packed: Packed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Packed(Box<[u8]>);

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
    User(String, Box<User>),
    /// A group by normal DN.
    Group(String, Group),
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

/// What stands between the people whose primary group this is, by normal DN, and the groups above it: a group without
/// a number. It is no DN, so that no entry is called so.
pub fn between(group: &str) -> String {
    format!("primary of {group}")
}

impl Replica {
    /// A replica of nothing, for a daemon that has not reached its directory yet.
    pub fn empty() -> Self {
        Self {
            confirmed: SystemTime::UNIX_EPOCH,
            partial: false,
            unusable: BTreeMap::new(),
            lockout: None,
            user_step: Step::default(),
            group_step: Step::default(),
            keys: Keys::default(),
            users: Vec::new(),
            groups: Vec::new(),
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

    /// The names behind the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// All users.
    pub fn people(&self) -> impl Iterator<Item = (Key, Person<'_>)> {
        let held = self.keys.all().zip(&self.users);
        held.filter_map(|(key, kept)| Some((key, kept.as_ref()?.person()?)))
    }

    /// All groups.
    pub fn teams(&self) -> impl Iterator<Item = (Key, &Team)> {
        let held = self.keys.all().zip(&self.groups);
        held.filter_map(|(key, team)| Some((key, &**team.as_ref()?)))
    }

    /// How many users there are.
    pub fn user_count(&self) -> usize {
        self.users.iter().flatten().count()
    }

    /// The user of a normal DN.
    pub fn user(&self, dn: &str) -> Option<User> {
        let kept = self.users.get(self.keys.find(dn)?.index())?.as_ref()?;
        let user = postcard::from_bytes(&kept.packed.0).ok()?;
        Some(User {
            dn: self.keys.text(kept.spelled).to_owned(),
            ..user
        })
    }

    /// The group of a normal DN, with the names of its members.
    #[cfg(test)]
    pub fn group(&self, dn: &str) -> Option<Group> {
        let team = self.team_of(self.keys.find(dn)?)?;
        let members = team.members.iter();
        Some(Group {
            name: team.name.to_string(),
            gid: team.gid,
            members: members.map(|key| self.keys.text(*key).to_owned()).collect(),
        })
    }

    /// The group of a key.
    pub fn team_of(&self, key: Key) -> Option<&Team> {
        self.groups.get(key.index())?.as_deref()
    }

    /// Whether a user or a group has this key.
    pub fn is_entry(&self, key: Key) -> bool {
        let user = self.users.get(key.index()).and_then(Option::as_ref);
        user.is_some() || self.team_of(key).is_some()
    }

    /// The normal DNs of the users of a name.
    pub fn named(&self, name: &str) -> Vec<Key> {
        let people = self.people().filter(|(_, person)| person.name == name);
        people.map(|(key, _)| key).collect()
    }

    /// Puts a user at a normal DN. True if that is news.
    pub fn set_user(&mut self, dn: &str, user: &User) -> bool {
        // Into memory it always can be written.
        let packed = postcard::to_stdvec(user).unwrap_or_default();
        let kept = Kept {
            spelled: self.keys.key(&user.dn),
            packed: Packed(packed.into()),
        };
        let key = self.keys.key(dn);
        set(&mut self.users, key, kept)
    }

    /// Puts a group at a normal DN. True if that is news.
    pub fn set_group(&mut self, dn: &str, group: &Group) -> bool {
        let key = self.keys.key(dn);
        let members = group.members.iter();
        let mut members: Vec<Key> = members.map(|member| self.keys.key(member)).collect();
        members.sort_unstable();
        let team = Team {
            name: group.name.as_str().into(),
            gid: group.gid,
            members: members.into(),
        };
        set(&mut self.groups, key, Box::new(team))
    }

    /// The key of a name, which is known from now on.
    pub fn key(&mut self, name: &str) -> Key {
        self.keys.key(name)
    }

    /// Takes a user of another replica over, with everything, under a key of ours.
    pub fn take_user(&mut self, key: Key, other: &Self, theirs: Key) {
        if let Some(Some(kept)) = other.users.get(theirs.index()) {
            let spelled = self.keys.key(other.keys.text(kept.spelled));
            let packed = kept.packed.clone();
            set(&mut self.users, key, Kept { spelled, packed });
        }
    }

    /// Puts a group of other members than it had elsewhere under a key of ours.
    pub fn take_team(&mut self, key: Key, team: &Team, mut members: Vec<Key>) {
        members.sort_unstable();
        let team = Team {
            members: members.into(),
            ..team.clone()
        };
        set(&mut self.groups, key, Box::new(team));
    }

    /// Takes an entry, new or changed or renamed. True if that is news.
    pub fn put(&mut self, part: Part, seen: Seen) -> bool {
        let spelled = self.keys.key(&seen.dn);
        let step = self.step_mut(part);
        let before = match seen.uuid {
            Some(uuid) => step.entries.insert(uuid, spelled),
            None => {
                step.gaps = true;
                None
            }
        };
        let renamed = before.filter(|before| *before != spelled);
        let mut news = self.forget_free(part, renamed.into_iter().collect());
        news |= match seen.what {
            What::User(dn, user) => {
                let news = self.set_user(&dn, &user);
                news | self.unusable.remove(&seen.dn).is_some()
            }
            What::Group(dn, group) => {
                let news = self.set_group(&dn, &group);
                news | self.unusable.remove(&seen.dn).is_some()
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
        dns.into_iter().fold(false, |news, dn| {
            let spelled = self.keys.text(dn).to_owned();
            self.forget(part, &spelled) | news
        })
    }

    fn forget(&mut self, part: Part, spelled: &str) -> bool {
        let unusable = self.unusable.remove(spelled).is_some();
        let Some(key) = dn::normal(spelled).and_then(|dn| self.keys.find(&dn)) else {
            return unusable;
        };
        let gone = match part {
            Part::Users => take(&mut self.users, key),
            Part::Groups => take(&mut self.groups, key),
        };
        gone || unusable
    }

    /// True if `other` says the same, whenever it was confirmed. Both are brought into order for that.
    pub fn says_the_same(&mut self, other: &mut Self) -> bool {
        self.settle();
        other.settle();
        self.keys == other.keys
            && self.users == other.users
            && self.groups == other.groups
            && self.unusable == other.unusable
            && self.lockout == other.lockout
    }

    /// Lets go of DNs that nothing has any more, and numbers the others in their order: what says the
    /// same is the same then.
    pub fn settle(&mut self) {
        let mut needed = vec![false; self.keys.len()];
        let mut need = |key: Key| {
            if let Some(needed) = needed.get_mut(key.index()) {
                *needed = true;
            }
        };
        for (key, kept) in self.keys.all().zip(&self.users) {
            if let Some(kept) = kept {
                need(key);
                need(kept.spelled);
            }
        }
        for (key, team) in self.keys.all().zip(&self.groups) {
            if let Some(team) = team {
                need(key);
                team.members.iter().copied().for_each(&mut need);
            }
        }
        for step in [&self.user_step, &self.group_step] {
            step.entries.values().copied().for_each(&mut need);
        }
        let mut order: Vec<Key> = self.keys.all().filter(|key| needed[key.index()]).collect();
        // Mostly in order already, which this kind of sorting is quick about.
        order.sort_by(|a, b| self.keys.text(*a).cmp(self.keys.text(*b)));
        let mut keys = self.keys.room();
        let mut now: Vec<Option<Key>> = vec![None; self.keys.len()];
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        users.resize_with(order.len(), || None);
        groups.resize_with(order.len(), || None);
        for (at, old) in order.iter().enumerate() {
            now[old.index()] = Some(keys.key(self.keys.text(*old)));
            users[at] = self.users.get_mut(old.index()).and_then(Option::take);
            groups[at] = self.groups.get_mut(old.index()).and_then(Option::take);
        }
        let renumber = |key: &mut Key| {
            if let Some(Some(now)) = now.get(key.index()) {
                *key = *now;
            }
        };
        for kept in users.iter_mut().flatten() {
            renumber(&mut kept.spelled);
        }
        for team in groups.iter_mut().flatten() {
            team.members.iter_mut().for_each(renumber);
            team.members.sort_unstable();
        }
        for step in [&mut self.user_step, &mut self.group_step] {
            step.entries.values_mut().for_each(renumber);
        }
        (self.keys, self.users, self.groups) = (keys, users, groups);
    }

    /// Puts people into all groups above one, and with `shown` into that one: their primary group, in whose list of
    /// members they are not.
    pub fn put_primary(&mut self, group: &str, mut people: Vec<Key>, shown: bool) {
        let between = self.keys.key(&between(group));
        let group = self.keys.find(group);
        for (key, team) in self.keys.all().zip(&mut self.groups) {
            if let (Some(team), Some(group)) = (team, group)
                && (team.lists(group) || shown && key == group)
            {
                team.add(between);
            }
        }
        people.sort_unstable();
        let team = Team {
            name: Box::default(),
            gid: None,
            members: people.into(),
        };
        set(&mut self.groups, between, Box::new(team));
    }

    /// Takes what an online look-up of `name` said about the user. True if that is news.
    pub fn put_user(&mut self, name: &str, found: Option<(String, User)>) -> bool {
        let mut changed = false;
        for key in self.named(name) {
            let stays = matches!(&found, Some((dn, _)) if self.keys.text(key) == dn);
            changed |= !stays && take(&mut self.users, key);
        }
        match found {
            Some((dn, user)) => self.set_user(&dn, &user) | changed,
            None => changed,
        }
    }

    /// Takes what an online look-up said of the UUID of the user entry at a DN.
    pub fn put_uuid(&mut self, uuid: Uuid, spelled: &str) {
        let key = self.keys.key(spelled);
        let entries = &mut self.user_step.entries;
        // That an entry has another DN now is told by who tells of changes, if anybody does.
        let is_told = !self.partial && entries.contains_key(&uuid);
        if !is_told && entries.get(&uuid) != Some(&key) {
            // Another entry had the DN before.
            entries.retain(|_, held| *held != key);
            entries.insert(uuid, key);
        }
    }

    /// Takes what an online look-up of a group, all those that `is_it` is true for, said. True if that is news.
    pub fn put_group(
        &mut self,
        is_it: impl Fn(&Team) -> bool,
        found: Option<(String, Group)>,
    ) -> bool {
        let mut changed = false;
        for (key, team) in self.keys.all().zip(&mut self.groups) {
            let stays = matches!(&found, Some((dn, _)) if self.keys.text(key) == dn);
            if !stays && team.as_ref().is_some_and(|team| is_it(team)) {
                *team = None;
                changed = true;
            }
        }
        match found {
            Some((dn, group)) => self.set_group(&dn, &group) | changed,
            None => changed,
        }
    }

    /// Takes what an online look-up said about the groups that list one of `members`: exactly
    /// `holders`. For more than one member it is not said which group lists whom; for none, only that these
    /// groups are there.
    pub fn put_holders(&mut self, members: &[String], holders: &[Holder]) -> News {
        let mut news = News::default();
        let holding: BTreeMap<Key, &Holder> = holders
            .iter()
            .map(|holder| (self.keys.key(&holder.dn), holder))
            .collect();
        let members: Vec<Key> = members.iter().map(|name| self.keys.key(name)).collect();
        for (key, team) in self.keys.all().zip(&mut self.groups) {
            if let Some(team) = team
                && !holding.contains_key(&key)
                && members.iter().any(|member| team.lists(*member))
            {
                let left = team.members.iter().copied();
                team.members = left.filter(|member| !members.contains(member)).collect();
                news.changed = true;
            }
        }
        for (key, holder) in holding {
            if self.team_of(key).is_none() {
                news.unknown = true;
                let team = Team {
                    name: Box::default(),
                    gid: None,
                    members: Box::default(),
                };
                set(&mut self.groups, key, Box::new(team));
            }
            let Some(Some(team)) = self.groups.get_mut(key.index()) else {
                continue;
            };
            if *team.name != *holder.name || team.gid != holder.gid {
                team.name = holder.name.as_str().into();
                team.gid = holder.gid;
                news.changed = true;
            }
            match members[..] {
                [] => {}
                [member] => {
                    news.changed |= team.add(member);
                }
                _ => news.unknown |= !members.iter().any(|member| team.lists(*member)),
            }
        }
        news
    }
}

impl Team {
    fn lists(&self, member: Key) -> bool {
        self.members.binary_search(&member).is_ok()
    }

    /// True if that is news.
    fn add(&mut self, member: Key) -> bool {
        let Err(at) = self.members.binary_search(&member) else {
            return false;
        };
        let mut more = std::mem::take(&mut self.members).into_vec();
        more.insert(at, member);
        self.members = more.into();
        true
    }
}

impl Kept {
    fn person(&self) -> Option<Person<'_>> {
        let (person, _) = postcard::take_from_bytes(&self.packed.0).ok()?;
        Some(person)
    }
}

/// Puts something in its place. True if that is news.
fn set<T: PartialEq>(places: &mut Vec<Option<T>>, key: Key, value: T) -> bool {
    if places.len() <= key.index() {
        places.resize_with(key.index() + 1, || None);
    }
    let place = &mut places[key.index()];
    let news = place.as_ref() != Some(&value);
    if news {
        *place = Some(value);
    }
    news
}

/// Clears a place. True if something was there.
fn take<T>(places: &mut [Option<T>], key: Key) -> bool {
    places.get_mut(key.index()).and_then(Option::take).is_some()
}

/// As one run of bytes, rather than as a list of numbers.
impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Run;
        impl<'de> Visitor<'de> for Run {
            type Value = Packed;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Packed, E> {
                Ok(Packed(bytes.into()))
            }
        }
        from.deserialize_bytes(Run)
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
mod random_changes;

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
        assert!(replica.group("cn=x").unwrap().members.is_empty());
        let left = replica.group("cn=y").unwrap().members;
        assert_eq!(left, ["uid=b".to_owned()].into());
    }
}
