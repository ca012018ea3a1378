//! What is served: local entries first, then what the directory says and may say.
//!
//! An entry of the directory that is ambiguous, forbidden or malformed is refused with a reason; it
//! is never repaired. Nothing here knows of LDAP, sockets or maps.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    ops::Range,
};

use directory_map::record::{Group, Passwd};

use crate::{
    config::Schema,
    id_map::IdMap,
    key::{Key, Keys},
    local::Local,
    name,
    replica::{Person, Replica, Team},
};

/// Most groups a user can be in; more than `setgroups` takes would fail every login.
const MAX_GROUPS: usize = 65_536;

/// Most memberships of the directory in all: nesting multiplies them, and they have to fit into memory.
/// Tests have less time.
const MAX_MEMBERSHIPS: usize = if cfg!(test) { 20_000 } else { 20_000_000 };

/// The shell of who has none, as passwd(5) has it.
pub const NO_SHELL: &str = "/bin/sh";

/// The rules that do not come from the data.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Least id taken from the directory.
    pub minimum_id: u32,
    /// How groups list members.
    pub schema: Schema,
    /// The ids that exist here.
    pub ids: IdMap,
}

/// Everything served at one time, borrowed from where it comes from. Those of the directory stand in the order
/// of their names.
#[derive(Debug)]
pub struct View<'a> {
    local: &'a Local,
    keys: &'a Keys,
    /// The directory's users, with the keys of their DNs.
    people: Vec<(Key, Person<'a>)>,
    /// The directory's groups.
    teams: Vec<(u32, &'a Team)>,
    /// Who is in them, as places in `people`, and where in that each group's begin.
    members: Vec<u32>,
    member_starts: Vec<usize>,
    /// The same the other way round: the gids of the directory's groups that each user is in.
    lists: Vec<u32>,
    list_starts: Vec<usize>,
    /// The gids of local groups by user, besides the primary one.
    local_lists: HashMap<&'a str, Vec<u32>>,
    /// What was refused.
    pub refused: BTreeSet<Refusal>,
    /// Served, but no process of this user namespace can have the id.
    pub unmappable: BTreeSet<String>,
}

/// One refused entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The entry, by DN.
    pub entry: String,
    /// Why.
    pub reason: Reason,
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Not a name this system takes.
    Name(String),
    /// Root's id, or one that means "none" to the kernel or to NFS.
    ForbiddenId(u32),
    /// Below `minimum-id`.
    LowId(u32),
    /// A local entry has the name.
    LocalName(String),
    /// A local entry has the id.
    LocalId(u32),
    /// Several entries of the directory have the name.
    SameName(String),
    /// Several entries of the directory have the id.
    SameId(u32),
    /// It lacks what an entry of its kind must have.
    Unusable(String),
    /// With its members there would be too many memberships.
    Members,
    /// Home or shell is not an absolute path of printable characters.
    Path(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "name {name:?} is not acceptable"),
            Self::ForbiddenId(id) => write!(f, "id {id} is never taken from a directory"),
            Self::LowId(id) => write!(f, "id {id} is below minimum-id"),
            Self::LocalName(name) => write!(f, "'{name}' is a local name"),
            Self::LocalId(id) => write!(f, "id {id} is a local one"),
            Self::SameName(name) => write!(f, "several entries are named '{name}', none is served"),
            Self::SameId(id) => write!(f, "several entries have id {id}, none is served"),
            Self::Unusable(why) => f.write_str(why),
            Self::Members => write!(
                f,
                "with its members there would be more than {MAX_MEMBERSHIPS} memberships"
            ),
            Self::Path(path) => write!(f, "{path:?} is not an absolute path"),
        }
    }
}

