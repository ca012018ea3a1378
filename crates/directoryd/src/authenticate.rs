//! Users' passwords: limits first, then the directory, then an answer that takes the same time for
//! every reason to refuse.
//!
//! Runs on a thread of its own, beside the one that keeps the replica: a flood of passwords does not delay
//! look-ups.

use std::{
    io,
    sync::{Arc, mpsc as blocking},
    thread,
    time::{Duration, Instant},
};

use directory_client::{Change, Password, Verdict};
use service::exit::chain;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{LocalSet, spawn_local},
    time::timeout,
};

use crate::{
    config,
    core::Core,
    jobs,
    ldap::{self, Bound, Changed, LdapError, Policy, Server, Servers},
    limits::{Attempt, Limits},
    name,
    password_hash::Hashes,
    sync,
};

/// Most passwords under way at the servers.
const MOST_BINDS: usize = 16;
/// Most that wait.
const MOST_WAITING: usize = 128;
/// How long the replica is brought up to date for a name it does not have.
const LOOK_UP: Duration = Duration::from_secs(1);
/// To who would change a password that stands in a file.
const NOT_HERE: &str = "Passwords are kept in a file here; ask who keeps it for a new one.";

/// A question for a server.
pub enum Job {
    /// Is this the entry's password?
    Ask {
        /// The entry.
        dn: String,
        /// What was typed.
        password: Password,
        /// Who waits.
        done: blocking::SyncSender<Option<Bound>>,
    },
    /// A new one in place of the old.
    Change {
        /// The entry.
        dn: String,
        /// The present one.
        old: Password,
        /// The one to be.
        new: Password,
        /// Who waits.
        done: blocking::SyncSender<Option<Changed>>,
    },
}

/// Who knows whether a password is right.
#[derive(Clone)]
pub enum Way {
    /// Directory servers, asked by a thread of ours.
    Servers {
        /// Where questions go.
        jobs: mpsc::Sender<Job>,
        /// Where nobody is.
        base: String,
    },
    /// The hashes of the file.
    File(Arc<Hashes>),
}

impl Way {
    /// Starts the thread that talks to the servers.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn servers(
        core: Arc<Core>,
        config: Arc<config::Ldap>,
        servers: Arc<Servers>,
    ) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel(MOST_WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let base = config.user_base().to_owned();
        // The name by which the panic hook knows threads with the LDAP library on them.
        thread::Builder::new()
            .name(sync::THREAD.into())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, run(core, config, servers, receiver))
            })?;
        Ok(Self::Servers { jobs, base })
    }
}

/// The way to try passwords.
#[derive(Clone)]
pub struct Passwords {
    core: Arc<Core>,
    sync: jobs::Handle,
    limits: Arc<Limits>,
    way: Way,
}

impl Passwords {
    /// Passwords tried that way, within the configured limits.
    pub fn new(core: Arc<Core>, sync: jobs::Handle, way: Way) -> Self {
        let config = &core.config.password;
        let limits = Limits::new(
            config.user_failures,
            config.source_failures,
            config.failure_window,
        );
        Self {
            limits: Arc::new(limits),
            core,
            sync,
            way,
        }
    }

    /// Tries a password. Blocks the calling thread, a refusal for whole multiples of `refusal-time`.
    pub fn try_one(&self, user: &str, password: Password, source: &str) -> Verdict {
        let start = Instant::now();
        let verdict = self.verdict(user, password, source);
        if !matches!(verdict, Verdict::Accepted { .. }) {
            self.pause(start);
        }
        verdict
    }

    fn verdict(&self, user: &str, password: Password, source: &str) -> Verdict {
        let Some(attempt) = self.attempt(user, source) else {
            tracing::warn!(target: service::log::AUDIT, event = "password.too_many", user, source);
            return Verdict::Refused;
        };
        let (dn, known) = self.dn_of(user);
        let bound = match &self.way {
            Way::Servers { jobs, .. } => self.ask(jobs, |done| Job::Ask { dn, password, done }),
            Way::File(hashes) => Some(match hashes.verify(user, &password) {
                true => Bound::Yes(Policy::default()),
                false => Bound::No,
            }),
        };
        match bound {
            None => {
                self.limits.not_made(&attempt);
                tracing::warn!(event = "password.not_asked", user, source);
                Verdict::Unavailable
            }
            // Nobody has the DN that strangers are asked about; should a server say yes to it, no.
            Some(Bound::Yes(policy)) if known => {
                self.limits.succeeded(&attempt);
                tracing::info!(target: service::log::AUDIT, event = "password.accepted", user, source);
                Verdict::Accepted {
                    must_change: policy.error == Some(ldap::PolicyError::MustChange),
                    notices: policy.notices(),
                }
            }
            Some(Bound::OnlyToChange) if known => {
                self.limits.succeeded(&attempt);
                tracing::info!(target: service::log::AUDIT, event = "password.must_change", user, source);
                Verdict::Accepted {
                    must_change: true,
                    notices: Vec::new(),
                }
            }
            Some(Bound::Expired) if known => {
                self.limits.succeeded(&attempt);
                tracing::info!(target: service::log::AUDIT, event = "password.expired", user, source);
                Verdict::Expired
            }
            Some(_) => {
                tracing::info!(target: service::log::AUDIT, event = "password.refused", user, source, known);
                Verdict::Refused
            }
        }
    }

    /// Changes a password. Blocks the calling thread.
    pub fn change(&self, user: &str, old: Password, new: Password, source: &str) -> Change {
        let start = Instant::now();
        let change = self.changed(user, old, new, source);
        if !matches!(change, Change::Done | Change::NotAccepted(_)) {
            self.pause(start);
        }
        change
    }

