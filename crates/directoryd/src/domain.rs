//! One domain's part of the shared state: what the thread that reads its source puts in. And several
//! domains as one replica, in which the first that has a name or a number keeps it.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    config::Schema,
    content::{Message, Refresh},
    core::Core,
    key::Key,
    ldap::{Found, LdapError},
    replica::{Group, News, Part, Replica, Team},
    wanted::Wanted,
};

/// What is held of one domain.
#[derive(Debug)]
pub struct Held {
    /// Its name; empty for the only one.
    pub name: String,
    /// How its groups list members.
    pub schema: Schema,
    /// How long a lock after failures counts, if it is configured.
    pub lockout: Option<Duration>,
    /// What was read of it.
    pub replica: Replica,
    /// All of it has been read, now or by an earlier run.
    pub complete: bool,
    /// When single users were last confirmed, if later than the replica.
    pub checked: HashMap<String, SystemTime>,
    /// It is another than the one on disk.
    pub unsaved: bool,
    /// It is another than the one that is served.
    pub unserved: bool,
}

impl Held {
    /// How long a lock after failures counts: as configured, else as the directory says.
    pub fn lockout(&self) -> Option<Duration> {
        self.lockout.or(self.replica.lockout)
    }

    /// When what is known of a user was last confirmed.
    pub fn confirmed(&self, user: &str) -> SystemTime {
        let checked = self.checked.get(user).copied();
        checked.unwrap_or(self.replica.confirmed)
    }
}

/// The way of one domain's thread to the shared state.
#[derive(Debug, Clone)]
pub struct Share {
    core: Arc<Core>,
    at: usize,
}

impl Deref for Share {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Share {
    /// That of the domain at this place.
    pub fn new(core: Arc<Core>, at: usize) -> Self {
        Self { core, at }
    }

    /// Takes a whole replica.
    ///
    /// # Errors
    /// [`LdapError::Vanished`] if no user is left; the old replica stays.
    pub fn set_replica(&self, mut replica: Replica) -> Result<(), LdapError> {
        let mut inputs = self.core.inputs();
        let held = &mut inputs.domains[self.at];
        let (before, now) = (held.replica.user_count(), replica.user_count());
        if now == 0 && before > 0 {
            return Err(LdapError::Vanished(before));
        }
        held.checked.retain(|_, time| *time > replica.confirmed);
        let same = held.complete && held.replica.says_the_same(&mut replica);
        held.replica = replica;
        if !same {
            held.complete = true;
            held.unsaved = true;
            self.core.publish(&mut inputs);
        }
        drop(inputs);
        // The replica of before.
        sys::process::trim_heap();
        Ok(())
    }

    /// Notes that the directory cannot be listed: what is held stays, and the rest is asked for. `lockout` is how long
    /// a lock after failures counts, if the directory says.
    pub fn cannot_list(&self, lockout: Option<Duration>) {
        let mut inputs = self.core.inputs();
        let held = &mut inputs.domains[self.at];
        held.replica.lockout = lockout;
        if !held.replica.partial {
            tracing::info!(
                event = "directory.on_demand",
                held = held.replica.user_count()
            );
            held.replica.partial = true;
            held.complete = false;
            held.unsaved = true;
            self.core.publish(&mut inputs);
        }
    }

    /// Whether the directory cannot be listed.
    pub fn is_partial(&self) -> bool {
        self.core.inputs().domains[self.at].replica.partial
    }

    /// All that is held, to be asked for again.
    pub fn all_held(&self) -> Vec<Wanted> {
        let inputs = self.core.inputs();
        let replica = &inputs.domains[self.at].replica;
        let people = replica.people();
        let users = people.map(|(_, person)| Wanted::User(person.name.to_owned()));
        let groups = replica.teams().filter(|(_, team)| team.gid.is_some());
        let groups = groups.map(|(_, team)| Wanted::Group(team.name.to_string()));
        users.chain(groups).collect()
    }

