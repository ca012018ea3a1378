//! The configuration file, sackd's variables and options, made into one typed value at start.
//! Order: variables of sackd, its options, the file, defaults. Later code never re-checks.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Uid, User};
use service::config::{ConfigError, duration};

use crate::access::Access;
use crate::error::ShimError;
use crate::file::{ClusterTable, File, Interval, LimitsTable};
use crate::keys::KeySource;
use crate::options::Options;
use crate::pace::Rate;

const DEFAULT_FILE: &str = "/etc/sackd-shim/sackd-shim.toml";
const DEFAULT_RUN_DIR: &str = "/run/slurm";
const DEFAULT_SLURM_CONF: &str = "/etc/slurm/slurm.conf";
/// As in sackd it counts for being there, whatever it says.
const DISABLE_RECONFIG: &str = "SACKD_DISABLE_RECONFIG";
const DEFAULT_REFRESH: Duration = Duration::from_secs(300);

/// How much one user, and all together, may ask at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of all users.
    pub connections: usize,
    /// Open connections of one user.
    pub connections_per_user: usize,
    /// From the connection to its whole request.
    pub request_timeout: Duration,
    /// Requests of one user.
    pub user_rate: Rate,
    /// Requests of root and SlurmUser together.
    pub system_rate: Rate,
}

/// Where the configuration of Slurm comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlurmConfSource {
    /// This file, kept by somebody else.
    Local(PathBuf),
    /// Fetched into the run directory from these controllers.
    Fetched(Vec<String>),
    /// Fetched from the controllers that DNS names (`_slurmctld._tcp`).
    Discovered,
}

/// SlurmUser, as the cluster knows it. It need not have an account here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlurmUser {
    /// Its name, or its number where it has no account.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
}

/// Everything the signer needs to know, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The default cluster first.
    pub clusters: Vec<Cluster>,
    /// SlurmUser: may push, and as a rule runs the signer and owns the run directories.
    pub slurm_user: SlurmUser,
    /// How often the configuration is fetched again.
    pub refresh_interval: Duration,
    /// Where the last good configuration outlives a reboot.
    pub state_dir: Option<PathBuf>,
    /// TCP address of the metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// Caps on connections and requests.
    pub limits: Limits,
}

/// One cluster: a socket, a key, rules, a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster key.
    pub key: KeySource,
    /// Folder of the socket and of the fetched configuration.
    pub run_dir: PathBuf,
    /// Where slurm.conf comes from.
    pub slurm_conf: SlurmConfSource,
    /// `cluster` claim; from slurm.conf if absent.
    pub name: Option<String>,
    /// TCP port for pushes.
    pub port: Option<u16>,
    /// Whether to register for pushes.
    pub register: bool,
    /// Life of tokens; `AuthInfo=ttl=` if absent.
    pub token_lifetime: Option<Duration>,
    /// Whether identities go into tokens; `AuthInfo=use_client_ids` if absent.
    pub use_client_ids: Option<bool>,
    /// Who gets tokens.
    pub access: Access,
    /// Longest life of bearer tokens for slurmrestd; without it there are none.
    pub rest_lifetime: Option<Duration>,
}

impl Settings {
    /// Reads the file, the variables and the options.
    ///
    /// # Errors
    /// All problems met, at least one.
    pub fn load(options: &Options) -> Result<Self, Vec<ShimError>> {
        let file = Self::file(options).map_err(|error| vec![error.into()])?;
        Self::from_parts(file, options, &|name| env::var(name).ok())
    }

    /// The configuration file: the one named, or the usual one.
    pub fn path(options: &Options) -> PathBuf {
        let usual = || DEFAULT_FILE.into();
        options.config.clone().unwrap_or_else(usual)
    }

