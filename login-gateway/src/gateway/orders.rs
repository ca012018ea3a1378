//! What signals order: to read the configuration again, to end.

use std::io;
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::Gateway;
use crate::config;
use crate::reexec::{Reload, reexec};
use crate::sockets::Sockets;
use crate::stopping::Stopping;

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

    fn stop(&mut self) {
        let at_once = matches!(self.reload, Reload::End);
        self.stopping = self.stopping.signalled(at_once, Instant::now());
        let connections = self.monitors.logins().count();
        let stage = self.stopping.name();
        tracing::info!(event = "gateway.stopping", stage, connections);
        service::ready::stopping();
        // Clients are refused by the kernel from here on; health checks go on, by an accept that
        // has no other socket.
        self.sockets.ssh.clear();
        for accept in &mut self.accepts {
            accept.end();
        }
        self.monitors.dismiss_warm();
        if matches!(self.stopping, Stopping::Ending(_)) {
            self.monitors.terminate_all();
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
