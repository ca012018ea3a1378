//! The state that all threads share: local files, replica, and the generation made from both.
//!
//! Whoever learns something puts it in here; readers of the present generation never wait for that.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, SystemTime},
};

use directory_client::{Account, AccountState, Database, Entry, Lookup, Record, Status};
use directory_map::{
    protocol::Query,
    record::{self, Group},
};

use crate::{
    access,
    config::Config,
    content::{Message, Refresh},
    generation::{GenerationError, Present},
    ldap::{Found, LdapError},
    local::Local,
    map_files::MapFiles,
    name,
    numbers::Numbers,
    persist::{PersistError, Store},
    replica::{News, Part, Replica, User, Uuid},
    view::{self, Refusal, Rules, View},
};

/// Most refused entries named in the log at once.
const MOST_LINES: usize = 50;

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
struct Inputs {
    local: Local,
    replica: Replica,
    complete: bool,
    /// When single users were last confirmed, if later than the replica.
    checked: HashMap<String, SystemTime>,
    said: Said,
}

/// What is known about one name.
#[derive(Debug)]
pub struct Facts {
    /// A whole replica is held.
    pub complete: bool,
    /// A local user has the name.
    pub local: bool,
    /// The only entry of that name, by normal DN.
    pub entry: Option<(String, User)>,
    /// Why entries of that name are not served.
    pub refused: Vec<String>,
    /// How long a lock after failures counts.
    pub lockout: Option<Duration>,
    /// When the replica was last confirmed.
    pub confirmed: SystemTime,
    /// The connected server, or empty.
    pub server: String,
    /// What is wrong with the directory, or empty.
    pub problem: String,
}

/// What a password depends on: another in any of it is another user, or another password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The entry's DN, as the server spells it.
    pub dn: String,
    /// Its UUID, if the server tells.
    pub uuid: Option<Uuid>,
    /// When the password was last changed, if the server tells.
    pub changed: Option<i64>,
    /// It is to be changed before anything else.
    pub must_change: bool,
}

/// What the log has been told already.
#[derive(Debug, Default)]
struct Said {
    refused: BTreeSet<Refusal>,
    unmappable: BTreeSet<String>,
    unknown_groups: Vec<String>,
}

#[derive(Debug, Default)]
struct Health {
    server: String,
    problem: String,
    /// What keeps the maps' files from being written.
    files: String,
    /// How many passwords are kept for when no server answers, and what is wrong with those.
    offline: Option<(usize, String)>,
}