impl<'a> View<'a> {
    /// Brings local files and replica together under the rules.
    pub fn new(local: &'a Local, replica: &'a Replica, rules: &Rules) -> Self {
        let mut view = View {
            local,
            keys: replica.keys(),
            people: Vec::new(),
            teams: Vec::new(),
            members: Vec::new(),
            member_starts: vec![0],
            lists: Vec::new(),
            list_starts: Vec::new(),
            local_lists: HashMap::new(),
            refused: BTreeSet::new(),
            unmappable: BTreeSet::new(),
        };
        for (dn, why) in &replica.unusable {
            view.refuse(dn, Reason::Unusable(why.clone()));
        }
        for group in &local.groups {
            for member in &group.members {
                let list = view.local_lists.entry(member).or_default();
                if !list.contains(&group.gid) {
                    list.push(group.gid);
                }
            }
        }
        view.take_people(replica, rules);
        view.take_teams(replica, rules);
        view.make_lists();
        view
    }

    /// How many users there are, and how many of them are local.
    pub fn users(&self) -> (usize, usize) {
        let local = self.local.users.len();
        (local + self.people.len(), local)
    }

    /// How many groups there are, and how many of them are local.
    pub fn groups(&self) -> (usize, usize) {
        let local = self.local.groups.len();
        (local + self.teams.len(), local)
    }

    /// The directory's users and the normal DNs of their entries.
    pub fn accounts(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let keys = self.keys;
        let people = self.people.iter();
        people.map(move |(key, person)| (person.name, keys.text(*key)))
    }

    /// Shows all users, local ones first, with their groups besides the primary one, and whether they are
    /// local.
    ///
    /// # Errors
    /// Those of `each`, which end it.
    pub fn each_user<E>(
        &self,
        mut each: impl FnMut(&Passwd<Cow<'_, str>>, &[u32], bool) -> Result<(), E>,
    ) -> Result<(), E> {
        for user in &self.local.users {
            let user = Passwd::<Cow<'_, str>> {
                name: Cow::Borrowed(&user.name),
                password: Cow::Borrowed(&user.password),
                uid: user.uid,
                gid: user.gid,
                gecos: Cow::Borrowed(&user.gecos),
                home: Cow::Borrowed(&user.home),
                shell: Cow::Borrowed(&user.shell),
            };
            let mut list = self.local_list(&user.name).to_vec();
            list.sort_unstable();
            each(&user, &list, true)?;
        }
        let mut list = Vec::new();
        for (index, (_, person)) in self.people.iter().enumerate() {
            let user = Passwd {
                name: person.name.into(),
                // Not "x": there is no shadow entry to look for.
                password: "*".into(),
                uid: person.uid,
                gid: person.gid,
                gecos: one_field(person.gecos),
                home: person.home.into(),
                shell: match person.shell {
                    "" => NO_SHELL.into(),
                    shell => shell.into(),
                },
            };
            list.clear();
            list.extend_from_slice(self.local_list(person.name));
            list.extend_from_slice(&self.lists[range(&self.list_starts, index)]);
            list.truncate(MAX_GROUPS - 1);
            list.sort_unstable();
            each(&user, &list, false)?;
        }
        Ok(())
    }

