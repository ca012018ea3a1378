//! One bound connection and the questions put to it: everything, one user, has anything changed.
//!
//! A session that failed once is given up; the caller makes a new one.

use std::{collections::BTreeSet, time::Duration, time::SystemTime};

use ldap3::{Ldap, Scope};
use service::{Secret, config::read_secret};
use tokio::{sync::watch, time::timeout};

use super::{
    LdapError, Server,
    connection::connect,
    entry::{self, GROUP_HEAD, USER},
    search::{Entry, Search},
};
use crate::{
    config::{self, MAX_PASSWORD, Schema},
    dn,
    replica::{Holder, Replica, User},
};

/// Most users, and most groups, that are replicated.
const MOST: usize = 200_000;
/// Most groups one look-up takes.
const MOST_HOLDERS: usize = 4096;
/// Most members asked for in one search.
const MOST_ASKED: usize = 64;
/// How deep groups in groups are followed in a look-up.
const DEPTH: usize = 16;
/// How long reading everything may take.
const WHOLE: Duration = Duration::from_secs(60);
const BIND: Duration = Duration::from_secs(5);

/// A bound connection; clones share it.
#[derive(Clone)]
pub struct Session {
    ldap: Ldap,
    config: std::sync::Arc<config::Ldap>,
    ended: watch::Receiver<bool>,
    /// The server's URI.
    pub uri: String,
}

/// What an online look-up of a user brought.
#[derive(Debug)]
pub struct Found {
    /// The user by normal DN; `None` if there is no such entry.
    pub user: Option<(String, User)>,
    /// Who holds whom: the user first and alone, then the groups that were found, some at a time,
    /// with the groups that list any of them.
    pub holders: Vec<(Vec<String>, Vec<Holder>)>,
}

