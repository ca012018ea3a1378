//! What attributes are called: the names of the schema, with those of the configuration in their place.

use crate::config::{Attributes, Schema};

/// The attributes that make users and groups, in lower case as entries have them here.
#[derive(Debug, Clone)]
pub struct Names {
    /// Login name.
    pub user_name: String,
    /// Number of the user.
    pub uid: String,
    /// Number of the primary group.
    pub gid: String,
    /// Full name: the first that an entry has.
    pub full_name: Vec<String>,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Public keys: all that an entry has.
    pub ssh_key: Vec<String>,
    /// Name of a group.
    pub group_name: String,
    /// Number of a group.
    pub group_gid: String,
    /// Who is in it.
    pub member: String,
}

/// What an entry keeps when it is renamed (RFC 4530).
const ENTRY_UUID: &str = "entryUUID";

/// What stands against a login, and where it counts; the same in all directories that are not Windows'.
const MARKS: &[&str] = &[
    ENTRY_UUID,
    "shadowExpire",
    "pwdAccountLockedTime",
    "nsAccountLock",
    "pwdChangedTime",
    "pwdReset",
    "pwdStartTime",
    "pwdEndTime",
    "host",
    "authorizedService",
];

/// The same in Active Directory, with what ids and keys are made from.
const MARKS_AD: &[&str] = &[
    "objectSid",
    "objectGUID",
    "primaryGroupID",
    "altSecurityIdentities",
    "userAccountControl",
    "accountExpires",
    "lockoutTime",
    "pwdLastSet",
    "logonHours",
    "host",
    "authorizedService",
];

impl Names {
    /// The names of a schema, but for those that are set.
    pub fn of(schema: Schema, set: &Attributes) -> Self {
        let ad = schema == Schema::Ad;
        let name = |set: &Option<String>, other: &str, windows: &str| {
            let preset = if ad { windows } else { other };
            set.as_deref().unwrap_or(preset).to_lowercase()
        };
        let list = |set: &Option<String>, preset: &[&str]| match set {
            Some(one) => vec![one.to_lowercase()],
            None => preset.iter().map(|name| name.to_lowercase()).collect(),
        };
        let full_name = match ad {
            true => &["gecos", "displayName", "cn"][..],
            false => &["gecos", "cn"],
        };
        let ssh_key = match ad {
            true => &["sshPublicKey"][..],
            false => &["sshPublicKey", "ipaSshPubKey"],
        };
        let member = match schema {
            Schema::Rfc2307 => "memberUid",
            Schema::Rfc2307bis | Schema::Ad => "member",
        };
        Self {
            user_name: name(&set.user_name, "uid", "sAMAccountName"),
            uid: name(&set.uid, "uidNumber", "uidNumber"),
            gid: name(&set.gid, "gidNumber", "gidNumber"),
            full_name: list(&set.full_name, full_name),
            home: name(&set.home, "homeDirectory", "unixHomeDirectory"),
            shell: name(&set.shell, "loginShell", "loginShell"),
            ssh_key: list(&set.ssh_key, ssh_key),
            group_name: name(&set.group_name, "cn", "sAMAccountName"),
            group_gid: name(&set.group_gid, "gidNumber", "gidNumber"),
            member: name(&set.member, member, member),
        }
    }

    /// What is read of a user.
    pub fn of_users(&self, schema: Schema) -> Vec<&str> {
        let marks = if schema == Schema::Ad {
            MARKS_AD
        } else {
            MARKS
        };
        let mut names = vec![
            self.user_name.as_str(),
            &self.uid,
            &self.gid,
            &self.home,
            &self.shell,
        ];
        names.extend(self.full_name.iter().map(String::as_str));
        names.extend(self.ssh_key.iter().map(String::as_str));
        names.extend(marks);
        names
    }

    /// What is read of a group, without its members.
    pub fn of_groups(&self, schema: Schema) -> Vec<&str> {
        let mut names = vec![self.group_name.as_str(), &self.group_gid];
        names.push(match schema {
            Schema::Ad => "objectSid",
            Schema::Rfc2307 | Schema::Rfc2307bis => ENTRY_UUID,
        });
        names
    }
}
