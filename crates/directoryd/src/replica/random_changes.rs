//! Changes by chance, one upon the other, against what a reading from nothing would bring: what is served must
//! be the same to the byte, and who is in what must be what a plain search finds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek},
    path::Path,
    time::SystemTime,
};

use directory_map::{header, protocol::Database, protocol::Query, record};

use super::*;
use crate::{
    config::Schema,
    generation::{Generation, Present},
    id_map::IdMap,
    local::Local,
    persist::Store,
    view::{Rules, View},
};

const STEPS: usize = 400;

/// Numbers by chance, the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % sides
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.roll(list.len())]
    }
}

/// What an entry of the directory is; each has a DN and a UUID of its own.
#[derive(Debug, Clone)]
enum Thing {
    User(Box<User>),
    Group(Group),
    Poor,
    Foreign,
}

/// The directory itself.
struct Directory {
    schema: Schema,
    entries: BTreeMap<u8, (Part, String, Thing)>,
}

const USERS: &[&str] = &["ann", "ben", "cid", "dan", "eve", "fay", "root", "Gus", ""];
const TEAMS: &[&str] = &["lab", "lib", "hub", "den", "docker", "a b"];

impl Directory {
    fn seen(&self, uuid: u8) -> Seen {
        let (_, dn, thing) = &self.entries[&uuid];
        let normal = dn::normal(dn).unwrap();
        let what = match thing {
            Thing::User(user) => What::User(normal, user.clone()),
            Thing::Group(group) => What::Group(normal, group.clone()),
            Thing::Poor => What::Unusable(format!("poor {}", dn.len())),
            Thing::Foreign => What::Nothing,
        };
        Seen {
            dn: dn.clone(),
            uuid: Some([uuid; 16]),
            what,
        }
    }

    fn thing(&self, dice: &mut Dice, part: Part, dn: &str) -> Thing {
        match (dice.roll(12), part) {
            (0, _) => Thing::Poor,
            (1, _) => Thing::Foreign,
            (_, Part::Users) => Thing::User(Box::new(User {
                dn: dn.to_owned(),
                name: dice.of(USERS).to_owned(),
                uid: dice.of(&[0, 999, 1500, 1501, 1502, 1503, 1504, 1505, 1506, 70_000]),
                gid: dice.of(&[0, 1500, 1501]),
                gecos: dice.of(&["", "A:B", "Zoë"]).to_owned(),
                home: dice.of(&["/home/x", "/", "/../x"]).to_owned(),
                shell: dice.of(&["", "/bin/sh", "sh"]).to_owned(),
                ..User::default()
            })),
            (_, Part::Groups) => {
                let member = |dice: &mut Dice| match self.schema {
                    Schema::Rfc2307 => dice.of(USERS).to_owned(),
                    _ => match dice.roll(20) {
                        0 => "uid=ghost".to_owned(),
                        n @ 1..12 => format!("uid=u{n}"),
                        n => format!("cn=g{n}"),
                    },
                };
                let count = dice.roll(8);
                Thing::Group(Group {
                    name: dice.of(TEAMS).to_owned(),
                    gid: dice.of(&[
                        None,
                        Some(27),
                        Some(1600),
                        Some(1601),
                        Some(1602),
                        Some(70_000),
                    ]),
                    members: (0..count).map(|_| member(dice)).collect(),
                })
            }
        }
    }

    /// A DN that no other entry has, spelled in one of two ways.
    fn free_dn(&self, dice: &mut Dice, part: Part) -> Option<String> {
        let (kind, range) = match part {
            Part::Users => (["uid=u", "UID=U"], 1..12),
            Part::Groups => (["cn=g", "CN = G"], 12..20),
        };
        let dn = format!("{}{}", dice.of(&kind), range.start + dice.roll(range.len()));
        let normal = dn::normal(&dn);
        let taken = self
            .entries
            .values()
            .any(|(_, other, _)| dn::normal(other) == normal);
        (!taken).then_some(dn)
    }

