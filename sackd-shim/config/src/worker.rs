//! The work: fetch until it succeeds, then keep fresh by pushes and by asking again. What is in
//! place stays in place whatever fails.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use slurm_wire::ProtocolVersion;
use slurm_wire::configuration::Configuration;

use crate::address::Controller;
use crate::cache::{Cache, Outcome};
use crate::error::ConfigError;
use crate::fetch::Fetcher;
use crate::options::Options;
use crate::push::{Gate, listen, serve};
use crate::sack::Signer;

/// SlurmdPort where slurm.conf says nothing.
const SLURMD_PORT: u16 = 6818;
/// First wait after a failed fetch; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after a failed fetch.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Works until the keeper ends it.
///
/// # Errors
/// [`ConfigError::Address`] for a controller that cannot be one.
pub fn run(options: &Options) -> Result<(), ConfigError> {
    if let Some(parent) = options.parent.first().copied() {
        crate::keeper::end_with(parent)?;
    }
    let controllers: Result<Vec<_>, _> = options
        .servers
        .iter()
        .map(|server| Controller::parse(server))
        .collect();
    let signer = Signer::in_run_dir(&options.run_dir);
    let register = !options.disable_reconfig;
    let port = options.port.unwrap_or(0);
    let cache = Cache::new(&options.run_dir, options.cluster.as_deref());
    cache.clean();
    let (pushed, pushes) = channel();
    let mut worker = Worker {
        fetcher: Fetcher::new(controllers?, signer.clone(), register, port),
        cache,
        gate: Gate::new(signer, Uid::effective().as_raw()),
        port: options.port,
        register,
        interval: options.refresh_interval,
        listening: None,
        pushed,
    };
    worker.listen();
    worker.work(&pushes)
}

struct Worker {
    fetcher: Fetcher,
    cache: Cache,
    gate: Gate,
    port: Option<u16>,
    register: bool,
    interval: Duration,
    listening: Option<u16>,
    pushed: Sender<Configuration>,
}

impl Worker {
    fn work(&mut self, pushes: &Receiver<Configuration>) -> Result<(), ConfigError> {
        let mut failures = 0;
        loop {
            let wait = if self.fetch() {
                failures = 0;
                jittered(self.interval)
            } else {
                failures += 1;
                jittered(wait_after(failures))
            };
            let until = Instant::now() + wait;
            // This end holds a sender, so the only error is that the time is over.
            while let Ok(configuration) =
                pushes.recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                self.install(&configuration, "push");
                self.listen();
            }
        }
    }

    /// Fetches and installs; `true` if the configuration is in place.
    fn fetch(&mut self) -> bool {
        let done = match self.fetcher.fetch() {
            Ok(configuration) => self.install(&configuration, "fetch"),
            Err(error) => {
                tracing::warn!(event = "fetch.failed", error = service::exit::chain(&error));
                false
            }
        };
        self.listen();
        self.warn_about_port();
        done
    }

    fn install(&self, configuration: &Configuration, by: &str) -> bool {
        match self.cache.install(configuration) {
            Ok(Outcome::Installed) => {
                let path = self.cache.directory();
                let cluster = self.cache.settings().and_then(|s| s.cluster_name);
                tracing::info!(event = "config.installed", by, path = %path.display(), cluster);
                true
            }
            Ok(Outcome::Unchanged) => {
                tracing::debug!(event = "config.unchanged", by);
                true
            }
            Err(error) => {
                let error = service::exit::chain(&error);
                tracing::error!(event = "config.kept", by, error, "the old one stays");
                false
            }
        }
    }

    /// Listens for pushes as soon as the port is known; a port in use is tried again later. A
    /// SlurmdPort that changes afterwards takes a restart, which the log says.
    fn listen(&mut self) {
        let known = self.port.or_else(|| {
            self.cache
                .settings()
                .map(|settings| settings.slurmd_port.unwrap_or(SLURMD_PORT))
        });
        let Some(port) = known.filter(|_| self.register) else {
            return;
        };
        match self.listening {
            Some(now) if now != port => {
                tracing::warn!(
                    event = "push.port",
                    now,
                    port,
                    "restart to listen on the new port"
                );
                return;
            }
            Some(_) => return,
            None => {}
        }
        let listener = match listen(port) {
            Ok(listener) => listener,
            Err(error) => {
                let error = service::exit::chain(&error);
                tracing::error!(
                    event = "push.not_listening",
                    error,
                    "changes come by asking only"
                );
                return;
            }
        };
        let (gate, pushed) = (self.gate.clone(), self.pushed.clone());
        let work = move || serve(&listener, &gate, &pushed);
        if std::thread::Builder::new()
            .name("pushes".to_owned())
            .spawn(work)
            .is_ok()
        {
            self.listening = Some(port);
            tracing::info!(event = "push.listening", port);
        }
    }

    /// Old controllers push to SlurmdPort whatever we say.
    fn warn_about_port(&self) {
        let old = self
            .fetcher
            .version()
            .is_some_and(|v| v < ProtocolVersion::V25_05);
        let slurmd = self
            .cache
            .settings()
            .and_then(|s| s.slurmd_port)
            .unwrap_or(SLURMD_PORT);
        if let Some(port) = self.port
            && old
            && self.register
            && port != slurmd
        {
            tracing::warn!(
                event = "push.port",
                port,
                slurmd_port = slurmd,
                "this controller pushes to SlurmdPort only"
            );
        }
    }
}

fn wait_after(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
}

/// Between 80 and 120 per cent, so that a thousand login nodes do not ask at once.
fn jittered(duration: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1000;
    duration.mul_f64(0.8 + 0.4 * (random as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let seconds: Vec<u64> = (1..8).map(|n| wait_after(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(100)).as_secs_f64();
            assert!((80.0..=120.0).contains(&wait));
        }
    }
}
