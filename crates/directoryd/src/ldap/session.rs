//! One bound connection and the questions put to it: everything, has anything changed. Those about single users and
//! groups are in [`super::look_up`].
//!
//! A session that failed once is given up; the caller makes a new one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ldap3::{Ldap, Scope};
use service::{Secret, config::read_secret};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    LdapError, Server,
    connection::connect,
    entry,
    feed::{Feed, Wanted},
    names::Names,
    primary::Primaries,
    search::{Entry, Search},
};
use crate::{
    config::{self, MAX_PASSWORD, Schema},
    dn,
    replica::{Group, Part, Replica, Seen, User, What},
    sid::Slices,
};

/// How long reading everything may take.
const WHOLE: Duration = Duration::from_secs(60);
const BIND: Duration = Duration::from_secs(5);

/// A bound connection; clones share it.
#[derive(Clone)]
pub struct Session {
    pub(super) ldap: Ldap,
    slices: Arc<Mutex<Slices>>,
    pub(super) config: Arc<config::Ldap>,
    pub(super) names: Arc<Names>,
    ended: watch::Receiver<bool>,
    /// The server's URI.
    pub uri: String,
    /// How long a lock after failures counts, if the directory says.
    pub lockout: Option<Duration>,
}

impl Session {
    /// Connects to one server and binds.
    ///
    /// # Errors
    /// [`LdapError`].
    pub async fn open(config: Arc<config::Ldap>, server: &Server) -> Result<Self, LdapError> {
        let (mut ldap, ended) = connect(&config, server).await?;
        timeout(BIND, bind_service(&config, &mut ldap))
            .await
            .map_err(|_| LdapError::Deadline("bind"))??;
        let mut session = Self {
            ldap,
            slices: Arc::new(Mutex::new(Slices::new(config.id_map.clone()))),
            names: Arc::new(Names::of(config.schema, &config.attributes)),
            config,
            ended,
            uri: server.uri.clone(),
            lockout: None,
        };
        if session.config.schema == Schema::Ad {
            session.learn_domain().await?;
        }
        Ok(session)
    }

    /// Active Directory: the domain of the base is the first to choose its ids.
    async fn learn_domain(&mut self) -> Result<(), LdapError> {
        let head = self.head().await?;
        if let Some(sid) = head.as_ref().and_then(entry::sid_of) {
            self.slices().learn(&sid);
        }
        self.lockout = head.as_ref().and_then(lockout_duration);
        Ok(())
    }

    /// The domain's own entry, also where the base is a unit of it: in AWS Managed Microsoft AD a
    /// customer's part is one.
    async fn head(&self) -> Result<Option<Entry>, LdapError> {
        let search = Search {
            base: dn::domain(&self.config.base),
            scope: Scope::Base,
            filter: "(objectClass=*)",
            attributes: &["objectSid", "lockoutDuration"],
            most: 1,
            within: self.config.lookup_timeout,
        };
        Ok(search.run(&mut self.ldap.clone()).await?.pop())
    }

    pub(super) fn slices(&self) -> MutexGuard<'_, Slices> {
        self.slices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read_user(&self, entry: &Entry) -> Result<Option<(String, User)>, String> {
        match self.config.schema {
            Schema::Ad => entry::user_ad(entry, &self.config, &self.names, &mut self.slices()),
            Schema::Rfc2307 | Schema::Rfc2307bis => entry::user(entry, &self.names).map(Some),
        }
    }

    pub(super) fn read_group(&self, entry: &Entry) -> Result<(String, Group), String> {
        match self.config.schema {
            Schema::Ad => entry::group_ad(entry, &self.config, &self.names, &mut self.slices()),
            schema => entry::group(entry, schema, &self.names),
        }
    }

    /// What an entry found in a part is.
    fn read(&self, part: Part, entry: &Entry) -> Seen {
        let what = match part {
            Part::Users => self.read_user(entry).map(|user| match user {
                Some((dn, user)) => What::User(dn, Box::new(user)),
                None => What::Nothing,
            }),
            Part::Groups => {
                let group = self.read_group(entry);
                group.map(|(dn, group)| What::Group(dn, group))
            }
        };
        Seen {
            uuid: entry::uuid_of(entry),
            what: what.unwrap_or_else(What::Unusable),
            dn: entry.dn.clone(),
        }
    }

