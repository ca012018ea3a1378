//! `directoryd.toml`: its keys, their defaults, and everything that can be wrong with them.
//!
//! Text becomes typed values here, once. Secrets are named by path and read when they are used.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use service::{
    Secret,
    config::{ConfigError, duration, read_secret},
};

use crate::{dn, ldap, local::Local, people::People, sid::Range};

/// Longest bind password, in bytes.
pub const MAX_PASSWORD: u64 = 1024;
/// Longest file with a private key, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// Least bytes of a secret that no guess finds.
const MIN_SECRET: usize = 32;
/// Longest time for which a password may count without a server.
const MOST_VALID: Duration = Duration::from_secs(90 * 86_400);

/// The whole file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The socket that libc asks.
    #[serde(default = "nscd_socket")]
    pub nscd_socket: PathBuf,
    /// The socket for keys, state and status.
    #[serde(default = "control_socket")]
    pub control_socket: PathBuf,
    /// Who may use the control socket, besides root and directoryd's own user: names or numbers.
    #[serde(default)]
    pub control_users: Vec<String>,
    /// Where the replica is kept over restarts.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Local users, served too and before all others.
    #[serde(default = "passwd_file")]
    pub passwd_file: PathBuf,
    /// Local groups.
    #[serde(default = "group_file")]
    pub group_file: PathBuf,
    /// Least uid and gid taken from the directory.
    #[serde(default = "minimum_id")]
    pub minimum_id: u32,
    /// Where numbers and readiness are told by HTTP: an address of loopback with a port, or the path of a
    /// socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<Listen>,
    /// Several domains by name, in the order in which they count; each has a table in `domain`. Without them
    /// there is one, in `[ldap]` or `[file]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// The directory server that users and groups come from; or there is `[file]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ldap: Option<Ldap>,
    /// The file that they come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PeopleFile>,
    /// The tables of `domains`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub domain: BTreeMap<String, DomainTable>,
    /// How users' passwords are tried.
    #[serde(default)]
    pub password: Passwords,
    /// Passwords that are checked while no server can be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline_passwords: Option<OfflinePasswords>,
    /// Who of them may log in here.
    #[serde(default)]
    pub access: Access,
}

/// A place to listen at on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// An address of loopback.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            _ => Err(format!(
                "'{text}' is neither an address of loopback with a port nor a path"
            )),
        }
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        match listen {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => path.display().to_string(),
        }
    }
}

/// The table of one domain: one of the two.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DomainTable {
    /// A directory server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ldap: Option<Ldap>,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PeopleFile>,
}

/// One domain: whose users and groups are served together, by what one source says.
#[derive(Debug, Clone)]
pub struct Domain {
    /// As in `domains`; empty for the only one.
    pub name: String,
    /// Where they come from.
    pub source: Source,
}

impl Domain {
    /// How groups list members.
    pub fn schema(&self) -> Schema {
        match &self.source {
            Source::Ldap(ldap) => ldap.schema,
            // Members are named by the keys of entries there too.
            Source::File(_) => Schema::Rfc2307bis,
        }
    }

    /// How long a lock after failures counts, if it is configured.
    pub fn lockout_duration(&self) -> Option<Duration> {
        match &self.source {
            Source::Ldap(ldap) => ldap.lockout_duration,
            Source::File(_) => None,
        }
    }

    /// What a persisted replica must have been read from to be of use.
    pub fn fingerprint(&self) -> String {
        match &self.source {
            Source::Ldap(ldap) => ldap.fingerprint(),
            Source::File(file) => file.fingerprint(),
        }
    }

    /// Where its keys are in the configuration.
    fn place(&self) -> String {
        match self.name.as_str() {
            "" => String::new(),
            name => format!("domain.{name}."),
        }
    }

    fn problems(&self) -> Vec<String> {
        let problems = match &self.source {
            Source::Ldap(ldap) => ldap.problems(),
            Source::File(file) => file.problems(),
        };
        let place = self.place();
        let named = problems.into_iter();
        named.map(|problem| format!("{place}{problem}")).collect()
    }
}

/// Whether a text can name a domain: it is part of a file's name.
fn is_domain(name: &str) -> bool {
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let first = name.bytes().next();
    name.len() <= 64
        && first.is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(good)
}

