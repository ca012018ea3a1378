//! From an authenticated user to a running session: PAM's session step, the home, the session
//! program as the user. And back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use gateway_wire::accept::Endpoints;
use gateway_wire::session::Setup;
use gateway_wire::{Policy, Settings};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, getgroups, setgroups};
use sys::memfd::Shared;
use sys::spawn::Spawn;

use crate::account::Account;
use crate::acts::Acts;
use crate::authentication::{Granted, Pam};
use crate::home;
use crate::login_records;
use crate::relay::Relay;
use crate::user_group::{GroupError, UserGroup};
use crate::view;

/// Bytes of an argument that says nothing, so that the session can show its user's name in `ps`.
const TITLE_ROOM: usize = 96;

/// Patience with a session that is to end although it keeps shells.
const PATIENCE: Duration = Duration::from_secs(5);

/// Patience with one whose connection has ended: more than its file servers have to say what became of
/// files.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// An account that may log in now. Only the end of a whole way in makes one.
pub struct AuthenticatedUser {
    account: Account,
    granted: Granted,
}

impl AuthenticatedUser {
    /// The account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Whether it is the account for emergencies.
    pub fn is_break_glass(&self) -> bool {
        self.granted.break_glass
    }

    /// What the login may do.
    pub fn policy(&self) -> &Policy {
        &self.granted.policy
    }
}

/// For `authentication`, which has seen every factor and PAM's account step succeed.
pub fn authenticated(account: Account, granted: Granted) -> AuthenticatedUser {
    AuthenticatedUser { account, granted }
}

/// A running session of a user.
pub struct UserSession {
    /// Log lines of the session program.
    pub log: Relay,
    /// What it says that the user does.
    pub acts: Acts,
    /// The session program.
    pub child: Child,
    pam: Option<Pam>,
    group: Option<UserGroup>,
    /// It was told to end, and is killed if it has not by then.
    ending: Option<Instant>,
}

