//! The configuration file, sackd's variables and options, made into one typed value at start.
//! Order: variables of sackd, its options, the file, defaults. Later code never re-checks.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Uid, User};
use serde::Deserialize;
use service::config::{ConfigError, duration};

use crate::error::ShimError;
use crate::keys::KeySource;
use crate::options::Options;

const DEFAULT_FILE: &str = "/etc/sackd-shim/sackd-shim.toml";
const DEFAULT_RUN_DIR: &str = "/run/slurm";
const DEFAULT_SLURM_CONF: &str = "/etc/slurm/slurm.conf";
const DEFAULT_REFRESH: Duration = Duration::from_secs(300);

/// `sackd-shim.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    key_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    #[serde(default)]
    conf_server: Vec<String>,
    conf: Option<PathBuf>,
    slurm_user: Option<String>,
    cluster: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    disable_reconfig: bool,
    refresh_interval: Option<Interval>,
    token_lifetime: Option<Interval>,
    use_client_ids: Option<bool>,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsTable {
    connections: Option<usize>,
    connections_per_user: Option<usize>,
    request_timeout: Option<Interval>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
struct Interval(#[serde(with = "duration")] Duration);

/// How much one user, and all together, may ask at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of all users.
    pub connections: usize,
    /// Open connections of one user.
    pub connections_per_user: usize,
    /// From the connection to its whole request.
    pub request_timeout: Duration,
}

/// Where the configuration of Slurm comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlurmConfSource {
    /// This file, kept by somebody else.
    Local(PathBuf),
    /// Fetched into the run directory from these controllers.
    Fetched(Vec<String>),
}

/// Everything the signer needs to know, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster key.
    pub key: KeySource,
    /// Folder of the socket and of the fetched configuration.
    pub run_dir: PathBuf,
    /// Where slurm.conf comes from.
    pub slurm_conf: SlurmConfSource,
    /// SlurmUser: runs the signer and owns the run directory.
    pub slurm_user: User,
    /// `cluster` claim; from slurm.conf if absent.
    pub cluster: Option<String>,
    /// TCP port for pushes.
    pub port: Option<u16>,
    /// Whether to register for pushes.
    pub register: bool,
    /// How often the configuration is fetched again.
    pub refresh_interval: Duration,
    /// Life of tokens; `AuthInfo=ttl=` if absent.
    pub token_lifetime: Option<Duration>,
    /// Whether identities go into tokens; `AuthInfo=use_client_ids` if absent.
    pub use_client_ids: Option<bool>,
    /// Caps on connections.
    pub limits: Limits,
}

impl Settings {
    /// Reads the file, the variables and the options.
    ///
    /// # Errors
    /// All problems met, at least one.
    pub fn load(options: &Options) -> Result<Self, Vec<ShimError>> {
        let file = Self::file(options).map_err(|error| vec![error.into()])?;
        Self::from_parts(file, options, &|name| {
            env::var(name).ok().filter(|v| !v.is_empty())
        })
    }