impl Session {
    /// Connects to one server and binds.
    ///
    /// # Errors
    /// [`LdapError`].
    pub async fn open(
        config: std::sync::Arc<config::Ldap>,
        server: &Server,
    ) -> Result<Self, LdapError> {
        // Read each time: passwords are renewed while daemons run.
        let password =
            read_secret(&config.bind_password_file, MAX_PASSWORD).map_err(LdapError::Password)?;
        let (mut ldap, ended) = connect(&config, server).await?;
        let action = || format!("bind as '{}' at '{}'", config.bind_dn, server.uri);
        let library = |source| LdapError::Library {
            action: action(),
            source: Box::new(source),
        };
        let text = self::password(&password, &config.bind_dn)?;
        let bound = timeout(BIND, ldap.simple_bind(&config.bind_dn, text))
            .await
            .map_err(|_| LdapError::Deadline("bind"))?
            .map_err(library)?;
        if bound.rc != 0 {
            return Err(LdapError::Refused {
                action: action(),
                code: bound.rc,
                text: bound.text,
            });
        }
        Ok(Self {
            ldap,
            config,
            ended,
            uri: server.uri.clone(),
        })
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

    /// Reads all users and groups.
    ///
    /// # Errors
    /// [`LdapError`]; a part is never returned.
    pub async fn whole(&self) -> Result<Replica, LdapError> {
        let schema = self.config.schema;
        let mut replica = Replica {
            confirmed: SystemTime::now(),
            ..Replica::empty()
        };
        let Replica {
            users,
            groups,
            unusable,
            ..
        } = &mut replica;
        let mut refuse = |entry: Entry, reason: &str| {
            unusable.insert(entry.dn, reason.to_owned());
        };
        let mut ldap = self.ldap.clone();
        let search = Search {
            base: self.config.user_base(),
            scope: Scope::Subtree,
            filter: "(objectClass=posixAccount)",
            attributes: USER,
            most: MOST,
            within: WHOLE,
        };
        search
            .each(&mut ldap, |entry| match entry::user(&entry) {
                Ok((dn, user)) => drop(users.insert(dn, user)),
                Err(reason) => refuse(entry, reason),
            })
            .await?;
        let member = match schema {
            Schema::Rfc2307 => "memberUid",
            Schema::Rfc2307bis => &self.config.member_attribute,
        };
        let search = Search {
            base: self.config.group_base(),
            filter: groups_filter(schema),
            attributes: &[GROUP_HEAD, &[member]].concat(),
            ..search
        };
        search
            .each(&mut ldap, |entry| {
                match entry::group(&entry, schema, member) {
                    Ok((dn, group)) => drop(groups.insert(dn, group)),
                    Err(reason) => refuse(entry, reason),
                }
            })
            .await?;
        Ok(replica)
    }

    /// Reads one user and the groups above it.
    ///
    /// # Errors
    /// [`LdapError::Ambiguous`] if there are two; others as in [`Self::whole`].
    pub async fn one(&self, name: &str) -> Result<Found, LdapError> {
        let Some((spelled, dn, user)) = self.user(name).await? else {
            return Ok(Found {
                user: None,
                holders: Vec::new(),
            });
        };
        // What the server is asked for, in its own spelling, and what the replica calls it.
        let mut open = match self.config.schema {
            Schema::Rfc2307bis => vec![(spelled, dn.clone())],
            Schema::Rfc2307 => vec![(user.name.clone(), user.name.clone())],
        };
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut holders = Vec::new();
        for _ in 0..DEPTH {
            let mut next = Vec::new();
            for some in open.chunks(MOST_ASKED) {
                let found = self
                    .holders(some.iter().map(|(spelled, _)| spelled.as_str()))
                    .await?;
                let mut heads = Vec::new();
                for entry in found {
                    let Ok((dn, group)) = entry::group(&entry, self.config.schema, "") else {
                        continue;
                    };
                    if seen.insert(dn.clone()) {
                        next.push((entry.dn, dn.clone()));
                    }
                    heads.push(Holder {
                        dn,
                        name: group.name,
                        gid: group.gid,
                    });
                }
                holders.push((some.iter().map(|(_, ours)| ours.clone()).collect(), heads));
            }
            // Names hold no groups.
            if next.is_empty() || self.config.schema == Schema::Rfc2307 {
                break;
            }
            open = next;
        }
        Ok(Found {
            user: Some((dn, user)),
            holders,
        })
    }

    async fn user(&self, name: &str) -> Result<Option<(String, String, User)>, LdapError> {
        let filter = format!(
            "(&(objectClass=posixAccount)(uid={}))",
            dn::filter_value(name)
        );
        let search = Search {
            base: self.config.user_base(),
            scope: Scope::Subtree,
            filter: &filter,
            attributes: USER,
            most: 2,
            within: self.config.lookup_timeout,
        };
        let found = search.run(&mut self.ldap.clone()).await?;
        let [entry] = &found[..] else {
            return if found.is_empty() {
                Ok(None)
            } else {
                Err(LdapError::Ambiguous(name.to_owned()))
            };
        };
        // The server's matching ignores case; ours does not.
        let user = entry::user(entry)
            .ok()
            .filter(|(_, user)| user.name == name);
        Ok(user.map(|(dn, user)| (entry.dn.clone(), dn, user)))
    }

    /// The groups that list any of these.
    async fn holders(&self, members: impl Iterator<Item = &str>) -> Result<Vec<Entry>, LdapError> {
        let attribute = match self.config.schema {
            Schema::Rfc2307 => "memberUid",
            Schema::Rfc2307bis => &self.config.member_attribute,
        };
        let any: String = members
            .map(|member| format!("({attribute}={})", dn::filter_value(member)))
            .collect();
        let filter = format!("(&{}(|{any}))", groups_filter(self.config.schema));
        let search = Search {
            base: self.config.group_base(),
            scope: Scope::Subtree,
            filter: &filter,
            attributes: GROUP_HEAD,
            most: MOST_HOLDERS,
            within: self.config.lookup_timeout,
        };
        search.run(&mut self.ldap.clone()).await
    }
}

/// The password in a file's bytes, without the line's end.
///
/// # Errors
/// [`LdapError::Refused`] if it is none: an empty one would be an anonymous bind, which succeeds
/// (RFC 4513 5.1.2).
pub fn password<'a>(secret: &'a Secret<Vec<u8>>, dn: &str) -> Result<&'a str, LdapError> {
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

/// Which entries are groups. Those without a number connect others.
fn groups_filter(schema: Schema) -> &'static str {
    match schema {
        Schema::Rfc2307 => "(objectClass=posixGroup)",
        Schema::Rfc2307bis => {
            "(|(objectClass=posixGroup)(objectClass=groupOfNames)(objectClass=groupOfMembers)\
             (objectClass=groupOfUniqueNames))"
        }
    }
}
