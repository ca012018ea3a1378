//! One connection from waiting to logout. Each state takes the messages that are allowed in it; a
//! message out of order ends the connection.

use std::io;
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use gateway_wire::monitor::{Connection, FromMonitor, FromNet, Method, Serve, ToNet};
use gateway_wire::policy::Who;
use gateway_wire::{MAX_MESSAGE, Settings, UserName};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::User;
use sys::identity::Identity;
use sys::signals::Signals;

use crate::account::{self, Account, NoAccount};
use crate::key::{self, KeySource};
use crate::net_process::NetProcess;
use crate::user_session::{self, AuthenticatedUser, UserSession};

/// net enforces the grace time; the monitor ends a net that does not, this much later.
const GRACE_MARGIN: Duration = Duration::from_secs(5);

/// The monitor, before its connection.
pub struct Monitor {
    /// The gateway's settings.
    pub settings: Settings,
    /// Socket to the listener.
    pub listener: OwnedFd,
    /// `SIGCHLD` and `SIGTERM`.
    pub signals: Signals,
    /// The sandboxed half.
    pub net: NetProcess,
}

/// What woke the monitor.
enum Event {
    /// A message of net's.
    Net(FromNet),
    /// The listener has closed its socket, or sent something.
    Listener,
    /// The session program has ended.
    SessionEnded,
    /// Time to go: a signal, the end of net, the deadline.
    End(&'static str),
}

impl Monitor {
    /// Waits for the connection and sees it through.
    pub fn run(mut self) -> io::Result<()> {
        match self.wait(None, None, true)? {
            Event::Net(FromNet::Sandboxed) => {}
            Event::End(why) => {
                self.net.end();
                return Err(io::Error::other(format!(
                    "login-gateway-net did not start: {why}"
                )));
            }
            _ => return Err(io::Error::other("net spoke out of order")),
        }
        let Event::Listener = self.wait(None, None, false)? else {
            self.net.end();
            return Ok(());
        };
        let mut buffer = vec![0; MAX_MESSAGE];
        let (n, fds) = sys::fds::recv_with_fds(&self.listener, &mut buffer)?;
        let Some(socket) = fds.into_iter().next().filter(|_| n > 0) else {
            // The listener is done with waiting monitors.
            self.net.end();
            return Ok(());
        };
        let connection: Connection =
            gateway_wire::decode(&buffer[..n]).map_err(io::Error::other)?;
        let span = tracing::info_span!(
            "login",
            login = %connection.login,
            source = %connection.endpoints.source
        );
        let _entered = span.enter();
        let ended = self.serve(&connection, &socket);
        // The client must not wait for a connection that nobody serves (T3).
        let _ = std::net::TcpStream::from(socket).shutdown(Shutdown::Both);
        self.net.end();
        ended
    }

    fn serve(&mut self, connection: &Connection, socket: &OwnedFd) -> io::Result<()> {
        let endpoints = connection.endpoints;
        self.net.serve(&Serve { endpoints }, socket.as_fd())?;
        let deadline = Instant::now() + self.settings.login_grace_time + GRACE_MARGIN;
        let mut authentication = Authentication::new(&self.settings, endpoints.source.ip())?;
        let user = loop {
            match self.wait(None, Some(deadline), true)? {
                Event::Net(FromNet::KeyOffered { user, key }) => {
                    let good = authentication
                        .offered(&self.settings, &user, &key)?
                        .is_some();
                    self.net
                        .answer(if good { ToNet::Accepted } else { refusal() }, &[])?;
                }
                Event::Net(FromNet::KeyVerified { user, key }) => {
                    let verified = authentication.verified(&self.settings, &user, &key)?;
                    let admitted =
                        verified.and_then(|(account, source)| {
                            match user_session::admit(&self.settings, account, &endpoints) {
                                Ok(admitted) => Some((admitted, source)),
                                Err(error) => {
                                    refused(&user, &key, &error.to_string());
                                    None
                                }
                            }
                        });
                    match admitted {
                        Some((admitted, source)) => {
                            tracing::info!(
                                target: "audit",
                                event = "auth.accepted",
                                user = %admitted.account().name,
                                method = "publickey",
                                key = key::fingerprint(&key),
                                found = ?source,
                            );
                            break admitted;
                        }
                        None => self.net.answer(refusal(), &[])?,
                    }
                }
                Event::Net(FromNet::Ended { reason, .. }) => {
                    tracing::info!(event = "connection.ended", reason, authenticated = false);
                    return Ok(());
                }
                Event::End(why) => {
                    tracing::info!(
                        event = "connection.ended",
                        reason = why,
                        authenticated = false
                    );
                    return Ok(());
                }
                _ => return Err(io::Error::other("net spoke out of order")),
            }
        };
        self.logged_in(user, connection)
    }