    /// Where a part is, which entries are in it, and what is read of them.
    pub(super) fn extent(&self, part: Part) -> (&str, &str, Vec<&str>) {
        let schema = self.config.schema;
        match part {
            Part::Users => (
                self.config.user_base(),
                self.users_filter(),
                self.names.of_users(schema),
            ),
            Part::Groups => {
                let mut attributes = self.names.of_groups(schema);
                attributes.push(&self.names.member);
                (self.config.group_base(), self.groups_filter(), attributes)
            }
        }
    }

    /// Has the server tell of changes as they happen, from the state that the cookies stand for.
    pub fn feed(&self, cookies: Vec<(Part, Vec<u8>)>) -> Feed {
        let wanted = cookies.into_iter().map(|(part, cookie)| {
            let (base, filter, attributes) = self.extent(part);
            Wanted {
                part,
                base: base.to_owned(),
                filter: filter.to_owned(),
                attributes: attributes.into_iter().map(str::to_owned).collect(),
                cookie,
            }
        });
        let session = self.clone();
        let read = move |part, entry| session.read(part, &entry);
        Feed::start(&self.ldap, wanted.collect(), read)
    }

    /// Returns when the connection has ended.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the watching task is gone, which is an end too.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Something that changes whenever an entry does, if the server has it: OpenLDAP's `contextCSN`.
    ///
    /// # Errors
    /// [`LdapError`].
    pub async fn change_mark(&self) -> Result<Option<Vec<Vec<u8>>>, LdapError> {
        if self.config.schema == Schema::Ad {
            return self.highest_usn().await.map(Some);
        }
        let base = dn::normal(&self.config.base);
        let covers = |part: &str| match (&base, dn::normal(part)) {
            (Some(base), Some(part)) => dn::is_below(&part, base),
            _ => false,
        };
        if !covers(self.config.user_base()) || !covers(self.config.group_base()) {
            return Ok(None);
        }
        let search = Search {
            base: &self.config.base,
            scope: Scope::Base,
            filter: "(objectClass=*)",
            attributes: &["contextCSN"],
            most: 1,
            within: self.config.lookup_timeout,
        };
        let mut marks: Vec<Vec<u8>> = match search.run(&mut self.ldap.clone()).await {
            Ok(entries) => entries
                .iter()
                .flat_map(|entry| entry.all("contextcsn").to_vec())
                .collect(),
            // The suffix need not be readable; then there is no mark.
            Err(LdapError::Refused { code: 32 | 50, .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        marks.sort();
        Ok((!marks.is_empty()).then_some(marks))
    }

    /// Active Directory's count of all changes, deletions among them, which each server keeps for
    /// itself.
    async fn highest_usn(&self) -> Result<Vec<Vec<u8>>, LdapError> {
        let search = Search {
            base: "",
            scope: Scope::Base,
            filter: "(objectClass=*)",
            attributes: &["highestCommittedUSN", "dsServiceName"],
            most: 1,
            within: self.config.lookup_timeout,
        };
        let found = search.run(&mut self.ldap.clone()).await?;
        let values = found.iter().flat_map(|entry| {
            [entry.all("highestcommittedusn"), entry.all("dsservicename")].concat()
        });
        Ok(values.collect())
    }

    /// Reads the rest of attributes that came in part.
    pub(super) async fn complete(
        &self,
        entry: &mut Entry,
        deadline: Instant,
    ) -> Result<(), LdapError> {
        while let Some((name, next)) = entry.partial.pop() {
            let attribute = format!("{name};range={next}-*");
            let search = Search {
                base: &entry.dn.clone(),
                scope: Scope::Base,
                filter: "(objectClass=*)",
                attributes: &[&attribute],
                most: 1,
                within: deadline.saturating_duration_since(Instant::now()),
            };
            let more = search.run(&mut self.ldap.clone()).await?.pop();
            match more {
                // A server that does not get further would be asked for ever.
                Some(more) if more.partial.iter().all(|(_, end)| *end > next) => entry.extend(more),
                _ => return Err(LdapError::Range(entry.dn.clone())),
            }
        }
        Ok(())
    }

    /// Reads all users and groups.
    ///
    /// # Errors
    /// [`LdapError`]; a part is never returned.
    pub async fn whole(&self) -> Result<Replica, LdapError> {
        let mut replica = Replica::empty();
        replica.confirmed = SystemTime::now();
        let mut ldap = self.ldap.clone();
        let deadline = Instant::now() + 2 * WHOLE;
        let mut primaries = Primaries::default();
        let mut take = |part, entry: &Entry| {
            let seen = self.read(part, entry);
            if self.config.schema == Schema::Ad {
                primaries.note(&mut replica, entry, &seen);
            }
            replica.put(part, seen);
        };
        for part in [Part::Users, Part::Groups] {
            let (base, filter, attributes) = self.extent(part);
            let search = Search {
                base,
                scope: Scope::Subtree,
                filter,
                attributes: &attributes,
                most: self.config.most_entries,
                within: WHOLE,
            };
            let mut partial = Vec::new();
            search
                .each(&mut ldap, |entry| match entry.partial.is_empty() {
                    true => take(part, &entry),
                    false => partial.push(entry),
                })
                .await?;
            for mut entry in partial {
                self.complete(&mut entry, deadline).await?;
                take(part, &entry);
            }
        }
        if self.config.schema == Schema::Ad {
            for sid in primaries.missing() {
                if let Some(primary) = self.primary(&sid).await? {
                    primaries.found(&sid, primary.dn);
                }
            }
            primaries.put(&mut replica, !self.config.id_mapping);
            replica.lockout = self.head().await?.as_ref().and_then(lockout_duration);
        }
        Ok(replica)
    }

    /// Which entries are users.
    fn users_filter(&self) -> &str {
        let preset = self.config.schema.users();
        self.config.user_filter.as_deref().unwrap_or(preset)
    }

    /// Which entries are groups. Those without a number connect others.
    pub(super) fn groups_filter(&self) -> &str {
        let preset = self.config.schema.groups();
        self.config.group_filter.as_deref().unwrap_or(preset)
    }
}

/// Binds as the configured account, or as whom the connection itself says we are.
///
/// # Errors
/// [`LdapError`].
pub async fn bind_service(config: &config::Ldap, ldap: &mut Ldap) -> Result<(), LdapError> {
    let who = config.bind_dn.as_deref().unwrap_or("our certificate");
    let action = || format!("bind as '{who}'");
    let bound = match (&config.bind_dn, &config.bind_password_file) {
        (Some(dn), Some(file)) => {
            // Read each time: passwords are renewed while daemons run.
            let password = read_secret(file, MAX_PASSWORD).map_err(LdapError::Password)?;
            ldap.simple_bind(dn, self::password(&password, dn)?).await
        }
        _ => ldap.sasl_external_bind().await,
    };
    let bound = bound.map_err(|source| LdapError::Library {
        action: action(),
        source: Box::new(source),
    })?;
    if bound.rc != 0 {
        return Err(LdapError::Refused {
            action: action(),
            code: bound.rc,
            text: bound.text,
        });
    }
    Ok(())
}

/// The password in a file's bytes, without the line's end.
///
/// # Errors
/// [`LdapError::Refused`] if it is none: an empty one would be an anonymous bind, which succeeds
/// (RFC 4513 5.1.2).
fn password<'a>(secret: &'a Secret<Vec<u8>>, dn: &str) -> Result<&'a str, LdapError> {
    let text = std::str::from_utf8(secret.expose()).unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.contains('\0') {
        return Err(LdapError::Refused {
            action: format!("bind as '{dn}'"),
            code: 49,
            text: "the password file holds no password".to_owned(),
        });
    }
    Ok(text)
}

/// How long Active Directory's lock counts: 100 ns, negative; the least number means "until an
/// administrator ends it".
fn lockout_duration(head: &Entry) -> Option<Duration> {
    let ticks: i64 = head.text("lockoutduration")?.trim().parse().ok()?;
    let ticks = ticks.checked_neg().filter(|ticks| *ticks > 0)?;
    Some(Duration::from_secs(ticks.unsigned_abs() / 10_000_000))
}