/// Where users and groups come from: one of the two.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory server.
    Ldap(Arc<Ldap>),
    /// A file.
    File(PeopleFile),
}

/// The `[file]` table: people and groups without a server.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PeopleFile {
    /// TOML, or LDIF if the name ends in `.ldif`.
    pub path: PathBuf,
    /// The home of who has none in the file; `%u` is the name.
    #[serde(default = "home_template")]
    pub home_template: String,
    /// The shell of who has none in the file.
    #[serde(default = "default_shell")]
    pub default_shell: String,
}

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

    fn problems(&self) -> impl Iterator<Item = String> {
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

/// The `[password]` table. Failures are counted here so that a stranger's guesses end before the
/// directory locks the account.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Passwords {
    /// Refusals are answered after a whole multiple of this time, whatever their reason.
    #[serde(with = "duration")]
    pub refusal_time: Duration,
    /// After so many failures for one user the directory is not asked about that user any more.
    pub user_failures: usize,
    /// The same for one source: an IPv4 address, or an IPv6 network of 64 bits.
    pub source_failures: usize,
    /// How long a failure counts.
    #[serde(with = "duration")]
    pub failure_window: Duration,
    /// How long the directory may take for one password, all servers together.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            refusal_time: Duration::from_secs(1),
            user_failures: 4,
            source_failures: 30,
            failure_window: Duration::from_secs(600),
            timeout: Duration::from_secs(8),
        }
    }
}

/// The `[offline-passwords]` table. Without it no password is checked while no server can be asked, and
/// nothing is kept of any.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OfflinePasswords {
    /// The file without which what is kept is worth nothing; read at each use.
    pub secret_file: PathBuf,
    /// How long a password counts after a server has taken it.
    #[serde(default = "valid_for", with = "duration")]
    pub valid_for: Duration,
    /// After so many wrong ones for a user nothing is checked any more,
    #[serde(default = "tries")]
    pub tries: usize,
    /// for as long as each of them counts.
    #[serde(default = "tries_window", with = "duration")]
    pub tries_window: Duration,
}

impl OfflinePasswords {
    /// The secret.
    ///
    /// # Errors
    /// What is wrong with the file, also if others may read it.
    pub fn secret(&self) -> Result<Secret<Vec<u8>>, String> {
        let secret = read_secret(&self.secret_file, MAX_PASSWORD)
            .map_err(|error| service::exit::chain(&error))?;
        if secret.expose().len() < MIN_SECRET {
            let path = self.secret_file.display();
            return Err(format!(
                "'{path}' has fewer than {MIN_SECRET} bytes; \"head -c 32 /dev/urandom\" makes a good one"
            ));
        }
        Ok(secret)
    }

    fn problems(&self, state_dir: &Path) -> Vec<String> {
        let mut problems = Vec::new();
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if real(&self.secret_file).starts_with(real(state_dir)) {
            problems.push(
                "offline-passwords.secret-file is in state-dir: who copies that folder would have both"
                    .to_owned(),
            );
        }
        if self.tries == 0 {
            problems.push("offline-passwords.tries is at least 1".to_owned());
        }
        for (key, value, most) in [
            ("valid-for", self.valid_for, MOST_VALID),
            ("tries-window", self.tries_window, MOST_VALID),
        ] {
            if value < Duration::from_secs(1) || value > most {
                problems.push(format!(
                    "offline-passwords.{key} is not between 1s and {}",
                    duration::text(most)
                ));
            }
        }
        problems
    }
}

