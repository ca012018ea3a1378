//! Users' passwords: limits first, then the directory, then an answer that takes the same time for
//! every reason to refuse.

mod asker;

use std::{
    hash::{BuildHasher, RandomState},
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

pub use asker::Asker;
use asker::Silence;
use directory_client::{Change, Password, Verdict};

use crate::{
    core::{Core, Subject},
    jobs::Domains,
    ldap::{self, Bound, Changed, Policy},
    limits::{Attempt, Limits},
    name,
    offline::{self, Offline, Remember},
    password_hash::Hashes,
};

/// How long the replica is brought up to date for a name it does not have.
const LOOK_UP: Duration = Duration::from_secs(1);
/// To who was let in while no server could be asked.
const OFFLINE: &str =
    "The directory of users cannot be reached now; your last known password was accepted.";
/// To who would change a password that stands in a file.
const NOT_HERE: &str = "Passwords are kept in a file here; ask who keeps it for a new one.";

/// Who knows whether a password is right.
#[derive(Clone)]
pub enum Way {
    /// Directory servers.
    Servers(Asker),
    /// The hashes of the file.
    File(Arc<Hashes>),
}

/// The way to try passwords.
#[derive(Clone)]
pub struct Passwords {
    core: Arc<Core>,
    sync: Domains,
    limits: Arc<Limits>,
    /// One for each domain.
    ways: Vec<Way>,
    /// Which way is taken for a name that nobody has.
    strangers: RandomState,
    offline: Option<Away>,
}

/// What is asked while no server can be, with limits of its own: no server counts along.
#[derive(Clone)]
struct Away {
    kept: Arc<Offline>,
    tries: Arc<Limits>,
}

impl Passwords {
    /// Passwords tried in the way of the user's domain, within the configured limits.
    ///
    /// # Errors
    /// If the thread that keeps passwords cannot be started.
    pub fn new(core: Arc<Core>, sync: Domains, ways: Vec<Way>) -> io::Result<Self> {
        let config = &core.config.password;
        let limits = Limits::new(
            config.user_failures,
            config.source_failures,
            config.failure_window,
        );
        let offline = match &core.config.offline_passwords {
            Some(offline) => {
                let tries = Limits::new(
                    offline.tries.min(config.user_failures),
                    config.source_failures,
                    offline.tries_window,
                );
                let (kept, arriving) =
                    Offline::new(offline.clone(), &core.config.state_dir, core.clone());
                let kept = Arc::new(kept);
                let ways = ways.clone();
                let again = move |subject: &Subject, password: &Password| {
                    let Some(Way::Servers(asker)) = ways.get(subject.at) else {
                        return false;
                    };
                    let bound = asker.ask(subject.dn.clone(), password.clone());
                    matches!(bound, Ok(Bound::Yes(policy)) if policy.is_plain())
                };
                offline::start(kept.clone(), arriving, core.clone(), sync.clone(), again)?;
                let tries = Arc::new(tries);
                Some(Away { kept, tries })
            }
            None => None,
        };
        Ok(Self {
            limits: Arc::new(limits),
            core,
            sync,
            ways,
            strangers: RandomState::new(),
            offline,
        })
    }

    /// What is kept for when no server answers, if anything is.
    pub fn offline(&self) -> Option<&Offline> {
        self.offline.as_ref().map(|away| &*away.kept)
    }

    /// Tries a password. Blocks the calling thread, a refusal for whole multiples of `refusal-time`.
    pub fn try_one(&self, user: &str, password: Password, source: &str) -> Verdict {
        let start = Instant::now();
        let (verdict, result) = self.verdict(user, password, source);
        self.core.numbers.answered("control", "password", result);
        if !matches!(verdict, Verdict::Accepted { .. }) {
            self.pause(start);
        }
        verdict
    }

    /// The verdict, and what it is counted as.
    fn verdict(&self, user: &str, password: Password, source: &str) -> (Verdict, &'static str) {
        let Some(attempt) = self.attempt(&self.limits, user, source) else {
            tracing::warn!(target: service::log::AUDIT, event = "password.too_many", user, source);
            return (Verdict::Refused, "refused");
        };
        let (way, dn, known) = self.way_of(user);
        let offline = match way {
            Way::Servers(_) => self.offline.as_ref(),
            Way::File(_) => None,
        };
        let before = offline.and_then(|_| self.core.subject(user));
        let asked = (Instant::now(), SystemTime::now());
        let typed = offline.map(|_| password.clone());
        let bound = match way {
            Way::Servers(asker) => asker.ask(dn, password),
            Way::File(hashes) => Ok(match hashes.verify(user, &password) {
                true => Bound::Yes(Policy::default()),
                false => Bound::No,
            }),
        };
        let bound = match bound {
            Ok(bound) => bound,
            Err(silence) => {
                self.limits.not_made(&attempt);
                tracing::warn!(event = "password.not_asked", user, source);
                let (verdict, result) = match (offline, typed, silence) {
                    (Some(away), Some(typed), Silence::Away) => {
                        self.offline_verdict(away, user, &typed, source)
                    }
                    _ => (Verdict::Unavailable, "unavailable"),
                };
                // A name that is not known has been looked up, in vain: that is to take no longer.
                if known && verdict == Verdict::Unavailable {
                    self.sync.account(user, LOOK_UP);
                }
                return (verdict, result);
            }
        };
        // What a server says of a password that is right decides what is kept of it. That one is wrong changes
        // nothing: anybody can type a wrong one.
        if let (Some(away), Some(password)) = (offline, typed)
            && known
        {
            match &bound {
                Bound::Yes(policy) if policy.is_plain() => away.kept.remember(Remember {
                    user: user.to_owned(),
                    password,
                    before,
                    asked,
                    expires_in: policy.expires_in.map(Duration::from_secs),
                }),
                Bound::Yes(_) | Bound::OnlyToChange | Bound::Expired => {
                    away.kept.forget(user, "the password is to be changed");
                }
                Bound::No => {}
            }
        }
        let verdict = match bound {
            // Nobody has the DN that strangers are asked about; should a server say yes to it, no.
            Bound::Yes(policy) if known => {
                self.limits.succeeded(&attempt);
                tracing::info!(target: service::log::AUDIT, event = "password.accepted", user, source);
                Verdict::Accepted {
                    must_change: policy.error == Some(ldap::PolicyError::MustChange),
                    notices: policy.notices(),
                }
            }
            Bound::OnlyToChange if known => {
                self.limits.succeeded(&attempt);
                tracing::info!(target: service::log::AUDIT, event = "password.must_change", user, source);
                Verdict::Accepted {
                    must_change: true,
                    notices: Vec::new(),
                }
            }
            Bound::Expired if known => {
                self.limits.succeeded(&attempt);
                tracing::info!(target: service::log::AUDIT, event = "password.expired", user, source);
                Verdict::Expired
            }
            _ => {
                tracing::info!(target: service::log::AUDIT, event = "password.refused", user, source, known);
                Verdict::Refused
            }
        };
        let result = match &verdict {
            Verdict::Accepted { .. } => "accepted",
            Verdict::Expired => "expired",
            _ => "refused",
        };
        (verdict, result)
    }

    /// The verdict while no server can be asked. All but "it is right" is one answer: whether there is such a
    /// user, whether anything is kept of them, and whether it fits, is not told.
    fn offline_verdict(
        &self,
        away: &Away,
        user: &str,
        password: &Password,
        source: &str,
    ) -> (Verdict, &'static str) {
        let no = (Verdict::Unavailable, "offline_refused");
        let Some(attempt) = self.attempt(&away.tries, user, source) else {
            tracing::warn!(
                target: service::log::AUDIT, event = "password.too_many", user, source, offline = true
            );
            return no;
        };
        match away.kept.ask(user, password) {
            Some(true) => {
                away.tries.succeeded(&attempt);
                tracing::info!(
                    target: service::log::AUDIT, event = "password.accepted", user, source, offline = true
                );
                let verdict = Verdict::Accepted {
                    must_change: false,
                    notices: vec![OFFLINE.to_owned()],
                };
                (verdict, "offline_accepted")
            }
            Some(false) => {
                tracing::info!(
                    target: service::log::AUDIT, event = "password.refused", user, source, offline = true
                );
                no
            }
            None => {
                away.tries.not_made(&attempt);
                (Verdict::Unavailable, "unavailable")
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
        let Some(attempt) = self.attempt(&self.limits, user, source) else {
            tracing::warn!(target: service::log::AUDIT, event = "password.too_many", user, source);
            return Change::WrongPassword;
        };
        let (way, dn, known) = self.way_of(user);
        let kept = self.offline.as_ref().map(|away| (&away.kept, new.clone()));
        let (changed, open) = match way {
            Way::Servers(asker) => asker.change(dn, old, new),
            Way::File(hashes) => match hashes.verify(user, &old) && known {
                true => (Ok(Changed::No(NOT_HERE.to_owned())), false),
                false => (Ok(Changed::WrongOld), false),
            },
        };
        if let Some((kept, password)) = kept {
            if open || changed == Ok(Changed::Yes) {
                kept.forget(user, "the password has been changed");
            }
            if changed == Ok(Changed::Yes) {
                kept.remember(Remember {
                    user: user.to_owned(),
                    password,
                    before: None,
                    asked: (Instant::now(), SystemTime::now()),
                    expires_in: None,
                });
            }
        }
        match changed {
            Err(_) => {
                self.limits.not_made(&attempt);
                Change::Unavailable
            }
            Ok(Changed::WrongOld) => {
                tracing::info!(target: service::log::AUDIT, event = "password.refused", user, source, known);
                Change::WrongPassword
            }
            Ok(Changed::Yes) => {
                self.limits.succeeded(&attempt);
                tracing::info!(target: service::log::AUDIT, event = "password.changed", user, source);
                Change::Done
            }
            Ok(Changed::No(why)) => {
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

    fn attempt(&self, limits: &Limits, user: &str, source: &str) -> Option<Attempt> {
        // Names that no user can have are counted as one.
        let counted = if name::is_user(user) { user } else { "" };
        limits.start(counted, source, Instant::now())
    }

    /// Who knows, the entry whose password is asked about, and whether it is the user's. A name that nobody has
    /// costs the same steps at the server, with an entry that nobody has; which domain's, is always the same for
    /// a name.
    fn way_of(&self, user: &str) -> (&Way, String, bool) {
        let found = self.core.dn_of(user).or_else(|| {
            if !self.core.is_settled(user) {
                self.sync.account(user, LOOK_UP);
            }
            self.core.dn_of(user)
        });
        match found {
            Some((at, dn)) => (&self.ways[at], dn, true),
            None => {
                let at = self.strangers.hash_one(user) % self.ways.len() as u64;
                let way = &self.ways[at as usize];
                let mut nonce = [0; 16];
                // Without randomness the name is still one that nobody has.
                let _ = getrandom::fill(&mut nonce);
                let name = u128::from_ne_bytes(nonce);
                let base = match way {
                    Way::Servers(asker) => &asker.base,
                    Way::File(_) => "",
                };
                (way, format!("cn=nobody-{name:032x},{base}"), false)
            }
        }
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
