//! Passwords at directory servers: one thread for each domain that offers them there, and what is to be
//! made of servers that say nothing.
//!
//! Beside the thread that keeps the replica: a flood of passwords does not delay look-ups.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
    thread,
    time::{Duration, Instant},
};

use directory_client::Password;
use service::exit::chain;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{LocalSet, spawn_local},
    time::{timeout, timeout_at},
};

use crate::{
    config,
    domain::Share,
    ldap::{self, Bound, Changed, LdapError, Server, Servers},
    sync,
};

/// Most passwords under way at the servers.
const MOST_BINDS: usize = 64;
/// Most that wait.
const MOST_WAITING: usize = 128;
/// How long a question may wait here before servers hear of it, for their silence to mean something.
const PROMPT: Duration = Duration::from_secs(1);
/// How much longer an answer may take than the servers.
const SLACK: Duration = Duration::from_secs(2);

/// Why no server has said anything about a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// None can be reached, or none answers in time.
    Away,
    /// One answered neither yes nor no, or none was asked.
    Unclear,
}

/// A question for a server.
struct Job {
    /// The entry.
    dn: String,
    question: Question,
    /// Nobody waits any longer then.
    until: Instant,
}

enum Question {
    /// Is this the entry's password?
    Ask(Password, blocking::SyncSender<Result<Bound, Silence>>),
    /// A new one in place of the old.
    Change {
        old: Password,
        new: Password,
        /// A server has been told and has not answered.
        open: Arc<AtomicBool>,
        done: blocking::SyncSender<Result<Changed, Silence>>,
    },
}

/// The way to the thread.
#[derive(Clone)]
pub struct Asker {
    jobs: mpsc::Sender<Job>,
    /// For one password, all servers together.
    timeout: Duration,
    /// An entry under which nobody is.
    pub base: String,
}

impl Asker {
    /// Starts the thread.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        core: Share,
        config: Arc<config::Ldap>,
        servers: Arc<Servers>,
    ) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel(MOST_WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let asker = Self {
            jobs,
            timeout: core.config.password.timeout,
            base: config.user_base().to_owned(),
        };
        // The name by which the panic hook knows threads with the LDAP library on them.
        thread::Builder::new()
            .name(sync::THREAD.into())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, run(core, config, servers, receiver))
            })?;
        Ok(asker)
    }

    /// Whether this is an entry's password. Blocks.
    pub fn ask(&self, dn: String, password: Password) -> Result<Bound, Silence> {
        let (done, answer) = blocking::sync_channel(1);
        self.send(dn, Question::Ask(password, done))?;
        self.wait(&answer)
    }

    /// A new password in place of the old; and whether a server has been told and has not answered, so that it
    /// may count or not. Blocks.
    pub fn change(
        &self,
        dn: String,
        old: Password,
        new: Password,
    ) -> (Result<Changed, Silence>, bool) {
        let (done, answer) = blocking::sync_channel(1);
        let open = Arc::new(AtomicBool::new(false));
        let question = Question::Change {
            old,
            new,
            open: open.clone(),
            done,
        };
        let changed = self.send(dn, question);
        let changed = changed.and_then(|()| self.wait(&answer));
        (changed, open.load(Ordering::SeqCst))
    }

    fn send(&self, dn: String, question: Question) -> Result<(), Silence> {
        let until = Instant::now() + self.timeout;
        let job = Job {
            dn,
            question,
            until,
        };
        self.jobs.try_send(job).map_err(|_| Silence::Unclear)
    }

    fn wait<T>(&self, answer: &blocking::Receiver<Result<T, Silence>>) -> Result<T, Silence> {
        let answer = answer.recv_timeout(self.timeout + SLACK);
        answer.unwrap_or(Err(Silence::Unclear))
    }
}

async fn run(
    core: Share,
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
            let (config, dn, until) = (&*config, job.dn, job.until);
            // An asker who has gone is no error.
            match job.question {
                Question::Ask(password, done) => {
                    let ask =
                        async |server: &Server| ldap::ask(config, server, &dn, &password).await;
                    let _ = done.try_send(first(&core, config, &servers, until, ask).await);
                }
                Question::Change {
                    old,
                    new,
                    open,
                    done,
                } => {
                    let ask = async |server: &Server| {
                        ldap::change(config, server, &dn, &old, &new, &open).await
                    };
                    let _ = done.try_send(first(&core, config, &servers, until, ask).await);
                }
            }
        });
    }
}

/// The word of the first server that has one, beginning with the one that is connected.
async fn first<T>(
    core: &Share,
    config: &config::Ldap,
    servers: &Servers,
    until: Instant,
    ask: impl AsyncFn(&Server) -> Result<T, LdapError>,
) -> Result<T, Silence> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Silence::Unclear);
    }
    let connected = core.server();
    // One that has waited here leaves servers little time: their silence means nothing then.
    let clear = AtomicBool::new(left + PROMPT >= core.config.password.timeout);
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
                clear.store(false, Ordering::Relaxed);
                continue;
            }
            // A frozen one leaves time for the next.
            let start = Instant::now();
            let word = timeout(config.lookup_timeout, ask(server)).await;
            core.numbers.took("password", start.elapsed());
            match word.unwrap_or(Err(LdapError::Deadline("password"))) {
                Ok(word) => return Some(word),
                Err(error) => {
                    clear.fetch_and(error.is_absence(), Ordering::Relaxed);
                    tracing::warn!(
                        event = "password.server_failed",
                        uri = server.uri,
                        error = chain(&error)
                    );
                }
            }
        }
        None
    };
    let word = timeout_at(until.into(), all).await;
    word.ok()
        .flatten()
        .ok_or(match clear.load(Ordering::Relaxed) {
            true => Silence::Away,
            false => Silence::Unclear,
        })
}