    /// Shows all groups, local ones first, and whether they are local.
    ///
    /// # Errors
    /// Those of `each`, which end it.
    pub fn each_group<E>(
        &self,
        mut each: impl FnMut(&Group<&str>, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut shown = Group {
            name: "",
            password: "",
            gid: 0,
            members: Vec::new(),
        };
        for group in &self.local.groups {
            (shown.name, shown.password, shown.gid) = (&group.name, &group.password, group.gid);
            shown.members.clear();
            let members = group.members.iter().map(String::as_str);
            shown.members.extend(members);
            each(&shown, true)?;
        }
        for (index, (gid, team)) in self.teams.iter().enumerate() {
            (shown.name, shown.password, shown.gid) = (&team.name, "*", *gid);
            shown.members.clear();
            let members = &self.members[range(&self.member_starts, index)];
            let names = members.iter().map(|at| self.people[*at as usize].1.name);
            shown.members.extend(names);
            each(&shown, false)?;
        }
        Ok(())
    }

    fn local_list(&self, name: &str) -> &[u32] {
        self.local_lists.get(name).map_or(&[], Vec::as_slice)
    }

    fn refuse(&mut self, dn: &str, reason: Reason) {
        self.refused.insert(Refusal {
            entry: dn.to_owned(),
            reason,
        });
    }

    fn take_people(&mut self, replica: &'a Replica, rules: &Rules) {
        let (local, keys) = (&self.local.users, self.keys);
        let names: HashSet<&str> = local.iter().map(|user| user.name.as_str()).collect();
        let ids: HashSet<u32> = local.iter().map(|user| user.uid).collect();
        let mut people: Vec<(Key, Person<'a>)> = replica.people().collect();
        // Mostly in order already, which this kind of sorting is quick about.
        people.sort_by(|(_, a), (_, b)| a.name.cmp(b.name));
        let same_name = repeated(people.iter().map(|(_, person)| person.name));
        let same_id = repeated(people.iter().map(|(_, person)| person.uid));
        people.retain(|(key, person)| {
            let reason = check_name(person.name, name::is_user, &names, &same_name)
                .or_else(|| check_id(person.uid, &ids, &same_id, rules))
                .or_else(|| check_primary_group(person.gid, rules))
                .or_else(|| check_path(person.home))
                .or_else(|| match person.shell {
                    "" => None,
                    shell => check_path(shell),
                });
            if let Some(reason) = reason {
                self.refuse(keys.text(*key), reason);
                return false;
            }
            for id in [person.uid, person.gid] {
                if !rules.ids.contains(id) {
                    self.unmappable.insert(format!("{} (id {id})", person.name));
                }
            }
            true
        });
        self.people = people;
    }

    fn take_teams(&mut self, replica: &'a Replica, rules: &Rules) {
        let local = &self.local.groups;
        let names: HashSet<&str> = local.iter().map(|group| group.name.as_str()).collect();
        let ids: HashSet<u32> = local.iter().map(|group| group.gid).collect();
        let posix = replica
            .teams()
            .filter_map(|(key, team)| Some((key, team.gid?, team)));
        let mut teams: Vec<(Key, u32, &'a Team)> = posix.collect();
        teams.sort_by(|(_, _, a), (_, _, b)| a.name.cmp(&b.name));
        let same_name = repeated(teams.iter().map(|(_, _, team)| &*team.name));
        let same_id = repeated(teams.iter().map(|(_, gid, _)| *gid));
        let mut walk = Walk::new(replica, &self.people, rules.schema);
        for (key, gid, team) in teams {
            let reason = check_name(&team.name, name::is_group, &names, &same_name)
                .or_else(|| check_id(gid, &ids, &same_id, rules));
            if let Some(reason) = reason {
                self.refuse(self.keys.text(key), reason);
                continue;
            }
            if !rules.ids.contains(gid) {
                self.unmappable.insert(format!("{} (id {gid})", team.name));
            }
            // A group of the directory holds users of the directory: a local user's rights are a
            // local matter.
            let before = self.members.len();
            walk.members(key, team, &mut self.members);
            if self.members.len() > MAX_MEMBERSHIPS {
                self.members.truncate(before);
                self.refuse(self.keys.text(key), Reason::Members);
                continue;
            }
            self.member_starts.push(self.members.len());
            self.teams.push((gid, team));
        }
    }

    /// Turns members of groups into groups of members.
    fn make_lists(&mut self) {
        let mut starts = vec![0; self.people.len() + 1];
        for member in &self.members {
            starts[*member as usize + 1] += 1;
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        self.lists.resize(self.members.len(), 0);
        let mut next = starts.clone();
        let mut by_gid: Vec<usize> = (0..self.teams.len()).collect();
        by_gid.sort_by_key(|index| self.teams[*index].0);
        for index in by_gid {
            for member in &self.members[range(&self.member_starts, index)] {
                let place = &mut next[*member as usize];
                self.lists[*place] = self.teams[index].0;
                *place += 1;
            }
        }
        self.list_starts = starts;
    }
}

/// Finds out who is in which group.
struct Walk<'a> {
    replica: &'a Replica,
    /// Where in the list of served users those are whom groups call by this key.
    served: Vec<u32>,
    /// In which round the group of this key was seen last.
    seen: Vec<u32>,
    round: u32,
    open: Vec<&'a Team>,
}

/// Nobody who is served.
const NOBODY: u32 = u32::MAX;

impl<'a> Walk<'a> {
    fn new(replica: &'a Replica, people: &[(Key, Person<'_>)], schema: Schema) -> Self {
        let keys = replica.keys();
        let mut served = vec![NOBODY; keys.len()];
        for (at, (dn, person)) in (0..NOBODY).zip(people) {
            let key = match schema {
                Schema::Rfc2307 => keys.find(person.name),
                Schema::Rfc2307bis | Schema::Ad => Some(*dn),
            };
            if let Some(place) = key.and_then(|key| served.get_mut(key.index())) {
                *place = at;
            }
        }
        Self {
            replica,
            served,
            seen: vec![0; keys.len()],
            round: 0,
            open: Vec::new(),
        }
    }

    /// Adds the served users in a group, through groups in groups, each once however they are nested, and in
    /// their order.
    fn members(&mut self, key: Key, team: &'a Team, members: &mut Vec<u32>) {
        self.round += 1;
        self.is_new(key);
        let start = members.len();
        self.open.push(team);
        while let Some(team) = self.open.pop() {
            for member in &team.members {
                match self.served.get(member.index()) {
                    Some(at) if *at != NOBODY => members.push(*at),
                    _ => {
                        if let Some(team) = self.replica.team_of(*member)
                            && self.is_new(*member)
                        {
                            self.open.push(team);
                        }
                    }
                }
            }
        }
        members[start..].sort_unstable();
        let mut end = start;
        for at in start..members.len() {
            if end == start || members[end - 1] != members[at] {
                members[end] = members[at];
                end += 1;
            }
        }
        members.truncate(end);
    }

    /// Whether this round comes to a group for the first time.
    fn is_new(&mut self, key: Key) -> bool {
        match self.seen.get_mut(key.index()) {
            Some(seen) => std::mem::replace(seen, self.round) != self.round,
            None => false,
        }
    }
}

/// The part of a list that belongs to one of those whose parts begin at `starts`.
fn range(starts: &[usize], index: usize) -> Range<usize> {
    starts[index]..starts[index + 1]
}

/// The text as one field of a passwd line.
fn one_field(text: &str) -> Cow<'_, str> {
    let is_odd = |c: char| c.is_control() || c == ':';
    if text.contains(is_odd) {
        text.replace(is_odd, " ").into()
    } else {
        text.into()
    }
}

