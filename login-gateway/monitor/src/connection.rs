//! One connection from waiting to logout. Each state takes the messages that are allowed in it; a
//! message out of order ends the connection.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use gateway_wire::doors::Failure;
use gateway_wire::monitor::{
    Connection, FromMonitor, FromNet, GRACE_IS_OVER, Line, Serve, ToMonitor, ToNet,
};
use gateway_wire::numbers::{Step, Tally, Traffic};
use gateway_wire::{MAX_MESSAGE, Settings, UserName};

use nix::sys::socket::shutdown;

use crate::account;
use crate::authentication::{Authentication, Outcome};
use crate::limits::{Due, Limits};
use crate::link::{Event, Link, NET_ENDED, TERMINATED};
use crate::login_records::LoginRecords;
use crate::recordings::Recordings;
use crate::terminals;
use crate::trace::{self, Trace};
use crate::user_session::{self, AuthenticatedUser, UserSession};

/// What the end of a connection says that net did not tell of; nothing if we were told to end it.
fn failure_of(why: &str) -> Option<Failure> {
    (why != TERMINATED).then_some(Failure::Crash)
}

/// net enforces the grace time; the monitor ends a net that does not, this much later.
const GRACE_MARGIN: Duration = Duration::from_secs(5);

/// More than a keeper of a shell needs to end it in time; the monitor ends those that do not.
const KEEPER_MARGIN: Duration = Duration::from_secs(10);

/// How a login's time with its connection ended.
struct Logout {
    reason: String,
    traffic: Traffic,
    /// Nobody has ended it: the line has dropped, or the client has gone.
    dropped: bool,
}

/// What is kept of a login's terminals.
struct Terminals {
    records: LoginRecords,
    /// Where the policy wants recordings.
    record: Option<Recordings>,
}

impl Terminals {
    fn show(&self, words: &str) {
        terminals::show(self.records.uid(), self.records.terminals(), words);
    }
}

/// The monitor, before its connection.
pub struct Monitor {
    /// The gateway's settings.
    pub settings: Settings,
    /// Shared with PAM's conversation, which speaks to net while a PAM module runs.
    pub link: Rc<RefCell<Link>>,
}

