//! Starts `sackd-shim-config` beside us. It keeps itself running; we only hear of its end, since
//! by then our own filter forbids starting anything.

use std::ffi::OsString;

use service::config::duration;
use service::log::{LogArgs, LogFormat};
use sys::spawn::Spawn;

use crate::config::{Settings, SlurmConfSource};
use crate::error::ShimError;

const PROGRAM: &str = "sackd-shim-config";

/// Starts the configuration process, unless slurm.conf is a local file.
///
/// # Errors
/// [`ShimError::System`] if it cannot be started.
pub fn start(settings: &Settings, log: &LogArgs) -> Result<(), ShimError> {
    let SlurmConfSource::Fetched(servers) = &settings.slurm_conf else {
        return Ok(());
    };
    let program =
        service::sibling(PROGRAM).map_err(ShimError::system(format!("find '{PROGRAM}'")))?;
    let doing = format!("start '{}'", program.display());
    let child = Spawn::new(&program)
        .arg0(PROGRAM)
        .args(arguments(settings, servers, log))
        .env(kept_variables())
        .inherit_stderr()
        .start()
        .map_err(ShimError::system(doing))?;
    tracing::info!(event = "config.started", pid = child.id());
    Ok(())
}

fn arguments(settings: &Settings, servers: &[String], log: &LogArgs) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    option("--parent", std::process::id().to_string().into());
    option("--run-dir", settings.run_dir.clone().into());
    option(
        "--refresh-interval",
        duration::text(settings.refresh_interval).into(),
    );
    if let Some(cluster) = &settings.cluster {
        option("--cluster", cluster.into());
    }
    if let Some(port) = settings.port {
        option("--port", port.to_string().into());
    }
    let format = if log.log_format == LogFormat::Json {
        "json"
    } else {
        "text"
    };
    option("--log-format", format.into());
    option("--log-level", log.log_level.to_string().into());
    if !settings.register {
        arguments.push("--disable-reconfig".into());
    }
    arguments.push("--".into());
    arguments.extend(servers.iter().map(OsString::from));
    arguments
}

/// The resolver's variables; nothing else of ours concerns it.
fn kept_variables() -> impl Iterator<Item = (OsString, OsString)> {
    ["LOCALDOMAIN", "RES_OPTIONS", "TZ"]
        .into_iter()
        .filter_map(|name| Some((name.into(), std::env::var_os(name)?)))
}
