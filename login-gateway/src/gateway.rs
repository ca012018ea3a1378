//! The loop: waits for children and signals, and keeps the right number of children alive.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use gateway_wire::Settings;
use gateway_wire::accept::{Endpoints, FromAccept, Health};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use service::{Exit, Failure};
use sys::memfd::Shared;
use sys::signals::Signals;

use crate::accept_child::{AcceptChild, awaited};
use crate::backoff::Backoff;
use crate::config;
use crate::monitors::Monitors;
use crate::programs::Programs;
use crate::reexec::{Reload, Resumed, Totals, reexec};
use crate::sockets::Sockets;
use crate::stopping::Stopping;

/// Messages taken from one child before the others have their turn.
const TURN: usize = 64;
/// Least time between two log lines about refused connections.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The listener with all that it has.
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    settings_file: Shared,
    programs: Programs,
    reload: Reload,
    sockets: Sockets,
    /// The last one is the current one, unless it is on its way out.
    accepts: Vec<AcceptChild>,
    accept_backoff: Backoff,
    monitors: Monitors,
    totals: Totals,
    signals: Signals,
    random: File,
    stopping: Stopping,
    refusal_logged: Option<Instant>,
}

impl Gateway {
    /// Opens what is needed; children are started by [`Gateway::run`].
    ///
    /// # Errors
    /// If an address cannot be listened on, and others of the system.
    pub fn start(
        settings: Settings,
        programs: Programs,
        reload: Reload,
        resumed: Option<Resumed>,
    ) -> Result<Self, Failure> {
        let signals = Signals::of(&[
            Signal::SIGCHLD,
            Signal::SIGHUP,
            Signal::SIGTERM,
            Signal::SIGINT,
        ])?;
        let is_first = resumed.is_none();
        let (mut old, accepts, monitors, totals) = match resumed {
            Some(r) => (r.sockets, r.accepts, r.monitors, r.totals),
            None => Default::default(),
        };
        let sockets = match Sockets::of(&settings, &mut old) {
            Ok(sockets) => sockets,
            Err(error) if is_first => {
                let hint = format!(
                    "see who has it: ss -ltnp 'sport = :{}'",
                    error.address.port()
                );
                return Err(Failure::new(Exit::Failure, error).hint(hint));
            }
            // The program before could bind it; the others are worth more than this one.
            Err(error) => {
                let reason = service::exit::chain(&error);
                tracing::error!(event = "listen.failed", reason);
                old
            }
        };
        let bytes = gateway_wire::encode(&settings)?;
        Ok(Self {
            settings_file: Shared::new("settings", &bytes)?,
            settings,
            programs,
            reload,
            sockets,
            accepts,
            accept_backoff: Backoff::default(),
            monitors,
            totals,
            signals,
            random: File::open("/dev/urandom")?,
            stopping: Stopping::No,
            refusal_logged: None,
        })
    }

    /// The first address that is served, with its real port.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.sockets.ssh.first().map(|s| s.bound())
    }

    /// Serves until the end that signals ask for.
    ///
    /// # Errors
    /// If waiting itself fails.
    pub fn run(mut self) -> io::Result<()> {
        for socket in self.sockets.all() {
            tracing::info!(event = "gateway.listening", address = %socket.bound());
        }
        // What ended during a re-execution has sent its signal to the program before.
        self.reap();
        loop {
            self.tend(Instant::now());
            let ended = match self.stopping {
                Stopping::No => false,
                Stopping::Draining => self.monitors.logins().next().is_none(),
                Stopping::Ending(by) => {
                    self.monitors.logins().next().is_none() || by <= Instant::now()
                }
            };
            if ended {
                for accept in &mut self.accepts {
                    accept.end();
                }
                tracing::info!(event = "gateway.ended");
                return Ok(());
            }
            let speaking = self.wait()?;
            self.hear_accepts();
            for pid in speaking {
                self.totals.logins += self.monitors.hear(pid);
            }
            self.answer_signals()?;
        }
    }

    /// Waits until a child has something to say, a signal comes, or something is due; the result
    /// is the monitors that speak.
    fn wait(&self) -> io::Result<Vec<i32>> {
        let monitors = self.monitors.iter();
        let (pids, sockets): (Vec<i32>, Vec<BorrowedFd<'_>>) = monitors
            .filter_map(|(pid, m)| Some((pid, awaited(&m.socket)?)))
            .unzip();
        let accepts = self.accepts.iter().filter_map(|a| awaited(&a.socket));
        let mut fds: Vec<_> = sockets
            .into_iter()
            .chain(accepts)
            .chain([self.signals.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();

        let now = Instant::now();
        let paused = [self.accept_backoff.until(), self.monitors.paused_until()];
        let due = paused.into_iter().flatten().filter(|until| *until > now);
        let due = due
            .chain(self.accepts.iter().filter_map(|a| a.retired))
            .chain(self.stopping.by())
            .min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let wait = due.saturating_duration_since(now) + Duration::from_millis(1);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let speaks = |fd: &PollFd<'_>| fd.revents().is_none_or(|events| !events.is_empty());
        let speaking = pids.into_iter().zip(&fds).filter(|(_, fd)| speaks(fd));
        Ok(speaking.map(|(pid, _)| pid).collect())
    }

    /// Starts what is missing, ends what is late, and tells accept the numbers.
    fn tend(&mut self, now: Instant) {
        let has_sockets = self.sockets.all().next().is_some();
        let has_current = self.accepts.iter().any(AcceptChild::is_current);
        if has_sockets
            && !has_current
            && self.accept_backoff.allows(now)
            && !matches!(self.stopping, Stopping::Ending(_))
        {
            match AcceptChild::start(&self.programs, &self.settings_file, &self.sockets) {
                Ok(accept) => self.accepts.push(accept),
                Err(error) => {
                    tracing::error!(event = "accept.failed", %error);
                    self.accept_backoff.ended(now, now);
                }
            }
        }
        for accept in &mut self.accepts {
            if accept.retired.is_some_and(|by| by <= now) {
                accept.end();
            }
        }
        if self.stopping == Stopping::No {
            let (programs, file) = (&self.programs, &self.settings_file);
            self.monitors
                .keep_warm(self.settings.warm, programs, file, now);
        }
        let health = self.health();
        for accept in self.accepts.iter_mut().filter(|a| a.ready) {
            accept.tell(health);
        }
    }

    fn health(&self) -> Health {
        let startups = self.monitors.startups();
        let all = self.monitors.logins().count();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Health {
            ready: self.stopping == Stopping::No,
            startups: number(startups),
            logins: number(all - startups),
            connections_total: self.totals.connections,
            logins_total: self.totals.logins,
            refused_total: self.totals.refused,
        }
    }

    fn hear_accepts(&mut self) {
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
            tracing::info!(event = "gateway.ready", accept = pid);
            if self.stopping == Stopping::No {
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

    fn answer_signals(&mut self) -> io::Result<()> {
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
    fn reload(&mut self, path: &std::path::Path) {
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

    fn reap(&mut self) {
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
            if self.monitors.ended(pid, &how, sound, now).is_some() {
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

impl Drop for Gateway {
    /// An accept that was not told to end would serve nobody.
    fn drop(&mut self) {
        for accept in &self.accepts {
            let _ = kill(Pid::from_raw(accept.pid), Signal::SIGTERM);
        }
    }
}
