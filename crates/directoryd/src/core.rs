//! The state that all threads share: local files, replica, and the generation made from both.
//!
//! Whoever learns something puts it in here; readers of the present generation never wait for that.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use directory_client::{Account, AccountState, Database, Domain, Entry, Lookup, Record, Status};
use directory_map::{
    protocol::Query,
    record::{self, Group},
};

use crate::{
    access,
    config::{Config, Schema},
    domain::{self, Held},
    generation::{GenerationError, Present},
    key::Key,
    local::Local,
    map_files::MapFiles,
    name,
    numbers::Numbers,
    persist::{PersistError, Store},
    replica::{Part, Replica, User, Uuid},
    view::{self, Refusal, Rules, View},
    wanted::Wanted,
};

/// Most refused entries named in the log at once.
const MOST_LINES: usize = 50;

/// For how long Active Directory takes the password of before (`OldPasswordAllowedPeriod`, an hour unless it was
/// set), with some minutes for clocks that differ; in seconds.
const LENIENCE: i64 = 3900;

/// The shared state.
#[derive(Debug)]
pub struct Core {
    /// What is served.
    pub present: Present,
    /// The configuration.
    pub config: Config,
    /// What is counted.
    pub numbers: Numbers,
    rules: Rules,
    files: MapFiles,
    inputs: Mutex<Inputs>,
    health: Mutex<Health>,
    save: mpsc::SyncSender<()>,
}

#[derive(Debug)]
pub struct Inputs {
    local: Local,
    /// What is held of each domain.
    pub domains: Vec<Held>,
    /// Several of them as one.
    merged: Option<Replica>,
    said: Said,
}

impl Inputs {
    /// All domains have been read.
    fn complete(&self) -> bool {
        self.domains.iter().all(|held| held.complete)
    }

    /// All that was not read is asked for.
    fn on_demand(&self) -> bool {
        let known = |held: &Held| held.complete || held.replica.partial;
        !self.complete() && self.domains.iter().all(known)
    }

    /// What is served of, by what entries are called there.
    fn served(&self) -> &Replica {
        self.merged.as_ref().unwrap_or(&self.domains[0].replica)
    }

    /// The domain of an entry.
    fn owner(&self, called: &str) -> &Held {
        &self.domains[domain::owner(called, &self.domains)]
    }
}

/// What is known about one name.
#[derive(Debug)]
pub struct Facts {
    /// What is not held is asked for.
    pub on_demand: bool,
    /// A local user has the name.
    pub local: bool,
    /// The only entry of that name, by normal DN.
    pub entry: Option<(String, User)>,
    /// Why entries of that name are not served.
    pub refused: Vec<String>,
    /// How long a lock after failures counts.
    pub lockout: Option<Duration>,
    /// The domain that has the entry; all of them, if none has.
    pub sources: Vec<SourceFacts>,
}

/// How it is with one domain.
#[derive(Debug)]
pub struct SourceFacts {
    /// Its name; empty for the only one.
    pub domain: String,
    /// A whole replica is held.
    pub complete: bool,
    /// It cannot be listed.
    pub partial: bool,
    /// When that was last confirmed.
    pub confirmed: SystemTime,
    /// Its source.
    pub condition: Condition,
}

/// What a password depends on: another in any of it is another user, or another password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The place of the domain.
    pub at: usize,
    /// Its name.
    pub domain: String,
    /// The entry's DN, as the server spells it.
    pub dn: String,
    /// Its UUID, if the server tells.
    pub uuid: Option<Uuid>,
    /// When the password was last changed, if the server tells.
    pub changed: Option<i64>,
    /// It is to be changed before anything else.
    pub must_change: bool,
    /// The server takes the password of before for a while after a change, as Active Directory does.
    pub lenient: bool,
}

impl Subject {
    /// Whether a server may have taken the password of before.
    pub fn is_unsettled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let changed = self.changed.unwrap_or(0);
        self.lenient && since.saturating_sub(changed) < LENIENCE
    }
}

