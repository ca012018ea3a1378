//! Single users and groups: what a server says about one, in the ways in which it can be asked for.

use std::collections::BTreeSet;

use ldap3::Scope;
use tokio::time::Instant;

use super::{
    LdapError, Session, entry,
    search::{Entry, Search},
};
use crate::{
    config::Schema,
    dn,
    replica::{Group, Holder, Part, User, Uuid, between},
    sid,
    wanted::Wanted,
};

/// Most groups one look-up takes.
const MOST_HOLDERS: usize = 4096;
/// Most members asked for in one search.
const MOST_ASKED: usize = 64;
/// How deep groups in groups are followed.
const DEPTH: usize = 16;
/// Most `_` in a name of Active Directory's that are tried as spaces.
const MOST_SPACES: usize = 8;

/// What an online look-up of a user brought.
#[derive(Debug)]
pub struct Found {
    /// The user by normal DN; `None` if there is no such entry.
    pub user: Option<(String, User)>,
    /// The entry's UUID, if the server tells.
    pub uuid: Option<Uuid>,
    /// Who holds whom: the user first and alone, then the groups that were found, some at a time,
    /// with the groups that list any of them.
    pub holders: Vec<(Vec<String>, Vec<Holder>)>,
}

/// A user entry as a look-up found it.
struct Known {
    uuid: Option<Uuid>,
    /// The DN as the server spells it, and in normal form.
    spelled: String,
    dn: String,
    user: User,
    /// The SID of the primary group, in Active Directory.
    primary: Option<String>,
}

/// A user's primary group in Active Directory.
pub(super) struct Primary {
    spelled: String,
    /// The DN in normal form.
    pub(super) dn: String,
    /// What it is, if it is one of the groups that are read.
    head: Option<Holder>,
}