    /// One change, told as a server would.
    fn change(&mut self, dice: &mut Dice, replica: &mut Replica) {
        let uuids: Vec<u8> = self.entries.keys().copied().collect();
        let part = dice.of(&[Part::Users, Part::Groups]);
        match (dice.roll(10), uuids.is_empty()) {
            (0..3, _) | (_, true) => {
                let fresh = (0..=255)
                    .find(|uuid| !self.entries.contains_key(uuid))
                    .unwrap();
                if let Some(dn) = self.free_dn(dice, part) {
                    let thing = self.thing(dice, part, &dn);
                    self.entries.insert(fresh, (part, dn, thing));
                    replica.put(part, self.seen(fresh));
                }
            }
            (3..7, _) => {
                let uuid = dice.of(&uuids);
                let (part, dn, _) = self.entries[&uuid].clone();
                let thing = self.thing(dice, part, &dn);
                self.entries.insert(uuid, (part, dn, thing));
                replica.put(part, self.seen(uuid));
            }
            (7, _) => {
                let uuid = dice.of(&uuids);
                let part = self.entries[&uuid].0;
                if let Some(dn) = self.free_dn(dice, part) {
                    self.move_to(uuid, dn);
                    replica.put(part, self.seen(uuid));
                }
            }
            // Two change places: the first is told before it is said that its name is free.
            (8, _) => {
                let (one, other) = (dice.of(&uuids), dice.of(&uuids));
                let (part, dn) = (self.entries[&one].0, self.entries[&one].1.clone());
                let (other_part, other_dn) =
                    (self.entries[&other].0, self.entries[&other].1.clone());
                if part == other_part && one != other {
                    self.move_to(one, other_dn);
                    self.move_to(other, dn);
                    replica.put(part, self.seen(one));
                    replica.put(part, self.seen(other));
                }
            }
            _ => {
                let uuid = dice.of(&uuids);
                let part = self.entries.remove(&uuid).unwrap().0;
                replica.take_away(part, &[[uuid; 16]]);
            }
        }
    }

    fn move_to(&mut self, uuid: u8, to: String) {
        let (_, dn, thing) = self.entries.get_mut(&uuid).unwrap();
        if let Thing::User(user) = thing {
            user.dn.clone_from(&to);
        }
        *dn = to;
    }

    /// A replica read from nothing, in an order by chance.
    fn read(&self, dice: &mut Dice) -> Replica {
        let mut replica = Replica::empty();
        let mut uuids: Vec<u8> = self.entries.keys().copied().collect();
        while !uuids.is_empty() {
            let uuid = uuids.swap_remove(dice.roll(uuids.len()));
            replica.put(self.entries[&uuid].0, self.seen(uuid));
        }
        replica
    }

    fn users(&self) -> impl Iterator<Item = &User> {
        self.entries
            .values()
            .filter_map(|(_, _, thing)| match thing {
                Thing::User(user) => Some(&**user),
                _ => None,
            })
    }

    fn groups(&self) -> impl Iterator<Item = (String, &Group)> {
        self.entries
            .values()
            .filter_map(|(_, dn, thing)| match thing {
                Thing::Group(group) => Some((dn::normal(dn)?, group)),
                _ => None,
            })
    }

    /// Whether a group holds a user, found by looking everywhere.
    fn holds(&self, group: &Group, user: &User, served: &BTreeSet<String>) -> bool {
        let own = match self.schema {
            Schema::Rfc2307 => user.name.clone(),
            _ => dn::normal(&user.dn).unwrap(),
        };
        let mut reached = group.members.clone();
        loop {
            let inner = self
                .groups()
                .filter(|(dn, _)| reached.contains(dn) && !served.contains(dn));
            let more: BTreeSet<String> =
                inner.flat_map(|(_, inner)| inner.members.clone()).collect();
            if more.is_subset(&reached) {
                return reached.contains(&own);
            }
            reached.extend(more);
        }
    }
}

fn bytes(generation: &Generation, database: Database) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    generation.write_to(database, &mut file).unwrap();
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    File::read_to_end(&mut file, &mut bytes).unwrap();
    bytes[header::TIMESTAMP..header::TIMESTAMP + 8].fill(0);
    bytes
}

