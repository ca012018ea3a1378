//! The configuration file of a running signer: read again on SIGHUP and when it changes. Rules and
//! limits take effect at once; what a start decides (folders, keys, controllers) needs a restart,
//! and the log says so. A bad file changes nothing.

use crate::config::{Cluster, Settings};
use crate::options::Options;
use crate::stamp::Stamp;

/// The settings in use and where they came from.
#[derive(Debug)]
pub struct Reload {
    options: Options,
    settings: Settings,
    seen: Option<Stamp>,
}

impl Reload {
    /// These settings were loaded just now.
    pub fn new(options: &Options, settings: Settings) -> Self {
        Self {
            options: options.clone(),
            settings,
            seen: Stamp::of(&Settings::path(options)),
        }
    }

    /// The settings in use.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads the file again if it is another one than last time, or if `forced`. Gives the new
    /// settings if they are good.
    pub fn look(&mut self, forced: bool) -> Option<&Settings> {
        let now = Stamp::of(&Settings::path(&self.options));
        if !forced && now == self.seen {
            return None;
        }
        self.seen = now;
        match Settings::load(&self.options) {
            Ok(fresh) => {
                self.take(fresh);
                Some(&self.settings)
            }
            Err(problems) => {
                for error in &problems {
                    let error = service::exit::chain(error);
                    tracing::error!(event = "settings.kept", error, "the settings in use stay");
                }
                None
            }
        }
    }

    fn take(&mut self, fresh: Settings) {
        let changeable = |old: &Cluster, new: &Cluster| Cluster {
            access: new.access.clone(),
            token_lifetime: new.token_lifetime,
            use_client_ids: new.use_client_ids,
            ..old.clone()
        };
        let clusters = self.settings.clusters.iter().zip(&fresh.clusters);
        let next = Settings {
            clusters: clusters.map(|(old, new)| changeable(old, new)).collect(),
            limits: fresh.limits,
            ..self.settings.clone()
        };
        if next.clusters.len() != self.settings.clusters.len() {
            // Which is which is not clear any more.
            tracing::warn!(event = "settings.restart", "clusters came or went: restart");
            return;
        }
        if next != fresh {
            tracing::warn!(
                event = "settings.restart",
                "some of what changed takes a restart"
            );
        }
        self.settings = next;
        tracing::info!(event = "settings.reloaded");
    }
}