impl Session {
    /// Reads one user and the groups above it. With `exact`, groups are asked for one by one, so that it is
    /// known which lists which: who has read everything knows already.
    ///
    /// # Errors
    /// [`LdapError::Ambiguous`] if there are two; others as in [`Self::whole`].
    pub async fn one(&self, name: &str, exact: bool) -> Result<Found, LdapError> {
        let Some(known) = self.user(name).await? else {
            return Ok(Found {
                user: None,
                uuid: None,
                holders: Vec::new(),
            });
        };
        let Known { dn, user, .. } = known;
        let primary = match &known.primary {
            Some(sid) => self.primary(sid).await?,
            None => None,
        };
        let between = primary.as_ref().map(|primary| between(&primary.dn));
        // What the server is asked for, in its own spelling, and what the replica calls it.
        let mut open = match self.config.schema {
            Schema::Rfc2307bis | Schema::Ad => vec![(known.spelled, dn.clone())],
            Schema::Rfc2307 => vec![(user.name.clone(), user.name.clone())],
        };
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut holders: Vec<(Vec<String>, Vec<Holder>)> = Vec::new();
        for _ in 0..DEPTH {
            let mut next = Vec::new();
            for some in open.chunks(if exact { 1 } else { MOST_ASKED }) {
                let found = self
                    .holders(some.iter().map(|(spelled, _)| spelled.as_str()))
                    .await?;
                let mut heads = Vec::new();
                for entry in found {
                    let Ok((dn, group)) = self.read_group(&entry) else {
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
                if let (Some(primary), Some(between)) = (&primary, &between) {
                    if holders.is_empty() {
                        // The user's own: the primary group does not list them.
                        heads.push(Holder {
                            dn: between.clone(),
                            name: String::new(),
                            gid: None,
                        });
                        next.push((primary.spelled.clone(), between.clone()));
                    } else if some.iter().any(|(_, ours)| ours == between)
                        && !self.config.id_mapping
                    {
                        heads.extend(primary.head.clone());
                    }
                }
                holders.push((some.iter().map(|(_, ours)| ours.clone()).collect(), heads));
            }
            // Names hold no groups.
            if next.is_empty() || self.config.schema == Schema::Rfc2307 {
                break;
            }
            open = next;
        }
        if exact {
            // Rules go by its name too.
            let primary = self.head_of(user.gid).await?;
            holders.push((Vec::new(), primary.into_iter().collect()));
        }
        Ok(Found {
            user: Some((dn, user)),
            uuid: known.uuid,
            holders,
        })
    }

    async fn user(&self, name: &str) -> Result<Option<Known>, LdapError> {
        let (attribute, value) = (&self.names.user_name, dn::filter_value(name));
        let found = self
            .few(Part::Users, &format!("({attribute}={value})"), false)
            .await?;
        let [entry] = &found[..] else {
            return if found.is_empty() {
                Ok(None)
            } else {
                Err(LdapError::Ambiguous(name.to_owned()))
            };
        };
        // The server's matching ignores case; ours does not.
        let user = self
            .read_user(entry)
            .ok()
            .flatten()
            .filter(|(_, user)| user.name == name);
        Ok(user.map(|(dn, user)| Known {
            uuid: entry::uuid_of(entry),
            spelled: entry.dn.clone(),
            dn,
            user,
            primary: match self.config.schema {
                Schema::Ad => entry::primary_of(entry),
                Schema::Rfc2307 | Schema::Rfc2307bis => None,
            },
        }))
    }

    /// The users or the groups that a filter finds: two, if there are several. With `members`, of groups those too.
    async fn few(&self, part: Part, filter: &str, members: bool) -> Result<Vec<Entry>, LdapError> {
        let (base, all, mut attributes) = self.extent(part);
        if !members {
            attributes.retain(|name| part == Part::Users || *name != self.names.member);
        }
        let search = Search {
            base,
            scope: Scope::Subtree,
            filter: &format!("(&{all}{filter})"),
            attributes: &attributes,
            most: 2,
            within: self.config.lookup_timeout,
        };
        search.run(&mut self.ldap.clone()).await
    }

    /// The primary group of a SID, which need not be one of those that are read.
    pub(super) async fn primary(&self, sid: &str) -> Result<Option<Primary>, LdapError> {
        let Some(sid) = sid::filter_value(sid) else {
            return Ok(None);
        };
        let filter = format!("(objectSid={sid})");
        if let [entry] = &self.few(Part::Groups, &filter, false).await?[..] {
            let group = self.read_group(entry).ok();
            return Ok(group.map(|(dn, group)| Primary {
                spelled: entry.dn.clone(),
                dn: dn.clone(),
                head: Some(Holder {
                    dn,
                    name: group.name,
                    gid: group.gid,
                }),
            }));
        }
        let search = Search {
            base: dn::domain(&self.config.base),
            scope: Scope::Subtree,
            filter: &filter,
            attributes: &["objectSid"],
            most: 2,
            within: self.config.lookup_timeout,
        };
        let found = search.run(&mut self.ldap.clone()).await?;
        let entry = found.into_iter().next();
        Ok(entry.and_then(|entry| {
            Some(Primary {
                dn: dn::normal(&entry.dn)?,
                spelled: entry.dn,
                head: None,
            })
        }))
    }

    /// What finds the entry of a number; `None` if none can have it.
    ///
    /// # Errors
    /// [`LdapError::Unasked`] if it may be one of a domain of which nothing is known.
    fn by_number(&self, attribute: &str, id: u32) -> Result<Option<String>, LdapError> {
        if self.config.schema != Schema::Ad || !self.config.id_mapping {
            return Ok(Some(format!("({attribute}={id})")));
        }
        let Some(sids) = self.slices().sids(id) else {
            return Err(LdapError::Unasked(id.to_string()));
        };
        let values = sids.iter().filter_map(|sid| sid::filter_value(sid));
        let any: String = values.map(|value| format!("(objectSid={value})")).collect();
        Ok((!any.is_empty()).then(|| format!("(|{any})")))
    }

    /// What finds the group of a name. In Active Directory each `_` may stand for a space.
    ///
    /// # Errors
    /// [`LdapError::Unasked`] if there are too many of them.
    fn by_group_name(&self, name: &str) -> Result<String, LdapError> {
        let attribute = &self.names.group_name;
        let parts: Vec<&str> = match self.config.schema {
            Schema::Ad => name.split('_').collect(),
            Schema::Rfc2307 | Schema::Rfc2307bis => vec![name],
        };
        if parts.len() > MOST_SPACES + 1 {
            return Err(LdapError::Unasked(name.to_owned()));
        }
        let any: String = (0..1_usize << (parts.len() - 1))
            .map(|spaces| {
                let joined = parts.iter().enumerate().map(|(at, part)| match at {
                    0 => (*part).to_owned(),
                    _ if spaces >> (at - 1) & 1 == 1 => format!(" {part}"),
                    _ => format!("_{part}"),
                });
                let value = dn::filter_value(&joined.collect::<String>());
                format!("({attribute}={value})")
            })
            .collect();
        Ok(format!("(|{any})"))
    }

    /// The name of the user with a number.
    ///
    /// # Errors
    /// As in [`Self::one`].
    pub async fn name_of(&self, uid: u32) -> Result<Option<String>, LdapError> {
        let Some(filter) = self.by_number(&self.names.uid, uid)? else {
            return Ok(None);
        };
        match &self.few(Part::Users, &filter, false).await?[..] {
            [] => Ok(None),
            [entry] => {
                let user = self.read_user(entry).ok().flatten();
                let user = user.filter(|(_, user)| user.uid == uid);
                Ok(user.map(|(_, user)| user.name))
            }
            _ => Err(LdapError::Ambiguous(uid.to_string())),
        }
    }

    /// The group of a number, without its members.
    async fn head_of(&self, gid: u32) -> Result<Option<Holder>, LdapError> {
        let Some(filter) = self.by_number(&self.names.group_gid, gid)? else {
            return Ok(None);
        };
        let found = self.few(Part::Groups, &filter, false).await?;
        let [entry] = &found[..] else {
            return Ok(None);
        };
        let group = self.read_group(entry).ok();
        let group = group.filter(|(_, group)| group.gid == Some(gid));
        Ok(group.map(|(dn, group)| Holder {
            dn,
            name: group.name,
            gid: group.gid,
        }))
    }

    /// Reads one group by normal DN, with its members.
    ///
    /// # Errors
    /// As in [`Self::name_of`].
    pub async fn group(&self, wanted: &Wanted) -> Result<Option<(String, Group)>, LdapError> {
        let (what, filter) = match wanted {
            Wanted::Gid(gid) => (
                gid.to_string(),
                self.by_number(&self.names.group_gid, *gid)?,
            ),
            Wanted::Group(name) => (name.clone(), Some(self.by_group_name(name)?)),
            Wanted::User(_) | Wanted::Uid(_) => return Ok(None),
        };
        let Some(filter) = filter else {
            return Ok(None);
        };
        let mut found = self.few(Part::Groups, &filter, true).await?;
        if found.len() > 1 {
            return Err(LdapError::Ambiguous(what));
        }
        let Some(mut entry) = found.pop() else {
            return Ok(None);
        };
        let deadline = Instant::now() + self.config.lookup_timeout;
        self.complete(&mut entry, deadline).await?;
        let is_it = |group: &Group| match wanted {
            Wanted::Gid(gid) => group.gid == Some(*gid),
            _ => true,
        };
        let group = self.read_group(&entry).ok();
        Ok(group.filter(|(_, group)| is_it(group)))
    }

    /// The groups that list any of these.
    async fn holders(&self, members: impl Iterator<Item = &str>) -> Result<Vec<Entry>, LdapError> {
        let attribute = &self.names.member;
        let any: String = members
            .map(|member| format!("({attribute}={})", dn::filter_value(member)))
            .collect();
        let filter = format!("(&{}(|{any}))", self.groups_filter());
        let search = Search {
            base: self.config.group_base(),
            scope: Scope::Subtree,
            filter: &filter,
            attributes: &self.names.of_groups(self.config.schema),
            most: MOST_HOLDERS,
            within: self.config.lookup_timeout,
        };
        search.run(&mut self.ldap.clone()).await
    }
}