impl Monitor {
    /// Waits for the connection and sees it through.
    pub fn run(self) -> io::Result<()> {
        match self.wait(None, None, true)? {
            Event::Net(FromNet::Sandboxed) => {}
            Event::End(why) => {
                self.end_net();
                return Err(io::Error::other(format!(
                    "login-gateway-net did not start: {why}"
                )));
            }
            _ => return Err(io::Error::other("net spoke out of order")),
        }
        let Event::Listener = self.wait(None, None, false)? else {
            self.end_net();
            return Ok(());
        };
        let mut buffer = vec![0; MAX_MESSAGE];
        let (n, fds) = sys::fds::recv_with_fds(&self.link.borrow().listener, &mut buffer)?;
        let Some(socket) = fds.into_iter().next().filter(|_| n > 0) else {
            // The listener is done with waiting monitors.
            self.end_net();
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
        self.end_net();
        ended
    }

    fn serve(&self, connection: &Connection, socket: &OwnedFd) -> io::Result<()> {
        let endpoints = connection.endpoints;
        let serve = Serve { endpoints };
        self.link.borrow().net.serve(&serve, socket.as_fd())?;
        let deadline = Instant::now() + self.settings.login_grace_time + GRACE_MARGIN;
        let mut authentication =
            Authentication::new(&self.settings, endpoints, self.link.clone(), deadline)?;
        let user = self.authenticate(&mut authentication, deadline);
        self.report(&FromMonitor::Tally(authentication.tally()))?;
        let (trace, came_to_a_question) = authentication.into_trace();
        match user? {
            Some(user) => self.logged_in(user, connection, socket, trace),
            None => {
                // Those who only knock leave no trace.
                if came_to_a_question {
                    self.keep(&trace, connection, trace::Ended::Refused);
                }
                Ok(())
            }
        }
    }

    fn keep(&self, trace: &Trace, connection: &Connection, result: trace::Ended<'_>) {
        if let Some(file) = &self.settings.traces
            && let Err(error) = trace.write(file, connection, result)
        {
            tracing::warn!(event = "trace.failed", file = %file.display(), %error);
        }
    }

    /// Answers net's questions until somebody may log in, or the connection has ended.
    fn authenticate(
        &self,
        authentication: &mut Authentication<'_>,
        deadline: Instant,
    ) -> io::Result<Option<AuthenticatedUser>> {
        let mut waiting = None;
        // Whoever has proved who they are has not failed.
        let mut is_denied = false;
        loop {
            let event = match waiting.take() {
                Some(event) => event,
                None => self.wait(None, Some(deadline), true)?,
            };
            let (reason, failure) = match event {
                Event::Net(FromNet::Ended { reason, .. }) => {
                    let failure = authentication.failure(&reason);
                    (reason, Some(failure))
                }
                Event::Deadline => {
                    let reason = self.ended_by_us(GRACE_IS_OVER);
                    (reason, Some(Failure::GraceExceeded))
                }
                Event::End(why) => (self.ended_by_us(why), failure_of(why)),
                Event::Net(message) => match authentication.take(message)? {
                    Outcome::Answer(answer) => {
                        self.answer(answer, None)?;
                        continue;
                    }
                    // net ends the connection.
                    Outcome::Denied(words) => {
                        is_denied = true;
                        self.report(&FromMonitor::Denied)?;
                        self.answer(ToNet::Denied { words }, None)?;
                        continue;
                    }
                    Outcome::Interrupted(event) => {
                        waiting = Some(event);
                        continue;
                    }
                    Outcome::RefusedAltogether => {
                        self.farewell("Not allowed at this time");
                        let reason = "refuse-connection".to_owned();
                        (reason, Some(Failure::RefuseConnection))
                    }
                    Outcome::Authenticated(user) => match self.may_log_in(&user, deadline)? {
                        Ok(()) => return Ok(Some(*user)),
                        Err(words) => {
                            is_denied = true;
                            self.report(&FromMonitor::Denied)?;
                            self.answer(ToNet::Denied { words }, None)?;
                            continue;
                        }
                    },
                },
                _ => return Err(io::Error::other("net spoke out of order")),
            };
            tracing::info!(
                target: "audit",
                event = "connection.ended",
                reason,
                authenticated = false
            );
            if let Some(failure) = failure.filter(|_| !is_denied) {
                self.report(&FromMonitor::Failed(failure))?;
            }
            return Ok(None);
        }
    }

    /// Asks the listener, where there is a limit; the words of its refusal. What net says meanwhile is
    /// left in its socket, and a listener that has gone counts nobody.
    fn may_log_in(
        &self,
        user: &AuthenticatedUser,
        deadline: Instant,
    ) -> io::Result<Result<(), String>> {
        let max_logins = user.policy().max_logins;
        if max_logins == 0 || user.is_break_glass() {
            return Ok(Ok(()));
        }
        let user = user.account().name.clone();
        self.report(&FromMonitor::MayLogIn { user, max_logins })?;
        self.link.borrow().wait_for_listener(deadline)?;
        Ok(match self.hear_listener() {
            Ok(Some(ToMonitor::End(words))) => Err(words),
            _ => Ok(()),
        })
    }

    fn logged_in(
        &self,
        user: AuthenticatedUser,
        connection: &Connection,
        socket: &OwnedFd,
        mut trace: Trace,
    ) -> io::Result<()> {
        let name = user.account().name.clone();
        let uid = user.account().identity.uid;
        let of_directory = user.account().of_directory;
        let (time, interval) = (user.policy().session_time.0, self.settings.account_interval);
        let record = user.policy().record_terminals;
        let reattach = user.policy().reattach_time.0;
        // The client hears "accepted" while the session is being opened.
        self.answer(ToNet::Accepted, None)?;
        self.report(&FromMonitor::Authenticated(name.clone()))?;
        // The login at the end is how sackd-shim knows whose token it makes.
        let title = format!("login-gateway-monitor: {name} [priv] {}", connection.login);
        let _ = sys::process::set_title(&title);
        let policy = user.policy().clone();
        let begun = Instant::now();
        let opened = user_session::open(
            &self.settings,
            user,
            connection.endpoints,
            &connection.login,
        );
        let (mut session, for_net) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(event = "session.failed", user = %name, %error);
                trace.took(Step::Session, begun);
                self.keep(&trace, connection, trace::Ended::Refused);
                self.report(&FromMonitor::NoSession)?;
                // What execve says of a user who is over RLIMIT_NPROC.
                self.farewell(if error.kind() == io::ErrorKind::WouldBlock {
                    "Your session could not be opened: no more processes can be started, end some of yours first"
                } else {
                    "Your session could not be opened"
                });
                return Ok(());
            }
        };
        self.answer(ToNet::Session(Box::new(policy)), Some(&for_net))?;
        drop(for_net);
        let mut tally = Tally::default();
        tally.took(Step::Session, begun.elapsed());
        trace.took(Step::Session, begun);
        self.keep(&trace, connection, trace::Ended::Opened(name.as_str()));
        self.report(&FromMonitor::Tally(tally))?;
        tracing::info!(target: "audit", event = "session.opened", user = %name);
        let source = connection.endpoints.source.ip();
        let records = LoginRecords::new(&self.settings, name.clone(), uid, source);
        let record = record
            .then(|| Recordings::new(&self.settings.recordings, name.clone(), &connection.login));
        let mut terminals = Terminals { records, record };
        let mut limits = Limits::new(time, interval, of_directory, Instant::now());
        let Logout {
            mut reason,
            traffic,
            dropped,
        } = self.until_logout(&mut session, &mut terminals, &mut limits, &name);
        // Nothing is open on a connection that has ended.
        let traffic = Traffic {
            open: Default::default(),
            ..traffic
        };
        self.report(&FromMonitor::Traffic(traffic))?;
        // While the session lives: its terminals are still its own.
        let Terminals { records, record } = terminals;
        drop(records);
        // Without net the session's socket closes, and the session with it.
        self.end_net();
        // net writes no more.
        drop(record);
        if let Some(time) = reattach {
            // The client must not wait while its shells do.
            let _ = shutdown(socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
            let ended = if dropped {
                self.until_the_last_shell(&mut session, &mut limits, &name, uid, time)
            } else {
                Some(reason.clone())
            };
            if let Some(why) = ended {
                reason = why;
                session.end();
            }
        }
        session.close();
        tracing::info!(
            target: "audit",
            event = "session.closed",
            user = %name,
            reason,
            bytes_in = traffic.bytes_in,
            bytes_out = traffic.bytes_out,
        );
        Ok(())
    }