    fn file(options: &Options) -> Result<File, ConfigError> {
        match service::config::load(&Self::path(options)) {
            Err(ConfigError::Read { source, .. })
                if options.config.is_none() && source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(File::default())
            }
            other => other,
        }
    }

    fn from_parts(
        mut file: File,
        options: &Options,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<ShimError>> {
        // An empty variable is none, but where its presence alone counts.
        let variable = |name: &str| {
            environment(name).filter(|value| !value.is_empty() || name == DISABLE_RECONFIG)
        };
        let variable: &dyn Fn(&str) -> Option<String> = &variable;
        let mut problems = Vec::new();
        let main = file.take_default();
        let access = main.access.clone().unwrap_or_default();
        let mut clusters: Vec<_> = default_cluster(main, options, variable, &mut problems)
            .into_iter()
            .collect();
        for mut table in std::mem::take(&mut file.clusters) {
            table.access.get_or_insert_with(|| access.clone());
            clusters.extend(more_cluster(table, &mut problems));
        }
        keep(&mut problems, distinct(&clusters));
        let slurm_user = keep(&mut problems, slurm_user(file.slurm_user.as_deref()));
        let ten = Duration::from_secs(10);
        let refresh = at_least("refresh-interval", file.refresh_interval, ten);
        let refresh_interval = keep(&mut problems, refresh)
            .flatten()
            .unwrap_or(DEFAULT_REFRESH);
        let limits = keep(&mut problems, file.limits.checked());
        let metrics_listen = file.metrics_listen;
        if let Some(address) = metrics_listen.filter(|address| !address.ip().is_loopback()) {
            let words = format!("'metrics-listen' must be on loopback: '{address}'");
            problems.push(ShimError::Setting(words));
        }
        let state_dir = file
            .state_dir
            .or_else(|| variable("STATE_DIRECTORY").map(PathBuf::from));
        if let Some(folder) = state_dir.as_ref().filter(|folder| !folder.is_absolute()) {
            let words = format!("'state-dir' must be absolute: '{}'", folder.display());
            problems.push(ShimError::Setting(words));
        }
        match (slurm_user, limits) {
            (Some(slurm_user), Some(limits)) if problems.is_empty() => Ok(Self {
                clusters,
                slurm_user,
                refresh_interval,
                state_dir,
                metrics_listen,
                limits,
            }),
            _ => Err(problems),
        }
    }

    /// The default cluster.
    pub fn main(&self) -> &Cluster {
        // `from_parts` gives at least one.
        &self.clusters[0]
    }

    /// One line for each cluster at start that says what is served from what.
    pub fn report(&self) {
        for cluster in &self.clusters {
            tracing::info!(
                event = "shim.starting",
                version = env!("CARGO_PKG_VERSION"),
                key = %cluster.key.path().display(),
                run_dir = %cluster.run_dir.display(),
                slurm_conf = %cluster.slurm_conf_path().display(),
                slurm_user = self.slurm_user.name,
                uid = self.slurm_user.uid.as_raw(),
            );
        }
    }
}

impl Cluster {
    /// The slurm.conf that the signer reads its few settings from.
    pub fn slurm_conf_path(&self) -> PathBuf {
        match &self.slurm_conf {
            SlurmConfSource::Local(path) => path.clone(),
            _ => self.run_dir.join("conf/slurm.conf"),
        }
    }
}

/// The default cluster: sackd's variables and options go before the file.
fn default_cluster(
    table: ClusterTable,
    options: &Options,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<ShimError>,
) -> Option<Cluster> {
    let slurm_conf = keep(problems, slurm_conf(&table, options, variable));
    let beside = slurm_conf.as_ref().map(|source| match source {
        SlurmConfSource::Local(path) => path.as_path(),
        _ => Path::new(DEFAULT_SLURM_CONF),
    });
    let key =
        beside.and_then(|beside| keep(problems, key_source(&table, options, variable, beside)));
    let run_dir = keep(problems, run_dir(&table, variable));
    let port = options
        .port
        .or_else(|| port_variable(variable))
        .or(table.port);
    let register = !(options.disable_reconfig
        || table.disable_reconfig
        || variable(DISABLE_RECONFIG).is_some());
    finished(table, slurm_conf, key, run_dir, port, register, problems)
}