    fn logged_in(&mut self, user: AuthenticatedUser, connection: &Connection) -> io::Result<()> {
        let name = user.account().name.clone();
        // The client hears "accepted" while the session is being opened.
        self.net.answer(ToNet::Accepted, &[])?;
        let report = FromMonitor::Authenticated(name.clone());
        let report = gateway_wire::encode(&report).map_err(io::Error::other)?;
        // A listener that has gone needs no report.
        let _ = sys::fds::send_with_fds(&self.listener, &report, &[]);
        let _ = sys::process::set_title(&format!("login-gateway-monitor: {name} [priv]"));
        let policy = self.settings.policy(&Who {
            user: name.as_str(),
            groups: &[],
            source: connection.endpoints.source.ip(),
        });
        let opened = user_session::open(
            &self.settings,
            user,
            &policy,
            connection.endpoints,
            &connection.login,
        );
        let (mut session, for_net) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(event = "session.failed", user = %name, %error);
                return Ok(());
            }
        };
        self.net
            .answer(ToNet::Session(Box::new(policy)), &[for_net.as_fd()])?;
        drop(for_net);
        tracing::info!(target: "audit", event = "session.opened", user = %name);
        let (reason, bytes) = self.until_logout(&mut session);
        // Without net the session's socket closes, and the session with it.
        self.net.end();
        session.close();
        tracing::info!(
            target: "audit",
            event = "session.closed",
            user = %name,
            reason,
            bytes_in = bytes.0,
            bytes_out = bytes.1,
        );
        Ok(())
    }

    fn until_logout(&mut self, session: &mut UserSession) -> (String, (u64, u64)) {
        loop {
            match self.wait(Some(session), None, true) {
                Ok(Event::Net(FromNet::Ended {
                    reason,
                    bytes_in,
                    bytes_out,
                })) => {
                    return (reason, (bytes_in, bytes_out));
                }
                // The listener may restart; the login lives on.
                Ok(Event::Listener) => {}
                Ok(Event::SessionEnded) => return ("the session program ended".into(), (0, 0)),
                Ok(Event::End(why)) => return (why.into(), (0, 0)),
                Ok(Event::Net(_)) => return ("net spoke out of order".into(), (0, 0)),
                Err(error) => return (error.to_string(), (0, 0)),
            }
        }
    }

    /// Waits for the next event. Log lines are passed on meanwhile. `only_net` leaves the listener
    /// out: what it says then is for later, or for nobody.
    fn wait(
        &mut self,
        mut session: Option<&mut UserSession>,
        deadline: Option<Instant>,
        only_net: bool,
    ) -> io::Result<Event> {
        loop {
            let timeout = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                None => PollTimeout::NONE,
                Some(left) if left.is_zero() => return Ok(Event::End("login grace time is over")),
                Some(left) => {
                    PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
                }
            };
            let mut ready = vec![
                PollFd::new(self.net.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            if !only_net {
                ready.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
            }
            let fixed = ready.len();
            let logs = [self.net.log.fd(), session.as_ref().and_then(|s| s.log.fd())];
            ready.extend(
                logs.into_iter()
                    .flatten()
                    .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
            );
            match poll(&mut ready, timeout) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let ready: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            if ready[fixed..].contains(&true) {
                self.net.log.drain();
                if let Some(session) = &mut session {
                    session.log.drain();
                }
            }
            if ready[0] {
                return Ok(match self.net.receive() {
                    Ok(Some(message)) => Event::Net(message),
                    Ok(None) => Event::End("login-gateway-net ended"),
                    Err(error) => {
                        tracing::error!(event = "net.malformed", %error);
                        Event::End("malformed message from net")
                    }
                });
            }
            if ready[1] {
                while let Some(signal) = self.signals.next()? {
                    if signal == Signal::SIGTERM {
                        return Ok(Event::End("terminated"));
                    }
                }
                if let Some(session) = &mut session
                    && session.child.try_wait()?.is_some()
                {
                    return Ok(Event::SessionEnded);
                }
            }
            if !only_net && ready[2] {
                return Ok(Event::Listener);
            }
        }
    }
}

