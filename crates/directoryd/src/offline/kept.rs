//! The kept passwords in memory: asked, added to, dropped from, and written to disk after each change.
//!
//! One Argon2 at a time, and few that wait for it: each takes 64 MiB.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant, SystemTime},
};

use directory_client::{AccountState, Lookup, Password};
use service::{Secret, config::duration, exit::chain};

use super::{
    file::{Content, MOST, Place},
    turn::Turn,
    verifier::{Bond, Salt, Stale, Tag, Verifier, mark_of, random, same, seconds},
};
use crate::{
    config::OfflinePasswords,
    core::{Core, Subject},
    local::Stamp,
};

/// Most questions that wait for their turn.
const MOST_WAITING: usize = 64;
/// How long one may take together with the servers that were asked before; clients wait for 30 s.
const PATIENCE: Duration = Duration::from_secs(26);
/// Most passwords that wait to be kept.
const MOST_NEW: usize = 64;
/// What was dropped stays dropped for the longest that a server can take for a password.
const SETTLED: Duration = Duration::from_secs(120);

/// The kept passwords.
#[derive(Debug)]
pub struct Offline {
    config: OfflinePasswords,
    core: Arc<Core>,
    place: Place,
    state: Mutex<State>,
    /// One writer at a time, and each writes what is there then.
    writing: Mutex<()>,
    /// The secret that the state was last compared with.
    compared: Mutex<Option<Stamp>>,
    turn: Turn,
    /// How long one waits for that.
    patience: Duration,
    new: SyncSender<Remember>,
}

#[derive(Debug, Default)]
struct State {
    mark: Option<(Salt, Tag)>,
    verifiers: HashMap<String, Verifier>,
    /// When users were last dropped: a password that was typed before does not come back.
    dropped: HashMap<String, Instant>,
    /// When everybody was.
    all_dropped: Option<Instant>,
    /// What is wrong with the secret, and with the file.
    problems: [String; 2],
}

/// A password that a server has just taken.
#[derive(Debug)]
pub struct Remember {
    /// Whose.
    pub user: String,
    /// What was typed.
    pub password: Password,
    /// What the replica said of the user before the server was asked; `None` if it is not known to be as
    /// old as the password.
    pub before: Option<Subject>,
    /// When the server was asked.
    pub asked: (Instant, SystemTime),
    /// How long the directory lets it count, if it says.
    pub expires_in: Option<Duration>,
}

impl Offline {
    /// What an earlier run has kept in `folder`, and where new ones arrive.
    pub fn new(
        config: OfflinePasswords,
        folder: &Path,
        core: Arc<Core>,
    ) -> (Self, Receiver<Remember>) {
        let place = Place::new(folder);
        let mut state = State::default();
        match place.load() {
            Ok(content) => {
                let named = content.verifiers.into_iter();
                state.verifiers = named.map(|one| (one.bond.user.clone(), one)).collect();
                state.mark = content.mark;
            }
            Err(error) => {
                state.problems[1] = chain(&error);
                tracing::error!(event = "offline.not_loaded", error = chain(&error));
            }
        }
        let (new, arriving) = sync_channel(MOST_NEW);
        let offline = Self {
            patience: PATIENCE.saturating_sub(core.config.password.timeout),
            config,
            core,
            place,
            state: Mutex::new(state),
            writing: Mutex::default(),
            compared: Mutex::default(),
            turn: Turn::default(),
            new,
        };
        offline.tell(&offline.state());
        (offline, arriving)
    }

    /// Whether this is the password that is kept of the user and counts now. The same work for whom
    /// nothing is kept of. `None`: that cannot be found out now.
    pub fn ask(&self, user: &str, password: &Password) -> Option<bool> {
        let secret = self.secret()?;
        let kept = self.state().verifiers.get(user).cloned();
        let own = kept.is_some_and(|_| self.counts(user));
        let kept = self.state().verifiers.get(user).cloned();
        let verifier = kept.unwrap_or_else(|| nobody(user));
        let _turn = self.turn.take(MOST_WAITING, self.patience)?;
        let started = Instant::now();
        let fits = verifier.is_of(secret.expose(), password.expose().as_bytes());
        let fits = fits.map_err(|why| self.failed(why)).ok()?;
        // It may have been dropped meanwhile.
        let dropped = self.state().dropped(user);
        Some(fits && own && dropped.is_none_or(|dropped| dropped < started))
    }