/// The `[access]` table: who of the directory may log in here. It counts for every method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Access {
    /// If there is one here or in `allow-users`, only they may.
    pub allow_groups: Vec<String>,
    /// Members of these may not, whatever else allows them.
    pub deny_groups: Vec<String>,
    /// Let in by name.
    pub allow_users: Vec<String>,
    /// Kept out by name.
    pub deny_users: Vec<String>,
    /// The entry's `host` must name this, or `*`; a value with `!` in front denies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The entry's `authorizedService` must name this, or `*`; a value with `!` in front denies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
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
    fn problems(&self) -> Vec<String> {
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

impl PeopleFile {
    /// What a persisted replica must have been read from to be of use.
    pub fn fingerprint(&self) -> String {
        format!(
            "file|{}|{}|{}",
            self.path.display(),
            self.home_template,
            self.default_shell,
        )
    }

    /// What is wrong with it; the file itself is another matter, since the daemon can start with the copy
    /// of an earlier one.
    fn problems(&self) -> Vec<String> {
        if self.home_template.starts_with('/') && self.default_shell.starts_with('/') {
            return Vec::new();
        }
        vec!["file.home-template and file.default-shell are absolute paths".to_owned()]
    }
}

impl Config {
    /// Loads the file.
    ///
    /// # Errors
    /// [`ConfigError`], for what keeps it from being read at all; the rest is in [`Self::problems`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        service::config::load(path)
    }

    /// Where users and groups come from, in the order in which it counts.
    ///
    /// # Errors
    /// What is wrong with the list, one line each.
    pub fn sources(&self) -> Result<Vec<Domain>, Vec<String>> {
        let of = |name: &str, ldap: &Option<Ldap>, file: &Option<PeopleFile>, place: &str| {
            let source = match (ldap, file) {
                (Some(ldap), None) => Source::Ldap(Arc::new(ldap.clone())),
                (None, Some(file)) => Source::File(file.clone()),
                (None, None) => {
                    return Err(format!(
                        "there is neither [{place}ldap] nor [{place}file]: nobody would be served"
                    ));
                }
                (Some(_), Some(_)) => {
                    return Err(format!(
                        "there are [{place}ldap] and [{place}file]: only one can say who is who"
                    ));
                }
            };
            let name = name.to_owned();
            Ok(Domain { name, source })
        };
        if self.domains.is_empty() && self.domain.is_empty() {
            return of("", &self.ldap, &self.file, "")
                .map(|one| vec![one])
                .map_err(|why| vec![why]);
        }
        let mut problems = Vec::new();
        let mut domains = Vec::new();
        if self.ldap.is_some() || self.file.is_some() {
            problems.push("with domains, [ldap] and [file] stand in the table of one".to_owned());
        }
        for (at, name) in self.domains.iter().enumerate() {
            if !is_domain(name) {
                problems.push(format!(
                    "domains: '{name}' is no name of small letters, digits and .-_"
                ));
            } else if self.domains[..at].contains(name) {
                problems.push(format!("domains: '{name}' is there twice"));
            } else if let Some(table) = self.domain.get(name) {
                match of(name, &table.ldap, &table.file, &format!("domain.{name}.")) {
                    Ok(domain) => domains.push(domain),
                    Err(why) => problems.push(why),
                }
            } else {
                problems.push(format!(
                    "domains: there is no [domain.{name}.ldap] or .file"
                ));
            }
        }
        for name in self.domain.keys() {
            if !self.domains.contains(name) {
                problems.push(format!("domain.{name} is not among domains"));
            }
        }
        match problems.is_empty() {
            true => Ok(domains),
            false => Err(problems),
        }
    }

    /// What is wrong with files that the daemon can start without: those of people, of which it may have a copy,
    /// and the secret for passwords without a server.
    pub fn problems_in_files(&self) -> Vec<String> {
        let domains = self.sources().unwrap_or_default();
        let problem = |domain: &Domain| {
            let Source::File(file) = &domain.source else {
                return None;
            };
            let error = People::read(file).err()?;
            let (place, error) = (domain.place(), service::exit::chain(&error));
            Some(format!("{place}file.path: {error}"))
        };
        let people = domains.iter().filter_map(problem);
        let secret = self.offline_passwords.as_ref();
        let secret = secret.and_then(|offline| offline.secret().err());
        let secret = secret.map(|why| format!("offline-passwords.secret-file: {why}"));
        people.chain(secret).collect()
    }

    /// Every reason why the daemon could not work with this, one line each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = match self.sources() {
            Ok(domains) => {
                let mut problems: Vec<String> = domains.iter().flat_map(Domain::problems).collect();
                let asks = |domain: &Domain| matches!(&domain.source, Source::Ldap(ldap) if ldap.on_demand);
                if domains.len() > 1 && domains.iter().any(asks) {
                    problems.push("ldap.on-demand is for the only domain".to_owned());
                }
                problems
            }
            Err(why) => why,
        };
        let limits = &self.password;
        if limits.user_failures == 0 || limits.source_failures == 0 {
            problems.push(
                "password: user-failures and source-failures are at least 1: with 0 nobody could try"
                    .to_owned(),
            );
        }
        // The client's own patience is 30 s.
        if limits.timeout < Duration::from_millis(100) || limits.timeout > Duration::from_secs(20) {
            problems.push("password.timeout is not between 100ms and 20s".to_owned());
        }
        if limits.refusal_time > Duration::from_secs(5) {
            problems.push("password.refusal-time is longer than 5s".to_owned());
        }
        if let Some(offline) = &self.offline_passwords {
            problems.extend(offline.problems(&self.state_dir));
            let mut sources = self.sources().unwrap_or_default().into_iter();
            if !sources.any(|domain| matches!(domain.source, Source::Ldap(_))) {
                problems.push(
                    "offline-passwords is for directory servers: a file is always there".to_owned(),
                );
            }
        }
        if self.minimum_id == 0 {
            problems.push("minimum-id is 0: root does not come from a directory".to_owned());
        }
        for (key, socket) in [
            ("nscd-socket", &self.nscd_socket),
            ("control-socket", &self.control_socket),
        ] {
            match socket.parent().map(fs::metadata) {
                Some(Ok(folder)) if folder.is_dir() => {}
                _ => problems.push(format!(
                    "{key}: the folder of '{}' is missing",
                    socket.display()
                )),
            }
        }
        if !self.state_dir.is_dir() {
            problems.push(format!(
                "state-dir: '{}' is not a folder",
                self.state_dir.display()
            ));
        }
        match Local::read(&self.passwd_file, &self.group_file) {
            Ok(local) => problems.extend(self.control_uids(&local).1),
            Err(error) => problems.push(service::exit::chain(&error)),
        }
        problems
    }

    /// The uids behind `control-users`, and what is wrong with those that have none.
    pub fn control_uids(&self, local: &Local) -> (Vec<u32>, Vec<String>) {
        let mut uids = Vec::new();
        let mut problems = Vec::new();
        for user in &self.control_users {
            let named = local
                .users
                .iter()
                .find(|entry| entry.name == *user)
                .map(|entry| entry.uid);
            match named.or_else(|| user.parse().ok()) {
                Some(uid) => uids.push(uid),
                None => problems.push(format!(
                    "control-users: there is no user '{user}' in '{}'",
                    self.passwd_file.display()
                )),
            }
        }
        (uids, problems)
    }
}

