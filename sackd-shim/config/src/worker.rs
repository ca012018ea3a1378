//! The work: fetch until it succeeds, then keep fresh by pushes and by asking again. What is in
//! place stays in place whatever fails.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use slurm_wire::ProtocolVersion;
use slurm_wire::configuration::Configuration;

use crate::address::Controller;
use crate::cache::{Cache, Outcome};
use crate::error::ConfigError;
use crate::fetch::{Controllers, Fetcher};
use crate::options::Options;
use crate::push::{Event, Gate, listen, serve};
use crate::report::{Report, unix_now};
use crate::rest::Desk;
use crate::sack::Signer;
use crate::sandbox::Sandbox;

/// SlurmdPort where slurm.conf says nothing.
const SLURMD_PORT: u16 = 6818;
/// First wait after a failed fetch; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after a failed fetch.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Shortest time between two fetches that strangers can cause.
const AFTER_BAD_PUSH: Duration = Duration::from_secs(10);

/// Works until the keeper ends it.
///
/// # Errors
/// [`ConfigError::Address`] for a controller that cannot be one; [`ConfigError::Outdated`] when the
/// keeper shall start it again.
pub fn run(options: &Options) -> Result<(), ConfigError> {
    if let Some(parent) = options.parent.first().copied() {
        crate::keeper::end_with(parent)?;
    }
    let named: Result<Vec<_>, _> = options
        .servers
        .iter()
        .map(|server| Controller::parse(server))
        .collect();
    let controllers = if options.srv {
        Controllers::Discovered
    } else {
        Controllers::Named(named?)
    };
    let mut writable = vec![options.run_dir.as_path()];
    if let Some(folder) = &options.state_dir {
        make_folder(folder);
        writable.push(folder);
    }
    let sandbox = Sandbox::enter(&writable, options.rest_lifetime.is_some())?;
    if let Some(address) = options.metrics_listen
        && let Err(error) = crate::metrics::start(address, &options.run_dir)
    {
        let error = service::exit::chain(&error);
        tracing::error!(event = "metrics.not_listening", error);
    }
    let signer = Signer::in_run_dir(&options.run_dir);
    let register = !options.disable_reconfig;
    let cluster = options.cluster.as_deref();
    let cache = Cache::new(&options.run_dir, cluster);
    cache.clean();
    let state = options.state_dir.as_deref().map(|folder| {
        let state = Cache::new(folder, cluster);
        state.clean();
        if cache.restore(&state) {
            tracing::info!(event = "config.restored", from = %folder.display());
        }
        state
    });
    if let Some(longest) = options.rest_lifetime
        && let Err(error) =
            Desk::new(signer.clone(), controllers.clone(), longest).start(&options.run_dir)
    {
        let error = service::exit::chain(&error);
        tracing::error!(event = "rest.not_listening", error);
    }
    let (events, inbox) = channel();
    take_orders(events.clone(), !options.parent.is_empty())?;
    let slurm_user = options.slurm_user;
    let mut worker = Worker {
        fetcher: Arc::new(Mutex::new(Fetcher::new(
            controllers,
            signer.clone(),
            register,
            options.port.unwrap_or(0),
        ))),
        cache,
        state,
        gate: Gate::new(
            signer,
            slurm_user.unwrap_or_else(|| Uid::effective().as_raw()),
        ),
        options,
        register,
        events,
        sandbox,
        pushes: 0,
        report: Report::default(),
    };
    if options.no_fetch {
        loop {
            std::thread::park();
        }
    }
    worker.listen();
    worker.work(&inbox)
}

/// The state directory's own folder; what goes wrong shows when it is written to.
fn make_folder(folder: &Path) {
    if let Err(error) = std::fs::create_dir_all(folder) {
        tracing::warn!(event = "state.not_made", path = %folder.display(), %error);
    }
}

