//! What this process says of itself, in a file of the run directory: the signer has it in its
//! metrics, `sackd-shim check` and `sackd-shim status` show it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

const NAME: &str = ".config-status.json";

/// The state. Times are Unix times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether the controller was told where to push, with the last good fetch.
    pub registered: bool,
    /// Where it listens for pushes.
    pub port: Option<u16>,
    /// Last good fetch.
    pub last_fetch: Option<i64>,
    /// Last good push.
    pub last_push: Option<i64>,
    /// When the configuration last changed.
    pub last_change: Option<i64>,
    /// How often it has changed since the start.
    pub changes: u64,
    /// Pushes refused since the start.
    pub pushes_refused: u64,
    /// Changes that came with a fetch although a push should have brought them.
    pub pushes_missed: u64,
    /// Fetches that failed since the last good one.
    pub failures: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// The controller that answered.
    pub controller: Option<String>,
    /// The protocol version it speaks.
    pub version: Option<String>,
}

impl Report {
    /// Writes the file whole; one that cannot be written is logged by nobody but the debugger.
    pub fn write(&self, run_dir: &Path) {
        let place: PathBuf = run_dir.join(NAME);
        let fresh = run_dir.join(format!("{NAME}.{}", std::process::id()));
        let written = serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .and_then(|text| fs::write(&fresh, text))
            .and_then(|()| fs::rename(&fresh, &place));
        if let Err(error) = written {
            tracing::debug!(event = "report.failed", %error);
        }
    }
}

/// Seconds since 1970.
pub fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