fn nscd_socket() -> PathBuf {
    "/run/nscd/socket".into()
}

fn control_socket() -> PathBuf {
    directory_client::Client::DEFAULT_PATH.into()
}

fn state_dir() -> PathBuf {
    "/var/lib/directoryd".into()
}

fn passwd_file() -> PathBuf {
    "/etc/passwd".into()
}

fn group_file() -> PathBuf {
    "/etc/group".into()
}

fn minimum_id() -> u32 {
    1000
}

fn yes() -> bool {
    true
}

fn home_template() -> String {
    "/home/%u".to_owned()
}

fn default_shell() -> String {
    "/bin/bash".to_owned()
}

fn most_entries() -> usize {
    200_000
}

fn refresh_interval() -> Duration {
    Duration::from_secs(15)
}

fn primary_interval() -> Duration {
    Duration::from_secs(30)
}

fn change_interval() -> Duration {
    Duration::from_secs(1)
}

fn valid_for() -> Duration {
    Duration::from_secs(7 * 86_400)
}

fn tries() -> usize {
    3
}

fn tries_window() -> Duration {
    Duration::from_secs(1800)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        service::config::parse(Path::new("directoryd.toml"), text.as_bytes())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_example_is_a_config() {
        let example = include_str!("../directoryd.example.toml");
        let config = parse(example).unwrap();
        let ldap = config.ldap.as_ref().unwrap();
        assert_eq!(ldap.schema, Schema::Rfc2307bis);
        assert_eq!(ldap.user_base(), "ou=people,dc=example,dc=org");
        // What it shows as effective can be read again.
        parse(&toml::to_string(&config).unwrap()).unwrap();
        // Every line that is commented out works when it is not.
        let all: String = example
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .fold(String::new(), |text, line| text + line + "\n");
        parse(&all).unwrap();
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(
            "colour = 1\n",
            "directoryd.toml:1:1: unknown field `colour`",
        );
        check(
            "metrics-listen = \"0.0.0.0:9\"\n",
            ":1:18: '0.0.0.0:9' is neither",
        );
        check("minimum-id = \"x\"\n", ":1:14:");
        check("[ldap]\nuris = []\nstart-tls = 3\n", ":3:13:");
        check("[file]\n", ":1:1: missing field `path`");
    }

    #[test]
    fn every_problem_is_told() {
        let mut config = parse(include_str!("../directoryd.example.toml")).unwrap();
        let ldap = config.ldap.as_mut().unwrap();
        ldap.uris = vec!["http://x".into()];
        ldap.base = "example".into();
        ldap.attributes.home = Some("home)(uid=*".into());
        ldap.user_filter = Some("objectClass=*".into());
        ldap.ca_file = Some("/nonexistent/ca.pem".into());
        ldap.bind_password_file = Some("/nonexistent/password".into());
        ldap.client_certificate = Some("/nonexistent/client.pem".into());
        ldap.backup_uris = vec!["ldap+srv://[::1]".into()];
        config.minimum_id = 0;
        config.offline_passwords = Some(OfflinePasswords {
            secret_file: "/nonexistent/secret".into(),
            valid_for: Duration::ZERO,
            tries: 0,
            tries_window: MOST_VALID,
        });
        config.nscd_socket = "/nonexistent/socket".into();
        config.state_dir = "/nonexistent".into();
        config.control_users = vec!["nobody-of-that-name".into()];
        let secret = config.problems_in_files();
        assert!(
            secret[0].starts_with("offline-passwords.secret-file: read '/nonexistent/secret'"),
            "{secret:?}"
        );
        let problems = config.problems().join("\n");
        let expected = [
            "http://x",
            "'example' is not a dist",
            "client-key belong together",
            "ldap.backup-uris: 'ldap+srv://[::1]'",
            "ldap.attributes.home: 'home)(uid=*'",
            "ldap.user-filter: 'objectClass=*'",
            "ca.pem",
            "password",
            "secret-file is in state-dir",
            "valid-for is not between 1s and 90d",
            "tries is at least 1",
            "minimum-id",
            "/nonexistent/socket",
            "state-dir",
            "nobody-of-that-name",
        ];
        for text in expected {
            assert!(problems.contains(text), "{text} is not in\n{problems}");
        }
    }

    #[test]
    fn there_is_one_source() {
        let problems = |text: &str| parse(text).unwrap().problems().join("\n");
        let file = "[file]\npath = \"/nonexistent/people.toml\"\n";
        assert!(problems("").contains("neither [ldap] nor [file]"));
        let config = parse(file).unwrap();
        let problem = config.problems_in_files().join("\n");
        assert!(
            problem.contains("read '/nonexistent/people.toml'"),
            "{problem}"
        );
        let both = include_str!("../directoryd.example.toml").to_owned() + file;
        assert!(problems(&both).contains("only one can say who is who"));
    }

    #[test]
    fn several_domains_in_their_order() {
        let file =
            |name: &str| format!("[domain.{name}.file]\npath = \"/nonexistent/people.toml\"\n");
        let text = format!(
            "domains = [\"b.x\", \"a\"]\n{}{}",
            file("\"b.x\""),
            file("a")
        );
        let config = parse(&text).unwrap();
        let names: Vec<String> = config
            .sources()
            .unwrap()
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(names, ["b.x", "a"]);
        parse(&toml::to_string(&config).unwrap()).unwrap();
        assert!(config.problems_in_files()[1].starts_with("domain.a.file.path: read"));
        let check = |text: &str, expected: &str| {
            let problems = parse(text).unwrap().problems().join("\n");
            assert!(
                problems.contains(expected),
                "{expected} is not in\n{problems}"
            );
        };
        check(&file("a"), "domain.a is not among domains");
        check(
            &format!("domains = [\"a\", \"b\"]\n{}", file("a")),
            "no [domain.b.ldap] or .file",
        );
        check(
            &format!("domains = [\"a\", \"a\"]\n{}", file("a")),
            "'a' is there twice",
        );
        check("domains = [\"../a\"]\n", "'../a' is no name");
        check(
            "domains = [\"a\"]\n[domain.a]\n",
            "neither [domain.a.ldap] nor",
        );
        check(
            &format!("domains = [\"a\"]\n{}[file]\npath = \"/x\"\n", file("a")),
            "stand in the table of one",
        );
        check(
            &(text + "home-template = \"x\"\n"),
            "domain.a.file.home-template and",
        );
    }
}