    fn file(options: &Options) -> Result<File, ConfigError> {
        match &options.config {
            Some(path) => service::config::load(path),
            None => match service::config::load(Path::new(DEFAULT_FILE)) {
                Err(ConfigError::Read { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    Ok(File::default())
                }
                other => other,
            },
        }
    }

    fn from_parts(
        file: File,
        options: &Options,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<ShimError>> {
        let mut problems = Vec::new();
        let slurm_conf = keep(&mut problems, slurm_conf(&file, options, variable));
        let key = slurm_conf.as_ref().and_then(|slurm_conf| {
            keep(
                &mut problems,
                key_source(&file, options, variable, slurm_conf),
            )
        });
        let run_dir = keep(&mut problems, run_dir(&file, variable));
        let slurm_user = keep(&mut problems, slurm_user(file.slurm_user.as_deref()));
        let refresh = at_least(
            "refresh-interval",
            file.refresh_interval,
            Duration::from_secs(10),
        );
        let refresh = keep(&mut problems, refresh);
        let lifetime = at_least(
            "token-lifetime",
            file.token_lifetime,
            Duration::from_secs(1),
        );
        let lifetime = keep(&mut problems, lifetime);
        let limits = keep(&mut problems, file.limits.checked());
        let (Some(slurm_conf), Some(key), Some(run_dir), Some(slurm_user)) =
            (slurm_conf, key, run_dir, slurm_user)
        else {
            return Err(problems);
        };
        let (Some(refresh), Some(token_lifetime), Some(limits)) = (refresh, lifetime, limits)
        else {
            return Err(problems);
        };
        Ok(Self {
            key,
            run_dir,
            slurm_conf,
            slurm_user,
            cluster: file.cluster.map(|name| name.to_lowercase()),
            port: options
                .port
                .or_else(|| port_variable(variable))
                .or(file.port),
            register: !(options.disable_reconfig
                || file.disable_reconfig
                || variable("SACKD_DISABLE_RECONFIG").is_some()),
            refresh_interval: refresh.unwrap_or(DEFAULT_REFRESH),
            token_lifetime,
            use_client_ids: file.use_client_ids,
            limits,
        })
    }

    /// The slurm.conf that the signer reads its few settings from.
    pub fn slurm_conf_path(&self) -> PathBuf {
        match &self.slurm_conf {
            SlurmConfSource::Local(path) => path.clone(),
            SlurmConfSource::Fetched(_) => self.run_dir.join("conf/slurm.conf"),
        }
    }

    /// One line at start that says what is served from what.
    pub fn report(&self) {
        tracing::info!(
            event = "shim.starting",
            version = env!("CARGO_PKG_VERSION"),
            key = %self.key.path().display(),
            run_dir = %self.run_dir.display(),
            slurm_conf = %self.slurm_conf_path().display(),
            slurm_user = %self.slurm_user.name,
            uid = self.slurm_user.uid.as_raw(),
        );
    }
}

impl LimitsTable {
    fn checked(&self) -> Result<Limits, ShimError> {
        let limits = Limits {
            connections: self.connections.unwrap_or(1024),
            connections_per_user: self.connections_per_user.unwrap_or(64),
            request_timeout: self
                .request_timeout
                .map_or(Duration::from_secs(5), |Interval(duration)| duration),
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

fn slurm_conf(
    file: &File,
    options: &Options,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<SlurmConfSource, ShimError> {
    // With -f alone the original reads that file even where SLURM_CONF_SERVER is set.
    if options.conf_server.is_none()
        && let Some(path) = &options.slurm_conf
    {
        return Ok(SlurmConfSource::Local(path.clone()));
    }
    let given = variable("SLURM_CONF_SERVER").or_else(|| options.conf_server.clone());
    let servers: Vec<String> = match given {
        Some(list) => list
            .split(',')
            .map(|server| server.trim().to_owned())
            .collect(),
        None => file.conf_server.clone(),
    };
    if !servers.is_empty() {
        let mut seen = std::collections::HashSet::new();
        for server in &servers {
            if server.is_empty() || server.contains(char::is_whitespace) {
                return Err(ShimError::Setting(format!(
                    "'{server}' is not a controller"
                )));
            }
            if !seen.insert(server) {
                return Err(ShimError::Setting(format!(
                    "controller '{server}' stands twice"
                )));
            }
        }
        return Ok(SlurmConfSource::Fetched(servers));
    }
    let path = file
        .conf
        .clone()
        .or_else(|| variable("SLURM_CONF").map(PathBuf::from));
    Ok(SlurmConfSource::Local(
        path.unwrap_or_else(|| DEFAULT_SLURM_CONF.into()),
    ))
}

/// An explicit file, else what lies beside slurm.conf. A slurm.jwks that is there goes before a
/// slurm.key, as everywhere in Slurm.
fn key_source(
    file: &File,
    options: &Options,
    variable: &dyn Fn(&str) -> Option<String>,
    slurm_conf: &SlurmConfSource,
) -> Result<KeySource, ShimError> {
    let path = |name: &str, option: &Option<PathBuf>| {
        variable(name).map(PathBuf::from).or_else(|| option.clone())
    };
    let mut jwks = path("SLURM_SACK_JWKS", &options.jwks_file);
    let mut key = path("SLURM_SACK_KEY", &options.key_file);
    if jwks.is_none() && key.is_none() {
        if file.jwks_file.is_some() && file.key_file.is_some() {
            let words = "'key-file' and 'jwks-file' exclude each other";
            return Err(ShimError::Setting(words.to_owned()));
        }
        (jwks, key) = (file.jwks_file.clone(), file.key_file.clone());
    }
    match (jwks, key) {
        (Some(jwks), None) => Ok(KeySource::Jwks(jwks)),
        (None, Some(key)) => Ok(KeySource::SlurmKey(key)),
        (Some(jwks), Some(key)) => Ok(first_there(jwks, key)),
        (None, None) => {
            let beside = match slurm_conf {
                SlurmConfSource::Local(path) => path.as_path(),
                SlurmConfSource::Fetched(_) => Path::new(DEFAULT_SLURM_CONF),
            };
            let (jwks, key) = (
                beside.with_file_name("slurm.jwks"),
                beside.with_file_name("slurm.key"),
            );
            if !jwks.exists() && !key.exists() {
                return Err(ShimError::NoKey { jwks, key });
            }
            Ok(first_there(jwks, key))
        }
    }
}

fn first_there(jwks: PathBuf, key: PathBuf) -> KeySource {
    if jwks.exists() {
        KeySource::Jwks(jwks)
    } else {
        KeySource::SlurmKey(key)
    }
}

fn run_dir(file: &File, variable: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, ShimError> {
    if let Some(folder) = variable("RUNTIME_DIRECTORY") {
        return match folder.strip_prefix("/run/") {
            Some(rest) if !rest.is_empty() && !rest.contains(':') => Ok(folder.into()),
            _ => Err(ShimError::Setting(format!(
                "RUNTIME_DIRECTORY '{folder}' must be one folder below /run/"
            ))),
        };
    }
    let folder = file
        .run_dir
        .clone()
        .unwrap_or_else(|| DEFAULT_RUN_DIR.into());
    if folder.is_absolute() {
        Ok(folder)
    } else {
        Err(ShimError::Setting(format!(
            "'run-dir' must be absolute: '{}'",
            folder.display()
        )))
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

/// By name or number; without a setting, whoever runs this, or `slurm` if that is root.
fn slurm_user(name: Option<&str>) -> Result<User, ShimError> {
    let own = Uid::effective();
    let found = match name {
        None if !own.is_root() => User::from_uid(own),
        name => {
            let name = name.unwrap_or("slurm");
            match name.parse() {
                Ok(number) => User::from_uid(Uid::from_raw(number)),
                Err(_) => User::from_name(name),
            }
        }
    };
    let shown = name.map_or_else(|| format!("uid {own}"), |name| format!("'{name}'"));
    match found {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(ShimError::Setting(format!(
            "slurm-user {shown} has no account here"
        ))),
        Err(error) => Err(ShimError::System {
            doing: format!("look up slurm-user {shown}"),
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
            settings.key,
            KeySource::SlurmKey("/etc/slurm/slurm.key".into())
        );
        assert_eq!(settings.run_dir, Path::new("/run/slurm"));
        assert_eq!(
            settings.slurm_conf,
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
            settings.slurm_conf,
            SlurmConfSource::Fetched(vec!["file:1".to_owned()])
        );
        assert_eq!((settings.port, settings.register), (Some(3), true));
        let line = "--conf-server a,b:2 --key-file /option --port 4 --disable-reconfig";
        let settings = load(&toml, line, &[]).unwrap();
        let expected = vec!["a".to_owned(), "b:2".to_owned()];
        assert_eq!(settings.slurm_conf, SlurmConfSource::Fetched(expected));
        assert_eq!(settings.key, KeySource::SlurmKey("/option".into()));
        assert_eq!((settings.port, settings.register), (Some(4), false));
        let variables = [
            ("SLURM_CONF_SERVER", "v"),
            ("SLURM_SACK_JWKS", "/variable"),
            ("RUNTIME_DIRECTORY", "/run/slurm-a"),
            ("SACKD_PORT", "tcp://10.0.0.1:6818"),
        ];
        let settings = load(&toml, "--conf-server a", &variables).unwrap();
        assert_eq!(
            settings.slurm_conf,
            SlurmConfSource::Fetched(vec!["v".to_owned()])
        );
        assert_eq!(settings.key, KeySource::Jwks("/variable".into()));
        assert_eq!(settings.run_dir, Path::new("/run/slurm-a"));
        assert_eq!(settings.port, Some(3));
        let settings = load(&toml, "-f /local/slurm.conf", &variables[..1]).unwrap();
        assert_eq!(settings.slurm_conf_path(), Path::new("/local/slurm.conf"));
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
        check("", "--conf-server a,,b", &[], "not a controller");
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