/// What the log has been told already.
#[derive(Debug, Default)]
struct Said {
    refused: BTreeSet<Refusal>,
    unmappable: BTreeSet<String>,
    unknown_groups: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Health {
    /// Of each domain.
    pub domains: Vec<Condition>,
    /// What keeps the maps' files from being written.
    files: String,
    /// How many passwords are kept for when no server answers, and what is wrong with those.
    offline: Option<(usize, String)>,
}

/// How it is with the source of a domain.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// The connected server, or empty.
    pub server: String,
    /// What is wrong, or empty.
    pub problem: String,
    /// What keeps the copy from being written, or empty.
    pub copy: String,
    /// The server tells of changes as they happen.
    pub following: bool,
}

impl Core {
    /// The state at start: local files and domains, with what an earlier run held of them. `save`
    /// is rung when there is something new to keep.
    ///
    /// # Errors
    /// [`GenerationError`] if no map can be made, e.g. without memory or `/proc`.
    pub fn new(
        config: Config,
        rules: Rules,
        local: Local,
        domains: Vec<Held>,
        save: mpsc::SyncSender<()>,
    ) -> Result<Self, GenerationError> {
        let health = Health {
            domains: vec![Condition::default(); domains.len()],
            ..Health::default()
        };
        let mut inputs = Inputs {
            merged: (domains.len() > 1).then(|| domain::merged(&domains)),
            local,
            domains,
            said: Said::default(),
        };
        let mut said = Said::default();
        let present = {
            let view = View::new(&inputs.local, inputs.served(), &rules);
            said.about(&view);
            Present::new(&view, inputs.complete())?
        };
        inputs.said = said;
        Ok(Self {
            files: MapFiles::new(&config.nscd_socket),
            present,
            config,
            numbers: Numbers::default(),
            rules,
            inputs: Mutex::new(inputs),
            health: Mutex::new(health),
            save,
        })
    }

    /// Takes new local files.
    pub fn set_local(&self, local: Local) {
        let mut inputs = self.inputs();
        if inputs.local != local {
            inputs.local = local;
            tracing::info!(event = "local.changed", users = inputs.local.users.len());
            self.publish(&mut inputs);
        }
    }

    /// What is known of a directory user now; `fresh` if the directory server has just been asked.
    pub fn account(&self, name: &str, fresh: bool) -> Lookup<Account> {
        let inputs = self.inputs();
        let present = self.present.get();
        let entry = present
            .accounts
            .dn(name)
            .and_then(|dn| Some((inputs.owner(dn), inputs.served().user(dn)?)));
        let Some((held, user)) = entry else {
            let known = inputs.complete() || (fresh && inputs.on_demand());
            return match known || self.is_never_ours(&inputs, name) {
                true => Lookup::NotFound,
                false => Lookup::Unavailable,
            };
        };
        if user.refused_keys > 0 {
            tracing::warn!(
                event = "key.refused",
                user = name,
                count = user.refused_keys
            );
        }
        // The same records that libc reads.
        let list = present.find(Query::GroupsOfUser, name.as_bytes());
        let list = list
            .and_then(record::decode_groups_of_user)
            .unwrap_or_default();
        let group = |gid: u32| {
            let record = present.find(Query::GroupById, gid.to_string().as_bytes());
            (gid, record.and_then(Group::decode_name).unwrap_or_default())
        };
        let others = list.into_iter().filter(|gid| *gid != user.gid);
        let now = SystemTime::now();
        let confirmed = held.confirmed(name);
        let shell = if user.shell.is_empty() {
            view::NO_SHELL
        } else {
            user.shell.as_str()
        };
        let groups: Vec<(u32, String)> =
            std::iter::once(user.gid).chain(others).map(group).collect();
        let state = user.marks.state(shell, now, held.lockout());
        let names: Vec<&str> = groups.iter().map(|(_, name)| name.as_str()).collect();
        let state = match state {
            AccountState::Active if !access::judge(&self.config.access, &user, &names).may => {
                AccountState::Denied
            }
            state => state,
        };
        Lookup::Found(Account {
            shell: shell.to_owned(),
            name: user.name,
            uid: user.uid,
            gid: user.gid,
            gecos: user.gecos,
            home: user.home,
            groups,
            ssh_keys: user.keys,
            state,
            age: now.duration_since(confirmed).unwrap_or_default(),
            fresh,
        })
    }