    /// Takes what an online look-up of a group said, to be made visible by [`Self::serve_if_unserved`].
    pub fn put_group(&self, wanted: &Wanted, found: Option<(String, Group)>) {
        let mut inputs = self.core.inputs();
        let held = &mut inputs.domains[self.at];
        let is_it = |team: &Team| match wanted {
            Wanted::Group(name) => *team.name == **name,
            Wanted::Gid(gid) => team.gid == Some(*gid),
            Wanted::User(_) | Wanted::Uid(_) => false,
        };
        let news = held.replica.put_group(is_it, found);
        held.unsaved |= news;
        held.unserved |= news;
    }

    /// Where a server could go on with each part; `None` without a whole replica whose entries all have
    /// their UUIDs.
    pub fn cookies(&self) -> Option<Vec<(Part, Vec<u8>)>> {
        let inputs = self.core.inputs();
        let held = &inputs.domains[self.at];
        let of = |part| {
            let step = held.replica.step(part);
            let good = !step.cookie.is_empty() && !step.gaps;
            good.then(|| (part, step.cookie.clone()))
        };
        let cookies = [Part::Users, Part::Groups].map(of).into_iter().collect();
        if held.complete { cookies } else { None }
    }

    /// Takes what the server says about a part while it keeps us in step; true if that is news, which
    /// [`Self::serve_news`] makes visible.
    ///
    /// # Errors
    /// [`LdapError::Vanished`] if no user would be left; the old replica stays.
    pub fn hear(
        &self,
        part: Part,
        refresh: &mut Refresh,
        message: Message,
    ) -> Result<bool, LdapError> {
        let mut inputs = self.core.inputs();
        let held = &mut inputs.domains[self.at];
        let news = refresh
            .hear(&mut held.replica, part, message)
            .map_err(LdapError::Vanished)?;
        held.unsaved |= news;
        held.unserved |= news;
        Ok(news)
    }

    /// Serves what has been heard.
    pub fn serve_news(&self) {
        let mut inputs = self.core.inputs();
        inputs.domains[self.at].unsaved = true;
        self.core.publish(&mut inputs);
    }

    /// Notes that nothing has changed in the directory up to `time`.
    pub fn confirm(&self, time: SystemTime) {
        let mut inputs = self.core.inputs();
        let held = &mut inputs.domains[self.at];
        held.replica.confirmed = time;
        held.checked.retain(|_, checked| *checked > time);
    }

    /// Takes what an online look-up of `name` at `time` said.
    pub fn set_account(&self, name: &str, found: Found, time: SystemTime) -> News {
        let news = self.put_account(name, found, time);
        self.serve_if_unserved();
        news
    }

    /// Serves what is not served yet. Who was asked for may have come with something else.
    pub fn serve_if_unserved(&self) {
        let mut inputs = self.core.inputs();
        if inputs.domains[self.at].unserved {
            self.core.publish(&mut inputs);
        }
    }

    /// Whether something is not served yet.
    pub fn is_unserved(&self) -> bool {
        self.core.inputs().domains[self.at].unserved
    }

    /// The same, to be made visible by [`Self::serve_if_unserved`].
    pub fn put_account(&self, name: &str, found: Found, time: SystemTime) -> News {
        let mut inputs = self.core.inputs();
        let held = &mut inputs.domains[self.at];
        match &found.user {
            Some(_) => drop(held.checked.insert(name.to_owned(), time)),
            None => drop(held.checked.remove(name)),
        }
        if let (Some(uuid), Some((_, user))) = (found.uuid, &found.user) {
            held.replica.put_uuid(uuid, &user.dn);
        }
        let mut news = News {
            changed: held.replica.put_user(name, found.user),
            unknown: false,
        };
        for (members, holders) in &found.holders {
            let more = held.replica.put_holders(members, holders);
            news.changed |= more.changed;
            news.unknown |= more.unknown;
        }
        held.unsaved |= news.changed;
        held.unserved |= news.changed;
        news
    }

    /// The URI of the connected server; empty if there is none.
    pub fn server(&self) -> String {
        self.core.health().domains[self.at].server.clone()
    }

    /// Notes the connected server, or with an empty text that there is none.
    pub fn set_server(&self, server: &str) {
        self.core.health().domains[self.at].server = server.to_owned();
    }

    /// Notes whether the server tells of changes as they happen.
    pub fn following(&self, following: bool) {
        self.core.health().domains[self.at].following = following;
    }

