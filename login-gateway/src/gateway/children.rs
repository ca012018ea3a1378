//! What children say and how they end: connections come from accept and go to monitors.

use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gateway_wire::accept::{Endpoints, FromAccept};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::Gateway;
use crate::login_records;
use crate::stopping::Stopping;

/// Messages taken from one child before the others have their turn.
const TURN: usize = 64;
/// Least time between two log lines about refused connections.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

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
                    Ok(Some((FromAccept::Connection(endpoints), socket))) => {
                        connections.extend(socket.map(|socket| (endpoints, socket)));
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
        for (endpoints, socket) in connections {
            self.open(endpoints, &socket);
        }
    }

    /// Gives a connection to a monitor, or closes it.
    fn open(&mut self, endpoints: Endpoints, socket: &OwnedFd) {
        let source = endpoints.source;
        if self.stopping != Stopping::No {
            tracing::info!(event = "connection.refused", %source, reason = "stopping");
            return;
        }
        if self.monitors.startups() >= self.settings.max_startups {
            self.totals.refused += 1;
            self.log_refused(source.ip());
            return;
        }
        let opened = self.login_id().and_then(|login| {
            let (programs, file) = (&self.programs, &self.settings_file);
            self.monitors
                .give(login.clone(), endpoints, socket, programs, file)
                .map(|()| login)
        });
        match opened {
            Ok(login) => {
                self.totals.connections += 1;
                tracing::info!(event = "connection.opened", login, %source);
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

    /// Strangers make these lines, so there is a limit to them; the number is in the metrics.
    fn log_refused(&mut self, source: IpAddr) {
        let now = Instant::now();
        if self
            .refusal_logged
            .is_some_and(|last| now < last + LOG_INTERVAL)
        {
            return;
        }
        self.refusal_logged = Some(now);
        let total = self.totals.refused;
        tracing::warn!(event = "connection.refused", %source, reason = "max-startups", total);
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
            self.totals.logins += self.monitors.hear(pid);
            if let Some(login) = self.monitors.ended(pid, &how, sound, now) {
                let recorded = self.settings.login_records && self.settings.user.is_some();
                if let Some(login) = login.filter(|_| recorded && !sound) {
                    login_records::log_out(pid, &login);
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
