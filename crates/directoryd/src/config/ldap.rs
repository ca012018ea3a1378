//! `[ldap]`: where a directory server is, how it is asked, and what entries are called there.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use service::{
    Secret,
    config::{ConfigError, duration, read_secret},
};

use super::{MAX_PASSWORD, default_shell, home_template};
use crate::{dn, ldap, sid::Range};

/// Longest file with a private key, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// The `[ldap]` table.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ldap {
    /// Servers in order of preference: `ldap://`, `ldaps://`, or `ldap+srv://domain` for those that DNS has.
    pub uris: Vec<String>,
    /// Servers that are asked while none of `uris` answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backup_uris: Vec<String>,
    /// How often `uris` are tried while a server of `backup-uris` serves.
    #[serde(default = "primary_interval", with = "duration")]
    pub primary_interval: Duration,
    /// Ask for TLS on `ldap://` and go no further without it.
    #[serde(default = "yes")]
    pub start_tls: bool,
    /// The CA certificates to believe, PEM; without it those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A certificate of our own, PEM, with what leads to its CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// Who we are there; without it, whom the certificate (or on `ldapi://` the kernel) says we are, by SASL
    /// EXTERNAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_dn: Option<String>,
    /// The file with that entry's password; a line end at its end does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_password_file: Option<PathBuf>,
    /// How groups list their members, and what entries look like.
    #[serde(default)]
    pub schema: Schema,
    /// In Active Directory: ids from SIDs, as sssd makes them, whatever `uidNumber` says. Without it only
    /// entries with `uidNumber` and `gidNumber` are users.
    #[serde(default = "yes")]
    pub id_mapping: bool,
    /// The ids that SIDs become.
    #[serde(default)]
    pub id_map: Range,
    /// In Active Directory, the home of who has no `unixHomeDirectory`; `%u` is the name.
    #[serde(default = "home_template")]
    pub home_template: String,
    /// In Active Directory, the shell of who has no `loginShell`.
    #[serde(default = "default_shell")]
    pub default_shell: String,
    /// What attributes are called, where it is not what the schema calls them.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// Which entries are users, in place of the schema's filter (RFC 4515).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_filter: Option<String>,
    /// Which entries are groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_filter: Option<String>,
    /// The directory's suffix.
    pub base: String,
    /// Where users are; default `base`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_base: Option<String>,
    /// Where groups are; default `base`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_base: Option<String>,
    /// Let a server that can (RFC 4533) tell of changes as they happen.
    #[serde(default = "yes")]
    pub syncrepl: bool,
    /// How often a server that has a mark of its last change (`contextCSN`) is asked for it.
    #[serde(default = "change_interval", with = "duration")]
    pub change_interval: Duration,
    /// How often everything is read from a server without such a mark.
    #[serde(default = "refresh_interval", with = "duration")]
    pub refresh_interval: Duration,
    /// Most users, and most groups, that are held.
    #[serde(default = "most_entries")]
    pub most_entries: usize,
    /// Ask for users and groups one by one where there are more, or where the server does not let all be listed.
    #[serde(default)]
    pub on_demand: bool,
    /// How long one look-up may take before the server counts as dead.
    #[serde(default = "lookup_timeout", with = "duration")]
    pub lookup_timeout: Duration,
    /// How long a lock after failed passwords counts (the policy's `pwdLockoutDuration`); without
    /// it until the server takes the lock away.
    #[serde(
        default,
        with = "optional_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub lockout_duration: Option<Duration>,
}

/// The `[ldap.attributes]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Attributes {
    /// A user's login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The user's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The number of the primary group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<String>,
    /// The full name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// The home directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// The login shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Public keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<String>,
    /// A group's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// The group's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_gid: Option<String>,
    /// Its members: DNs, in rfc2307 names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
}

impl Attributes {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let named = [
            ("user-name", &self.user_name),
            ("uid", &self.uid),
            ("gid", &self.gid),
            ("full-name", &self.full_name),
            ("home", &self.home),
            ("shell", &self.shell),
            ("ssh-key", &self.ssh_key),
            ("group-name", &self.group_name),
            ("group-gid", &self.group_gid),
            ("member", &self.member),
        ];
        named.into_iter().filter_map(|(key, name)| {
            let name = name.as_deref()?;
            let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
            let is_name = !name.is_empty() && name.bytes().all(good);
            (!is_name).then(|| format!("ldap.attributes.{key}: '{name}' is not an attribute"))
        })
    }
}

/// What entries look like, and how groups list their members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Schema {
    /// `memberUid`: names.
    Rfc2307,
    /// `member`: DNs, of users and of groups.
    #[default]
    Rfc2307bis,
    /// Active Directory: `member`, SIDs, its own marks of closed accounts.
    Ad,
}

impl Schema {
    /// The filter for users. Machines are of the same class in Active Directory.
    pub fn users(self) -> &'static str {
        match self {
            Self::Rfc2307 | Self::Rfc2307bis => "(objectClass=posixAccount)",
            Self::Ad => "(&(objectCategory=person)(objectClass=user))",
        }
    }

    /// The filter for groups.
    pub fn groups(self) -> &'static str {
        match self {
            Self::Rfc2307 => "(objectClass=posixGroup)",
            Self::Rfc2307bis => {
                "(|(objectClass=posixGroup)(objectClass=groupOfNames)(objectClass=groupOfMembers)\
                 (objectClass=groupOfUniqueNames))"
            }
            // Security groups; the others are lists of mail addresses.
            Self::Ad => "(&(objectClass=group)(groupType:1.2.840.113556.1.4.803:=2147483648))",
        }
    }
}