    /// Notes what is wrong with the directory, or with an empty text that nothing is. Each new
    /// problem is logged once.
    pub fn set_problem(&self, problem: &str) {
        let (name, complete) = {
            let inputs = self.core.inputs();
            let held = &inputs.domains[self.at];
            (held.name.clone(), held.complete)
        };
        let domain = (!name.is_empty()).then_some(name.as_str());
        let mut health = self.core.health();
        let health = &mut health.domains[self.at];
        if health.problem != problem {
            if problem.is_empty() {
                tracing::info!(event = "directory.well", domain);
            } else {
                tracing::error!(
                    event = "directory.problem",
                    domain,
                    problem,
                    serving_replica = complete
                );
            }
            health.problem = problem.to_owned();
        }
    }
}

/// What an entry of a domain is called among those of several.
pub fn called(dn: &str, domain: &str) -> String {
    match domain {
        "" => dn.to_owned(),
        name => format!("{dn} ({name})"),
    }
}

/// The domain that an entry is of, by what it is called.
pub fn owner(called: &str, domains: &[Held]) -> usize {
    let name = called
        .rsplit_once(" (")
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    let at = domains
        .iter()
        .position(|held| Some(held.name.as_str()) == name);
    at.unwrap_or_default()
}

/// Several domains as one, with members by DN. Who stands in a later domain under a name or a number that an
/// earlier one has, whether that is served or not, is of no use.
pub fn merged(domains: &[Held]) -> Replica {
    let mut all = Replica::empty();
    let mut users = Taken::default();
    let mut groups = Taken::default();
    for held in domains {
        let (replica, keys) = (&held.replica, held.replica.keys());
        let called = |dn: &str| called(dn, &held.name);
        for (dn, why) in &replica.unusable {
            all.unusable.insert(called(dn), why.clone());
        }
        // What groups call their members here, and there.
        let mut ours: HashMap<Key, Key> = HashMap::new();
        for (dn, person) in replica.people() {
            let key = all.key(&called(keys.text(dn)));
            match users.by_whom(person.name, person.uid) {
                Some(why) => drop(all.unusable.insert(called(keys.text(dn)), why)),
                None => all.take_user(key, replica, dn),
            }
            match held.schema {
                Schema::Rfc2307 => ours.extend(keys.find(person.name).map(|name| (name, key))),
                Schema::Rfc2307bis | Schema::Ad => drop(ours.insert(dn, key)),
            }
        }
        for (dn, _) in replica.teams() {
            let key = all.key(&called(keys.text(dn)));
            ours.insert(dn, key);
        }
        for (dn, team) in replica.teams() {
            let taken = team.gid.and_then(|gid| groups.by_whom(&team.name, gid));
            if let Some(why) = taken {
                all.unusable.insert(called(keys.text(dn)), why);
                continue;
            }
            let members = team.members.iter();
            let members = members.filter_map(|member| ours.get(member).copied());
            if let Some(key) = ours.get(&dn) {
                all.take_team(*key, team, members.collect());
            }
        }
        for (_, person) in replica.people() {
            users.take(person.name, person.uid, &held.name);
        }
        for (_, team) in replica.teams() {
            if let Some(gid) = team.gid {
                groups.take(&team.name, gid, &held.name);
            }
        }
    }
    all
}

/// Names and numbers that earlier domains have.
#[derive(Debug, Default)]
struct Taken<'a> {
    names: HashMap<&'a str, &'a str>,
    ids: HashMap<u32, &'a str>,
}

impl<'a> Taken<'a> {
    /// Why an entry is of no use, if it is not.
    fn by_whom(&self, name: &str, id: u32) -> Option<String> {
        if let Some(domain) = self.names.get(name) {
            return Some(format!(
                "'{name}' is a name of domain '{domain}', which stands before"
            ));
        }
        let domain = self.ids.get(&id)?;
        Some(format!(
            "id {id} is one of domain '{domain}', which stands before"
        ))
    }

    fn take(&mut self, name: &'a str, id: u32, domain: &'a str) {
        self.names.entry(name).or_insert(domain);
        self.ids.entry(id).or_insert(domain);
    }
}