    /// Tells the client that we end it.
    fn farewell(&self, words: &str) -> Option<Traffic> {
        self.link.borrow_mut().net.farewell(words)
    }

    fn ended_by_us(&self, why: &str) -> String {
        self.farewell("The server has ended this connection");
        why.to_owned()
    }

    /// Tells the listener. One that has gone needs no report.
    fn report(&self, report: &FromMonitor) -> io::Result<()> {
        let report = gateway_wire::encode(report).map_err(io::Error::other)?;
        let _ = sys::fds::send_with_fds(&self.link.borrow().listener, &report, &[]);
        Ok(())
    }

    /// What the listener says; `None` if it has gone. A gateway that restarts keeps its end.
    fn hear_listener(&self) -> io::Result<Option<ToMonitor>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (n, _) = sys::fds::recv_with_fds(&self.link.borrow().listener, &mut buffer)?;
        match n {
            0 => Ok(None),
            n => Ok(Some(
                gateway_wire::decode(&buffer[..n]).map_err(io::Error::other)?,
            )),
        }
    }

    /// Without a line: until the session has ended with the last shell that it keeps, or must end; then
    /// the result says why.
    fn until_the_last_shell(
        &self,
        session: &mut UserSession,
        limits: &mut Limits,
        user: &UserName,
        uid: u32,
        time: Duration,
    ) -> Option<String> {
        let mut line = Line::Connected;
        let mut since = Instant::now();
        let mut listener_lives = true;
        loop {
            let now = session.acts.line();
            if let Some(now) = now.filter(|now| *now != line) {
                let first = line == Line::Connected;
                (line, since) = (now, Instant::now());
                let _ = self.report(&FromMonitor::Line(line));
                for number in session.acts.terminals().filter(|_| first) {
                    let _ = self.report(&FromMonitor::Terminal { number, open: true });
                }
                if line == Line::Detached {
                    tracing::info!(target: "audit", event = "session.detached", user = %user);
                } else {
                    tracing::info!(target: "audit", event = "session.reattached", user = %user);
                }
            }
            let end = match now {
                Some(Line::Reattached) => None,
                Some(_) => Some(since + time + KEEPER_MARGIN),
                // It hears its file servers out, and is gone.
                None => Some(since + KEEPER_MARGIN),
            };
            let deadline = [end, limits.next()].into_iter().flatten().min();
            let event = self
                .link
                .borrow_mut()
                .wait_without_net(session, deadline, listener_lives);
            match event {
                Ok(Event::SessionEnded) => return None,
                Ok(Event::Listener) => match self.hear_listener() {
                    Ok(Some(ToMonitor::Message(text))) => {
                        terminals::show(uid, session.acts.terminals(), &text);
                    }
                    Ok(Some(ToMonitor::End(words))) => {
                        terminals::show(uid, session.acts.terminals(), &words);
                        return Some("ended by an administrator".into());
                    }
                    Ok(Some(ToMonitor::Welcome)) => {}
                    Ok(None) | Err(_) => listener_lives = false,
                },
                Ok(Event::Deadline) if end.is_some_and(|end| end <= Instant::now()) => {
                    return Some("reattach-time is over".into());
                }
                Ok(Event::Deadline) => {
                    let refusal = || account::refusal(&self.settings, user);
                    match limits.look(Instant::now(), refusal) {
                        Due::Nothing => {}
                        Due::Warn(words) => {
                            terminals::show(uid, session.acts.terminals(), words);
                        }
                        Due::End(why, words) => {
                            terminals::show(uid, session.acts.terminals(), words);
                            return Some(why);
                        }
                    }
                }
                Ok(Event::End(why)) => return Some(why.into()),
                Ok(Event::Told | Event::Net(_)) => {}
                Err(error) => return Some(error.to_string()),
            }
        }
    }

    /// The reason of the end, and what net said last that it has carried.
    fn until_logout(
        &self,
        session: &mut UserSession,
        terminals: &mut Terminals,
        limits: &mut Limits,
        user: &UserName,
    ) -> Logout {
        // The end is ours, unless net tells us of it.
        let ended = |why: String, words: &str, last| Logout {
            dropped: why == NET_ENDED,
            traffic: self.farewell(words).unwrap_or(last),
            reason: why,
        };
        let mut listener_lives = true;
        let mut carried = Traffic::default();
        loop {
            let event = self.wait(Some(session), limits.next(), !listener_lives);
            let why = match event {
                Ok(Event::Net(FromNet::Ended { reason, traffic })) => {
                    return Logout {
                        reason,
                        traffic,
                        dropped: true,
                    };
                }
                Ok(Event::Net(FromNet::Traffic(traffic))) => {
                    carried = traffic;
                    match self.report(&FromMonitor::Traffic(traffic)) {
                        Ok(()) => continue,
                        Err(error) => error.to_string(),
                    }
                }
                Ok(Event::Net(FromNet::Terminal { number, open })) => {
                    match self.terminal(terminals, number, open) {
                        Ok(()) => continue,
                        Err(error) => error.to_string(),
                    }
                }
                Ok(Event::Listener) => match self.hear_listener() {
                    Ok(Some(ToMonitor::Message(text))) => {
                        terminals.show(&text);
                        continue;
                    }
                    Ok(Some(ToMonitor::End(words))) => {
                        return ended("ended by an administrator".into(), &words, carried);
                    }
                    // It was asked before.
                    Ok(Some(ToMonitor::Welcome)) => continue,
                    // The login lives on without it.
                    Ok(None) | Err(_) => {
                        listener_lives = false;
                        continue;
                    }
                },
                Ok(Event::Deadline) => {
                    let refusal = || account::refusal(&self.settings, user);
                    match limits.look(Instant::now(), refusal) {
                        Due::Nothing => continue,
                        Due::Warn(words) => {
                            terminals.show(words);
                            continue;
                        }
                        Due::End(why, words) => return ended(why, words, carried),
                    }
                }
                Ok(Event::Told) => continue,
                // A user may end it.
                Ok(Event::SessionEnded) => "the session program ended".into(),
                Ok(Event::End(why)) => {
                    if why == NET_ENDED {
                        // It did not say that it would.
                        let _ = self.report(&FromMonitor::Failed(Failure::Crash));
                    }
                    why.into()
                }
                Ok(Event::Net(_)) => "net spoke out of order".into(),
                Err(error) => error.to_string(),
            };
            return ended(why, "The server has ended this login", carried);
        }
    }

    /// A terminal was opened or closed.
    fn terminal(&self, terminals: &mut Terminals, number: u32, open: bool) -> io::Result<()> {
        if open {
            let file = terminals.record.as_mut().map(|record| record.open(number));
            let file = file.transpose().map_err(|error| {
                io::Error::other(format!("a terminal cannot be recorded: {error}"))
            })?;
            terminals.records.opened(number);
            self.answer(ToNet::Accepted, file.as_ref())?;
        } else {
            terminals.records.closed(number);
            if let Some(record) = &mut terminals.record {
                record.close(number);
            }
        }
        self.report(&FromMonitor::Terminal { number, open })
    }

    fn wait(
        &self,
        session: Option<&mut UserSession>,
        deadline: Option<Instant>,
        only_net: bool,
    ) -> io::Result<Event> {
        self.link.borrow_mut().wait(session, deadline, only_net)
    }

    fn answer(&self, answer: ToNet, fd: Option<&OwnedFd>) -> io::Result<()> {
        let fds: Vec<_> = fd.into_iter().map(AsFd::as_fd).collect();
        self.link.borrow().net.answer(answer, &fds)
    }

    fn end_net(&self) {
        self.link.borrow_mut().net.end();
    }
}
