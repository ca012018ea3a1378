//! `sackd-shim.toml` as it is written. What its values mean together with sackd's options and
//! variables is decided in `config`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use service::config::duration;

/// The whole file. What stands outside of `[[clusters]]` is the default cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// One raw key.
    pub key_file: Option<PathBuf>,
    /// A set of keys.
    pub jwks_file: Option<PathBuf>,
    /// Folder of socket and configuration.
    pub run_dir: Option<PathBuf>,
    /// Controllers.
    #[serde(default)]
    pub conf_server: Vec<String>,
    /// A local slurm.conf.
    pub conf: Option<PathBuf>,
    /// SlurmUser, by name or number.
    pub slurm_user: Option<String>,
    /// Refuse configurations of other clusters.
    pub cluster: Option<String>,
    /// TCP port for pushes.
    pub port: Option<u16>,
    /// Fetch without registering.
    #[serde(default)]
    pub disable_reconfig: bool,
    /// How often to fetch again.
    pub refresh_interval: Option<Interval>,
    /// Where the last good configuration outlives a reboot.
    pub state_dir: Option<PathBuf>,
    /// TCP address of the metrics, on loopback.
    pub metrics_listen: Option<SocketAddr>,
    /// Life of tokens.
    pub token_lifetime: Option<Interval>,
    /// Whether identities go into tokens.
    pub use_client_ids: Option<bool>,
    /// Who gets tokens.
    pub access: Option<AccessTable>,
    /// Bearer tokens for slurmrestd.
    pub rest: Option<RestTable>,
    /// How much at a time.
    #[serde(default)]
    pub limits: LimitsTable,
    /// More clusters.
    #[serde(default)]
    pub clusters: Vec<ClusterTable>,
}

/// One more cluster beside the default one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClusterTable {
    /// Its ClusterName; configurations of others are refused.
    pub name: Option<String>,
    /// One raw key.
    pub key_file: Option<PathBuf>,
    /// A set of keys.
    pub jwks_file: Option<PathBuf>,
    /// Folder of socket and configuration.
    pub run_dir: Option<PathBuf>,
    /// Controllers.
    #[serde(default)]
    pub conf_server: Vec<String>,
    /// A local slurm.conf.
    pub conf: Option<PathBuf>,
    /// TCP port for pushes.
    pub port: Option<u16>,
    /// Fetch without registering.
    #[serde(default)]
    pub disable_reconfig: bool,
    /// Life of tokens.
    pub token_lifetime: Option<Interval>,
    /// Whether identities go into tokens.
    pub use_client_ids: Option<bool>,
    /// Who gets tokens; without it, as in the default cluster.
    pub access: Option<AccessTable>,
    /// Bearer tokens for slurmrestd.
    pub rest: Option<RestTable>,
}

impl File {
    /// The default cluster's part; leaves the rest.
    pub fn take_default(&mut self) -> ClusterTable {
        ClusterTable {
            name: self.cluster.take(),
            key_file: self.key_file.take(),
            jwks_file: self.jwks_file.take(),
            run_dir: self.run_dir.take(),
            conf_server: std::mem::take(&mut self.conf_server),
            conf: self.conf.take(),
            port: self.port,
            disable_reconfig: self.disable_reconfig,
            token_lifetime: self.token_lifetime,
            use_client_ids: self.use_client_ids,
            access: self.access.take(),
            rest: self.rest.take(),
        }
    }
}

/// `[access]`: rules such as `"uid:1000-59999"`, `"gid:100"`, `"user:alice"`, `"group:staff"`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AccessTable {
    /// Nobody else, if there is any rule here.
    #[serde(default)]
    pub allow: Vec<String>,
    /// These never.
    #[serde(default)]
    pub deny: Vec<String>,
    /// Accounts of the system: refused unless `allow` names them.
    pub system_uids: Option<String>,
}

/// `[rest]`: if it is there, users get bearer tokens for slurmrestd.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RestTable {
    /// Longest life of one.
    pub max_lifetime: Interval,
}

/// `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsTable {
    /// Open connections of all users.
    pub connections: Option<usize>,
    /// Open connections of one user.
    pub connections_per_user: Option<usize>,
    /// From the connection to its whole request.
    pub request_timeout: Option<Interval>,
    /// Requests of one user in a second, in the long run.
    pub requests_per_second: Option<u32>,
    /// Requests of one user at once.
    pub burst: Option<u32>,
    /// The same for root and SlurmUser together.
    pub system_requests_per_second: Option<u32>,
    /// The same for root and SlurmUser together.
    pub system_burst: Option<u32>,
}

/// A duration with a unit.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub struct Interval(#[serde(with = "duration")] pub Duration);