    /// What the directory server must be asked about this, where it cannot be listed; `None` if it is not to be
    /// asked.
    pub fn wanted(&self, query: Query, key: &[u8]) -> Option<Wanted> {
        let inputs = self.inputs();
        if !inputs.on_demand() {
            return None;
        }
        let wanted = Wanted::of(query, std::str::from_utf8(key).ok()?)?;
        let ours = match &wanted {
            Wanted::User(name) => !self.is_never_ours(&inputs, name),
            Wanted::Group(name) => name::is_group(name),
            Wanted::Uid(id) | Wanted::Gid(id) => *id >= self.rules.minimum_id,
        };
        ours.then_some(wanted)
    }

    /// True if the directory server need not be asked about this name.
    pub fn is_settled(&self, name: &str) -> bool {
        self.is_never_ours(&self.inputs(), name)
    }

    /// The DN of a served directory user, as the server spells it, and the place of the domain.
    pub fn dn_of(&self, name: &str) -> Option<(usize, String)> {
        let inputs = self.inputs();
        let present = self.present.get();
        let called = present.accounts.dn(name)?;
        let user = inputs.served().user(called)?;
        Some((domain::owner(called, &inputs.domains), user.dn))
    }

    /// The entry behind a served user, as far as a password depends on it.
    pub fn subject(&self, name: &str) -> Option<Subject> {
        self.subjects(std::iter::once(name)).remove(name)
    }

