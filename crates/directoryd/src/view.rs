//! What is served: local entries first, then what the directory says and may say.
//!
//! An entry of the directory that is ambiguous, forbidden or malformed is refused with a reason; it
//! is never repaired. Nothing here knows of LDAP, sockets or maps.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

use directory_map::record::{Group, Passwd};

use crate::{
    config::Schema,
    id_map::IdMap,
    key::Key,
    local::Local,
    name,
    replica::{self, Replica},
};

/// Most groups a user can be in; more than `setgroups` takes would fail every login.
const MAX_GROUPS: usize = 65_536;

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

/// Everything served at one time, borrowed from where it comes from.
#[derive(Debug, Default)]
pub struct View<'a> {
    /// Users, local ones first.
    pub users: Vec<Passwd<Cow<'a, str>>>,
    /// Groups, local ones first.
    pub groups: Vec<Group<&'a str>>,
    /// For each user who is in any, the groups besides the primary one: local ones, then the
    /// directory's.
    pub lists: HashMap<&'a str, Vec<u32>>,
    /// The directory's users, with the DNs of their entries.
    pub accounts: HashMap<String, Key>,
    /// How many of the users and groups are local.
    pub local: (usize, usize),
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
            Self::Path(path) => write!(f, "{path:?} is not an absolute path"),
        }
    }
}

impl<'a> View<'a> {
    /// Brings local files and replica together under the rules.
    pub fn new(local: &'a Local, replica: &'a Replica, rules: &Rules) -> Self {
        let mut view = View {
            local: (local.users.len(), local.groups.len()),
            ..View::default()
        };
        for (dn, why) in &replica.unusable {
            view.refuse(dn, Reason::Unusable(why.clone()));
        }
        view.take_local(local);
        let served = view.take_users(local, replica, rules);
        view.take_groups(local, replica, rules, &served);
        view.lists
            .values_mut()
            .for_each(|list| list.sort_unstable());
        view
    }

    fn refuse(&mut self, dn: &str, reason: Reason) {
        self.refused.insert(Refusal {
            entry: dn.to_owned(),
            reason,
        });
    }

    fn take_local(&mut self, local: &'a Local) {
        let text = |text: &'a String| Cow::Borrowed(text.as_str());
        self.users.extend(local.users.iter().map(|user| Passwd {
            name: text(&user.name),
            password: text(&user.password),
            uid: user.uid,
            gid: user.gid,
            gecos: text(&user.gecos),
            home: text(&user.home),
            shell: text(&user.shell),
        }));
        for group in &local.groups {
            self.groups.push(Group {
                name: &group.name,
                password: &group.password,
                gid: group.gid,
                members: group.members.iter().map(String::as_str).collect(),
            });
            for member in &group.members {
                let list = self.lists.entry(member).or_default();
                if !list.contains(&group.gid) {
                    list.push(group.gid);
                }
            }
        }
    }

    /// Serves what may be served; returns the served users' names by what groups call them.
    fn take_users(
        &mut self,
        local: &Local,
        replica: &'a Replica,
        rules: &Rules,
    ) -> HashMap<usize, &'a str> {
        let names: HashSet<&str> = local.users.iter().map(|user| user.name.as_str()).collect();
        let ids: HashSet<u32> = local.users.iter().map(|user| user.uid).collect();
        let same_name = repeated(replica.users.values().map(|user| user.name.as_str()));
        let same_id = repeated(replica.users.values().map(|user| user.uid));
        let mut served = HashMap::new();
        for (dn, user) in &replica.users {
            let reason = check_name(&user.name, &names, &same_name)
                .or_else(|| check_id(user.uid, &ids, &same_id, rules))
                .or_else(|| check_primary_group(user.gid, rules))
                .or_else(|| check_path(&user.home))
                .or_else(|| {
                    if user.shell.is_empty() {
                        None
                    } else {
                        check_path(&user.shell)
                    }
                });
            if let Some(reason) = reason {
                self.refuse(dn, reason);
                continue;
            }
            for id in [user.uid, user.gid] {
                if !rules.ids.contains(id) {
                    self.unmappable.insert(format!("{} (id {id})", user.name));
                }
            }
            let key = match rules.schema {
                Schema::Rfc2307 => Key::from(&user.name).id(),
                Schema::Rfc2307bis | Schema::Ad => dn.id(),
            };
            served.insert(key, user.name.as_str());
            self.users.push(Passwd {
                name: (&user.name).into(),
                // Not "x": there is no shadow entry to look for.
                password: "*".into(),
                uid: user.uid,
                gid: user.gid,
                gecos: one_field(&user.gecos),
                home: (&user.home).into(),
                shell: if user.shell.is_empty() {
                    NO_SHELL.into()
                } else {
                    (&*user.shell).into()
                },
            });
            self.accounts.insert(user.name.clone(), dn.clone());
        }
        served
    }

    fn take_groups(
        &mut self,
        local: &Local,
        replica: &'a Replica,
        rules: &Rules,
        served: &HashMap<usize, &'a str>,
    ) {
        let names: HashSet<&str> = local
            .groups
            .iter()
            .map(|group| group.name.as_str())
            .collect();
        let ids: HashSet<u32> = local.groups.iter().map(|group| group.gid).collect();
        let posix = || replica.groups.values().filter(|group| group.gid.is_some());
        let same_name = repeated(posix().map(|group| group.name.as_str()));
        let same_id = repeated(posix().filter_map(|group| group.gid));
        let by_key: HashMap<usize, &replica::Group> = replica
            .groups
            .iter()
            .map(|(dn, group)| (dn.id(), group))
            .collect();
        for (dn, group) in &replica.groups {
            let Some(gid) = group.gid else { continue };
            let reason = check_name(&group.name, &names, &same_name)
                .or_else(|| check_id(gid, &ids, &same_id, rules));
            if let Some(reason) = reason {
                self.refuse(dn, reason);
                continue;
            }
            if !rules.ids.contains(gid) {
                self.unmappable.insert(format!("{} (id {gid})", group.name));
            }
            // A group of the directory holds users of the directory: a local user's rights are a
            // local matter.
            let members = members(dn, group, &by_key, served);
            for member in &members {
                let list = self.lists.entry(member).or_default();
                if list.len() < MAX_GROUPS - 1 {
                    list.push(gid);
                }
            }
            self.groups.push(Group {
                name: &group.name,
                password: "*",
                gid,
                members,
            });
        }
    }
}