/// The authentication of one connection: what was asked and found so far.
struct Authentication {
    /// Under which the files of a user that does not exist are looked for.
    nobody: Identity,
    /// The client.
    source: IpAddr,
    /// Questions left; net counts attempts, this holds a net that does not.
    questions: usize,
    /// The last key found good, so that the signed request need not look again.
    good: Option<(UserName, Vec<u8>, Account, KeySource)>,
}

impl Authentication {
    fn new(settings: &Settings, source: IpAddr) -> io::Result<Self> {
        let mut nobody = Identity {
            uid: 65534,
            gid: 65534,
            groups: vec![65534],
        };
        if let Some(name) = &settings.user {
            let user = User::from_name(name)?.ok_or(io::ErrorKind::NotFound)?;
            let gid = user.gid.as_raw();
            nobody = Identity {
                uid: user.uid.as_raw(),
                gid,
                groups: vec![gid],
            };
        }
        Ok(Self {
            nobody,
            source,
            questions: 4 * settings.max_auth_tries,
            good: None,
        })
    }

    /// Whether the key may be used for this account.
    fn offered(
        &mut self,
        settings: &Settings,
        user: &UserName,
        key: &[u8],
    ) -> io::Result<Option<KeySource>> {
        self.questions = self
            .questions
            .checked_sub(1)
            .ok_or_else(|| io::Error::other("net asked more often than any client may try"))?;
        self.good = None;
        let account: Result<Account, NoAccount> = account::find(settings, user);
        let found = key::find(settings, &account, &self.nobody, user, self.source, key)?;
        match (account, found) {
            (Ok(account), Some(source)) => {
                self.good = Some((user.clone(), key.to_vec(), account, source));
                return Ok(Some(source));
            }
            (Ok(_), None) => refused(user, key, "key not authorized"),
            (Err(why), _) => refused(user, key, &why.to_string()),
        }
        Ok(None)
    }

    /// The account, if this key was found good for it.
    fn verified(
        &mut self,
        settings: &Settings,
        user: &UserName,
        key: &[u8],
    ) -> io::Result<Option<(Account, KeySource)>> {
        let known =
            |good: &(UserName, Vec<u8>, Account, KeySource)| good.0 == *user && good.1 == key;
        if !self.good.as_ref().is_some_and(known) && self.offered(settings, user, key)?.is_none() {
            return Ok(None);
        }
        Ok(self
            .good
            .take()
            .map(|(_, _, account, source)| (account, source)))
    }
}

fn refusal() -> ToNet {
    ToNet::Refused {
        methods: vec![Method::PublicKey],
        partial: false,
    }
}

fn refused(user: &UserName, key: &[u8], reason: &str) {
    tracing::info!(
        target: "audit",
        event = "auth.refused",
        user = %user,
        method = "publickey",
        key = key::fingerprint(key),
        reason,
    );
}