/// Each byte on standard input is an order to fetch. Its end is that of the signer, and so ours: a kernel whose
/// Landlock knows signals (6.12) keeps the signal of our parent's death back, since the signer has given up
/// signals to others. The keeper knows the end by its code.
fn take_orders(events: Sender<Event>, ends_with_them: bool) -> Result<(), ConfigError> {
    let work = move || {
        let mut orders = [0; 64];
        while std::io::stdin().read(&mut orders).is_ok_and(|n| n > 0) {
            if events.send(Event::FetchNow).is_err() {
                return;
            }
        }
        if ends_with_them {
            std::process::exit(0);
        }
    };
    std::thread::Builder::new()
        .name("orders".to_owned())
        .spawn(work)
        .map(drop)
        .map_err(ConfigError::system("start the thread for orders"))
}

/// When the next fetch is wanted, the sooner the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    /// When it is its time.
    Nothing,
    /// Within [`AFTER_BAD_PUSH`] of the last one.
    Soon,
    /// At once.
    Now,
}

struct Worker<'a> {
    /// Held by the fetch that runs.
    fetcher: Arc<Mutex<Fetcher>>,
    /// Installed since the start.
    pushes: u64,
    cache: Cache,
    /// A second place, which outlives the first.
    state: Option<Cache>,
    gate: Gate,
    options: &'a Options,
    register: bool,
    events: Sender<Event>,
    sandbox: Sandbox,
    report: Report,
}

