//! Where a directory cannot be listed: users and groups are asked for one by one, and again what is held.

use std::time::{Duration, Instant, SystemTime};

use super::{Done, Work};
use crate::{
    ldap::{Found, LdapError, Session},
    replica::{Group, News},
    wanted::{Asker, Wanted},
};

/// Least time between two generations of what nobody waits for.
const SERVED: Duration = Duration::from_millis(500);
/// Most look-ups of what is held, asked for again.
const MOST_AGAIN: usize = 4;

/// What a look-up where nothing can be listed brings.
pub(super) enum Sought {
    /// Of a user of this name.
    User(String, Box<Found>),
    /// Of a group.
    Group(Option<(String, Group)>),
    /// There is none.
    Nobody,
}

impl Work<'_> {
    /// Asks for one entry.
    pub(super) fn find(&mut self, wanted: Wanted, asker: Option<Asker>) {
        let session = self.session.clone();
        self.tasks.spawn(async move {
            let asked = SystemTime::now();
            let result = sought(&session, &wanted).await;
            Done::Found {
                wanted,
                asked,
                result,
                asker,
            }
        });
    }

    /// Where nothing can be listed, a user tells of groups, and these of their members only when they are asked
    /// for themselves.
    pub(super) fn want_members(&mut self, news: News, groups: Vec<Wanted>) {
        if self.on_demand && news.unknown {
            for group in groups {
                if !self.again.contains(&group) {
                    self.again.push(group);
                }
            }
        }
    }

    /// Where nothing can be listed: of several entries of one name none is served.
    pub(super) fn drop_ambiguous(&self, wanted: &Wanted) {
        if !self.on_demand {
            return;
        }
        match wanted {
            Wanted::User(name) => {
                let nobody = Found {
                    uuid: None,
                    user: None,
                    holders: Vec::new(),
                };
                self.core.set_account(name, nobody, SystemTime::now());
            }
            Wanted::Group(_) | Wanted::Gid(_) => {
                self.core.put_group(wanted, None);
                self.core.serve_if_unserved();
            }
            Wanted::Uid(_) => {}
        }
    }

    pub(super) fn ask_all_again(&mut self) {
        self.again = self.core.all_held();
        self.again_since = Some(Instant::now());
    }

    /// Asks for some of what is held again, so that there is room for who waits.
    pub(super) fn go_on_again(&mut self) {
        while self.on_demand && self.tasks.len() < MOST_AGAIN {
            let Some(wanted) = self.again.pop() else {
                break;
            };
            self.find(wanted, None);
        }
        if self.again.is_empty()
            && let Some(since) = self.again_since.take()
        {
            self.again_cost = since.elapsed();
            self.again_ended = Instant::now();
        }
        // Each generation costs; these come in hundreds.
        let over = self.again.is_empty() && self.tasks.is_empty();
        let due = over || self.last_served.elapsed() >= SERVED;
        if self.on_demand && due && self.core.is_unserved() {
            self.core.serve_if_unserved();
            self.last_served = Instant::now();
        }
    }
}

/// The groups that a look-up of a user has shown.
pub(super) fn groups_in(found: &Found) -> Vec<Wanted> {
    let holders = found.holders.iter().flat_map(|(_, holders)| holders);
    let groups = holders.filter(|holder| holder.gid.is_some());
    groups
        .map(|holder| Wanted::Group(holder.name.clone()))
        .collect()
}

/// Asks for one entry where nothing can be listed.
async fn sought(session: &Session, wanted: &Wanted) -> Result<Sought, LdapError> {
    let name = match wanted {
        Wanted::User(name) => Some(name.clone()),
        Wanted::Uid(uid) => session.name_of(*uid).await?,
        Wanted::Group(_) | Wanted::Gid(_) => {
            return session.group(wanted).await.map(Sought::Group);
        }
    };
    match name {
        Some(name) => {
            let found = session.one(&name, true).await?;
            Ok(Sought::User(name, Box::new(found)))
        }
        None => Ok(Sought::Nobody),
    }
}

/// True if a server does not let all be listed, or there is more than is held: limits of size, time and
/// administration, no rights, not willing (RFC 4511 appendix A).
pub(super) fn is_no_list(error: &LdapError) -> bool {
    match error {
        LdapError::TooMany(..) => true,
        LdapError::Refused { code, .. } => matches!(code, 3 | 4 | 11 | 50 | 53),
        _ => false,
    }
}