impl Ldap {
    /// The key of our certificate, if we have one. Read each time: certificates are renewed while daemons
    /// run.
    ///
    /// # Errors
    /// [`ConfigError`], also if others may read it.
    pub fn client_key(&self) -> Result<Option<Secret<Vec<u8>>>, ConfigError> {
        let read = |path: &PathBuf| read_secret(path, MAX_KEY);
        self.client_key.as_ref().map(read).transpose()
    }

    /// Whom TLS believes, and who we are there with that key.
    pub fn trust<'a>(&'a self, key: Option<&'a Secret<Vec<u8>>>) -> ldap::Trust<'a> {
        let identity = self.client_certificate.as_deref().zip(key);
        ldap::Trust {
            ca_file: self.ca_file.as_deref(),
            identity: identity.map(|(certificate, key)| ldap::Identity {
                certificate,
                key: key.expose(),
            }),
        }
    }

    /// Where users are searched.
    pub fn user_base(&self) -> &str {
        self.user_base.as_deref().unwrap_or(&self.base)
    }

    /// Where groups are searched.
    pub fn group_base(&self) -> &str {
        self.group_base.as_deref().unwrap_or(&self.base)
    }

    /// What a persisted replica must have been read from to be of use.
    pub fn fingerprint(&self) -> String {
        format!(
            "{:?}|{:?}|{:?}|{:?}|{}|{}|{}|{:?}|{}|{}",
            self.schema,
            self.attributes,
            self.user_filter,
            self.group_filter,
            self.user_base(),
            self.group_base(),
            self.id_mapping,
            self.id_map,
            self.home_template,
            self.default_shell,
        )
    }
    /// What is wrong with it.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.most_entries == 0 {
            problems.push("ldap.most-entries is 0".to_owned());
        }
        if self.uris.is_empty() {
            problems.push("ldap.uris is empty".to_owned());
        }
        let named = self.uris.iter().map(|uri| ("uris", uri));
        let backup = self.backup_uris.iter().map(|uri| ("backup-uris", uri));
        for (key, uri) in named.chain(backup) {
            if let Err(error) = ldap::check_uri(uri) {
                problems.push(format!("ldap.{key}: '{uri}': {error}"));
            }
        }
        let bases = [
            ("base", &self.base),
            ("bind-dn", self.bind_dn.as_ref().unwrap_or(&self.base)),
            ("user-base", self.user_base.as_ref().unwrap_or(&self.base)),
            ("group-base", self.group_base.as_ref().unwrap_or(&self.base)),
        ];
        for (key, value) in bases {
            // Active Directory takes user@domain for the service's account as well.
            let principal = key == "bind-dn" && value.contains('@') && !value.contains('=');
            if dn::normal(value).is_none() && !principal {
                problems.push(format!("ldap.{key}: '{value}' is not a distinguished name"));
            }
        }
        problems.extend(self.id_map.problem());
        if !self.home_template.starts_with('/') || !self.default_shell.starts_with('/') {
            problems
                .push("ldap.home-template and ldap.default-shell are absolute paths".to_owned());
        }
        match self.client_key() {
            Ok(key) => {
                if let Err(error) = ldap::trust(self.trust(key.as_ref())) {
                    let key = match error {
                        ldap::LinkError::Identity { .. } => "client-certificate",
                        _ => "ca-file",
                    };
                    problems.push(format!("ldap.{key}: {}", service::exit::chain(&error)));
                }
            }
            Err(error) => {
                problems.push(format!("ldap.client-key: {}", service::exit::chain(&error)));
            }
        }
        if self.client_certificate.is_some() != self.client_key.is_some() {
            problems.push("ldap.client-certificate and ldap.client-key belong together".to_owned());
        }
        match (&self.bind_dn, &self.bind_password_file) {
            (Some(_), Some(file)) => {
                if let Err(error) = read_secret(file, MAX_PASSWORD) {
                    problems.push(format!(
                        "ldap.bind-password-file: {}",
                        service::exit::chain(&error)
                    ));
                }
            }
            (None, None) => {
                let local = |uri: &String| uri.to_ascii_lowercase().starts_with("ldapi://");
                if self.client_certificate.is_none() && !self.uris.iter().all(local) {
                    problems.push(
                        "ldap: without bind-dn and bind-password-file a client-certificate says who we are"
                            .to_owned(),
                    );
                }
            }
            _ => {
                problems.push("ldap.bind-dn and ldap.bind-password-file belong together".to_owned())
            }
        }
        for (key, value) in [
            ("change-interval", self.change_interval),
            ("primary-interval", self.primary_interval),
            ("refresh-interval", self.refresh_interval),
            ("lookup-timeout", self.lookup_timeout),
        ] {
            if value < Duration::from_millis(100) {
                problems.push(format!("ldap.{key} is shorter than 100ms"));
            }
        }
        problems.extend(self.attributes.problems());
        for (key, filter) in [
            ("user-filter", &self.user_filter),
            ("group-filter", &self.group_filter),
        ] {
            if let Some(filter) = filter
                && !ldap::is_filter(filter)
            {
                problems.push(format!(
                    "ldap.{key}: '{filter}' is not a filter such as \"(objectClass=posixAccount)\""
                ));
            }
        }
        problems
    }
}

fn yes() -> bool {
    true
}

fn primary_interval() -> Duration {
    Duration::from_secs(30)
}

fn change_interval() -> Duration {
    Duration::from_secs(1)
}

fn refresh_interval() -> Duration {
    Duration::from_secs(15)
}

fn most_entries() -> usize {
    200_000
}

fn lookup_timeout() -> Duration {
    Duration::from_secs(5)
}

mod optional_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};
    use service::config::duration;

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(from).map(Some)
    }

    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, to),
            None => to.serialize_none(),
        }
    }
}