/// Opens the PAM session and starts the session program; the socket goes to net.
///
/// # Errors
/// If PAM refuses the session or the program does not start.
pub fn open(
    settings: &Settings,
    user: AuthenticatedUser,
    endpoints: Endpoints,
    login: &str,
) -> io::Result<(UserSession, OwnedFd)> {
    let AuthenticatedUser { account, granted } = user;
    let mut pam = granted.pam;
    let mut identity = account.identity.clone();
    let privileged = settings.user.is_some();
    if privileged {
        // Modules may add groups to this process's list, so it starts from the user's.
        let groups: Vec<Gid> = identity.groups.iter().map(|g| Gid::from_raw(*g)).collect();
        setgroups(&groups)?;
        // Before PAM, whose modules may leave files in /tmp.
        match view::enter(settings, &granted.policy, identity.uid) {
            Ok(()) => {}
            Err(error) if granted.break_glass => {
                let error = service::exit::chain(&error);
                tracing::error!(event = "break_glass.without_view", user = %account.name, error);
            }
            Err(error) => return Err(io::Error::other(service::exit::chain(&error))),
        }
    }
    let mut pam_env = Vec::new();
    let mut notices = granted.notices;
    if let Some(session) = &mut pam {
        match session.open_session() {
            Ok(()) => {
                pam_env = session.environment();
                notices.extend(session.texts());
                identity.groups = getgroups()?.iter().map(|g| g.as_raw()).collect();
            }
            // For the day when nothing else works, PAM may be what does not.
            Err(error) if granted.break_glass => {
                tracing::error!(event = "break_glass.without_pam", user = %account.name, %error);
                pam = None;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    let mut skel = None;
    if settings.make_home && privileged && !granted.break_glass {
        match home::make(&account.home, identity.uid, identity.gid) {
            Ok(true) => {
                tracing::info!(event = "home.made", user = %account.name, home = %account.home.display());
                skel = Some(settings.skel.clone());
            }
            Ok(false) => {}
            // A login without a home is better than none: the shell starts in /.
            Err(error) => {
                tracing::warn!(event = "home.failed", user = %account.name, home = %account.home.display(), %error);
            }
        }
    }
    let (uid, break_glass, policy) = (identity.uid, granted.break_glass, granted.policy.clone());
    let print_last = granted.policy.print_last_log.then_some(identity.uid);
    let setup = Setup {
        user: account.name,
        home: account.home,
        shell: account.shell,
        endpoints,
        login: login.to_owned(),
        pam_env,
        skel,
        policy: granted.policy,
        restrictions: granted.restrictions,
        last_login: print_last.and_then(|uid| login_records::greeting(settings, uid)),
        notices,
        factors: granted.factors,
    };
    let bytes = gateway_wire::encode(&setup).map_err(io::Error::other)?;
    let setup = Shared::new("session-setup", &bytes)?.reader()?;
    let (socket, for_net) = sys::fds::seqpacket_pair()?;
    let (log, stderr) = Relay::pipe("session")?;
    let (acts, record) = Acts::pair()?;
    let mut spawn = Spawn::new(&service::sibling("login-gateway-session")?)
        .arg0("login-gateway-session")
        .args(["serve", &" ".repeat(TITLE_ROOM)])
        // The zone that this gateway was started in is the users' too.
        .env(std::env::vars_os().filter(|(name, _)| name == "TZ"))
        .fd(0, setup)
        .fd(2, stderr)
        .fd(3, socket)
        .fd(4, record);
    if privileged {
        spawn = spawn.identity(identity);
    }
    let mut child = spawn.start()?;
    let group = match group_of(&child, settings, uid, &policy) {
        Ok(group) => group,
        Err(error) if break_glass => {
            let error = service::exit::chain(&error);
            tracing::error!(event = "break_glass.without_group", error);
            None
        }
        Err(error) => {
            // It waits for its first order.
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::other(service::exit::chain(&error)));
        }
    };
    let session = UserSession {
        log,
        acts,
        child,
        pam,
        group,
        ending: None,
    };
    Ok((session, for_net))
}

/// The user's control group with the session in it, where there are such groups.
fn group_of(
    session: &Child,
    settings: &Settings,
    uid: u32,
    policy: &Policy,
) -> Result<Option<UserGroup>, GroupError> {
    let group = settings.cgroup.as_ref();
    group
        .map(|parent| UserGroup::enter(parent, uid, policy, session.id()))
        .transpose()
}

impl UserSession {
    /// Tells it to end, with the shells that it keeps.
    pub fn end(&mut self) {
        self.acts.end();
        self.ending = Some(Instant::now() + PATIENCE);
    }

    /// Hears the session's last words, until it has ended. One that does not end in time is killed: a
    /// user may have stopped it, by a signal, and the login would go on without its client.
    fn hear_out(&mut self) {
        let end = *self
            .ending
            .get_or_insert_with(|| Instant::now() + LAST_WORDS);
        let Ok(ended) = sys::process::end_of(&self.child) else {
            return;
        };
        loop {
            let logs = [self.acts.fd(), self.log.fd()];
            let mut ready: Vec<_> = std::iter::once(ended.as_fd())
                .chain(logs.into_iter().flatten())
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(event = "session.killed", "it did not end");
                let _ = self.child.kill();
                return;
            }
            let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            match poll(&mut ready, left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            let has_ended = ready[0].any().unwrap_or(false);
            self.log.drain();
            self.acts.drain();
            if has_ended {
                return;
            }
        }
    }

    /// Waits for the session program, then closes the PAM session.
    pub fn close(mut self) {
        self.hear_out();
        let _ = self.child.wait();
        self.log.drain();
        self.acts.close();
        if let Some(group) = self.group.take() {
            group.leave();
        }
        if let Some(pam) = &mut self.pam
            && let Err(error) = pam.close_session()
        {
            tracing::warn!(event = "pam.close_failed", %error);
        }
    }
}