fn repeated<T: Ord + Copy + std::hash::Hash>(values: impl Iterator<Item = T>) -> HashSet<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    let twice = values.windows(2).filter(|pair| pair[0] == pair[1]);
    twice.map(|pair| pair[0]).collect()
}

fn check_name(
    name: &str,
    is_good: fn(&str) -> bool,
    local: &HashSet<&str>,
    same: &HashSet<&str>,
) -> Option<Reason> {
    if !is_good(name) {
        Some(Reason::Name(name.to_owned()))
    } else if local.contains(name) {
        Some(Reason::LocalName(name.to_owned()))
    } else {
        same.contains(name)
            .then(|| Reason::SameName(name.to_owned()))
    }
}

fn check_id(id: u32, local: &HashSet<u32>, same: &HashSet<u32>, rules: &Rules) -> Option<Reason> {
    check_primary_group(id, rules)
        .or_else(|| local.contains(&id).then_some(Reason::LocalId(id)))
        .or_else(|| same.contains(&id).then_some(Reason::SameId(id)))
}

/// A primary group need not exist, and may be a local one, but no privileged one.
fn check_primary_group(id: u32, rules: &Rules) -> Option<Reason> {
    // 65534 is "nobody"; -1, in 16 and in 32 bits, is "no change" to chown and setresuid.
    if matches!(id, 0 | 65_534 | 65_535 | u32::MAX) {
        Some(Reason::ForbiddenId(id))
    } else {
        (id < rules.minimum_id).then_some(Reason::LowId(id))
    }
}

