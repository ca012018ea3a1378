//! What slurm.conf and our own settings say about tokens: cluster name, life, identities.
//! The file is looked at before each token, so a configuration that has just arrived counts.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slurm_wire::slurm_conf::SlurmConf;

use crate::config::Cluster;
use crate::stamp::Stamp;

/// Life of a token where nobody says otherwise: that of Slurm.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// Largest slurm.conf that is read, in bytes.
const LIMIT: u64 = 16 << 20;

/// The rules for tokens.
#[derive(Debug)]
pub struct Policy {
    path: PathBuf,
    seen: Option<Stamp>,
    conf: SlurmConf,
    cluster: Option<String>,
    lifetime: Option<Duration>,
    use_client_ids: Option<bool>,
}

impl Policy {
    /// Reads slurm.conf if it is there already.
    pub fn new(settings: &Cluster) -> Self {
        let mut policy = Self {
            path: settings.slurm_conf_path(),
            seen: None,
            conf: SlurmConf::default(),
            cluster: settings.name.clone(),
            lifetime: settings.token_lifetime,
            use_client_ids: settings.use_client_ids,
        };
        policy.refresh(true);
        policy
    }

    /// Takes over what a reloaded configuration file says.
    pub fn set(&mut self, settings: &Cluster) {
        self.lifetime = settings.token_lifetime;
        self.use_client_ids = settings.use_client_ids;
    }

    /// When slurm.conf was last changed, in Unix time.
    pub fn modified(&self) -> Option<i64> {
        self.seen.map(Stamp::modified)
    }

    /// Reads slurm.conf again if it is another one than last time. A file that is gone for a
    /// moment leaves the rules as they are.
    pub fn refresh(&mut self, forced: bool) {
        let now = Stamp::of(&self.path);
        if now.is_none() || (!forced && now == self.seen) {
            return;
        }
        self.seen = now;
        let Some(text) = read(&self.path) else { return };
        self.conf = SlurmConf::parse(&text, &mut |name| read(&self.path.with_file_name(name)));
        tracing::info!(
            event = "slurm_conf.read",
            path = %self.path.display(),
            cluster = self.cluster(),
            lifetime_s = self.lifetime().as_secs(),
            use_client_ids = self.use_client_ids(),
        );
        if !self.is_auth_slurm() {
            tracing::warn!(
                event = "slurm_conf.auth_type",
                auth_type = self.conf.auth_type.as_deref().unwrap_or("auth/munge"),
                "clients with this slurm.conf will not ask for tokens"
            );
        }
        if let Some(tls_type) = self.tls_type() {
            tracing::warn!(
                event = "slurm_conf.tls_type",
                tls_type,
                "slurmctld expects TLS, which is not spoken here: configurations and pushes will not come"
            );
        }
    }

    /// The `cluster` claim.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster
            .as_deref()
            .or(self.conf.cluster_name.as_deref())
    }

    /// `SlurmUser` as slurm.conf has it.
    pub fn slurm_user(&self) -> Option<&str> {
        self.conf.slurm_user.as_deref()
    }

    /// Whether clients with this slurm.conf ask for tokens.
    pub fn is_auth_slurm(&self) -> bool {
        self.conf.auth_type.as_deref() == Some("auth/slurm")
    }

    /// `TLSType`, if it is one that we do not speak.
    pub fn tls_type(&self) -> Option<&str> {
        let tls_type = self.conf.tls_type.as_deref();
        tls_type.filter(|name| !name.eq_ignore_ascii_case("tls/none"))
    }

    /// The controllers that slurm.conf names, each with its port.
    pub fn controllers(&self) -> Vec<String> {
        let port = self.conf.slurmctld_port;
        let with_port = |host: &String| match port {
            Some(port) if host.contains(':') => format!("[{host}]:{port}"),
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        self.conf.slurmctld_hosts.iter().map(with_port).collect()
    }

    /// How long a token lives.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
            .or(self.conf.token_lifetime)
            .unwrap_or(DEFAULT_LIFETIME)
    }

    /// Whether the caller's identity goes into the token.
    pub fn use_client_ids(&self) -> bool {
        self.use_client_ids.unwrap_or(self.conf.use_client_ids)
    }
}

/// A fifo, which an `Include` may lead to, must not hold the signer up.
fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let (file, _) = service::regular_file::open(path).ok()?;
    file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
