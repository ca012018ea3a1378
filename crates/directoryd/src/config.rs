//! `directoryd.toml`: its keys, their defaults, and everything that can be wrong with them.
//!
//! Text becomes typed values here, once. Secrets are named by path and read when they are used.

mod ldap;
mod passwords;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use ldap::{Attributes, Ldap, Schema};
pub use passwords::{OfflinePasswords, Passwords};
use serde::{Deserialize, Serialize};
use service::config::ConfigError;

use crate::{local::Local, people::People};

/// Longest bind password, in bytes.
pub const MAX_PASSWORD: u64 = 1024;

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

fn home_template() -> String {
    "/home/%u".to_owned()
}

fn default_shell() -> String {
    "/bin/bash".to_owned()
}

#[cfg(test)]
mod tests {
    use super::{passwords::MOST_VALID, *};

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
