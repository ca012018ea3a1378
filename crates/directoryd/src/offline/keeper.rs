//! One thread that keeps passwords which servers have taken, after it has seen that they are still the
//! users', and that drops old ones.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use directory_client::Password;

use super::kept::{Offline, Remember};
use crate::{
    core::{Core, Subject},
    jobs::Domains,
};

/// How long the replica is brought up to date for a user.
const LOOK_UP: Duration = Duration::from_secs(1);
/// How often old ones are looked for.
const PRUNE: Duration = Duration::from_secs(60);

/// Starts the thread. `ask` offers a password to the servers once more, and says whether it is that
/// entry's and may be used as it is.
///
/// # Errors
/// If it cannot be started.
pub fn start(
    offline: Arc<Offline>,
    arriving: Receiver<Remember>,
    core: Arc<Core>,
    sync: Domains,
    ask: impl Fn(&Subject, &Password) -> bool + Send + 'static,
) -> io::Result<()> {
    let work = move || {
        // Another secret is noticed at once, not with the first login.
        drop(offline.secret());
        let mut pruned = None::<Instant>;
        loop {
            if pruned.is_none_or(|time| time.elapsed() >= PRUNE) {
                offline.prune();
                pruned = Some(Instant::now());
            }
            match arriving.recv_timeout(PRUNE) {
                Ok(new) => take(&offline, &core, &sync, &ask, new),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    thread::Builder::new()
        .name("offline".into())
        .spawn(work)
        .map(drop)
}

/// A password counts for as long as the directory does not tell of a later change. So what it told must not be
/// younger than the word that the password is right: if it may be, the server is asked again.
fn take(
    offline: &Offline,
    core: &Core,
    sync: &Domains,
    ask: &impl Fn(&Subject, &Password) -> bool,
    mut new: Remember,
) {
    sync.account(&new.user, LOOK_UP);
    let Some(now) = core.subject(&new.user) else {
        return;
    };
    if new.before.as_ref() != Some(&now) {
        let asked = (Instant::now(), SystemTime::now());
        if !ask(&now, &new.password) {
            return;
        }
        new.asked = asked;
    }
    if now.is_unsettled(SystemTime::now()) {
        let why =
            "it was changed within the last hour, in which the server takes the one of before too";
        tracing::info!(event = "offline.not_kept", user = new.user, why);
    } else if !now.must_change {
        offline.keep(&new, now);
    }
}
