//! The monitors: those that wait for a connection and those that have one. A connection is over
//! when its monitor has ended; its socket says only that it has authenticated.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gateway_wire::UserName;
use gateway_wire::accept::Endpoints;
use gateway_wire::control::{Connected, Whom};
use gateway_wire::monitor::{Connection, FromMonitor, Line, ToMonitor};
use gateway_wire::numbers::{NoLogin, Numbers, Traffic};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sys::fds::{recv_with_fds, send_with_fds, seqpacket_pair};
use sys::memfd::Shared;

use crate::accept_child::non_blocking;
use crate::backoff::Backoff;
use crate::programs::Programs;

/// Longest message: a user name, or some twenty numbers.
const MAX_MESSAGE: usize = 512;

/// Terminals of one login that are listed.
const MAX_TERMINALS: usize = 256;

/// Logins of one user whose line has dropped; the one that dropped first ends for a further one.
const MAX_DETACHED: usize = 8;

/// A monitor process.
#[derive(Debug)]
pub struct Monitor {
    pub socket: Option<OwnedFd>,
    pub started: Instant,
    /// Its connection, once it has one.
    pub login: Option<Login>,
    /// It was told to end before it had one.
    dismissed: bool,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Login {
    /// Its name in every log line.
    pub id: String,
    pub source: SocketAddr,
    /// Who it is, once authenticated.
    pub user: Option<UserName>,
    /// Seconds since the epoch.
    pub opened: u64,
    /// N of each `/dev/pts/N` that it has.
    pub terminals: BTreeSet<u32>,
    /// Whose place it has taken before it is a login: two that ask at once must not both get the last.
    pub place_of: Option<UserName>,
    /// Why it will be no login, if that is known.
    pub no_login: Option<NoLogin>,
    /// What it has carried so far.
    pub traffic: Traffic,
    /// How it is reached.
    pub line: Line,
}

/// What monitors have said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    /// Logins that came to be.
    pub authenticated: u64,
    /// Logins that `max-logins` refused.
    pub refused: u64,
}

/// All of them, by process id.
#[derive(Debug, Default)]
pub struct Monitors {
    all: BTreeMap<i32, Monitor>,
    backoff: Backoff,
}

impl Monitors {
    /// Takes in one that was there before a re-execution.
    pub fn adopt(&mut self, pid: i32, socket: Option<OwnedFd>, login: Login) {
        let monitor = Monitor {
            socket,
            started: Instant::now(),
            login: Some(login),
            dismissed: false,
        };
        self.all.insert(pid, monitor);
    }

