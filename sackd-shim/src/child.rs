//! Starts `sackd-shim-config` beside us. It keeps itself running; of its end we only hear, since
//! by then our own filter forbids starting anything: whoever watches over us is told.

use std::ffi::OsString;
use std::fs;
use std::io::{PipeWriter, Read, Write};
use std::path::Path;

use service::config::duration;
use service::log::{LogArgs, LogFormat};
use sys::spawn::Spawn;

use crate::config::{Cluster, Settings, SlurmConfSource};
use crate::error::ShimError;

const PROGRAM: &str = "sackd-shim-config";
/// What the configuration process says of itself, in its run directory.
pub const REPORT: &str = ".config-status.json";
/// Longest report that is read, in bytes.
const REPORT_LIMIT: u64 = 64 * 1024;

/// The configuration process of a cluster.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    /// Until its end: nobody but whoever keeps us can start it again.
    runs: bool,
    /// A byte on it asks for a fetch at once; its end ends the process.
    orders: PipeWriter,
}

impl Child {
    /// Whether it still keeps the configuration.
    pub fn runs(&self) -> bool {
        self.runs
    }

    /// A process has ended; `true` if it was this one.
    pub fn has_ended(&mut self, pid: u32) -> bool {
        let is_this = self.runs && self.pid == pid;
        self.runs &= !is_this;
        is_this
    }

    /// Has the configuration fetched now, whatever the time. A process that is gone is on the log
    /// already.
    pub fn fetch_now(&mut self) {
        let _ = self.orders.write(b"f");
    }
}

/// What the configuration process last said of itself.
pub fn report(run_dir: &Path) -> Option<serde_json::Value> {
    let mut text = Vec::new();
    let file = fs::File::open(run_dir.join(REPORT)).ok()?;
    file.take(REPORT_LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Starts the configuration process of a cluster, unless its slurm.conf is a local file. That of the
/// default cluster also serves the metrics over TCP, which we cannot.
///
/// # Errors
/// [`ShimError::System`] if it cannot be started.
pub fn start(
    settings: &Settings,
    cluster: &Cluster,
    log: &LogArgs,
) -> Result<Option<Child>, ShimError> {
    let is_main = std::ptr::eq(cluster, settings.main());
    let metrics = settings.metrics_listen.filter(|_| is_main);
    if matches!(cluster.slurm_conf, SlurmConfSource::Local(_)) && metrics.is_none() {
        return Ok(None);
    }
    let program =
        service::sibling(PROGRAM).map_err(ShimError::system(format!("find '{PROGRAM}'")))?;
    let doing = || ShimError::system(format!("start '{}'", program.display()));
    let (reader, orders) = std::io::pipe().map_err(doing())?;
    let child = Spawn::new(&program)
        .arg0(PROGRAM)
        .args(arguments(settings, cluster, log))
        .env(kept_variables())
        .fd(0, reader.into())
        .inherit_stderr()
        .start()
        .map_err(doing())?;
    let pid = child.id();
    tracing::info!(event = "config.started", pid);
    Ok(Some(Child {
        pid,
        runs: true,
        orders,
    }))
}

fn arguments(settings: &Settings, cluster: &Cluster, log: &LogArgs) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    option("--parent", std::process::id().to_string().into());
    option("--run-dir", cluster.run_dir.clone().into());
    option("--slurm-user", settings.slurm_user.uid.to_string().into());
    option(
        "--refresh-interval",
        duration::text(settings.refresh_interval).into(),
    );
    if let Some(folder) = &settings.state_dir {
        // One folder for each cluster, named as its run directory.
        let name = cluster.run_dir.file_name().unwrap_or_default();
        option("--state-dir", folder.join(name).into());
    }
    if let Some(name) = &cluster.name {
        option("--cluster", name.into());
    }
    if let Some(port) = cluster.port {
        option("--port", port.to_string().into());
    }
    if let Some(address) = settings.metrics_listen
        && std::ptr::eq(cluster, settings.main())
    {
        option("--metrics-listen", address.to_string().into());
    }
    if let Some(longest) = cluster.rest_lifetime {
        option("--rest-lifetime", duration::text(longest).into());
    }
    let format = if log.log_format == LogFormat::Json {
        "json"
    } else {
        "text"
    };
    option("--log-format", format.into());
    option("--log-level", log.log_level.to_string().into());
    if !cluster.register {
        arguments.push("--disable-reconfig".into());
    }
    match &cluster.slurm_conf {
        SlurmConfSource::Discovered => arguments.push("--srv".into()),
        SlurmConfSource::Local(_) => arguments.push("--no-fetch".into()),
        SlurmConfSource::Fetched(servers) => {
            arguments.push("--".into());
            arguments.extend(servers.iter().map(OsString::from));
        }
    }
    arguments
}

/// The resolver's variables; nothing else of ours concerns it.
fn kept_variables() -> impl Iterator<Item = (OsString, OsString)> {
    ["LOCALDOMAIN", "RES_OPTIONS", "TZ"]
        .into_iter()
        .filter_map(|name| Some((name.into(), std::env::var_os(name)?)))
}