/// Another cluster: the file alone speaks of it.
fn more_cluster(table: ClusterTable, problems: &mut Vec<ShimError>) -> Option<Cluster> {
    let named = table.name.as_deref().filter(|name| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        !name.is_empty() && name.chars().all(plain)
    });
    let Some(name) = named.map(str::to_lowercase) else {
        let words = "'clusters': each has a 'name', of letters, digits, '_' and '-'";
        problems.push(ShimError::Setting(words.to_owned()));
        return None;
    };
    let shown = |words: &str| ShimError::Setting(format!("cluster '{name}': {words}"));
    let slurm_conf = match (&table.conf, controllers(table.conf_server.clone())) {
        (_, Err(error)) => Err(error),
        (Some(path), Ok(servers)) if servers.is_empty() => Ok(SlurmConfSource::Local(path.clone())),
        (None, Ok(servers)) if !servers.is_empty() => Ok(SlurmConfSource::Fetched(servers)),
        _ => Err(shown("needs 'conf-server' or 'conf', one of the two")),
    };
    let key = match (&table.key_file, &table.jwks_file) {
        (Some(path), None) => Ok(KeySource::SlurmKey(path.clone())),
        (None, Some(path)) => Ok(KeySource::Jwks(path.clone())),
        _ => Err(shown("needs 'key-file' or 'jwks-file', one of the two")),
    };
    let run_dir = match &table.run_dir {
        // Where Slurm's clients from 25.05 on look.
        None => Ok(format!("/run/slurm-{name}").into()),
        Some(_) => run_dir(&table, &|_| None),
    };
    let (slurm_conf, key) = (keep(problems, slurm_conf), keep(problems, key));
    let run_dir = keep(problems, run_dir);
    let (port, register) = (table.port, !table.disable_reconfig);
    finished(table, slurm_conf, key, run_dir, port, register, problems)
}

fn finished(
    table: ClusterTable,
    slurm_conf: Option<SlurmConfSource>,
    key: Option<KeySource>,
    run_dir: Option<PathBuf>,
    port: Option<u16>,
    register: bool,
    problems: &mut Vec<ShimError>,
) -> Option<Cluster> {
    let second = Duration::from_secs(1);
    let lifetime = at_least("token-lifetime", table.token_lifetime, second);
    let token_lifetime = keep(problems, lifetime);
    let rest = table.rest.map(|rest| rest.max_lifetime);
    if rest.is_some() && matches!(slurm_conf, Some(SlurmConfSource::Local(_))) {
        let words = "'rest' needs 'conf-server': the controllers make the tokens";
        problems.push(ShimError::Setting(words.to_owned()));
    }
    let rest = keep(problems, at_least("rest.max-lifetime", rest, second));
    let access = keep(problems, Access::new(&table.access.unwrap_or_default()));
    Some(Cluster {
        key: key?,
        run_dir: run_dir?,
        slurm_conf: slurm_conf?,
        name: table.name.map(|name| name.to_lowercase()),
        // 0 is SlurmdPort, in Slurm's messages as well.
        port: port.filter(|port| *port != 0),
        register,
        token_lifetime: token_lifetime?,
        use_client_ids: table.use_client_ids,
        access: access?,
        rest_lifetime: rest?,
    })
}

/// Two clusters in one folder would overwrite each other's socket and files; at one port only one
/// hears pushes.
fn distinct(clusters: &[Cluster]) -> Result<(), ShimError> {
    let mut folders = std::collections::HashSet::new();
    let mut ports = std::collections::HashSet::new();
    let mut names = std::collections::HashSet::new();
    for cluster in clusters {
        if let Some(name) = &cluster.name
            && !names.insert(name)
        {
            let words = format!("two clusters have the name '{name}'");
            return Err(ShimError::Setting(words));
        }
        let folder = &cluster.run_dir;
        if !folders.insert(folder) {
            let words = format!("two clusters have the run directory '{}'", folder.display());
            return Err(ShimError::Setting(words));
        }
        if let Some(port) = cluster.port.filter(|_| cluster.register)
            && !ports.insert(port)
        {
            let words = format!("two clusters take pushes at port {port}");
            return Err(ShimError::Setting(words));
        }
    }
    Ok(())
}

