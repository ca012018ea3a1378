//! One connection from waiting to logout. Each state takes the messages that are allowed in it; a
//! message out of order ends the connection.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use gateway_wire::monitor::{Connection, FromMonitor, FromNet, Serve, ToNet};
use gateway_wire::{MAX_MESSAGE, Settings};

use crate::authentication::{Authentication, Outcome};
use crate::link::{Event, Link};
use crate::login_records::LoginRecords;
use crate::user_session::{self, AuthenticatedUser, UserSession};

/// net enforces the grace time; the monitor ends a net that does not, this much later.
const GRACE_MARGIN: Duration = Duration::from_secs(5);

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
        let mut waiting = None;
        let user = loop {
            let event = match waiting.take() {
                Some(event) => event,
                None => self.wait(None, Some(deadline), true)?,
            };
            let reason = match event {
                Event::Net(FromNet::Ended { reason, .. }) => reason,
                Event::End(why) => {
                    self.farewell("The server has ended this connection");
                    why.to_owned()
                }
                Event::Net(message) => match authentication.take(message)? {
                    Outcome::Answer(answer) => {
                        self.answer(answer, None)?;
                        continue;
                    }
                    // net ends the connection.
                    Outcome::Denied(words) => {
                        self.answer(ToNet::Denied { words }, None)?;
                        continue;
                    }
                    Outcome::Interrupted(event) => {
                        waiting = Some(event);
                        continue;
                    }
                    Outcome::Authenticated(user) => break *user,
                },
                _ => return Err(io::Error::other("net spoke out of order")),
            };
            tracing::info!(event = "connection.ended", reason, authenticated = false);
            return Ok(());
        };
        self.logged_in(user, connection)
    }

    fn logged_in(&self, user: AuthenticatedUser, connection: &Connection) -> io::Result<()> {
        let name = user.account().name.clone();
        let uid = user.account().identity.uid;
        // The client hears "accepted" while the session is being opened.
        self.answer(ToNet::Accepted, None)?;
        let report = FromMonitor::Authenticated(name.clone());
        let report = gateway_wire::encode(&report).map_err(io::Error::other)?;
        // A listener that has gone needs no report.
        let _ = sys::fds::send_with_fds(&self.link.borrow().listener, &report, &[]);
        // The login at the end is how sackd-shim knows whose token it makes.
        let title = format!("login-gateway-monitor: {name} [priv] {}", connection.login);
        let _ = sys::process::set_title(&title);
        let policy = user.policy().clone();
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
                self.farewell("Your session could not be opened");
                return Ok(());
            }
        };
        self.answer(ToNet::Session(Box::new(policy)), Some(&for_net))?;
        drop(for_net);
        tracing::info!(target: "audit", event = "session.opened", user = %name);
        let source = connection.endpoints.source.ip();
        let mut records = LoginRecords::new(&self.settings, name.clone(), uid, source);
        let (reason, bytes) = self.until_logout(&mut session, &mut records);
        let bytes = bytes
            .or_else(|| self.farewell("The server has ended this login"))
            .unwrap_or_default();
        // While the session lives: its terminals are still its own.
        drop(records);
        // Without net the session's socket closes, and the session with it.
        self.end_net();
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

    /// Tells the client that we end it.
    fn farewell(&self, words: &str) -> Option<(u64, u64)> {
        self.link.borrow_mut().net.farewell(words)
    }

    /// The reason of the end, and the bytes in and out if net has said them.
    fn until_logout(
        &self,
        session: &mut UserSession,
        records: &mut LoginRecords,
    ) -> (String, Option<(u64, u64)>) {
        loop {
            match self.wait(Some(session), None, true) {
                Ok(Event::Net(FromNet::Ended {
                    reason,
                    bytes_in,
                    bytes_out,
                })) => {
                    return (reason, Some((bytes_in, bytes_out)));
                }
                Ok(Event::Net(FromNet::Terminal { number, open: true })) => {
                    records.opened(number);
                    if let Err(error) = self.answer(ToNet::Accepted, None) {
                        return (error.to_string(), None);
                    }
                }
                Ok(Event::Net(FromNet::Terminal { number, .. })) => records.closed(number),
                // The listener may restart; the login lives on.
                Ok(Event::Listener) => {}
                Ok(Event::SessionEnded) => return ("the session program ended".into(), None),
                Ok(Event::End(why)) => return (why.into(), None),
                Ok(Event::Net(_)) => return ("net spoke out of order".into(), None),
                Err(error) => return (error.to_string(), None),
            }
        }
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
