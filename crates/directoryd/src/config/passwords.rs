//! `[password]` and `[offline-passwords]`: how users' passwords are tried, with a server and without.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use service::{
    Secret,
    config::{duration, read_secret},
};

use super::MAX_PASSWORD;

/// Least bytes of a secret that no guess finds.
const MIN_SECRET: usize = 32;
/// Longest time for which a password may count without a server.
pub(super) const MOST_VALID: Duration = Duration::from_secs(90 * 86_400);

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

    pub(super) fn problems(&self, state_dir: &Path) -> Vec<String> {
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

fn valid_for() -> Duration {
    Duration::from_secs(7 * 86_400)
}

fn tries() -> usize {
    3
}

fn tries_window() -> Duration {
    Duration::from_secs(1800)
}