impl Core {
    /// The state at start: local files and, if there is one, the replica of an earlier run. `save`
    /// is rung when there is something new to keep.
    ///
    /// # Errors
    /// [`GenerationError`] if no map can be made, e.g. without memory or `/proc`.
    pub fn new(
        config: Config,
        rules: Rules,
        local: Local,
        replica: Option<Replica>,
        save: mpsc::SyncSender<()>,
    ) -> Result<Self, GenerationError> {
        let complete = replica.is_some();
        let replica = replica.unwrap_or_else(Replica::empty);
        let mut said = Said::default();
        let view = View::new(&local, &replica, &rules);
        said.about(&view);
        let present = Present::new(&view, complete)?;
        let inputs = Inputs {
            local,
            replica,
            complete,
            checked: HashMap::new(),
            said,
        };
        Ok(Self {
            files: MapFiles::new(&config.nscd_socket),
            present,
            config,
            numbers: Numbers::default(),
            rules,
            inputs: Mutex::new(inputs),
            health: Mutex::default(),
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

    /// Takes a whole replica.
    ///
    /// # Errors
    /// [`LdapError::Vanished`] if no user is left; the old replica stays.
    pub fn set_replica(&self, mut replica: Replica) -> Result<(), LdapError> {
        let mut inputs = self.inputs();
        let (before, now) = (inputs.replica.user_count(), replica.user_count());
        if now == 0 && before > 0 {
            return Err(LdapError::Vanished(before));
        }
        inputs.checked.retain(|_, time| *time > replica.confirmed);
        let same = inputs.complete && inputs.replica.says_the_same(&mut replica);
        inputs.replica = replica;
        if !same {
            inputs.complete = true;
            self.publish(&mut inputs);
            // Full means that a save is under way or due anyway.
            let _ = self.save.try_send(());
        }
        drop(inputs);
        // The replica of before.
        sys::process::trim_heap();
        Ok(())
    }

    /// Where a server could go on with each part; `None` without a whole replica whose entries all have
    /// their UUIDs.
    pub fn cookies(&self) -> Option<Vec<(Part, Vec<u8>)>> {
        let inputs = self.inputs();
        let of = |part| {
            let step = inputs.replica.step(part);
            let good = !step.cookie.is_empty() && !step.gaps;
            good.then(|| (part, step.cookie.clone()))
        };
        let cookies = [Part::Users, Part::Groups].map(of).into_iter().collect();
        if inputs.complete { cookies } else { None }
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
        let mut inputs = self.inputs();
        refresh
            .hear(&mut inputs.replica, part, message)
            .map_err(LdapError::Vanished)
    }

    /// Serves what has been heard.
    pub fn serve_news(&self) {
        self.publish(&mut self.inputs());
        let _ = self.save.try_send(());
    }

    /// Notes that nothing has changed in the directory up to `time`.
    pub fn confirm(&self, time: SystemTime) {
        let mut inputs = self.inputs();
        inputs.replica.confirmed = time;
        inputs.checked.retain(|_, checked| *checked > time);
    }

    /// Takes what an online look-up of `name` at `time` said.
    pub fn set_account(&self, name: &str, found: Found, time: SystemTime) -> News {
        let mut inputs = self.inputs();
        let replica = &mut inputs.replica;
        let mut news = News {
            changed: replica.put_user(name, found.user),
            unknown: false,
        };
        for (members, holders) in &found.holders {
            let more = replica.put_holders(members, holders);
            news.changed |= more.changed;
            news.unknown |= more.unknown;
        }
        inputs.checked.insert(name.to_owned(), time);
        if news.changed {
            self.publish(&mut inputs);
            let _ = self.save.try_send(());
        }
        news
    }

    /// What is known of a directory user now; `fresh` if the directory server has just been asked.
    pub fn account(&self, name: &str, fresh: bool) -> Lookup<Account> {
        let inputs = self.inputs();
        let present = self.present.get();
        let entry = present
            .accounts
            .dn(name)
            .and_then(|dn| inputs.replica.user(dn));
        let Some(user) = entry else {
            return match inputs.complete || self.is_never_ours(&inputs, name) {
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
        let confirmed = inputs
            .checked
            .get(name)
            .copied()
            .unwrap_or(inputs.replica.confirmed);
        let shell = if user.shell.is_empty() {
            view::NO_SHELL
        } else {
            user.shell.as_str()
        };
        let groups: Vec<(u32, String)> =
            std::iter::once(user.gid).chain(others).map(group).collect();
        let state = user.marks.state(shell, now, self.lockout(&inputs.replica));
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

    /// True if the directory server need not be asked about this name.
    pub fn is_settled(&self, name: &str) -> bool {
        self.is_never_ours(&self.inputs(), name)
    }

    /// The DN of a served directory user, as the server spells it.
    pub fn dn_of(&self, name: &str) -> Option<String> {
        let inputs = self.inputs();
        let present = self.present.get();
        let user = inputs.replica.user(present.accounts.dn(name)?)?;
        Some(user.dn)
    }

    /// The entry behind a served user, as far as a password depends on it.
    pub fn subject(&self, name: &str) -> Option<Subject> {
        self.subjects(std::iter::once(name))?.remove(name)
    }

    /// The same for many; `None` before the directory has been read.
    pub fn subjects<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Option<HashMap<String, Subject>> {
        let inputs = self.inputs();
        if !inputs.complete {
            return None;
        }
        let present = self.present.get();
        let replica = &inputs.replica;
        let (mut found, mut called) = (HashMap::new(), HashMap::new());
        for name in names {
            let entry = present.accounts.dn(name);
            let Some(user) = entry.and_then(|dn| replica.user(dn)) else {
                continue;
            };
            called.extend(replica.keys().find(&user.dn).map(|dn| (dn, name)));
            let subject = Subject {
                changed: user.marks.password_changed,
                must_change: user.marks.must_change,
                dn: user.dn,
                uuid: None,
            };
            found.insert(name.to_owned(), subject);
        }
        for (uuid, dn) in &replica.step(Part::Users).entries {
            let name = called.get(dn);
            if let Some(subject) = name.and_then(|name| found.get_mut(*name)) {
                subject.uuid = Some(*uuid);
            }
        }
        Some(found)
    }

    /// Everything known about a name, for an explanation.
    pub fn facts(&self, name: &str) -> Facts {
        let inputs = self.inputs();
        let health = self.health();
        let named = inputs.replica.named(name).into_iter();
        let named: Vec<&str> = named.map(|key| inputs.replica.keys().text(key)).collect();
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
            [dn] => inputs.replica.user(dn).map(|user| (dn.to_owned(), user)),
            _ => None,
        };
        Facts {
            complete: inputs.complete,
            local: inputs.local.users.iter().any(|user| user.name == name),
            entry,
            refused,
            confirmed: inputs.replica.confirmed,
            lockout: self.lockout(&inputs.replica),
            server: health.server.clone(),
            problem: health.problem.clone(),
        }
    }

    /// How long a lock after failures counts: as configured, else as the directory says.
    fn lockout(&self, replica: &Replica) -> Option<Duration> {
        self.config.lockout_duration().or(replica.lockout)
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

    /// The URI of the connected server; empty if there is none.
    pub fn server(&self) -> String {
        self.health().server.clone()
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
            match dn.and_then(|dn| inputs.replica.user(dn)) {
                Some(user) => user.dn,
                None => self.config.passwd_file.display().to_string(),
            }
        };
        let of_group = |gid: u32| {
            let local = inputs.local.groups.iter().any(|group| group.gid == gid);
            let mut teams = inputs.replica.teams();
            match teams.find(|(_, team)| team.gid == Some(gid) && !local) {
                Some((dn, _)) => inputs.replica.keys().text(dn).to_owned(),
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
            None if inputs.complete => Lookup::NotFound,
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
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            complete: inputs.complete,
            resolves: false,
            age: inputs.complete.then(|| {
                SystemTime::now()
                    .duration_since(inputs.replica.confirmed)
                    .unwrap_or_default()
            }),
            generation: present.number,
            users: (users - local_users) as u64,
            groups: (groups - local_groups) as u64,
            local_users: local_users as u64,
            local_groups: local_groups as u64,
            refused: present.refused as u64,
            server: health.server.clone(),
            problem: health.problem.clone(),
            offline_passwords: health.offline.as_ref().map(|(count, _)| *count as u64),
            offline_problem: health
                .offline
                .as_ref()
                .map(|(_, problem)| problem.clone())
                .unwrap_or_default(),
        }
    }

    /// Notes how many passwords are kept for when no server answers, and what is wrong with those.
    pub fn set_offline(&self, count: usize, problem: String) {
        self.health().offline = Some((count, problem));
    }

    /// Notes the connected server, or with an empty text that there is none.
    pub fn set_server(&self, server: &str) {
        self.health().server = server.to_owned();
    }

    /// Notes what is wrong with the directory, or with an empty text that nothing is. Each new
    /// problem is logged once.
    pub fn set_problem(&self, problem: &str) {
        let mut health = self.health();
        if health.problem != problem {
            if problem.is_empty() {
                tracing::info!(event = "directory.well");
            } else {
                let complete = self.present.get().complete;
                tracing::error!(
                    event = "directory.problem",
                    problem,
                    serving_replica = complete
                );
            }
            health.problem = problem.to_owned();
        }
    }

    /// The bytes to keep on disk; `None` before there is a replica.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn to_save(&self, store: &Store) -> Option<Result<Vec<u8>, PersistError>> {
        let inputs = self.inputs();
        inputs.complete.then(|| store.encode(&inputs.replica))
    }

    fn is_never_ours(&self, inputs: &Inputs, name: &str) -> bool {
        !name::is_valid(name) || inputs.local.users.iter().any(|user| user.name == name)
    }

    fn publish(&self, inputs: &mut Inputs) {
        let start = std::time::Instant::now();
        let view = View::new(&inputs.local, &inputs.replica, &self.rules);
        inputs.said.about(&view);
        match self.present.replace(&view, inputs.complete) {
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
        let unknown = if inputs.complete {
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

    fn inputs(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
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

/// Writes the replica to disk whenever it is rung for, and the age of an unchanged one now and then.
pub fn keep(core: &Core, store: &Store, bell: &mpsc::Receiver<()>) {
    loop {
        match bell.recv_timeout(Duration::from_secs(600)) {
            Ok(()) | Err(mpsc::RecvTimeoutError::Timeout) => save(core, store),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        // A burst of changes is one write a second.
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Writes the replica to disk now. A full disk costs only what a restart would serve.
pub fn save(core: &Core, store: &Store) {
    if let Some(bytes) = core.to_save(store)
        && let Err(error) = bytes.and_then(|bytes| store.save(&bytes))
    {
        tracing::warn!(
            event = "replica.not_saved",
            error = service::exit::chain(&error)
        );
    }
}
