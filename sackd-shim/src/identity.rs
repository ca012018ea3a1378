//! Who a uid is: asked of NSS by a few threads, so that a slow directory delays only those whom
//! it does not know yet. Answers are kept briefly; found, not found and unavailable stay apart.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use slurm_auth::{Groups, UserIdentity};

use crate::error::ShimError;
use crate::nscd::{self, Nscd};

/// How long an answer counts as fresh.
const FRESH: Duration = Duration::from_secs(15);
/// From this age on it is asked for again, though it still counts: who asks all the time never waits.
const AGEING: Duration = Duration::from_secs(10);
/// How long "no such user" counts: somebody who was just added must not wait.
const FRESH_ABSENCE: Duration = Duration::from_secs(2);
/// How long an old answer may stand in while the directory does not answer.
const STALE: Duration = Duration::from_secs(600);
/// Users kept at most.
const KEPT: usize = 20_000;
/// Look-ups at a time. One user has at most one under way.
const THREADS: usize = 8;

/// What NSS says about a uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The user and all groups.
    Found(Arc<UserIdentity>),
    /// There is no such user, and NSS is sure.
    Absent,
    /// NSS could not tell.
    Unavailable,
}

#[derive(Debug)]
struct Kept {
    answer: Answer,
    since: Instant,
}

/// Answers that are here and look-ups that are under way.
#[derive(Debug)]
pub struct Identities {
    questions: Sender<u32>,
    answers: Receiver<(u32, Answer)>,
    wake: UnixStream,
    kept: HashMap<u32, Kept>,
    asked: HashSet<u32>,
}

impl Identities {
    /// Starts the threads, before the filter that forbids new ones. The first look-up happens
    /// here, so that libc has loaded its modules by then.
    ///
    /// # Errors
    /// [`ShimError::System`] if threads or their descriptors are not to be had.
    pub fn start() -> Result<Self, ShimError> {
        let failed = || ShimError::system("start the look-up threads");
        look_up(Uid::effective().as_raw());
        let (questions, inbox) = channel::<u32>();
        let (outbox, answers) = channel();
        let (wake, waker) = UnixStream::pair().map_err(failed())?;
        wake.set_nonblocking(true).map_err(failed())?;
        waker.set_nonblocking(true).map_err(failed())?;
        let inbox = Arc::new(Mutex::new(inbox));
        // What libc does once per thread must be over before the filter comes.
        let running = Arc::new(Barrier::new(THREADS + 1));
        for _ in 0..THREADS {
            let (inbox, outbox, started) =
                (Arc::clone(&inbox), outbox.clone(), Arc::clone(&running));
            let waker = waker.try_clone().map_err(failed())?;
            std::thread::Builder::new()
                .name("nss".to_owned())
                .spawn(move || {
                    started.wait();
                    work(&inbox, &outbox, &waker);
                })
                .map_err(failed())?;
        }
        running.wait();
        Ok(Self {
            questions,
            answers,
            wake,
            kept: HashMap::new(),
            asked: HashSet::new(),
        })
    }

    /// A fresh answer, or `None` after having asked for one: it comes out of [`Self::arrived`].
    pub fn ask(&mut self, uid: u32) -> Option<Answer> {
        if let Some(kept) = self.kept.get(&uid) {
            let fresh = match kept.answer {
                Answer::Found(_) => FRESH,
                Answer::Absent => FRESH_ABSENCE,
                Answer::Unavailable => Duration::ZERO,
            };
            let age = kept.since.elapsed();
            if age < fresh {
                let answer = kept.answer.clone();
                if age >= AGEING && self.asked.insert(uid) && self.questions.send(uid).is_err() {
                    self.asked.remove(&uid);
                }
                return Some(answer);
            }
        }
        if self.asked.insert(uid) && self.questions.send(uid).is_err() {
            // The threads live as long as the process; without them nobody can be told apart.
            self.asked.remove(&uid);
            return Some(Answer::Unavailable);
        }
        None
    }

    /// Whose answers have come since the last call. An answer "unavailable" gives way to an
    /// older one that is not too old.
    pub fn arrived(&mut self) -> Vec<(u32, Answer)> {
        let mut drain = [0; 256];
        while self.wake.read(&mut drain).is_ok_and(|n| n == drain.len()) {}
        let mut list = Vec::new();
        while let Ok((uid, answer)) = self.answers.try_recv() {
            self.asked.remove(&uid);
            let answer = self.keep(uid, answer);
            list.push((uid, answer));
        }
        list
    }

    /// Readable when answers have come.
    pub fn wake_descriptor(&self) -> &UnixStream {
        &self.wake
    }

    fn keep(&mut self, uid: u32, answer: Answer) -> Answer {
        if answer == Answer::Unavailable
            && let Some(old) = self.kept.get(&uid)
            && matches!(old.answer, Answer::Found(_))
            && old.since.elapsed() < STALE
        {
            tracing::warn!(
                event = "identity.stale",
                uid,
                "user look-up failed, using an older one"
            );
            return old.answer.clone();
        }
        if self.kept.len() >= KEPT {
            self.kept.retain(|_, kept| kept.since.elapsed() < FRESH);
            if self.kept.len() >= KEPT {
                self.kept.clear();
            }
        }
        self.kept.insert(
            uid,
            Kept {
                answer: answer.clone(),
                since: Instant::now(),
            },
        );
        answer
    }
}

