//! What children say and how they end: connections come from accept and go to monitors.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use gateway_wire::accept::{Endpoints, FromAccept};
use gateway_wire::doors::Failure;
use gateway_wire::numbers::NoLogin;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::Gateway;
use crate::doors::{self, Refusal};
use crate::login_records;
use crate::monitors::Login;
use crate::stopping::Stopping;

/// Messages taken from one child before the others have their turn.
const TURN: usize = 64;
/// What a connection hears that is closed at once. A line before the version is no SSH yet (RFC 4253,
/// section 4.2); clients show it with -v.
const NOT_NOW: &[u8] = b"Not allowed at this time\r\n";

impl Gateway {
    pub(super) fn hear_accepts(&mut self) {
        let mut connections = Vec::new();
        let mut became_ready = None;
        for accept in &mut self.accepts {
            for _ in 0..TURN {
                match accept.next() {
                    Ok(None) => break,
                    Ok(Some((FromAccept::Ready, _))) => {
                        accept.ready = true;
                        became_ready = Some(accept.pid);
                    }
                    Ok(Some((FromAccept::Counted(counts), _))) => self.totals.counts.add(&counts),
                    Ok(Some((FromAccept::Connection(endpoints), socket))) => {
                        connections.extend(socket.map(|socket| (endpoints, Vec::new(), socket)));
                    }
                    Ok(Some((FromAccept::Balanced(endpoints, said), socket))) => {
                        connections.extend(socket.map(|socket| (endpoints, said, socket)));
                    }
                    Err(error) => {
                        let reason = service::exit::chain(&error);
                        tracing::error!(event = "accept.malformed", pid = accept.pid, reason);
                        accept.end();
                    }
                }
            }
        }
        if let Some(pid) = became_ready {
            let now = Instant::now();
            for old in self.accepts.iter_mut().filter(|a| a.pid != pid) {
                old.retire(now);
            }
            if self.stopping == Stopping::No {
                tracing::info!(event = "gateway.ready", accept = pid);
                service::ready();
            }
        }
        for (endpoints, said, socket) in connections {
            self.open(endpoints, &said, socket);
        }
    }

    /// Gives a connection to a monitor, or closes it.
    fn open(&mut self, endpoints: Endpoints, said: &[(String, String)], socket: OwnedFd) {
        let source = endpoints.source;
        if self.stopping != Stopping::No {
            tracing::info!(event = "connection.refused", %source, reason = "stopping");
            return;
        }
        if let Some(why) = self.refusal(source.ip()) {
            // A gateway that is full says nothing. Whoever does not take it does not need it.
            if why != Refusal::Full {
                let _ = TcpStream::from(socket).write(NOT_NOW);
            }
            return;
        }
        let opened = self.login_id().and_then(|login| {
            let (programs, file) = (&self.programs, &self.settings_file);
            self.monitors
                .give(login.clone(), endpoints, &socket, programs, file)
                .map(|()| login)
        });
        match opened {
            Ok(login) => {
                self.totals.connections += 1;
                if said.is_empty() {
                    tracing::info!(event = "connection.opened", login, %source);
                } else {
                    let said = said.iter().map(|(name, value)| format!("{name}={value}"));
                    let balancer = said.collect::<Vec<_>>().join(" ");
                    tracing::info!(event = "connection.opened", login, %source, balancer);
                }
            }
            Err(error) => tracing::error!(event = "connection.failed", %source, %error),
        }
    }

    /// Eight hexadecimal digits that name no living connection.
    fn login_id(&mut self) -> io::Result<String> {
        loop {
            let mut bytes = [0; 4];
            self.random.read_exact(&mut bytes)?;
            let id = format!("{:08x}", u32::from_be_bytes(bytes));
            if self.monitors.logins().all(|l| l.id != id) {
                return Ok(id);
            }
        }
    }

    pub(super) fn hear_monitor(&mut self, pid: i32) {
        let heard = self.monitors.hear(pid, &mut self.totals.numbers);
        self.totals.logins += heard.authenticated;
        self.totals.away.logins += heard.refused;
    }

    fn refusal(&mut self, source: IpAddr) -> Option<Refusal> {
        let now = Instant::now();
        let waiting = self.monitors.logins().filter(|l| l.user.is_none());
        let waiting: Vec<IpAddr> = waiting.map(|l| l.source.ip()).collect();
        let mut chance = [0; 4];
        if self.settings.early_drop.start > 0 && self.random.read_exact(&mut chance).is_err() {
            tracing::error!(event = "random.failed");
        }
        let chance = u32::from_be_bytes(chance) % 100;
        let refused = self
            .doors
            .refuse(&self.settings, source, &waiting, chance, now);
        if let Some(why) = refused {
            doors::count(&mut self.totals.away, &mut self.totals.refused, why);
            self.doors.refused(why, source, now);
        }
        refused
    }

    /// A connection is over: one without a login is counted, and a failure costs its source time.
    fn closed(&mut self, login: &Login, sound: bool, now: Instant) {
        let why = match login.no_login {
            _ if !sound => Some(NoLogin::Failed(Failure::Crash)),
            None if login.user.is_none() => Some(NoLogin::Ended),
            why => why,
        };
        let Some(why) = why else {
            return;
        };
        self.totals.numbers.no_login(why);
        if let NoLogin::Failed(failure) = why {
            let source = login.source.ip();
            self.doors
                .failed(&self.settings, &login.id, source, failure, now);
        }
    }

    pub(super) fn reap(&mut self) {
        let now = Instant::now();
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, how, sound) = match status {
                WaitStatus::Exited(pid, code) => (pid, format!("exit code {code}"), code == 0),
                WaitStatus::Signaled(pid, signal, _) => (pid, signal.to_string(), false),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            let pid = pid.as_raw();
            // Its last words may still be in its socket.
            self.hear_monitor(pid);
            if let Some(login) = self.monitors.ended(pid, &how, sound, now) {
                if let Some(login) = login {
                    self.closed(&login, sound, now);
                    if !sound && self.settings.login_records && self.settings.user.is_some() {
                        login_records::log_out(pid, &login);
                    }
                }
                continue;
            }
            let Some(at) = self.accepts.iter().position(|a| a.pid == pid) else {
                continue;
            };
            self.hear_accepts();
            let accept = self.accepts.remove(at);
            if accept.is_current() {
                tracing::error!(event = "accept.failed", pid, ended = how);
                self.accept_backoff.ended(accept.started, now);
            }
        }
    }
}
