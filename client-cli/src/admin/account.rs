//! Users and groups as the directory has them: found by name, read from entries. Changes to them do
//! not live here.

use ldap3::ldap_escape;
use serde::Serialize;

use crate::directory::Directory;
use crate::entry::Entry;
use crate::error::AdminError;
use crate::settings::{Schema, Settings};
use crate::ssh_key::SshKey;

const USER_ATTRIBUTES: [&str; 9] = [
    "objectClass",
    "uid",
    "cn",
    "gecos",
    "uidNumber",
    "gidNumber",
    "homeDirectory",
    "loginShell",
    "sshPublicKey",
];
const GROUP_ATTRIBUTES: [&str; 5] = ["objectClass", "cn", "gidNumber", "member", "memberUid"];

/// A user's entry.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    /// `uid`.
    pub name: String,
    /// `uidNumber`.
    pub uid: u32,
    /// `gidNumber`.
    pub gid: u32,
    /// `gecos`, or `cn` where that is missing (RFC 2307, 5.3).
    pub gecos: String,
    /// `homeDirectory`.
    pub home: String,
    /// `loginShell`.
    pub shell: String,
    /// Where the entry stands.
    pub dn: String,
    /// `sshPublicKey` values as they stand there.
    #[serde(skip)]
    pub stored_keys: Vec<Vec<u8>>,
    /// Whether the entry may have keys: it is an `ldapPublicKey`.
    #[serde(skip)]
    pub can_have_keys: bool,
}

/// A group's entry.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// `cn`.
    pub name: String,
    /// `gidNumber`.
    pub gid: u32,
    /// Where the entry stands.
    pub dn: String,
    /// `member` DNs.
    #[serde(skip)]
    pub member_dns: Vec<String>,
    /// `memberUid` names.
    #[serde(skip)]
    pub member_uids: Vec<String>,
    /// Whether it is a `groupOfNames`, which must have a member.
    #[serde(skip)]
    pub needs_member: bool,
}

impl User {
    fn read(entry: &Entry) -> Result<Self, AdminError> {
        let lacks = |attribute| AdminError::Entry {
            dn: entry.dn.clone(),
            attribute,
        };
        let text = |attribute| entry.text(attribute).unwrap_or_default().to_owned();
        Ok(Self {
            name: entry.text("uid").ok_or_else(|| lacks("uid"))?.to_owned(),
            uid: entry
                .number("uidNumber")
                .ok_or_else(|| lacks("uidNumber"))?,
            gid: entry
                .number("gidNumber")
                .ok_or_else(|| lacks("gidNumber"))?,
            gecos: entry
                .text("gecos")
                .or_else(|| entry.text("cn"))
                .unwrap_or_default()
                .to_owned(),
            home: text("homeDirectory"),
            shell: text("loginShell"),
            dn: entry.dn.clone(),
            stored_keys: entry.bytes("sshPublicKey").to_vec(),
            can_have_keys: entry.is_a("ldapPublicKey"),
        })
    }

    /// The stored keys that are keys, each with the value as it stands there.
    pub fn keys(&self) -> impl Iterator<Item = (SshKey, &[u8])> {
        self.stored_keys.iter().filter_map(|stored| {
            let text = std::str::from_utf8(stored).ok()?;
            Some((SshKey::parse(text).ok()?, stored.as_slice()))
        })
    }

    /// Finds a user by name.
    ///
    /// # Errors
    /// [`AdminError::Ambiguous`], or that of the search.
    pub async fn find(
        directory: &mut Directory,
        settings: &Settings,
        name: &str,
    ) -> Result<Option<Self>, AdminError> {
        let filter = format!("(&(objectClass=posixAccount)(uid={}))", ldap_escape(name));
        let found = directory
            .search(&settings.user_base, &filter, &USER_ATTRIBUTES)
            .await?;
        only("user", name, &settings.user_base, found)?
            .as_ref()
            .map(Self::read)
            .transpose()
    }

    /// Finds a user who must be there.
    ///
    /// # Errors
    /// [`AdminError::NoSuch`] besides those of [`User::find`].
    pub async fn get(
        directory: &mut Directory,
        settings: &Settings,
        name: &str,
    ) -> Result<Self, AdminError> {
        Self::find(directory, settings, name)
            .await?
            .ok_or_else(|| AdminError::NoSuch {
                kind: "user",
                name: name.into(),
                base: settings.user_base.clone(),
            })
    }