    fn changed(&self, user: &str, old: Password, new: Password, source: &str) -> Change {
        let Some(attempt) = self.attempt(user, source) else {
            tracing::warn!(target: service::log::AUDIT, event = "password.too_many", user, source);
            return Change::WrongPassword;
        };
        let (dn, known) = self.dn_of(user);
        let changed = match &self.way {
            Way::Servers { jobs, .. } => self.ask(jobs, |done| Job::Change { dn, old, new, done }),
            Way::File(hashes) => Some(match hashes.verify(user, &old) && known {
                true => Changed::No(NOT_HERE.to_owned()),
                false => Changed::WrongOld,
            }),
        };
        match changed {
            None => {
                self.limits.not_made(&attempt);
                Change::Unavailable
            }
            Some(Changed::WrongOld) => {
                tracing::info!(target: service::log::AUDIT, event = "password.refused", user, source, known);
                Change::WrongPassword
            }
            Some(Changed::Yes) => {
                self.limits.succeeded(&attempt);
                tracing::info!(target: service::log::AUDIT, event = "password.changed", user, source);
                Change::Done
            }
            Some(Changed::No(why)) => {
                self.limits.succeeded(&attempt);
                tracing::info!(target: service::log::AUDIT, event = "password.not_changed", user, source, why);
                Change::NotAccepted(why)
            }
        }
    }

    /// Failures of a user that count now, how many are let through, and how long the oldest counts.
    pub fn failures(&self, user: &str) -> (usize, usize, Duration) {
        self.limits.of_user(user, Instant::now())
    }

    fn attempt(&self, user: &str, source: &str) -> Option<Attempt> {
        // Names that no user can have are counted as one.
        let counted = if name::is_valid(user) { user } else { "" };
        self.limits.start(counted, source, Instant::now())
    }

    /// The entry whose password is asked about, and whether it is the user's. A name that nobody has
    /// costs the same steps at the server, with an entry that nobody has.
    fn dn_of(&self, user: &str) -> (String, bool) {
        let dn = self.core.dn_of(user).or_else(|| {
            if !self.core.is_settled(user) {
                self.sync.account(user, LOOK_UP);
            }
            self.core.dn_of(user)
        });
        match dn {
            Some(dn) => (dn, true),
            None => {
                let mut nonce = [0; 16];
                // Without randomness the name is still one that nobody has.
                let _ = getrandom::fill(&mut nonce);
                let name = u128::from_ne_bytes(nonce);
                let base = match &self.way {
                    Way::Servers { base, .. } => base,
                    Way::File(_) => "",
                };
                (format!("cn=nobody-{name:032x},{base}"), false)
            }
        }
    }

    fn ask<T>(
        &self,
        jobs: &mpsc::Sender<Job>,
        job: impl FnOnce(blocking::SyncSender<Option<T>>) -> Job,
    ) -> Option<T> {
        let (done, answer) = blocking::sync_channel(1);
        jobs.try_send(job(done)).ok()?;
        let patience = self.core.config.password.timeout + Duration::from_secs(2);
        answer.recv_timeout(patience).ok().flatten()
    }

    fn pause(&self, start: Instant) {
        let unit = self.core.config.password.refusal_time.as_millis().max(1);
        let passed = start.elapsed().as_millis();
        let until = (passed / unit + 1) * unit;
        thread::sleep(Duration::from_millis(
            u64::try_from(until - passed).unwrap_or_default(),
        ));
    }
}

async fn run(
    core: Arc<Core>,
    config: Arc<config::Ldap>,
    servers: Arc<Servers>,
    mut jobs: mpsc::Receiver<Job>,
) {
    let slots = Arc::new(Semaphore::new(MOST_BINDS));
    while let Some(job) = jobs.recv().await {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let (core, config, servers) = (core.clone(), config.clone(), servers.clone());
        spawn_local(async move {
            let _slot = slot;
            let config = &*config;
            // An asker who has gone is no error.
            match job {
                Job::Ask { dn, password, done } => {
                    let ask =
                        async |server: &Server| ldap::ask(config, server, &dn, &password).await;
                    let _ = done.try_send(first(&core, config, &servers, ask).await);
                }
                Job::Change { dn, old, new, done } => {
                    let ask =
                        async |server: &Server| ldap::change(config, server, &dn, &old, &new).await;
                    let _ = done.try_send(first(&core, config, &servers, ask).await);
                }
            }
        });
    }
}

/// The word of the first server that has one, beginning with the one that is connected.
async fn first<T>(
    core: &Core,
    config: &config::Ldap,
    servers: &Servers,
    ask: impl AsyncFn(&Server) -> Result<T, LdapError>,
) -> Option<T> {
    let connected = core.server();
    let all = async {
        let mut servers = [servers.tier(0).await, servers.tier(1).await].concat();
        servers.sort_by_key(|server| server.uri != connected);
        for server in &servers {
            if server.is_plain() && !config.start_tls && !server.is_here() {
                tracing::error!(
                    event = "password.plain",
                    uri = server.uri,
                    hint =
                        "no user's password is sent in the clear: set start-tls, or use ldaps://",
                );
                continue;
            }
            // A frozen one leaves time for the next.
            let start = Instant::now();
            let word = timeout(config.lookup_timeout, ask(server)).await;
            core.numbers.took("password", start.elapsed());
            match word.unwrap_or(Err(LdapError::Deadline("password"))) {
                Ok(word) => return Some(word),
                Err(error) => tracing::warn!(
                    event = "password.server_failed",
                    uri = server.uri,
                    error = chain(&error)
                ),
            }
        }
        None
    };
    timeout(core.config.password.timeout, all)
        .await
        .ok()
        .flatten()
}