    /// The same for many.
    pub fn subjects<'a>(&self, names: impl Iterator<Item = &'a str>) -> HashMap<String, Subject> {
        let inputs = self.inputs();
        let present = self.present.get();
        let mut found = HashMap::new();
        let mut keys: Vec<HashMap<Key, &str>> = vec![HashMap::new(); inputs.domains.len()];
        for name in names {
            let entry = present.accounts.dn(name);
            let user = entry.and_then(|called| Some((called, inputs.served().user(called)?)));
            let Some((called, user)) = user else {
                continue;
            };
            let at = domain::owner(called, &inputs.domains);
            let held = &inputs.domains[at];
            keys[at].extend(held.replica.keys().find(&user.dn).map(|dn| (dn, name)));
            let subject = Subject {
                at,
                domain: held.name.clone(),
                changed: user.marks.password_changed,
                must_change: user.marks.must_change,
                lenient: held.schema == Schema::Ad,
                dn: user.dn,
                uuid: None,
            };
            found.insert(name.to_owned(), subject);
        }
        for (held, keys) in inputs.domains.iter().zip(&keys) {
            for (uuid, dn) in &held.replica.step(Part::Users).entries {
                let name = keys.get(dn);
                if let Some(subject) = name.and_then(|name| found.get_mut(*name)) {
                    subject.uuid = Some(*uuid);
                }
            }
        }
        found
    }

    /// The domains that have never been read: nobody can be said to be gone from them.
    pub fn unread(&self) -> Vec<String> {
        let inputs = self.inputs();
        let unread = inputs.domains.iter().filter(|held| !held.complete);
        unread.map(|held| held.name.clone()).collect()
    }

    /// Everything known about a name, for an explanation.
    pub fn facts(&self, name: &str) -> Facts {
        let inputs = self.inputs();
        let health = self.health();
        let served = inputs.served();
        let named = served.named(name).into_iter();
        let named: Vec<&str> = named.map(|key| served.keys().text(key)).collect();
        let unusable = format!("uid={name},");
        let refused = inputs
            .said
            .refused
            .iter()
            .filter(|refusal| {
                named.iter().any(|dn| *dn == refusal.entry)
                    || refusal.entry.to_lowercase().starts_with(&unusable)
            })
            .map(|refusal| format!("'{}': {}", refusal.entry, refusal.reason))
            .collect();
        let entry = match named[..] {
            [dn] => served.user(dn).map(|user| (dn.to_owned(), user)),
            _ => None,
        };
        let owner = entry
            .as_ref()
            .map(|(called, _)| domain::owner(called, &inputs.domains));
        let sources = inputs.domains.iter().zip(&health.domains).enumerate();
        let sources = sources.filter(|(at, _)| owner.is_none_or(|owner| owner == *at));
        let sources = sources.map(|(_, (held, condition))| SourceFacts {
            domain: held.name.clone(),
            complete: held.complete,
            partial: held.replica.partial,
            confirmed: held.replica.confirmed,
            condition: condition.clone(),
        });
        Facts {
            sources: sources.collect(),
            on_demand: inputs.on_demand(),
            local: inputs.local.users.iter().any(|user| user.name == name),
            entry,
            refused,
            lockout: inputs.domains[owner.unwrap_or_default()].lockout(),
        }
    }

    /// Groups that `[access]` names and nobody has.
    pub fn unknown_groups(&self) -> Vec<String> {
        let present = self.present.get();
        let access = &self.config.access;
        access
            .allow_groups
            .iter()
            .chain(&access.deny_groups)
            .filter(|name| present.find(Query::GroupByName, name.as_bytes()).is_none())
            .cloned()
            .collect()
    }

    /// Brings the maps' files up to date. Each new problem is logged once.
    pub fn keep_files(&self) {
        let problem = match self.files.keep(&self.present.get()) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        let mut health = self.health();
        if health.files != problem {
            if !problem.is_empty() {
                tracing::error!(event = "map_files.not_written", problem);
            }
            health.files = problem;
        }
    }

    /// The uids that may use the control socket, besides root and our own.
    pub fn control_uids(&self) -> Vec<u32> {
        self.config.control_uids(&self.inputs().local).0
    }

    /// What libc sees of a name or number, and where it comes from.
    pub fn entry(&self, database: Database, key: &str) -> Lookup<Entry> {
        let inputs = self.inputs();
        let present = self.present.get();
        let is_number = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
        let query = match (database, is_number) {
            (Database::Passwd, false) => Query::UserByName,
            (Database::Passwd, true) => Query::UserById,
            (Database::Group, false) => Query::GroupByName,
            (Database::Group, true) => Query::GroupById,
            (Database::Initgroups, _) => Query::GroupsOfUser,
        };
        let found = present.find(query, key.as_bytes());
        let of_user = |name: &str| {
            let dn = present.accounts.dn(name);
            match dn.and_then(|dn| Some((inputs.owner(dn), inputs.served().user(dn)?))) {
                Some((held, user)) => domain::called(&user.dn, &held.name),
                None => self.config.passwd_file.display().to_string(),
            }
        };
        let of_group = |gid: u32| {
            let local = inputs.local.groups.iter().any(|group| group.gid == gid);
            let mut teams = inputs.served().teams();
            match teams.find(|(_, team)| team.gid == Some(gid) && !local) {
                Some((dn, _)) => inputs.served().keys().text(dn).to_owned(),
                None => self.config.group_file.display().to_string(),
            }
        };
        let entry = found.and_then(|bytes| match database {
            Database::Passwd => record::Passwd::decode(bytes).map(|user| Entry {
                source: of_user(&user.name),
                record: Record::User {
                    name: user.name,
                    uid: user.uid,
                    gid: user.gid,
                    gecos: user.gecos,
                    home: user.home,
                    shell: user.shell,
                },
            }),
            Database::Group => Group::decode(bytes).map(|group| Entry {
                source: of_group(group.gid),
                record: Record::Group {
                    name: group.name,
                    gid: group.gid,
                    members: group.members,
                },
            }),
            Database::Initgroups => record::decode_groups_of_user(bytes).map(|gids| {
                let group = |gid: u32| {
                    let bytes = present.find(Query::GroupById, gid.to_string().as_bytes());
                    let name = bytes.and_then(Group::decode_name).unwrap_or_default();
                    (gid, name, of_group(gid))
                };
                Entry {
                    source: of_user(key),
                    record: Record::Groups {
                        user: key.to_owned(),
                        groups: gids.into_iter().map(group).collect(),
                    },
                }
            }),
        });
        match entry {
            Some(entry) => Lookup::Found(entry),
            None if inputs.complete() => Lookup::NotFound,
            None => Lookup::Unavailable,
        }
    }

    /// Somebody who is served: of the directory if it has anybody, else local.
    pub fn any_user(&self) -> Option<String> {
        let present = self.present.get();
        let name = present.accounts.any().map(str::to_owned);
        name.or_else(|| Some(self.inputs().local.users.first()?.name.clone()))
    }

    /// How the daemon is.
    pub fn status(&self) -> Status {
        let inputs = self.inputs();
        let health = self.health();
        let present = self.present.get();
        let ((users, local_users), (groups, local_groups)) = (present.users, present.groups);
        let now = SystemTime::now();
        let age = |held: &Held| {
            let age = now.duration_since(held.replica.confirmed);
            held.complete.then(|| age.unwrap_or_default())
        };
        // Where nothing can be listed, a server that can be asked is all there is.
        let ready = |held: &Held, condition: &Condition| {
            held.complete || (held.replica.partial && !condition.server.is_empty())
        };
        let domains = inputs.domains.iter().zip(&health.domains);
        let domains: Vec<Domain> = domains
            .map(|(held, condition)| Domain {
                name: held.name.clone(),
                complete: ready(held, condition),
                age: age(held),
                users: held.replica.user_count() as u64,
                groups: held
                    .replica
                    .teams()
                    .filter(|(_, team)| team.gid.is_some())
                    .count() as u64,
                following: condition.following,
                server: condition.server.clone(),
                problem: joined([&condition.problem, &condition.copy]),
            })
            .collect();
        let each = |text: fn(&Domain) -> &str| {
            let said = domains.iter().filter(|domain| !text(domain).is_empty());
            let said = said.map(|domain| match domain.name.as_str() {
                "" => text(domain).to_owned(),
                name => format!("{name}: {}", text(domain)),
            });
            said.collect::<Vec<_>>().join("; ")
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            complete: domains.iter().all(|domain| domain.complete),
            resolves: false,
            age: domains.iter().filter_map(|domain| domain.age).max(),
            generation: present.number,
            users: (users - local_users) as u64,
            groups: (groups - local_groups) as u64,
            local_users: local_users as u64,
            local_groups: local_groups as u64,
            refused: present.refused as u64,
            server: each(|domain| &domain.server),
            problem: joined([&each(|domain| &domain.problem), &health.files]),
            offline_passwords: health.offline.as_ref().map(|(count, _)| *count as u64),
            offline_problem: health
                .offline
                .as_ref()
                .map(|(_, problem)| problem.clone())
                .unwrap_or_default(),
            domains,
        }
    }

    /// Notes how many passwords are kept for when no server answers, and what is wrong with those.
    pub fn set_offline(&self, count: usize, problem: String) {
        self.health().offline = Some((count, problem));
    }

    /// The bytes to keep on disk of a domain, if it has been read; with `all`, also if they are there already.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn to_save(
        &self,
        at: usize,
        store: &Store,
        all: bool,
    ) -> Option<Result<Vec<u8>, PersistError>> {
        let mut inputs = self.inputs();
        let held = &mut inputs.domains[at];
        let worth = held.complete || held.replica.partial;
        if !worth || !(all || held.unsaved) {
            return None;
        }
        held.unsaved = false;
        Some(store.encode(&held.replica))
    }

    fn is_never_ours(&self, inputs: &Inputs, name: &str) -> bool {
        !name::is_user(name) || inputs.local.users.iter().any(|user| user.name == name)
    }

    /// Serves what is held now, and has it written.
    pub fn publish(&self, inputs: &mut Inputs) {
        let start = std::time::Instant::now();
        if inputs.domains.len() > 1 {
            inputs.merged = Some(domain::merged(&inputs.domains));
        }
        for held in &mut inputs.domains {
            held.unserved = false;
        }
        let mut said = std::mem::take(&mut inputs.said);
        let view = View::new(&inputs.local, inputs.served(), &self.rules);
        said.about(&view);
        let replaced = self.present.replace(&view, inputs.complete());
        inputs.said = said;
        // Full means that a save is under way or due anyway.
        let _ = self.save.try_send(());
        match replaced {
            Ok(new) => tracing::info!(
                event = "generation.published",
                generation = new.number,
                users = new.users.0,
                groups = new.groups.0,
                refused = new.refused,
                millis = start.elapsed().as_millis() as u64,
            ),
            Err(error) => tracing::error!(
                event = "generation.failed",
                error = service::exit::chain(&error),
            ),
        }
        self.keep_files();
        // A misspelt deny-group denies nobody.
        let unknown = if inputs.complete() {
            self.unknown_groups()
        } else {
            Vec::new()
        };
        if unknown != inputs.said.unknown_groups {
            for group in &unknown {
                tracing::error!(event = "access.unknown_group", group);
            }
            inputs.said.unknown_groups = unknown;
        }
    }

    /// What everything is made from.
    pub fn inputs(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is with the sources.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// Says what is newly refused or out of reach in a view.
    fn about(&mut self, view: &View<'_>) {
        let new: Vec<&Refusal> = view.refused.difference(&self.refused).collect();
        for refusal in new.iter().take(MOST_LINES) {
            tracing::error!(
                event = "entry.refused",
                entry = refusal.entry,
                reason = %refusal.reason,
            );
        }
        if new.len() > MOST_LINES {
            tracing::error!(event = "entry.refused", more = new.len() - MOST_LINES);
        }
        self.refused.clone_from(&view.refused);
        if let Some(first) = view
            .unmappable
            .iter()
            .find(|text| !self.unmappable.contains(*text))
        {
            tracing::warn!(
                event = "id.outside_namespace",
                first,
                count = view.unmappable.len(),
                hint = "ids that /proc/self/uid_map lacks make logins fail here",
            );
        }
        self.unmappable.clone_from(&view.unmappable);
    }
}