fn check_path(path: &str) -> Option<Reason> {
    let good = path.starts_with('/')
        && path.len() < 4096
        && !path.chars().any(|c| c.is_control() || c == ':')
        && !path.split('/').any(|part| part == "..");
    (!good).then(|| Reason::Path(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica;

    fn rules(schema: Schema) -> Rules {
        Rules {
            minimum_id: 1000,
            schema,
            ids: IdMap::parse("0 0 65536"),
        }
    }

    fn local() -> Local {
        let root = Passwd {
            name: "root".into(),
            password: "x".into(),
            uid: 0,
            gid: 0,
            gecos: String::new(),
            home: "/root".into(),
            shell: "/bin/sh".into(),
        };
        let operator = Passwd {
            name: "operator".into(),
            uid: 1100,
            gid: 1100,
            ..root.clone()
        };
        let group = |name: &str, gid, members: &[&str]| Group {
            name: name.into(),
            password: "x".into(),
            gid,
            members: members.iter().map(|name| (*name).to_owned()).collect(),
        };
        Local {
            users: vec![root, operator],
            groups: vec![
                group("root", 0, &[]),
                group("docker", 999, &["operator", "bob"]),
            ],
        }
    }

    fn replica(users: &[(&str, u32)], groups: &[(&str, Option<u32>, &[&str])]) -> Replica {
        let mut replica = Replica::empty();
        for (index, (name, uid)) in users.iter().enumerate() {
            let user = replica::User {
                name: (*name).into(),
                uid: *uid,
                gid: 1500,
                gecos: "a:b\n".into(),
                home: format!("/home/{index}"),
                ..replica::User::default()
            };
            // The same name twice has two DNs.
            let dn = match replica.user(&format!("uid={name}")) {
                Some(_) => format!("uid={name},ou={index}"),
                None => format!("uid={name}"),
            };
            replica.set_user(&dn, &user);
        }
        for (name, gid, members) in groups {
            let group = replica::Group {
                name: (*name).into(),
                gid: *gid,
                members: members.iter().map(|member| (*member).to_owned()).collect(),
            };
            replica.set_group(&format!("cn={name}"), &group);
        }
        replica
    }

    /// Everything in a view: users with their groups, and groups.
    type Shown = (Vec<(Passwd, Vec<u32>)>, Vec<Group>);

    fn shown(view: &View<'_>) -> Shown {
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        let users_shown: Result<(), ()> = view.each_user(|user, list, _| {
            let user = Passwd::decode(&user.encode()).unwrap();
            users.push((user, list.to_vec()));
            Ok(())
        });
        let groups_shown: Result<(), ()> = view.each_group(|group, _| {
            groups.push(Group::decode(&group.encode()).unwrap());
            Ok(())
        });
        users_shown.and(groups_shown).unwrap();
        (users, groups)
    }

    fn list_of(shown: &Shown, name: &str) -> Vec<u32> {
        let mut users = shown.0.iter();
        users.find(|(user, _)| user.name == name).unwrap().1.clone()
    }

    #[test]
    fn local_entries_win_and_doubtful_ones_are_refused() {
        let local = local();
        let replica = replica(
            &[
                ("bob", 1501),
                ("root", 1502),
                ("toor", 0),
                ("operator", 1503),
                ("op2", 1100),
                ("low", 999),
                ("Big", 1504),
                ("twin", 1505),
                ("twin", 1506),
                ("a", 1507),
                ("b", 1507),
                ("none", u32::MAX),
                ("far", 70_000),
            ],
            &[
                ("docker", Some(1600), &["uid=bob"]),
                ("sudo", Some(27), &["uid=bob"]),
                ("ok", Some(1601), &[]),
            ],
        );
        let view = View::new(&local, &replica, &rules(Schema::Rfc2307bis));
        let (users, groups) = &shown(&view);
        let names: Vec<&str> = users.iter().map(|(user, _)| user.name.as_str()).collect();
        assert_eq!(names, ["root", "operator", "bob", "far"]);
        assert_eq!(view.refused.len(), 11 + 2, "{:#?}", view.refused);
        let groups: Vec<_> = groups
            .iter()
            .map(|group| (group.name.as_str(), group.gid))
            .collect();
        assert_eq!(groups, [("root", 0), ("docker", 999), ("ok", 1601)]);
        // The local group lists bob: that counts.
        assert_eq!(list_of(&shown(&view), "bob"), [999]);
        assert_eq!(view.unmappable, ["far (id 70000)".to_owned()].into());
        assert_eq!(users[2].0.gecos, "a b ");
        assert_eq!(users[2].0.shell, "/bin/sh");
    }

    #[test]
    fn groups_in_groups_reach_their_users_and_loops_end() {
        let local = local();
        let replica = replica(
            &[("bob", 1501), ("carol", 1502)],
            &[
                ("top", Some(1600), &["cn=middle", "cn=top"]),
                ("middle", None, &["cn=low", "uid=carol"]),
                (
                    "low",
                    Some(1601),
                    &["uid=bob", "cn=top", "uid=ghost", "uid=operator"],
                ),
            ],
        );
        let view = View::new(&local, &replica, &rules(Schema::Rfc2307bis));
        let shown = shown(&view);
        let top = shown.1.iter().find(|group| group.name == "top").unwrap();
        assert_eq!(top.members, ["bob", "carol"]);
        assert_eq!(list_of(&shown, "bob"), [999, 1600, 1601]);
        assert_eq!(list_of(&shown, "carol"), [1600, 1601]);
        assert_eq!(list_of(&shown, "operator"), [999]);
    }

    #[test]
    fn nesting_without_measure_costs_the_groups_alone() {
        let users: Vec<(String, u32)> = (0..20).map(|n| (format!("u{n}"), 2000 + n)).collect();
        let dns: Vec<String> = users
            .iter()
            .map(|(name, _)| format!("uid={name}"))
            .collect();
        let listed: Vec<&str> = dns.iter().map(String::as_str).collect();
        let named: Vec<(&str, u32)> = users.iter().map(|(name, uid)| (&**name, *uid)).collect();
        let names: Vec<String> = (0..1100).map(|n| format!("g{n:04}")).collect();
        let mut groups: Vec<(&str, Option<u32>, &[&str])> = vec![("base", None, &listed)];
        let above = (30_000..).zip(&names);
        groups.extend(above.map(|(gid, name)| (name.as_str(), Some(gid), &["cn=base"][..])));
        let (local, replica) = (local(), replica(&named, &groups));
        let view = View::new(&local, &replica, &rules(Schema::Rfc2307bis));
        let refused: Vec<&str> = view.refused.iter().map(|one| one.entry.as_str()).collect();
        assert_eq!((refused[0], refused.len()), ("cn=g1000", 100));
        assert_eq!(view.groups().0, 2 + 1000);
        assert_eq!(view.lists.len(), MAX_MEMBERSHIPS);
    }

    #[test]
    fn names_are_members_in_rfc2307() {
        let local = local();
        let replica = replica(
            &[("bob", 1501)],
            &[("x", Some(1600), &["bob", "operator", "ghost"])],
        );
        let view = View::new(&local, &replica, &rules(Schema::Rfc2307));
        let shown = shown(&view);
        assert_eq!(shown.1[2].members, ["bob"]);
        assert_eq!(list_of(&shown, "operator"), [999]);
    }

    #[test]
    fn paths() {
        let check = |path: &str, good| assert_eq!(check_path(path).is_none(), good, "{path:?}");
        check("/home/bob", true);
        check("home/bob", false);
        check("", false);
        check("/home/../etc", false);
        check("/home/a:b", false);
        check("/home/a\nb", false);
    }
}
