//! What an administrator's request does.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gateway_wire::control::{Answer, Request, Status, Whom};
use gateway_wire::monitor::ToMonitor;

use super::Gateway;
use crate::out_of_memory::OutOfMemory;
use crate::stopping::{Drain, Stopping};

impl Gateway {
    pub(super) fn obey_commands(&mut self) {
        // Its connections are not the gateway's while it answers.
        let mut control = std::mem::take(&mut self.control);
        control.go_on(|request| self.obey(request));
        self.control = control;
    }

    fn obey(&mut self, request: Request) -> Answer {
        let now = Instant::now();
        match request {
            Request::Status => Answer::Status(self.status(now)),
            Request::Sessions => Answer::Sessions(self.monitors.connected()),
            Request::Message { to, text } => {
                let (logins, terminals) = self.monitors.tell(&to, &ToMonitor::Message(text));
                tracing::info!(target: "audit", event = "sessions.message", to = ?to, logins, terminals);
                Answer::Told { logins, terminals }
            }
            Request::Kick { to, text } => {
                let number = self.monitors.end(&to, &text);
                tracing::info!(target: "audit", event = "sessions.kick", to = ?to, connections = number);
                Answer::Done(number)
            }
            Request::Drain { .. } | Request::CancelDrain
                if matches!(self.stopping, Stopping::Ending(_)) =>
            {
                Answer::Refused("the gateway is ending".into())
            }
            Request::Drain { within, reason } => {
                let reason = match reason.as_str() {
                    "" => &self.settings.drain_reason,
                    reason => reason,
                };
                let drain = Drain::new(within, reason, now);
                self.drain(drain);
                Answer::Done(self.monitors.logins().count())
            }
            Request::CancelDrain => {
                if self.stopping != Stopping::No {
                    self.stopping = Stopping::No;
                    tracing::warn!(event = "gateway.serving", "the drain was cancelled");
                    let words = "This login node takes logins again and goes on.".to_owned();
                    self.monitors.tell(&Whom::All, &ToMonitor::Message(words));
                    service::ready();
                }
                Answer::Done(self.monitors.logins().count())
            }
        }
    }

    fn status(&mut self, now: Instant) -> Status {
        let health = self.health(now);
        let ends = self.stopping.by().and_then(|by| {
            let at = SystemTime::now().checked_add(by.saturating_duration_since(now))?;
            Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs())
        });
        let startups = self.monitors.startups();
        Status {
            state: self.stopping.name().to_owned(),
            ready: health.ready && self.accepts.iter().any(|a| a.ready && a.is_current()),
            ends,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            listen: self.sockets.ssh.iter().map(|s| s.bound()).collect(),
            startups,
            logins: self.monitors.logins().count() - startups,
            warm: self.monitors.warm(),
            connections_total: self.totals.connections,
            logins_total: self.totals.logins,
            refused_total: self.totals.refused,
            memory: OutOfMemory::here(&self.settings).to_string(),
        }
    }
}