/// Those of two texts that say something.
fn joined(texts: [&str; 2]) -> String {
    let texts = texts.into_iter().filter(|text| !text.is_empty());
    texts.collect::<Vec<_>>().join("; ")
}

/// Writes replicas to disk whenever it is rung for, the age of unchanged ones now and then, and soon again what
/// could not be written: a disk that was full has room later.
pub fn keep(core: &Core, stores: &[Store], bell: &mpsc::Receiver<()>) {
    loop {
        let lacking = core
            .health()
            .domains
            .iter()
            .any(|domain| !domain.copy.is_empty());
        let pause = Duration::from_secs(if lacking { 5 } else { 600 });
        match bell.recv_timeout(pause) {
            Ok(()) => save(core, stores, false),
            Err(mpsc::RecvTimeoutError::Timeout) => save(core, stores, !lacking),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        // A burst of changes is one write a second.
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Writes replicas to disk now. A full disk costs only what a restart would serve.
pub fn save(core: &Core, stores: &[Store], all: bool) {
    for (at, store) in stores.iter().enumerate() {
        let Some(bytes) = core.to_save(at, store, all) else {
            continue;
        };
        let problem = match bytes.and_then(|bytes| store.save(&bytes)) {
            Ok(()) => String::new(),
            Err(error) => {
                core.inputs().domains[at].unsaved = true;
                let error = service::exit::chain(&error);
                format!("{error}; a restart without the server would serve what was written before")
            }
        };
        let copy = &mut core.health().domains[at].copy;
        if !problem.is_empty() && *copy != problem {
            tracing::warn!(event = "replica.not_saved", error = problem);
        }
        *copy = problem;
    }
}
