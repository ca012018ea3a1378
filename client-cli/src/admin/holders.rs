//! Who has a number or a name already: entries of the directory, and this machine's own accounts.
//! Giving numbers out does not live here.

use std::path::Path;

use crate::directory::Directory;
use crate::error::AdminError;
use crate::name::LocalNames;
use crate::settings::Settings;

/// Somebody who has a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The number.
    pub id: u32,
    /// Has it as user; else as group.
    pub is_user: bool,
    /// A DN, or a local account.
    pub by: String,
}

/// This machine's own accounts, which have numbers too.
pub struct LocalAccounts {
    users: LocalNames,
    groups: LocalNames,
}

impl LocalAccounts {
    /// Reads `/etc/passwd` and `/etc/group`.
    pub fn read() -> Self {
        Self {
            users: LocalNames::read(Path::new("/etc/passwd")),
            groups: LocalNames::read(Path::new("/etc/group")),
        }
    }

    /// Fails where this machine has a user or group of this name.
    ///
    /// # Errors
    /// [`AdminError::Local`].
    pub fn refuse_name(&self, name: &str) -> Result<(), AdminError> {
        for (kind, local, file) in [
            ("user", &self.users, "/etc/passwd"),
            ("group", &self.groups, "/etc/group"),
        ] {
            if local.has(name) {
                return Err(AdminError::Local {
                    kind,
                    name: name.into(),
                    file,
                });
            }
        }
        Ok(())
    }

    fn holders(&self, id: u32) -> impl Iterator<Item = Holder> {
        [
            (true, &self.users, "/etc/passwd"),
            (false, &self.groups, "/etc/group"),
        ]
        .into_iter()
        .filter_map(move |(is_user, local, file)| {
            let by = format!("{} of {file}", local.name_of(id)?);
            Some(Holder { id, is_user, by })
        })
    }
}

/// Everybody who has one of `ids`, in the directory and on this machine.
///
/// # Errors
/// [`AdminError`] of the searches.
pub async fn holders(
    directory: &mut Directory,
    settings: &Settings,
    local: &LocalAccounts,
    ids: &[u32],
) -> Result<Vec<Holder>, AdminError> {
    let mut holders: Vec<Holder> = ids.iter().flat_map(|id| local.holders(*id)).collect();
    for (is_user, base, class, attribute) in [
        (true, &settings.user_base, "posixAccount", "uidNumber"),
        (false, &settings.group_base, "posixGroup", "gidNumber"),
    ] {
        let any: String = ids.iter().map(|id| format!("({attribute}={id})")).collect();
        let filter = format!("(&(objectClass={class})(|{any}))");
        for entry in directory.search(base, &filter, &[attribute]).await? {
            if let Some(id) = entry.number(attribute) {
                holders.push(Holder {
                    id,
                    is_user,
                    by: entry.dn,
                });
            }
        }
    }
    Ok(holders)
}