impl Worker<'_> {
    fn work(&mut self, inbox: &Receiver<Event>) -> Result<(), ConfigError> {
        loop {
            if self.sandbox.is_outdated() {
                return Err(ConfigError::Outdated);
            }
            let began = Instant::now();
            let (is_done, wish) = self.fetch(inbox);
            let wait = if is_done {
                self.options.refresh_interval
            } else {
                wait_after(self.report.failures)
            };
            self.report.write(&self.options.run_dir);
            let mut until = Instant::now() + jittered(wait);
            let soon = began + AFTER_BAD_PUSH;
            match wish {
                Wish::Nothing => {}
                Wish::Soon => until = until.min(soon),
                // An order that came while one was carried out: one more, for all of them.
                Wish::Now => continue,
            }
            // This end holds a sender, so the only error is that the time is over.
            while let Ok(event) =
                inbox.recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                match self.hear(event) {
                    Wish::Nothing => {}
                    Wish::Soon => until = until.min(soon),
                    Wish::Now => {
                        tracing::info!(event = "fetch.asked");
                        break;
                    }
                }
                self.report.write(&self.options.run_dir);
            }
        }
    }

    /// Fetches in a thread of its own, since a controller may be slow: pushes are heard meanwhile. `true` if
    /// the configuration is in place, and what was wished for until then.
    fn fetch(&mut self, inbox: &Receiver<Event>) -> (bool, Wish) {
        let pushes = self.pushes;
        let (fetcher, events) = (Arc::clone(&self.fetcher), self.events.clone());
        let work = move || {
            let fetched = locked(&fetcher).fetch();
            let _ = events.send(Event::Fetched(fetched));
        };
        let started = std::thread::Builder::new()
            .name("fetch".to_owned())
            .spawn(work);
        if let Err(error) = started {
            let error = ConfigError::system("start the thread of a fetch")(error);
            return (self.fetched(Err(error), false), Wish::Nothing);
        }
        let mut wish = Wish::Nothing;
        // This end holds a sender, and the thread sends its end.
        while let Ok(event) = inbox.recv() {
            if let Event::Fetched(fetched) = event {
                return (self.fetched(fetched, self.pushes != pushes), wish);
            }
            wish = wish.max(self.hear(event));
            self.report.write(&self.options.run_dir);
        }
        (false, wish)
    }

    /// What an event changes, and when it wants the next fetch.
    fn hear(&mut self, event: Event) -> Wish {
        match event {
            Event::Pushed(configuration) => {
                if self.install(&configuration, "push").is_ok() {
                    self.pushes += 1;
                    self.report.last_push = Some(unix_now());
                }
                self.listen();
                Wish::Nothing
            }
            Event::PushFailed => {
                self.report.pushes_refused += 1;
                Wish::Soon
            }
            Event::FetchNow => Wish::Now,
            // Heard where it is waited for.
            Event::Fetched(_) => Wish::Nothing,
        }
    }

    /// Installs what was fetched, unless a push has overtaken it: that one is not older. `true` if the
    /// configuration is in place.
    fn fetched(&mut self, fetched: Result<Configuration, ConfigError>, is_overtaken: bool) -> bool {
        let had_fetched = self.report.last_fetch.is_some();
        let changes = self.report.changes;
        let done = match fetched {
            Ok(_) if is_overtaken => {
                tracing::info!(
                    event = "fetch.overtaken",
                    "a push came meanwhile, and stays"
                );
                true
            }
            Ok(configuration) => {
                let installed = self.install(&configuration, "fetch");
                let is_installed = installed.is_ok();
                if let Err(error) = installed {
                    self.report.last_error = Some(error);
                }
                is_installed
            }
            Err(error) => {
                let error = service::exit::chain(&error);
                tracing::warn!(event = "fetch.failed", error);
                self.report.last_error = Some(error);
                false
            }
        };
        if done {
            let missed = had_fetched && self.register && self.report.changes != changes;
            if missed {
                self.report.pushes_missed += 1;
                tracing::warn!(
                    event = "push.missed",
                    "a change came without a push; this fetch has registered us again"
                );
            }
            self.report.failures = 0;
            self.report.last_error = None;
            self.report.last_fetch = Some(unix_now());
            self.report.registered = self.register;
            let fetcher = locked(&self.fetcher);
            self.report.controller = fetcher.answered().map(str::to_owned);
            self.report.version = fetcher.version().map(|version| version.to_string());
        } else {
            self.report.failures += 1;
        }
        self.listen();
        self.warn_about_port();
        done
    }

    /// What was wrong is on the log already.
    fn install(&mut self, configuration: &Configuration, by: &str) -> Result<(), String> {
        let outcome = self.cache.install(configuration);
        if let (Ok(_), Some(state)) = (&outcome, &self.state)
            && let Err(error) = state.install(configuration)
        {
            let error = service::exit::chain(&error);
            tracing::warn!(event = "state.not_written", error);
        }
        match outcome {
            Ok(Outcome::Installed) => {
                let path = self.cache.directory();
                let cluster = self.cache.settings().and_then(|s| s.cluster_name);
                tracing::info!(event = "config.installed", by, path = %path.display(), cluster);
                self.report.last_change = Some(unix_now());
                self.report.changes += 1;
                Ok(())
            }
            Ok(Outcome::Unchanged) => {
                tracing::debug!(event = "config.unchanged", by);
                Ok(())
            }
            Err(error) => {
                let error = service::exit::chain(&error);
                tracing::error!(event = "config.kept", by, error, "the old one stays");
                Err(error)
            }
        }
    }

    /// Listens for pushes as soon as the port is known; a port in use is tried again later. A
    /// SlurmdPort that changes afterwards takes a restart, which the log says.
    fn listen(&mut self) {
        let known = self.options.port.or_else(|| {
            self.cache
                .settings()
                .map(|settings| settings.slurmd_port.unwrap_or(SLURMD_PORT))
        });
        let Some(port) = known.filter(|_| self.register) else {
            return;
        };
        match self.report.port {
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
        let (gate, events) = (self.gate.clone(), self.events.clone());
        let work = move || serve(&listener, &gate, &events);
        if std::thread::Builder::new()
            .name("pushes".to_owned())
            .spawn(work)
            .is_ok()
        {
            self.report.port = Some(port);
            tracing::info!(event = "push.listening", port);
        }
    }

    /// Old controllers push to SlurmdPort whatever we say.
    fn warn_about_port(&self) {
        let old = locked(&self.fetcher)
            .version()
            .is_some_and(|v| v < ProtocolVersion::V25_05);
        let slurmd = self
            .cache
            .settings()
            .and_then(|s| s.slurmd_port)
            .unwrap_or(SLURMD_PORT);
        if let Some(port) = self.options.port
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

/// A fetcher has no state that a panic could leave half done.
fn locked(fetcher: &Mutex<Fetcher>) -> MutexGuard<'_, Fetcher> {
    fetcher.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_after(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
}

/// Between 80 and 120 per cent, so that a thousand login nodes do not ask at once.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.8 + 0.4 * ((random() % 1000) as f64 / 1000.0))
}

/// Not for secrets.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
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