    /// Has a password kept soon, by the thread that does that. When many wait, this one is not kept.
    pub fn remember(&self, new: Remember) {
        if let Err(error) = self.new.try_send(new) {
            let why = match error {
                std::sync::mpsc::TrySendError::Full(_) => "too many wait",
                std::sync::mpsc::TrySendError::Disconnected(_) => "its thread has ended",
            };
            tracing::warn!(event = "offline.not_kept", why);
        }
    }

    /// Keeps a password now, unless the user was dropped since it was typed.
    pub fn keep(&self, new: &Remember, subject: Subject) {
        let Some(secret) = self.secret() else { return };
        let valid_for = new.expires_in.map_or(self.config.valid_for, |limit| {
            limit.min(self.config.valid_for)
        });
        let bond = Bond::new(&new.user, subject, new.asked.1, valid_for);
        let made = {
            let Some(_turn) = self.turn.take(2 * MOST_WAITING, self.patience) else {
                return;
            };
            Verifier::make(bond, secret.expose(), new.password.expose().as_bytes())
        };
        let made = match made {
            Ok(made) => made,
            Err(why) => return self.failed(why),
        };
        {
            let mut state = self.state();
            if state
                .dropped(&new.user)
                .is_some_and(|dropped| dropped >= new.asked.0)
            {
                return;
            }
            if state.verifiers.len() >= MOST && !state.verifiers.contains_key(&new.user) {
                let oldest = state.verifiers.values().min_by_key(|one| one.bond.since);
                if let Some(oldest) = oldest.map(|one| one.bond.user.clone()) {
                    state.verifiers.remove(&oldest);
                }
            }
            state.verifiers.insert(new.user.clone(), made);
        }
        self.save();
        tracing::debug!(event = "offline.kept", user = new.user);
    }

    /// Drops what is kept of a user, and what is about to be.
    pub fn forget(&self, user: &str, why: &str) {
        self.forget_each(&[user.to_owned()], why);
    }

    fn forget_each(&self, users: &[String], why: &str) {
        let mut gone = Vec::new();
        {
            let mut state = self.state();
            let now = Instant::now();
            state
                .dropped
                .retain(|_, dropped| now.duration_since(*dropped) < SETTLED);
            for user in users {
                state.dropped.insert(user.clone(), now);
                gone.extend(state.verifiers.remove(user).map(|_| user));
            }
        }
        for user in &gone {
            tracing::info!(event = "offline.dropped", user, why);
        }
        if !gone.is_empty() {
            self.save();
        }
    }

    /// Drops everything; how many that were.
    pub fn forget_all(&self) -> usize {
        let count = {
            let mut state = self.state();
            state.all_dropped = Some(Instant::now());
            let count = state.verifiers.len();
            state.verifiers.clear();
            count
        };
        tracing::info!(event = "offline.all_dropped", count);
        self.save();
        count
    }

    /// Drops what counts no longer: a file that is copied tomorrow need not have it.
    pub fn prune(&self) {
        let users: Vec<String> = self.state().verifiers.keys().cloned().collect();
        let subjects = self.core.subjects(users.iter().map(String::as_str));
        let unread = self.core.unread();
        let now = SystemTime::now();
        let stale: Vec<String> = {
            let state = self.state();
            let stale = users.into_iter().filter(|user| {
                let judge = |one: &Verifier| {
                    let judged = one
                        .bond
                        .judge(subjects.get(user), self.config.valid_for, now);
                    judged.is_err_and(|stale| Self::is_final(one, stale, &unread))
                };
                state.verifiers.get(user).is_some_and(judge)
            });
            stale.collect()
        };
        self.forget_each(&stale, "it counts no longer");
    }

    /// What is kept of a user, in words.
    pub fn about(&self, user: &str) -> String {
        let state = self.state();
        let Some(verifier) = state.verifiers.get(user) else {
            return "nothing is kept for when no server answers".to_owned();
        };
        let now = seconds(SystemTime::now());
        let words = |seconds: u64| duration::text(Duration::from_secs(seconds));
        let bond = &verifier.bond;
        format!(
            "kept {} ago for when no server answers; counts for {} more",
            words(now.saturating_sub(bond.since)),
            words(bond.until.saturating_sub(now)),
        )
    }