/// The served users in a group, through groups in groups, each once however they are nested.
fn members<'a>(
    dn: &Key,
    group: &'a replica::Group,
    groups: &HashMap<usize, &'a replica::Group>,
    served: &HashMap<usize, &'a str>,
) -> Vec<&'a str> {
    let mut found = Vec::with_capacity(group.members.len());
    let mut seen = HashSet::from([dn.id()]);
    let mut open = vec![group];
    while let Some(group) = open.pop() {
        for member in &group.members {
            if let Some(name) = served.get(&member.id()) {
                found.push(*name);
            } else if let Some(group) = groups.get(&member.id())
                && seen.insert(member.id())
            {
                open.push(group);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
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

fn repeated<T: Eq + std::hash::Hash>(values: impl Iterator<Item = T>) -> HashSet<T> {
    let mut once = HashSet::new();
    let mut twice = HashSet::new();
    for value in values {
        if let Some(value) = once.replace(value) {
            twice.insert(value);
        }
    }
    twice
}

fn check_name(name: &str, local: &HashSet<&str>, same: &HashSet<&str>) -> Option<Reason> {
    if !name::is_valid(name) {
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
            let dn = if replica.users.contains_key(&*format!("uid={name}")) {
                format!("uid={name},ou={index}")
            } else {
                format!("uid={name}")
            };
            replica.users.insert(dn.into(), user);
        }
        for (name, gid, members) in groups {
            let members = members.iter().map(|member| Key::from(*member)).collect();
            replica.groups.insert(
                format!("cn={name}").into(),
                replica::Group {
                    name: (*name).into(),
                    gid: *gid,
                    members,
                },
            );
        }
        replica
    }

    fn names(view: &View<'_>) -> Vec<String> {
        view.users
            .iter()
            .map(|user| user.name.to_string())
            .collect()
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
        assert_eq!(names(&view), ["root", "operator", "bob", "far"]);
        assert_eq!(view.refused.len(), 11 + 2, "{:#?}", view.refused);
        let groups: Vec<_> = view
            .groups
            .iter()
            .map(|group| (group.name, group.gid))
            .collect();
        assert_eq!(groups, [("root", 0), ("docker", 999), ("ok", 1601)]);
        // The local group lists bob: that counts.
        assert_eq!(view.lists["bob"], [999]);
        assert_eq!(view.unmappable, ["far (id 70000)".to_owned()].into());
        assert_eq!(view.users[2].gecos, "a b ");
        assert_eq!(view.users[2].shell, "/bin/sh");
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
        let top = view
            .groups
            .iter()
            .find(|group| group.name == "top")
            .unwrap();
        assert_eq!(top.members, ["bob", "carol"]);
        assert_eq!(view.lists["bob"], [999, 1600, 1601]);
        assert_eq!(view.lists["carol"], [1600, 1601]);
        assert_eq!(view.lists["operator"], [999]);
    }

    #[test]
    fn names_are_members_in_rfc2307() {
        let local = local();
        let replica = replica(
            &[("bob", 1501)],
            &[("x", Some(1600), &["bob", "operator", "ghost"])],
        );
        let view = View::new(&local, &replica, &rules(Schema::Rfc2307));
        assert_eq!(view.groups[2].members, ["bob"]);
        assert_eq!(view.lists["operator"], [999]);
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
