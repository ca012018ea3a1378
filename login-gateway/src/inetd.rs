//! `login-gateway inetd`: one connection on standard input and output, with everything that a
//! served one has but a listening socket, accept and a health endpoint. This process stands where
//! the listener stands, for one monitor. A PROXY header is not read here: whoever starts this
//! program has the connection already.

mod relay;
mod streams;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use gateway_wire::Settings;
use gateway_wire::monitor::{Connection, FromMonitor, ToMonitor};
use gateway_wire::timeout::Time;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, geteuid};
use service::{Exit, Failure};
use sys::fds::{recv_with_fds, send_with_fds, seqpacket_pair};
use sys::memfd::Shared;
use sys::signals::Signals;

use self::streams::Streams;
use crate::accept_child::non_blocking;
use crate::arguments::{Arguments, Inetd};
use crate::programs::Programs;
use crate::{check, config, dev};

/// Longest message of the monitor's: a user name and some bytes.
const MAX_MESSAGE: usize = 512;
/// Time for the last bytes to reach a reader of standard output after the connection's end.
const LAST_BYTES: Duration = Duration::from_secs(10);

/// Serves the connection to its end; fails if nobody logged in or a part of us failed.
pub fn run(options: &Inetd, arguments: &Arguments) -> Result<(), Failure> {
    let shares_stderr = streams::stderr_is_the_connection();
    let streams = Streams::of_this_process()?;
    match &options.log_file {
        Some(path) => log_to(path)?,
        // What is logged there would go to the client.
        None if shares_stderr => log_to(Path::new("/dev/null"))?,
        None => {}
    }
    service::log::init(&arguments.log);
    let settings = without_reattaching(settings(arguments)?);
    let programs = Programs::find(&arguments.log)?;
    let signals = Signals::of(&[
        Signal::SIGCHLD,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
    ])?;
    let (link, theirs) = seqpacket_pair()?;
    non_blocking(&link)?;
    let shared = Shared::new("settings", &gateway_wire::encode(&settings)?)?;
    let monitor = Monitor {
        pid: programs.start_monitor(shared.reader()?, theirs)?,
        link,
        signals,
    };
    let endpoints = streams.endpoints();
    let login = login_id()?;
    tracing::info!(event = "connection.opened", login, source = %endpoints.source);
    let (socket, relay) = streams.into_socket()?;
    let connection = Connection {
        login: login.clone(),
        endpoints,
    };
    let message = gateway_wire::encode(&connection)?;
    if let Err(error) = send_with_fds(&monitor.link, &message, &[socket.as_fd()]) {
        // It has ended before it could serve; how it ended is what matters.
        tracing::warn!(event = "monitor.lost", %error);
    }
    drop(socket);
    let ended = monitor.until_its_end();
    if let Some(relay) = relay {
        relay.finish(LAST_BYTES);
    }
    let ended = ended?;
    tracing::info!(event = "connection.closed", login, source = %endpoints.source);
    match ended {
        Ended::AfterLogin => Ok(()),
        Ended::WithoutLogin => Err(Failure::new(
            Exit::Connection,
            "the connection ended before a login",
        )),
        Ended::Unsound(how) => {
            let cause = format!("login-gateway-monitor ended with {how}");
            Err(Failure::new(Exit::Connection, cause))
        }
    }
}

/// From here on this process and its children write there.
fn log_to(path: &Path) -> Result<(), Failure> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| {
            let cause = format!("open log file '{}': {error}", path.display());
            Failure::new(Exit::Failure, cause)
        })?;
    Ok(dup2_stderr(file)?)
}

/// Those of the file, or of whoever is not root and has named none.
fn settings(arguments: &Arguments) -> Result<Settings, Failure> {
    if geteuid().is_root() {
        return config::load_checked(arguments.config(), check::problems_of_one_connection)
            .map_err(config::Unsound::failure);
    }
    if arguments.config.is_none() {
        return dev::own_settings(&Programs::find(&arguments.log)?);
    }
    let settings = config::load_checked(arguments.config(), |_| Vec::new())
        .map_err(config::Unsound::failure)?;
    // What only root can do.
    Ok(Settings {
        user: None,
        pam_service: None,
        control_socket: None,
        make_home: false,
        login_records: false,
        ..settings
    })
}

/// Whoever has started this process waits for its end with the connection's.
fn without_reattaching(mut settings: Settings) -> Settings {
    settings.reattach_time = Time(None);
    for block in &mut settings.r#match {
        block.reattach_time = None;
    }
    settings
}

/// Eight hexadecimal digits.
fn login_id() -> io::Result<String> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}

/// The one monitor.
struct Monitor {
    pid: i32,
    link: OwnedFd,
    signals: Signals,
}

/// How a connection was.
enum Ended {
    AfterLogin,
    WithoutLogin,
    Unsound(String),
}

impl Monitor {
    /// Waits for its end; SIGTERM and SIGINT hasten it.
    fn until_its_end(&self) -> io::Result<Ended> {
        let mut authenticated = false;
        let mut link_open = true;
        loop {
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if link_open {
                fds.push(PollFd::new(self.link.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            link_open = link_open && self.hear(&mut authenticated);
            while let Some(signal) = self.signals.next()? {
                // ssh hangs up on a ProxyCommand that it is done with; the streams end as well, and
                // then the login ends in order.
                if matches!(signal, Signal::SIGTERM | Signal::SIGINT) {
                    let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
                }
            }
            let how = match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, 0) => None,
                WaitStatus::Exited(_, code) => Some(format!("exit code {code}")),
                WaitStatus::Signaled(_, signal, _) => Some(signal.to_string()),
                _ => continue,
            };
            // Its last words may still be in its socket.
            self.hear(&mut authenticated);
            return Ok(match how {
                Some(how) => Ended::Unsound(how),
                None if authenticated => Ended::AfterLogin,
                None => Ended::WithoutLogin,
            });
        }
    }

    fn welcome(&self) {
        let sent = gateway_wire::encode(&ToMonitor::Welcome)
            .is_ok_and(|bytes| send_with_fds(&self.link, &bytes, &[]).is_ok());
        if !sent {
            tracing::error!(event = "monitor.lost");
        }
    }

    /// Takes what it has to say; whether it may say more.
    fn hear(&self, authenticated: &mut bool) -> bool {
        let mut buffer = [0; MAX_MESSAGE];
        loop {
            match recv_with_fds(&self.link, &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) | Ok((0, _)) => return false,
                Ok((length, _)) => match gateway_wire::decode(&buffer[..length]) {
                    // Nobody counts the logins of separate processes.
                    Ok(FromMonitor::MayLogIn { .. }) => self.welcome(),
                    Ok(FromMonitor::Authenticated(_)) => *authenticated = true,
                    Ok(_) => {}
                    Err(error) => tracing::error!(event = "monitor.malformed", %error),
                },
            }
        }
    }
}