fn work(inbox: &Mutex<Receiver<u32>>, outbox: &Sender<(u32, Answer)>, mut waker: &UnixStream) {
    loop {
        // The lock covers only the wait for a question, which the others share in turn.
        let question = match inbox.lock() {
            Ok(inbox) => inbox.recv(),
            Err(_) => return,
        };
        let Ok(uid) = question else { return };
        if outbox.send((uid, look_up(uid))).is_err() {
            return;
        }
        // A full pipe has woken the reader already.
        let _ = waker.write(&[1]);
    }
}

/// One blocking look-up of a user and all groups, through whatever libc asks: nscd's socket and
/// nsswitch.conf. Without the daemon that knows the directory, "no such user" is no answer.
pub fn look_up(uid: u32) -> Answer {
    let before = nscd::state();
    if before == Nscd::There {
        nscd::make_libc_ask_again();
    }
    let answer = ask_libc(uid);
    // A daemon that went away in between may have left us with half of the groups. A local user
    // found while it is away all along is right.
    if nscd::state() == Nscd::Away && (answer == Answer::Absent || before == Nscd::There) {
        tracing::warn!(
            event = "identity.unavailable",
            uid,
            "the directory's socket is dead"
        );
        return Answer::Unavailable;
    }
    answer
}

fn ask_libc(uid: u32) -> Answer {
    let user = match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user,
        // getpwuid(3): some modules say "not found" this way.
        Ok(None) | Err(Errno::ENOENT | Errno::ESRCH) => return Answer::Absent,
        Err(error) => {
            tracing::warn!(event = "identity.unavailable", uid, %error);
            return Answer::Unavailable;
        }
    };
    let Ok(name) = CString::new(user.name.as_str()) else {
        return Answer::Absent;
    };
    let groups = getgrouplist(&name, user.gid).and_then(|gids| {
        gids.into_iter()
            .map(named)
            .collect::<Result<Groups, Errno>>()
    });
    let groups = match groups {
        Ok(groups) => groups,
        Err(error) => {
            tracing::warn!(event = "identity.unavailable", uid, %error);
            return Answer::Unavailable;
        }
    };
    Answer::Found(Arc::new(UserIdentity {
        dir: user.dir.to_string_lossy().into_owned(),
        gecos: user.gecos.to_string_lossy().into_owned(),
        groups,
        name: user.name,
        shell: user.shell.to_string_lossy().into_owned(),
    }))
}

/// A group without a name goes by its number.
fn named(gid: Gid) -> Result<(String, u32), Errno> {
    let name = match Group::from_gid(gid) {
        Ok(Some(group)) => group.name,
        Ok(None) | Err(Errno::ENOENT | Errno::ESRCH) => gid.to_string(),
        Err(error) => return Err(error),
    };
    Ok((name, gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_a_stray_uid_is_not() {
        let Answer::Found(root) = look_up(0) else {
            panic!("no root")
        };
        assert_eq!(root.name, "root");
        assert_eq!(root.groups.get("root"), Some(&0));
        assert_eq!(look_up(3_999_999_999), Answer::Absent);
    }

    #[test]
    fn answers_arrive_once_and_are_kept() {
        let mut identities = Identities::start().unwrap();
        assert_eq!(identities.ask(0), None);
        assert_eq!(identities.ask(0), None);
        let mut list = Vec::new();
        while list.is_empty() {
            let mut fds = [nix::poll::PollFd::new(
                std::os::fd::AsFd::as_fd(identities.wake_descriptor()),
                nix::poll::PollFlags::POLLIN,
            )];
            nix::poll::poll(&mut fds, 5000_u16).unwrap();
            list = identities.arrived();
        }
        assert_eq!(list.len(), 1);
        assert!(matches!(identities.ask(0), Some(Answer::Found(_))));
    }

    #[test]
    fn an_answer_is_renewed_before_anybody_has_to_wait_for_it() {
        let mut identities = Identities::start().unwrap();
        identities.keep(0, look_up(0));
        let age = |identities: &mut Identities, age| {
            let kept = identities.kept.get_mut(&0).unwrap();
            kept.since = Instant::now() - age;
        };
        assert!(identities.ask(0).is_some() && identities.asked.is_empty());
        age(&mut identities, AGEING);
        for _ in 0..2 {
            assert!(matches!(identities.ask(0), Some(Answer::Found(_))));
        }
        let mut arrived = 0;
        while arrived == 0 {
            std::thread::yield_now();
            arrived += identities.arrived().len();
        }
        assert_eq!(arrived, 1, "asked once");
        assert!(identities.kept[&0].since.elapsed() < AGEING, "renewed");
        age(&mut identities, FRESH);
        assert_eq!(identities.ask(0), None);
    }

    #[test]
    fn an_older_answer_stands_in_while_nss_is_away() {
        let mut identities = Identities::start().unwrap();
        let found = look_up(0);
        identities.keep(0, found.clone());
        assert_eq!(identities.keep(0, Answer::Unavailable), found);
        assert_eq!(identities.keep(1, Answer::Unavailable), Answer::Unavailable);
        assert_eq!(identities.keep(0, Answer::Absent), Answer::Absent);
    }
}
