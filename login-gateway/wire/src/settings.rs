//! The gateway's configuration as a typed value: read from TOML once by the listener, handed to
//! every other process as it is. The same type serves both, so no process has keys of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What `login-gateway.toml` says; see login-gateway.toml(5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Addresses on which SSH is served.
    pub listen: Vec<SocketAddr>,
    /// Address of the HTTP health and metrics endpoint; absent: none.
    pub health_listen: Option<SocketAddr>,
    /// Private host keys in OpenSSH's format, one file each.
    pub host_keys: Vec<PathBuf>,
    /// The account without rights under which `accept` and `net` run; absent only without root.
    pub user: Option<String>,
    /// Empty folder that becomes the root of `accept` and `net`.
    pub empty_root: PathBuf,
    /// From the connection to the end of authentication.
    #[serde(with = "service::config::duration")]
    pub login_grace_time: Duration,
    /// Silence after which the client is asked whether it lives; below the load balancer's idle
    /// time-out.
    #[serde(with = "service::config::duration")]
    pub keepalive_interval: Duration,
    /// Unanswered questions after which the connection is closed.
    pub keepalive_count_max: usize,
    /// Authentication attempts per connection.
    pub max_auth_tries: usize,
    /// Connections that have not yet authenticated, at one time.
    pub max_startups: usize,
    /// (monitor, net) pairs kept ready.
    pub warm: usize,
    /// Names of environment variables that a client may set; `*` stands for any characters.
    pub accept_env: Vec<String>,
    /// PAM service; absent: no PAM.
    pub pam_service: Option<String>,
    /// Control socket of `directoryd`; absent: no directory.
    pub directory_socket: Option<PathBuf>,
    /// Time that asking the directory may take during a login.
    #[serde(with = "service::config::duration")]
    pub directory_timeout: Duration,
    /// Files of authorised keys, relative to the home unless absolute.
    pub authorized_keys_files: Vec<PathBuf>,
    /// Makes the home at the first login.
    pub make_home: bool,
    /// What a new home starts with.
    pub skel: PathBuf,
    /// Search path of a user's programs.
    pub path: String,
    /// PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// Programs by subsystem name.
    pub subsystems: std::collections::BTreeMap<String, String>,
}

/// Who may put a PROXY protocol version 2 header before the connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProxyProtocol {
    /// Networks from which a header is read.
    pub from: Vec<IpNet>,
    /// Whether a connection from there without a header is closed.
    pub required: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 22))],
            health_listen: None,
            host_keys: vec!["/etc/login-gateway/keys/ssh_host_ed25519_key".into()],
            user: Some("gateway".into()),
            empty_root: "/var/empty".into(),
            login_grace_time: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(30),
            keepalive_count_max: 4,
            max_auth_tries: 6,
            max_startups: 100,
            warm: 2,
            accept_env: ["LANG", "LC_*", "COLORTERM", "TERM_PROGRAM"]
                .map(Into::into)
                .into(),
            pam_service: Some("login-gateway".into()),
            directory_socket: None,
            directory_timeout: Duration::from_secs(1),
            authorized_keys_files: vec![".ssh/authorized_keys".into()],
            make_home: true,
            skel: "/etc/skel".into(),
            path: "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin".into(),
            proxy_protocol: ProxyProtocol::default(),
            subsystems: [("sftp".to_owned(), "/usr/lib/openssh/sftp-server".to_owned())].into(),
        }
    }
}