    /// Each with its process id.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Monitor)> {
        self.all.iter().map(|(pid, monitor)| (*pid, monitor))
    }

    /// Connections that have not yet authenticated.
    pub fn startups(&self) -> usize {
        self.logins().filter(|l| l.user.is_none()).count()
    }

    /// All connections.
    pub fn logins(&self) -> impl Iterator<Item = &Login> {
        self.all.values().filter_map(|m| m.login.as_ref())
    }

    /// Starts monitors until `wanted` wait for a connection.
    pub fn keep_warm(
        &mut self,
        wanted: usize,
        programs: &Programs,
        settings: &Shared,
        now: Instant,
    ) {
        let waiting = self.all.values().filter(|m| m.is_warm()).count();
        for _ in waiting..wanted {
            if !self.backoff.allows(now) {
                return;
            }
            if let Err(error) = self.start(programs, settings) {
                tracing::error!(event = "monitor.failed", %error);
                self.backoff.ended(now, now);
            }
        }
    }

    /// When [`Monitors::keep_warm`] may try again, if it may not now.
    pub fn paused_until(&self) -> Option<Instant> {
        self.backoff.until()
    }

    fn start(&mut self, programs: &Programs, settings: &Shared) -> io::Result<i32> {
        let (ours, theirs) = seqpacket_pair()?;
        non_blocking(&ours)?;
        let pid = programs.start_monitor(settings.reader()?, theirs)?;
        let monitor = Monitor {
            socket: Some(ours),
            started: Instant::now(),
            login: None,
            dismissed: false,
        };
        self.all.insert(pid, monitor);
        Ok(pid)
    }

    /// Gives a connection to a monitor: one that waits, or else a new one.
    ///
    /// # Errors
    /// If none can be started. One that has died while it waited is passed over.
    pub fn give(
        &mut self,
        id: String,
        endpoints: Endpoints,
        socket: &OwnedFd,
        programs: &Programs,
        settings: &Shared,
    ) -> io::Result<()> {
        let message = Connection {
            login: id.clone(),
            endpoints,
        };
        let message = gateway_wire::encode(&message).map_err(io::Error::other)?;
        for _ in 0..=self.all.len() {
            let warm = self.all.iter().find(|(_, m)| m.is_warm());
            let pid = match warm.map(|(pid, _)| *pid) {
                Some(pid) => pid,
                None => self.start(programs, settings)?,
            };
            let Some(monitor) = self.all.get_mut(&pid) else {
                continue;
            };
            let Some(link) = &monitor.socket else {
                continue;
            };
            if let Err(error) = send_with_fds(link, &message, &[socket.as_fd()]) {
                tracing::warn!(event = "monitor.lost", pid, %error);
                // It is not warm without its socket, so the next round takes another.
                monitor.socket = None;
                continue;
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            monitor.login = Some(Login {
                id,
                source: endpoints.source,
                user: None,
                opened: now.unwrap_or_default().as_secs(),
                terminals: BTreeSet::new(),
                place_of: None,
                no_login: None,
                traffic: Traffic::default(),
                line: Line::Connected,
            });
            return Ok(());
        }
        Err(io::Error::other("every monitor has ended"))
    }

    /// Takes what a monitor has to say; what it has counted goes into `numbers`.
    pub fn hear(&mut self, pid: i32, numbers: &mut Numbers) -> Heard {
        let mut heard = Heard::default();
        while let Some(message) = self.all.get_mut(&pid).and_then(Monitor::next) {
            if let Ok(FromMonitor::MayLogIn { user, max_logins }) = &message {
                heard.refused += u64::from(!self.may_log_in(pid, user, *max_logins));
                continue;
            }
            let Some(monitor) = self.all.get_mut(&pid) else {
                break;
            };
            if let (Ok(FromMonitor::Line(line)), Some(login)) = (&message, &mut monitor.login) {
                // Its own terminals have gone with its connection.
                if login.line == Line::Connected {
                    login.terminals.clear();
                }
                login.line = *line;
                if let Some(user) = login.user.clone().filter(|_| *line == Line::Detached) {
                    self.bound_detached(&user);
                }
                continue;
            }
            match (message, &mut monitor.login) {
                (Ok(FromMonitor::Authenticated(user)), Some(login)) if login.user.is_none() => {
                    login.user = Some(user);
                    heard.authenticated += 1;
                }
                (Ok(FromMonitor::Failed(failure)), Some(login)) if login.no_login.is_none() => {
                    login.no_login = Some(NoLogin::Failed(failure));
                }
                (Ok(FromMonitor::Denied), Some(login)) => login.no_login = Some(NoLogin::Denied),
                (Ok(FromMonitor::NoSession), Some(login)) => {
                    login.no_login = Some(NoLogin::Session);
                }
                (Ok(FromMonitor::Tally(tally)), Some(_)) => numbers.add(&tally),
                (Ok(FromMonitor::Traffic(traffic)), Some(login)) => {
                    numbers.carried(&login.traffic, &traffic);
                    login.traffic = traffic;
                }
                (Ok(FromMonitor::Terminal { number, open: true }), Some(login))
                    if login.terminals.len() < MAX_TERMINALS =>
                {
                    login.terminals.insert(number);
                }
                (Ok(FromMonitor::Terminal { number, .. }), Some(login)) => {
                    login.terminals.remove(&number);
                }
                _ => {
                    tracing::error!(event = "monitor.malformed", pid);
                    monitor.socket = None;
                    terminate(pid);
                }
            }
        }
        heard
    }

    /// Ends what one user has left behind, if it is too much.
    fn bound_detached(&self, user: &UserName) {
        let all = self
            .all
            .iter()
            .filter_map(|(pid, m)| Some((*pid, m.login.as_ref()?)));
        let mut left: Vec<(u64, i32)> = all
            .filter(|(_, l)| l.line == Line::Detached && l.user.as_ref() == Some(user))
            .map(|(pid, login)| (login.opened, pid))
            .collect();
        left.sort_unstable();
        for (_, pid) in left.iter().rev().skip(MAX_DETACHED) {
            terminate(*pid);
        }
    }

    /// Answers whether one more login of this user may be.
    fn may_log_in(&mut self, pid: i32, user: &UserName, max_logins: u32) -> bool {
        let has = |who: &Option<UserName>| who.as_ref() == Some(user);
        // Who comes back to a shell must find a place to come in by.
        let connected = self.logins().filter(|l| l.line == Line::Connected);
        let logins = connected.filter(|l| has(&l.user) || has(&l.place_of));
        let number = logins.count();
        let may = number < max_logins as usize;
        let answer = if may {
            ToMonitor::Welcome
        } else {
            tracing::warn!(target: "audit", event = "login.refused", %user, reason = "max-logins", number);
            ToMonitor::End(format!(
                "You are logged in {number} times on this login node, and more is not allowed"
            ))
        };
        let monitor = self.all.get_mut(&pid);
        let Some(monitor) = monitor.filter(|m| m.login.as_ref().is_some_and(|l| l.user.is_none()))
        else {
            return may;
        };
        let sent = gateway_wire::encode(&answer).is_ok_and(|bytes| {
            let socket = monitor.socket.as_ref();
            socket.is_some_and(|socket| send_with_fds(socket, &bytes, &[]).is_ok())
        });
        if !sent {
            terminate(pid);
        } else if may && let Some(login) = &mut monitor.login {
            login.place_of = Some(user.clone());
        }
        may
    }

    /// Notes that a child has ended; `None` if it was no monitor, else its connection.
    pub fn ended(
        &mut self,
        pid: i32,
        how: &str,
        sound: bool,
        now: Instant,
    ) -> Option<Option<Login>> {
        let monitor = self.all.remove(&pid)?;
        if monitor.login.is_none() && !monitor.dismissed {
            tracing::error!(event = "monitor.failed", pid, ended = how);
            self.backoff.ended(monitor.started, now);
        }
        if let Some(login) = &monitor.login {
            let (login, source, opened) = (&login.id, login.source, login.opened);
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let seconds = now.unwrap_or_default().as_secs().saturating_sub(opened);
            if sound {
                tracing::info!(event = "connection.closed", login, %source, seconds);
            } else {
                tracing::warn!(event = "connection.closed", login, %source, seconds, ended = how);
            }
        }
        Some(monitor.login)
    }

    /// Lets those go that wait for a connection: they end when their socket does.
    pub fn dismiss_warm(&mut self) {
        for monitor in self.all.values_mut().filter(|m| m.is_warm()) {
            monitor.socket = None;
            monitor.dismissed = true;
        }
    }

    /// Those that wait for a connection.
    pub fn warm(&self) -> usize {
        self.all.values().filter(|m| m.is_warm()).count()
    }

    /// Every connection, the oldest first.
    pub fn connected(&self) -> Vec<Connected> {
        let mut all: Vec<Connected> = self
            .all
            .iter()
            .filter_map(|(pid, monitor)| Some((*pid, monitor.login.as_ref()?)))
            .map(|(pid, login)| Connected {
                login: login.id.clone(),
                user: login.user.clone(),
                source: login.source,
                opened: login.opened,
                pid,
                terminals: login.terminals.iter().copied().collect(),
                line: login.line,
            })
            .collect();
        all.sort_by_key(|login| (login.opened, login.pid));
        all
    }

    fn chosen<'a>(&'a self, whom: &'a Whom) -> impl Iterator<Item = (i32, &'a Monitor, &'a Login)> {
        let all = self.all.iter();
        let all = all.filter_map(|(pid, m)| Some((*pid, m, m.login.as_ref()?)));
        all.filter(move |(_, _, login)| match whom {
            Whom::All => true,
            Whom::User(user) => login.user.as_ref() == Some(user),
            Whom::Login(id) => login.id == *id,
        })
    }

    /// Sends this to the monitors of these logins; the number of those that could take it, and of the
    /// terminals that they have.
    pub fn tell(&self, whom: &Whom, message: &ToMonitor) -> (usize, usize) {
        let Ok(bytes) = gateway_wire::encode(message) else {
            return (0, 0);
        };
        let logged_in = self
            .chosen(whom)
            .filter(|(_, _, login)| login.user.is_some());
        let told = logged_in.filter(|(_, monitor, _)| {
            let socket = monitor.socket.as_ref();
            socket.is_some_and(|socket| send_with_fds(socket, &bytes, &[]).is_ok())
        });
        told.fold((0, 0), |(logins, terminals), (_, _, login)| {
            (logins + 1, terminals + login.terminals.len())
        })
    }

    /// Ends these connections with words, those that cannot hear them without; their number.
    pub fn end(&self, whom: &Whom, words: &str) -> usize {
        let message = gateway_wire::encode(&ToMonitor::End(words.to_owned()));
        let mut number = 0;
        for (pid, monitor, login) in self.chosen(whom) {
            let told = match (&message, &monitor.socket) {
                (Ok(bytes), Some(socket)) if login.user.is_some() => {
                    send_with_fds(socket, bytes, &[]).is_ok()
                }
                _ => false,
            };
            if !told {
                terminate(pid);
            }
            number += 1;
        }
        number
    }

    /// Ends every connection.
    pub fn terminate_all(&self) {
        for pid in self.all.keys() {
            terminate(*pid);
        }
    }
}

impl Monitor {
    /// Waits for a connection.
    fn is_warm(&self) -> bool {
        self.login.is_none() && self.socket.is_some()
    }

    /// The next message, `None` if there is none now or ever.
    fn next(&mut self) -> Option<Result<FromMonitor, ()>> {
        let socket = self.socket.as_ref()?;
        let mut buffer = [0; MAX_MESSAGE];
        match recv_with_fds(socket, &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) | Ok((0, _)) => {
                self.socket = None;
                None
            }
            Ok((length, fds)) if fds.is_empty() => {
                Some(gateway_wire::decode(&buffer[..length]).map_err(drop))
            }
            Ok(_) => Some(Err(())),
        }
    }
}

fn terminate(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
}
