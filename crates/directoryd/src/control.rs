//! The control socket: who may ask, and the answers. A thread per connection, one request each.
//!
//! The codec is [`directory_client::codec`]. Whoever is not known gets one fixed answer.

use std::{
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use directory_client::{
    Lookup,
    codec::{Answer, MAX_REQUEST, Request, body_length},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sys::peer::PeerCredentials;
use zeroize::Zeroizing;

use crate::{
    authenticate::Passwords, core::Core, explain, jobs::Domains, reload::Closing, watched,
};

/// Most connections at a time of those who may ask.
const MOST: usize = 128;
/// And of all others, who are only told that they may not: they must not use up the former.
const MOST_DENIED: usize = 16;
/// How long a request may take to arrive, and an answer to leave.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most a look-up may be given.
const MAX_BUDGET: Duration = Duration::from_secs(30);
/// How long a whole refresh is waited for; clients allow a little more.
const REFRESH: Duration = Duration::from_secs(60);

/// Accepts until it is to end.
pub fn run(
    listener: &UnixListener,
    core: &Arc<Core>,
    sync: &Domains,
    passwords: &Passwords,
    closing: &Closing,
) {
    let (allowed, denied) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    loop {
        let mut fds =
            [listener.as_fd(), closing.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let _ = poll(&mut fds, PollTimeout::NONE);
        if closing.is_said() {
            break;
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::warn!(event = "control.accept", %error);
                thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        let Ok(peer) = sys::peer::credentials(&stream) else {
            continue;
        };
        let may = may_ask(core, peer.uid);
        let (count, most) = if may {
            (&allowed, MOST)
        } else {
            (&denied, MOST_DENIED)
        };
        if count.fetch_add(1, Ordering::Relaxed) >= most {
            count.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (core, sync, left) = (core.clone(), sync.clone(), count.clone());
        let passwords = passwords.clone();
        let started = thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                serve(stream, peer, may, &core, &sync, &passwords);
                left.fetch_sub(1, Ordering::Release);
            });
        if let Err(error) = started {
            count.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(event = "control.thread", %error);
        }
    }
    // Whoever waits for us has a limit.
    while allowed.load(Ordering::Acquire) > 0 {
        thread::sleep(Duration::from_millis(2));
    }
}

fn may_ask(core: &Core, uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw() || core.control_uids().contains(&uid)
}

fn serve(
    mut stream: UnixStream,
    peer: PeerCredentials,
    may: bool,
    core: &Core,
    sync: &Domains,
    passwords: &Passwords,
) {
    let Some(request) = read(&mut stream) else {
        tracing::debug!(event = "control.garbage", uid = peer.uid, pid = peer.pid);
        return;
    };
    let answer = if may {
        answer(request, core, sync, passwords)
    } else {
        tracing::debug!(event = "control.denied", uid = peer.uid, pid = peer.pid);
        Answer::Denied
    };
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let _ = stream.write_all(&answer.encode());
}

fn answer(request: Request, core: &Core, sync: &Domains, passwords: &Passwords) -> Answer {
    match request {
        Request::Account { user, budget } => {
            let fresh = !core.is_settled(&user) && sync.account(&user, budget.min(MAX_BUDGET));
            let found = core.account(&user, fresh);
            core.numbers.answered(
                "control",
                "account",
                match &found {
                    Lookup::Found(_) if fresh => "fresh",
                    Lookup::Found(_) => "copy",
                    Lookup::NotFound => "not_found",
                    Lookup::Unavailable => "unavailable",
                },
            );
            if let Lookup::Found(account) = &found {
                tracing::debug!(event = "control.account", user, fresh, age = ?account.age);
            }
            Answer::Account(found)
        }
        Request::Authenticate {
            user,
            password,
            source,
        } => Answer::Verdict(passwords.try_one(&user, password, &source)),
        Request::Change {
            user,
            old,
            new,
            source,
        } => Answer::Change(passwords.change(&user, old, new, &source)),
        Request::Explain { user, budget } => {
            let fresh = !core.is_settled(&user) && sync.account(&user, budget.min(MAX_BUDGET));
            Answer::Explanation(explain::explain(core, passwords, &user, fresh))
        }
        Request::Status => Answer::Status(watched::status(core)),
        Request::Entry { database, key } => Answer::Entry(core.entry(database, &key)),
        Request::Forget => {
            Answer::Forgotten(passwords.offline().map_or(0, |kept| kept.forget_all()) as u64)
        }
        Request::Refresh => match sync.refresh(REFRESH) {
            Ok(()) => Answer::Refreshed,
            Err(reason) => Answer::Failed(reason),
        },
        _ => Answer::Failed("this daemon does not know the request".to_owned()),
    }
}

/// One request under one deadline; `None` for anything else.
fn read(stream: &mut UnixStream) -> Option<Request> {
    let deadline = Instant::now() + PATIENCE;
    let mut prefix = [0; 4];
    read_exact(stream, &mut prefix, deadline)?;
    // It may hold a password.
    let mut body = Zeroizing::new(vec![0; body_length(prefix, MAX_REQUEST).ok()?]);
    read_exact(stream, &mut body, deadline)?;
    Request::decode(&body).ok()
}

fn read_exact(stream: &mut UnixStream, mut bytes: &mut [u8], deadline: Instant) -> Option<()> {
    while !bytes.is_empty() {
        let left = deadline.checked_duration_since(Instant::now())?;
        stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .ok()?;
        match stream.read(bytes) {
            Ok(0) => return None,
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(())
}