    /// The secret, after a look whether what is kept was made with it.
    pub fn secret(&self) -> Option<Secret<Vec<u8>>> {
        let mut compared = lock(&self.compared);
        let stamp = Stamp::of(&self.config.secret_file);
        let secret = match self.config.secret() {
            Ok(secret) => secret,
            Err(why) => {
                self.problem(0, why);
                return None;
            }
        };
        if *compared != Some(stamp) {
            self.compare(&secret)?;
            *compared = Some(stamp);
        }
        self.problem(0, String::new());
        Some(secret)
    }

    /// What was made with another secret is of no use any more.
    fn compare(&self, secret: &Secret<Vec<u8>>) -> Option<()> {
        let mark = self.state().mark;
        let salt = mark.map_or_else(random, |(salt, _)| Ok(salt));
        let made = {
            let _turn = self.turn.take(2 * MOST_WAITING, self.patience)?;
            salt.and_then(|salt| Ok((salt, mark_of(secret.expose(), &salt)?)))
        };
        let (salt, tag) = made.map_err(|why| self.failed(why)).ok()?;
        if mark.is_some_and(|(_, old)| same(&old, &tag)) {
            return Some(());
        }
        let count = {
            let mut state = self.state();
            state.mark = Some((salt, tag));
            state.verifiers.drain().count()
        };
        if count > 0 {
            tracing::warn!(event = "offline.other_secret", dropped = count);
        }
        self.save();
        Some(())
    }

    /// Whether what is kept of a user counts now. What never will again is dropped.
    fn counts(&self, user: &str) -> bool {
        let (subject, unread) = (self.core.subject(user), self.core.unread());
        let kept = self.state().verifiers.get(user).cloned();
        let Some(kept) = kept else { return false };
        let now = SystemTime::now();
        match kept
            .bond
            .judge(subject.as_ref(), self.config.valid_for, now)
        {
            Ok(()) => matches!(
                self.core.account(user, false),
                Lookup::Found(account) if account.state == AccountState::Active
            ),
            Err(stale) => {
                if Self::is_final(&kept, stale, &unread) {
                    self.forget(user, stale.words());
                }
                false
            }
        }
    }

    /// Whether what does not count now never will again. Who is gone may not have been read yet.
    fn is_final(kept: &Verifier, stale: Stale, unread: &[String]) -> bool {
        stale != Stale::Gone || !unread.contains(&kept.bond.domain)
    }

    fn failed(&self, why: &'static str) {
        tracing::error!(event = "offline.failed", why);
    }

    /// Notes what is wrong; each new problem is logged once.
    fn problem(&self, which: usize, text: String) {
        let mut state = self.state();
        if state.problems[which] != text {
            if !text.is_empty() {
                tracing::error!(event = "offline.problem", problem = text);
            }
            state.problems[which] = text;
        }
        self.tell(&state);
    }

    /// For `status` and the metrics.
    fn tell(&self, state: &State) {
        let problems = state.problems.iter().filter(|text| !text.is_empty());
        let problems: Vec<&str> = problems.map(String::as_str).collect();
        self.core
            .set_offline(state.verifiers.len(), problems.join("; "));
    }

    /// A full disk costs what a restart would know.
    fn save(&self) {
        let _writing = lock(&self.writing);
        let content = {
            let state = self.state();
            Content {
                mark: state.mark,
                verifiers: state.verifiers.values().cloned().collect(),
            }
        };
        let saved = self.place.save(&content);
        self.problem(
            1,
            saved.err().map(|error| chain(&error)).unwrap_or_default(),
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// When what is kept of a user was last dropped.
    fn dropped(&self, user: &str) -> Option<Instant> {
        self.dropped.get(user).copied().max(self.all_dropped)
    }
}

/// Somebody who has no password, for the work that it takes.
fn nobody(user: &str) -> Verifier {
    let subject = Subject {
        at: 0,
        domain: String::new(),
        dn: String::new(),
        uuid: None,
        changed: None,
        must_change: false,
        lenient: false,
    };
    Verifier {
        bond: Bond::new(user, subject, SystemTime::UNIX_EPOCH, Duration::ZERO),
        salt: Salt::default(),
        tag: Tag::default(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