    /// All users by name, and what could not be read as one.
    ///
    /// # Errors
    /// That of the search.
    pub async fn all(
        directory: &mut Directory,
        settings: &Settings,
    ) -> Result<(Vec<Self>, Vec<AdminError>), AdminError> {
        let filter = "(objectClass=posixAccount)";
        let found = directory
            .search(&settings.user_base, filter, &USER_ATTRIBUTES)
            .await?;
        let (mut users, odd) = sort_out(&found, Self::read);
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((users, odd))
    }
}

impl Group {
    fn read(entry: &Entry) -> Result<Self, AdminError> {
        let lacks = |attribute| AdminError::Entry {
            dn: entry.dn.clone(),
            attribute,
        };
        let texts = |attribute| entry.texts(attribute).map(str::to_owned).collect();
        Ok(Self {
            name: entry.text("cn").ok_or_else(|| lacks("cn"))?.to_owned(),
            gid: entry
                .number("gidNumber")
                .ok_or_else(|| lacks("gidNumber"))?,
            dn: entry.dn.clone(),
            member_dns: texts("member"),
            member_uids: texts("memberUid"),
            needs_member: entry.is_a("groupOfNames"),
        })
    }

    /// Finds a group by name.
    ///
    /// # Errors
    /// [`AdminError::Ambiguous`], or that of the search.
    pub async fn find(
        directory: &mut Directory,
        settings: &Settings,
        name: &str,
    ) -> Result<Option<Self>, AdminError> {
        let filter = format!("(&(objectClass=posixGroup)(cn={}))", ldap_escape(name));
        let found = directory
            .search(&settings.group_base, &filter, &GROUP_ATTRIBUTES)
            .await?;
        only("group", name, &settings.group_base, found)?
            .as_ref()
            .map(Self::read)
            .transpose()
    }

    /// Finds a group that must be there.
    ///
    /// # Errors
    /// [`AdminError::NoSuch`] besides those of [`Group::find`].
    pub async fn get(
        directory: &mut Directory,
        settings: &Settings,
        name: &str,
    ) -> Result<Self, AdminError> {
        Self::find(directory, settings, name)
            .await?
            .ok_or_else(|| AdminError::NoSuch {
                kind: "group",
                name: name.into(),
                base: settings.group_base.clone(),
            })
    }

    /// The groups that match a further filter, by name, and what could not be read as one.
    ///
    /// # Errors
    /// That of the search.
    pub async fn all(
        directory: &mut Directory,
        settings: &Settings,
        further: &str,
    ) -> Result<(Vec<Self>, Vec<AdminError>), AdminError> {
        let filter = format!("(&(objectClass=posixGroup){further})");
        let found = directory
            .search(&settings.group_base, &filter, &GROUP_ATTRIBUTES)
            .await?;
        let (mut groups, odd) = sort_out(&found, Self::read);
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((groups, odd))
    }

    /// The groups a user is a member of by entry.
    ///
    /// # Errors
    /// That of the search.
    pub async fn of(
        directory: &mut Directory,
        settings: &Settings,
        user: &User,
    ) -> Result<Vec<Self>, AdminError> {
        let member = match settings.schema {
            Schema::Rfc2307 => String::new(),
            Schema::Rfc2307bis => format!("(member={})", ldap_escape(user.dn.as_str())),
        };
        let filter = format!("(|{member}(memberUid={}))", ldap_escape(user.name.as_str()));
        Ok(Self::all(directory, settings, &filter).await?.0)
    }
}

fn only(
    kind: &'static str,
    name: &str,
    base: &str,
    mut found: Vec<Entry>,
) -> Result<Option<Entry>, AdminError> {
    match found.len() {
        0 | 1 => Ok(found.pop()),
        count => Err(AdminError::Ambiguous {
            kind,
            name: name.into(),
            base: base.into(),
            count,
        }),
    }
}

fn sort_out<T>(
    entries: &[Entry],
    read: impl Fn(&Entry) -> Result<T, AdminError>,
) -> (Vec<T>, Vec<AdminError>) {
    let (mut good, mut odd) = (Vec::new(), Vec::new());
    for entry in entries {
        match read(entry) {
            Ok(account) => good.push(account),
            Err(error) => odd.push(error),
        }
    }
    (good, odd)
}