fn check(schema: Schema, seed: u64) {
    let mut dice = Dice(seed);
    let mut directory = Directory {
        schema,
        entries: BTreeMap::new(),
    };
    let rules = Rules {
        minimum_id: 1000,
        schema,
        ids: IdMap::parse("0 0 65536"),
    };
    let folder = tempfile::tempdir().unwrap();
    let (passwd, group) = (folder.path().join("passwd"), folder.path().join("group"));
    std::fs::write(&passwd, "root:x:0:0::/root:/bin/sh\n").unwrap();
    std::fs::write(&group, "docker:x:999:root,ann,ben\nusers:x:100:ann\n").unwrap();
    let local = Local::read(&passwd, &group).unwrap();
    let store = Store::new(folder.path(), "", String::new());
    let nobody = Local::read(Path::new("/dev/null"), Path::new("/dev/null")).unwrap();
    let empty = Replica::empty();
    let present = Present::new(&View::new(&nobody, &empty, &rules), true).unwrap();
    let mut replica = Replica::empty();
    for step in 0..STEPS {
        let context = format!("seed {seed}, step {step}");
        directory.change(&mut dice, &mut replica);
        match dice.roll(40) {
            0 => replica.settle(),
            1 => {
                store.save(&store.encode(&replica).unwrap()).unwrap();
                replica = store.load().unwrap().unwrap();
            }
            _ => {}
        }
        let mut fresh = directory.read(&mut dice);
        let (view, fresh_view) = (
            View::new(&local, &replica, &rules),
            View::new(&local, &fresh, &rules),
        );
        assert_eq!(view.refused, fresh_view.refused, "{context}");
        assert_eq!(view.unmappable, fresh_view.unmappable, "{context}");
        let from_nothing = Present::new(&fresh_view, true).unwrap().get();
        let now = present.replace(&view, true).unwrap();
        for database in [Database::Passwd, Database::Group] {
            assert!(
                bytes(&now, database) == bytes(&from_nothing, database),
                "{context}: {database:?}"
            );
        }
        directory.check_groups(&now, &local, &context);
        assert!(replica.clone().says_the_same(&mut fresh), "{context}");
        if schema == Schema::Rfc2307bis {
            directory.check_look_ups(&mut replica, &context);
        }
    }
}

impl Directory {
    /// Compares the groups of each served user with those that a plain search finds.
    fn check_groups(&self, now: &Generation, local: &Local, context: &str) {
        let is_served = |user: &&User| {
            let dn = now.accounts.dn(&user.name);
            dn.is_some() && dn == dn::normal(&user.dn).as_deref()
        };
        let served: BTreeSet<String> = self
            .users()
            .filter(is_served)
            .filter_map(|user| dn::normal(&user.dn))
            .collect();
        for user in self.users().filter(is_served) {
            let mut expected: BTreeSet<u32> = self
                .groups()
                .filter(|(_, group)| {
                    let gid = group.gid.unwrap_or_default().to_string();
                    let record = now.find(Query::GroupById, gid.as_bytes());
                    let name = record.and_then(record::Group::decode_name);
                    name.as_ref() == Some(&group.name)
                })
                .filter(|(_, group)| self.holds(group, user, &served))
                .filter_map(|(_, group)| group.gid)
                .collect();
            let theirs = local.groups.iter();
            expected.extend(
                theirs
                    .filter(|group| group.members.contains(&user.name))
                    .map(|group| group.gid),
            );
            let list = now.find(Query::GroupsOfUser, user.name.as_bytes()).unwrap();
            let list = record::decode_groups_of_user(list).unwrap();
            assert_eq!(
                list,
                Vec::from_iter(expected),
                "{context}: groups of '{}'",
                user.dn
            );
        }
    }

    /// What an online look-up of what is known brings is no news, to the replica of before either.
    fn check_look_ups(&self, replica: &mut Replica, context: &str) {
        let before = replica.clone();
        for user in self.users() {
            let dn = dn::normal(&user.dn).unwrap();
            if self.users().filter(|other| other.name == user.name).count() == 1 {
                let found = Some((dn.clone(), user.clone()));
                assert!(!replica.put_user(&user.name, found), "{context}: {dn}");
            }
            let holders: Vec<Holder> = self
                .groups()
                .filter(|(_, group)| group.members.contains(&dn))
                .map(|(dn, group)| Holder {
                    dn,
                    name: group.name.clone(),
                    gid: group.gid,
                })
                .collect();
            let news = replica.put_holders(&[dn], &holders);
            assert_eq!(news, News::default(), "{context}");
        }
        let (mut before, mut after) = (before, replica.clone());
        assert!(before.says_the_same(&mut after), "{context}");
    }
}

#[test]
fn changes_one_by_one_come_to_what_a_reading_brings() {
    let chance = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    for schema in [Schema::Rfc2307bis, Schema::Rfc2307] {
        for seed in [1, 2, (chance as u64) | 1] {
            check(schema, seed);
        }
    }
}
