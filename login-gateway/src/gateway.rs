//! The loop: waits for children and signals, and keeps the right number of children alive.

mod children;
mod commands;
mod orders;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use gateway_wire::Settings;
use gateway_wire::accept::Health;
use gateway_wire::monitor::Line;
use gateway_wire::numbers::Channel;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use service::{Exit, Failure};
use sys::memfd::Shared;
use sys::signals::Signals;

use crate::accept_child::{AcceptChild, awaited};
use crate::backoff::Backoff;
use crate::control::Control;
use crate::control_group;
use crate::doors::Doors;
use crate::monitors::Monitors;
use crate::out_of_memory::OutOfMemory;
use crate::programs::Programs;
use crate::reexec::{Reload, Resumed, Totals};
use crate::sockets::Sockets;
use crate::stopping::Stopping;

/// The listener with all that it has.
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    settings_file: Shared,
    programs: Programs,
    reload: Reload,
    sockets: Sockets,
    /// The current one, and old ones that finish what they have begun.
    accepts: Vec<AcceptChild>,
    accept_backoff: Backoff,
    monitors: Monitors,
    totals: Totals,
    signals: Signals,
    random: File,
    control: Control,
    stopping: Stopping,
    doors: Doors,
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
        let (mut old, accepts, monitors, totals, penalties) = match resumed {
            Some(r) => (r.sockets, r.accepts, r.monitors, r.totals, r.penalties),
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
        let group = settings
            .cgroup
            .as_deref()
            .filter(|_| settings.user.is_some());
        match group.map_or(Ok(()), control_group::prepare) {
            Err(error) if is_first => return Err(Failure::new(Exit::Failure, error)),
            Err(error) => {
                let reason = service::exit::chain(&error);
                tracing::error!(event = "cgroup.failed", reason);
            }
            Ok(()) => {}
        }
        let bytes = gateway_wire::encode(&settings)?;
        let settings_control = settings.control_socket.clone();
        Ok(Self {
            settings_file: Shared::new("settings", &bytes)?,
            doors: Doors::new(&settings, penalties, Instant::now()),
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
            control: Control::listen(settings_control.as_deref()),
            stopping: Stopping::No,
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
        match OutOfMemory::here(&self.settings) {
            memory @ OutOfMemory::Everybody(_) => {
                tracing::warn!(event = "gateway.memory", "memory that runs out {memory}");
            }
            memory => tracing::info!(event = "gateway.memory", "memory that runs out {memory}"),
        }
        // What ended during a re-execution has sent its signal to the program before.
        self.reap();
        loop {
            self.tend(Instant::now());
            let ended = match &self.stopping {
                Stopping::No => false,
                Stopping::Draining(_) => self.monitors.logins().next().is_none(),
                Stopping::Ending(by) => {
                    self.monitors.logins().next().is_none() || *by <= Instant::now()
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
                self.hear_monitor(pid);
            }
            self.obey_commands();
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
            .map(|fd| (fd, PollFlags::POLLIN))
            .chain(self.control.awaited())
            .map(|(fd, what)| PollFd::new(fd, what))
            .collect();

        let now = Instant::now();
        let paused = [self.accept_backoff.until(), self.monitors.paused_until()];
        let due = paused.into_iter().flatten().filter(|until| *until > now);
        let due = due
            .chain(self.accepts.iter().filter_map(|a| a.retired))
            .chain(self.stopping.due())
            .chain(self.control.due())
            .chain(self.doors.due())
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
        self.go_on_stopping(now);
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
        let health = self.health(now);
        for accept in self.accepts.iter_mut().filter(|a| a.ready) {
            accept.tell(health);
        }
    }

    fn health(&mut self, now: Instant) -> Health {
        let (penalties, penalised) = self.doors.numbers(now);
        let startups = self.monitors.startups();
        let all = self.monitors.logins().count();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (mut terminals, mut detached) = (0, 0);
        let mut open = [0; Channel::ALL.len()];
        for login in self.monitors.logins() {
            terminals += login.terminals.len();
            detached += usize::from(login.line == Line::Detached);
            for (sum, one) in open.iter_mut().zip(login.traffic.open) {
                *sum += u64::from(one);
            }
        }
        Health {
            ready: self.stopping == Stopping::No,
            draining: matches!(self.stopping, Stopping::Draining(_)),
            startups: number(startups),
            logins: number(all - startups),
            connections_total: self.totals.connections,
            logins_total: self.totals.logins,
            refused_total: self.totals.refused,
            turned_away: self.totals.away,
            penalties,
            penalised: number(penalised),
            terminals: number(terminals),
            detached: number(detached),
            open,
            counts: self.totals.counts,
            numbers: self.totals.numbers,
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
