//! What signals order: to read the configuration again, to end.

use std::io;
use std::path::Path;
use std::time::Instant;

use gateway_wire::control::Whom;
use gateway_wire::monitor::ToMonitor;
use nix::sys::signal::Signal;

use super::Gateway;
use crate::config;
use crate::reexec::{Reload, reexec};
use crate::sockets::Sockets;
use crate::stopping::{Drain, Stopping};

impl Gateway {
    pub(super) fn answer_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.next()? {
            match (signal, &self.reload) {
                (Signal::SIGCHLD, _) => self.reap(),
                (Signal::SIGHUP, Reload::Config(path)) => {
                    let path = path.clone();
                    self.reload(&path);
                }
                _ => self.stop(),
            }
        }
        Ok(())
    }

    /// The first signal drains, the second ends. One that follows a command to drain is the first.
    fn stop(&mut self) {
        let now = Instant::now();
        service::ready::stopping();
        let within = Some(self.settings.drain_time).filter(|time| !time.is_zero());
        match &mut self.stopping {
            _ if matches!(self.reload, Reload::End) => self.end(now),
            Stopping::No => {
                let mut drain = Drain::new(within, &self.settings.drain_reason, now);
                drain.signalled(within, now);
                self.drain(drain);
            }
            Stopping::Draining(drain) => {
                if !drain.signalled(within, now) {
                    self.end(now);
                }
            }
            Stopping::Ending(_) => self.end(now),
        }
    }

    /// Takes no more logins. accept goes on: it tells clients why, and answers health checks.
    pub(super) fn drain(&mut self, drain: Drain) {
        if self.stopping == Stopping::No {
            self.totals.numbers.drains += 1;
        }
        self.stopping = Stopping::Draining(drain);
        self.monitors.dismiss_warm();
        self.log_stage();
    }

    /// Ends every login.
    fn end(&mut self, now: Instant) {
        self.stopping = Stopping::ending(now);
        self.log_stage();
        self.sockets.ssh.clear();
        for accept in &mut self.accepts {
            accept.end();
        }
        self.monitors.dismiss_warm();
        self.monitors.terminate_all();
    }

    fn log_stage(&self) {
        let connections = self.monitors.logins().count();
        let stage = self.stopping.name();
        tracing::info!(event = "gateway.stopping", stage, connections);
    }

    /// Tells people what is due, and ends what has had its time.
    pub(super) fn go_on_stopping(&mut self, now: Instant) {
        let Stopping::Draining(drain) = &mut self.stopping else {
            return;
        };
        let words = drain.words(now);
        let over = drain.left(now).is_some_and(|left| left.is_zero());
        if let Some(words) = words {
            self.monitors.tell(&Whom::All, &ToMonitor::Message(words));
        }
        if over {
            self.end(now);
        }
    }

    /// Becomes the program anew, if the new configuration can be served with.
    fn reload(&mut self, path: &Path) {
        if self.stopping != Stopping::No {
            tracing::warn!(event = "reload.ignored", reason = "stopping");
            return;
        }
        let settings = match config::load_sound(path) {
            Ok(settings) => settings,
            Err(error) => {
                tracing::error!(event = "reload.failed", %error, "going on as before");
                return;
            }
        };
        // New sockets are made by this program, which can still go on without them.
        let sockets = match Sockets::of(&settings, &mut self.sockets) {
            Ok(sockets) => sockets,
            Err(error) => {
                let error = service::exit::chain(&error);
                tracing::error!(event = "reload.failed", error, "going on as before");
                return;
            }
        };
        let mut removed = std::mem::replace(&mut self.sockets, sockets);
        tracing::info!(event = "gateway.reload");
        let failed = reexec(
            &self.programs.listener,
            &settings,
            &self.sockets,
            &self.accepts,
            &self.monitors,
            self.totals,
            self.doors.carried(Instant::now()),
        );
        let Err(error) = failed;
        let error = service::exit::chain(&error);
        tracing::error!(event = "reload.failed", error, "going on as before");
        // The current accept still serves the old addresses, and only those.
        removed.merge(std::mem::take(&mut self.sockets));
        match Sockets::of(&self.settings, &mut removed) {
            Ok(sockets) => self.sockets = sockets,
            Err(error) => {
                let reason = service::exit::chain(&error);
                tracing::error!(event = "listen.failed", reason);
                self.sockets = removed;
            }
        }
    }
}