impl LimitsTable {
    fn checked(&self) -> Result<Limits, ShimError> {
        let limits = Limits {
            connections: self.connections.unwrap_or(1024),
            connections_per_user: self.connections_per_user.unwrap_or(64),
            request_timeout: self
                .request_timeout
                .map_or(Duration::from_secs(5), |Interval(duration)| duration),
            user_rate: Rate {
                per_second: self.requests_per_second.unwrap_or(1000),
                burst: self.burst.unwrap_or(5000),
            },
            system_rate: Rate {
                per_second: self.system_requests_per_second.unwrap_or(10_000),
                burst: self.system_burst.unwrap_or(100_000),
            },
        };
        if limits.connections_per_user == 0 || limits.connections < 2 * limits.connections_per_user
        {
            return Err(ShimError::Setting(
                "'limits': 'connections' must be at least twice 'connections-per-user', which must \
                 not be 0"
                    .to_owned(),
            ));
        }
        if limits.request_timeout < Duration::from_millis(100) {
            return Err(ShimError::Setting(
                "'limits.request-timeout' must be at least \"100ms\"".to_owned(),
            ));
        }
        Ok(limits)
    }
}

/// Puts a problem aside, so that the next one is found as well.
fn keep<T>(problems: &mut Vec<ShimError>, result: Result<T, ShimError>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

fn at_least(
    name: &str,
    value: Option<Interval>,
    minimum: Duration,
) -> Result<Option<Duration>, ShimError> {
    match value {
        Some(Interval(value)) if value < minimum => Err(ShimError::Setting(format!(
            "'{name}' must be at least \"{}\"",
            duration::text(minimum)
        ))),
        other => Ok(other.map(|Interval(value)| value)),
    }
}

/// In sackd's order: controllers that are named, a local file, controllers that SLURM_CONF_SERVER names,
/// DNS. Where controllers are named, SLURM_CONF_SERVER takes their place.
fn slurm_conf(
    table: &ClusterTable,
    options: &Options,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<SlurmConfSource, ShimError> {
    // The original passes over what is empty between two commas.
    let listed = |list: String| {
        let servers = list.split(',').map(|server| server.trim().to_owned());
        controllers(servers.filter(|server| !server.is_empty()).collect())
    };
    if options.conf_server.is_none()
        && let Some(path) = &options.slurm_conf
    {
        return Ok(SlurmConfSource::Local(path.clone()));
    }
    let from_variable = variable("SLURM_CONF_SERVER").map(listed).transpose()?;
    let from_variable = from_variable.filter(|servers| !servers.is_empty());
    let named = match options.conf_server.clone() {
        Some(list) => listed(list)?,
        None => controllers(table.conf_server.clone())?,
    };
    if !named.is_empty() {
        return Ok(SlurmConfSource::Fetched(from_variable.unwrap_or(named)));
    }
    let local = table
        .conf
        .clone()
        .or_else(|| variable("SLURM_CONF").map(PathBuf::from))
        .or_else(|| Some(PathBuf::from(DEFAULT_SLURM_CONF)).filter(|usual| usual.exists()));
    Ok(match (local, from_variable) {
        (Some(path), _) => SlurmConfSource::Local(path),
        (None, Some(servers)) => SlurmConfSource::Fetched(servers),
        (None, None) => SlurmConfSource::Discovered,
    })
}

fn controllers(servers: Vec<String>) -> Result<Vec<String>, ShimError> {
    let mut seen = std::collections::HashSet::new();
    for server in &servers {
        if slurm_wire::address::parse(server).is_none() {
            let words = format!("'{server}' is not a controller: HOST, HOST:PORT or [V6]:PORT");
            return Err(ShimError::Setting(words));
        }
        if !seen.insert(server) {
            let words = format!("controller '{server}' stands twice");
            return Err(ShimError::Setting(words));
        }
    }
    Ok(servers)
}

/// What sackd's options and variables say is resolved as sackd does: a slurm.jwks that is there goes before a
/// slurm.key, and what they do not name lies `beside` slurm.conf. Else what the file names, else what lies
/// there.
fn key_source(
    table: &ClusterTable,
    options: &Options,
    variable: &dyn Fn(&str) -> Option<String>,
    beside: &Path,
) -> Result<KeySource, ShimError> {
    let path = |name: &str, option: &Option<PathBuf>| {
        variable(name).map(PathBuf::from).or_else(|| option.clone())
    };
    let jwks = path("SLURM_SACK_JWKS", &options.jwks_file);
    let key = path("SLURM_SACK_KEY", &options.key_file);
    if jwks.is_none() && key.is_none() {
        match (&table.jwks_file, &table.key_file) {
            (Some(_), Some(_)) => {
                let words = "'key-file' and 'jwks-file' exclude each other";
                return Err(ShimError::Setting(words.to_owned()));
            }
            (Some(jwks), None) => return Ok(KeySource::Jwks(jwks.clone())),
            (None, Some(key)) => return Ok(KeySource::SlurmKey(key.clone())),
            (None, None) => {}
        }
    }
    let usual = |name: &str| beside.with_file_name(name);
    let jwks_place = jwks.clone().unwrap_or_else(|| usual("slurm.jwks"));
    let key_place = key
        .clone()
        .or_else(|| table.key_file.clone())
        .unwrap_or_else(|| usual("slurm.key"));
    if jwks_place.exists() {
        return Ok(KeySource::Jwks(jwks_place));
    }
    match (jwks, key) {
        _ if key_place.exists() => Ok(KeySource::SlurmKey(key_place)),
        // Neither is there: what was named is what is missing.
        (_, Some(key)) => Ok(KeySource::SlurmKey(key)),
        (Some(jwks), None) => Ok(KeySource::Jwks(jwks)),
        (None, None) => Err(ShimError::NoKey {
            jwks: jwks_place,
            key: key_place,
        }),
    }
}

fn run_dir(
    table: &ClusterTable,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<PathBuf, ShimError> {
    // systemd joins the folders of several RuntimeDirectory= by colons; the first is ours.
    if let Some(folders) = variable("RUNTIME_DIRECTORY") {
        let folder = folders.split(':').next().unwrap_or_default();
        return match folder.strip_prefix("/run/") {
            Some(rest) if !rest.is_empty() => Ok(folder.into()),
            _ => Err(ShimError::Setting(format!(
                "RUNTIME_DIRECTORY '{folder}' must be a folder below /run/"
            ))),
        };
    }
    let usual = || DEFAULT_RUN_DIR.into();
    let folder = table.run_dir.clone().unwrap_or_else(usual);
    if folder.is_absolute() {
        Ok(folder)
    } else {
        let words = format!("'run-dir' must be absolute: '{}'", folder.display());
        Err(ShimError::Setting(words))
    }
}

/// A Kubernetes Service named `sackd` puts `SACKD_PORT=tcp://...` into every pod: not ours.
fn port_variable(variable: &dyn Fn(&str) -> Option<String>) -> Option<u16> {
    let text = variable("SACKD_PORT")?;
    let port = text.parse().ok();
    if port.is_none() {
        tracing::warn!(
            event = "config.ignored",
            variable = "SACKD_PORT",
            value = text
        );
    }
    port
}

/// By name or number; without a setting, whoever runs this, or `slurm` if that is root. A number
/// needs no account: a container may know none.
fn slurm_user(name: Option<&str>) -> Result<SlurmUser, ShimError> {
    let own = Uid::effective();
    let number = match name {
        None => (!own.is_root()).then_some(own),
        Some(name) => name.parse().ok().map(Uid::from_raw),
    };
    let name = name.unwrap_or("slurm");
    let found = match number {
        Some(uid) => User::from_uid(uid),
        None => User::from_name(name),
    };
    match (found, number) {
        (Ok(Some(user)), _) => Ok(SlurmUser {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
        }),
        (Ok(None), Some(uid)) => Ok(SlurmUser {
            name: uid.to_string(),
            uid,
            gid: if uid == own {
                Gid::effective()
            } else {
                Gid::from_raw(uid.as_raw())
            },
        }),
        (Ok(None), None) => Err(ShimError::Setting(format!(
            "slurm-user '{name}' has no account here: its number does as well"
        ))),
        (Err(error), _) => Err(ShimError::System {
            doing: format!("look up slurm-user '{name}'"),
            source: error.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn load(toml: &str, line: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let file = service::config::parse(Path::new("x.toml"), toml.as_bytes())
            .map_err(|e| e.to_string())?;
        let words = ["sackd-shim"].into_iter().chain(line.split_whitespace());
        let options = Options::try_parse_from(words).map_err(|e| e.to_string())?;
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Settings::from_parts(file, &options, &variable).map_err(|problems| {
            problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        })
    }

    const BASE: &str = "key-file = \"/k\"\nslurm-user = \"0\"\n";

    #[test]
    fn the_shipped_example_loads() {
        let text = include_str!("../sackd-shim.example.toml");
        let text = text.replace("\"slurm\"", "\"0\"");
        let settings = load(&text, "", &[]).unwrap();
        assert_eq!(
            settings.main().key,
            KeySource::SlurmKey("/etc/slurm/slurm.key".into())
        );
        assert_eq!(settings.main().run_dir, Path::new("/run/slurm"));
        assert_eq!(
            settings.main().slurm_conf,
            SlurmConfSource::Fetched(vec!["slurmctld:6817".to_owned()])
        );
        // Every key that the example shows commented out is one that exists.
        let all: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|l| l.contains(" = ") || l.starts_with('['))
                    .unwrap_or(line)
            })
            .map(|line| format!("{line}\n"))
            .filter(|line| !line.starts_with("jwks-file"))
            .collect();
        let settings = load(&all, "", &[]).unwrap();
        assert_eq!(settings.limits.connections_per_user, 64);
    }

    #[test]
    fn who_goes_before_whom() {
        let toml = format!("{BASE}conf-server = [\"file:1\"]\nrun-dir = \"/srv\"\nport = 3\n");
        let settings = load(&toml, "", &[]).unwrap();
        assert_eq!(
            settings.main().slurm_conf,
            SlurmConfSource::Fetched(vec!["file:1".to_owned()])
        );
        assert_eq!(
            (settings.main().port, settings.main().register),
            (Some(3), true)
        );
        let line = "--conf-server a,b:2 --key-file /option --port 4 --disable-reconfig";
        let settings = load(&toml, line, &[]).unwrap();
        let expected = vec!["a".to_owned(), "b:2".to_owned()];
        assert_eq!(
            settings.main().slurm_conf,
            SlurmConfSource::Fetched(expected)
        );
        assert_eq!(settings.main().key, KeySource::SlurmKey("/option".into()));
        assert_eq!(
            (settings.main().port, settings.main().register),
            (Some(4), false)
        );
        let variables = [
            ("SLURM_CONF_SERVER", "v"),
            ("SLURM_SACK_JWKS", "/variable"),
            ("RUNTIME_DIRECTORY", "/run/slurm-a"),
            ("SACKD_PORT", "tcp://10.0.0.1:6818"),
        ];
        let settings = load(&toml, "--conf-server a", &variables).unwrap();
        assert_eq!(
            settings.main().slurm_conf,
            SlurmConfSource::Fetched(vec!["v".to_owned()])
        );
        assert_eq!(settings.main().key, KeySource::Jwks("/variable".into()));
        assert_eq!(settings.main().run_dir, Path::new("/run/slurm-a"));
        assert_eq!(settings.main().port, Some(3));
        let settings = load(&toml, "--port 0", &[]).unwrap();
        assert_eq!(settings.main().port, None, "SlurmdPort");
        let settings = load(&toml, "-f /local/slurm.conf", &variables[..1]).unwrap();
        assert_eq!(
            settings.main().slurm_conf_path(),
            Path::new("/local/slurm.conf")
        );
    }

    /// The real one's order (`conformance`, 1.2, 1.4).
    #[test]
    fn sackds_order_of_sources_and_keys() {
        let toml = "key-file = \"/k\"\nslurm-user = \"0\"\n";
        let source = |line: &str, variables: &[(&str, &str)]| {
            load(toml, line, variables)
                .unwrap()
                .main()
                .slurm_conf
                .clone()
        };
        let fetched = |names: &[&str]| {
            SlurmConfSource::Fetched(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let both = [("SLURM_CONF", "/c"), ("SLURM_CONF_SERVER", "v")];
        assert_eq!(source("", &both), SlurmConfSource::Local("/c".into()));
        assert_eq!(source("--conf-server a", &both[..1]), fetched(&["a"]));
        assert_eq!(source("--conf-server a", &both), fetched(&["v"]));
        assert_eq!(
            source("--conf-server ,a,,b:1,", &[]),
            fetched(&["a", "b:1"])
        );
        let nothing = [("SLURM_CONF", "/c"), ("SLURM_CONF_SERVER", "")];
        assert_eq!(source("--conf-server a", &nothing), fetched(&["a"]));
        let disabled = [("SACKD_DISABLE_RECONFIG", "")];
        assert!(!load(toml, "", &disabled).unwrap().main().register);

        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let key = |line: &str, variables: &[(&str, &str)]| {
            let line = format!("-f {} {line}", place("slurm.conf").display());
            let toml = "slurm-user = \"0\"\n";
            load(toml, &line, variables).map(|settings| settings.main().key.clone())
        };
        assert!(key("", &[]).is_err());
        let named = KeySource::SlurmKey("/named".into());
        assert_eq!(key("--key-file /named", &[]).unwrap(), named);
        let missing = [("SLURM_SACK_JWKS", "/missing")];
        assert_eq!(
            key("", &missing).unwrap(),
            KeySource::Jwks("/missing".into())
        );
        std::fs::write(place("slurm.key"), "k").unwrap();
        let beside = KeySource::SlurmKey(place("slurm.key"));
        assert_eq!(key("", &missing).unwrap(), beside);
        std::fs::write(place("slurm.jwks"), "{}").unwrap();
        let set = KeySource::Jwks(place("slurm.jwks"));
        assert_eq!(key("", &[]).unwrap(), set);
        assert_eq!(key("--key-file /named", &[]).unwrap(), set);
        // What our own file names is what is taken.
        let toml = format!(
            "slurm-user = \"0\"\nkey-file = \"/k\"\nconf = \"{}\"",
            place("slurm.conf").display()
        );
        let settings = load(&toml, "", &[]).unwrap();
        assert_eq!(settings.main().key, KeySource::SlurmKey("/k".into()));
    }

    #[test]
    fn what_is_refused() {
        let check = |toml: &str, line: &str, variables: &[(&str, &str)], words: &str| {
            let error = load(&format!("{BASE}{toml}"), line, variables).expect_err(words);
            assert!(error.contains(words), "{words}: {error}");
        };
        check("colour = 1", "", &[], "x.toml:3:1: unknown field `colour`");
        check("port = \"x\"", "", &[], "x.toml:3:8");
        check("jwks-file = \"/j\"", "", &[], "exclude each other");
        check("refresh-interval = \"1s\"", "", &[], "at least \"10s\"");
        check("run-dir = \"run\"", "", &[], "must be absolute");
        check("", "--conf-server a,a", &[], "'a' stands twice");
        check("", "--conf-server a,b:x", &[], "'b:x' is not a controller");
        check(
            "",
            "",
            &[("SLURM_CONF_SERVER", "a:0")],
            "'a:0' is not a controller",
        );
        check("conf-server = [\"\"]", "", &[], "'' is not a controller");
        check(
            "",
            "",
            &[("RUNTIME_DIRECTORY", "/var/run/x")],
            "below /run/",
        );
        check("", "", &[("RUNTIME_DIRECTORY", "/run/")], "below /run/");
        check("[limits]\nconnections = 1", "", &[], "at least twice");
        check(
            "[limits]\nrequest-timeout = \"1ms\"",
            "",
            &[],
            "at least \"100ms\"",
        );
        let error = load("key-file = \"/k\"\nslurm-user = \"no-such-user\"", "", &[]);
        assert!(
            error
                .unwrap_err()
                .contains("slurm-user 'no-such-user' has no account")
        );
        let error = load(
            "slurm-user = \"0\"\nconf = \"/nowhere/slurm.conf\"",
            "",
            &[],
        );
        assert!(error.unwrap_err().contains("'/nowhere/slurm.key'"));
    }
}
