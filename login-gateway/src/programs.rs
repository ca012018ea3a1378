//! The programs that the listener starts, and what each of them is started with.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::ValueEnum;
use service::Failure;
use service::log::LogArgs;
use sys::spawn::Spawn;

/// Paths, resolved once at the start, and the environment of every child.
#[derive(Debug, Clone)]
pub struct Programs {
    /// This program; a newer one may lie there later.
    pub listener: PathBuf,
    accept: PathBuf,
    monitor: PathBuf,
    /// Also makes and checks host keys.
    pub net: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// All that must lie beside the listener.
pub const SIBLINGS: [&str; 5] = [
    "login-gateway-accept",
    "login-gateway-monitor",
    "login-gateway-net",
    "login-gateway-session",
    "sftp-server",
];

/// Bytes of a monitor's first argument, so that it can show a user's name in `ps`.
const TITLE_ROOM: usize = 120;

impl Programs {
    /// Finds them beside this one.
    pub fn find(log: &LogArgs) -> Result<Self, Failure> {
        let format = log.log_format.to_possible_value();
        let format = format.map_or("text".into(), |f| f.get_name().to_owned());
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("LOG_FORMAT".into(), format.into()),
            ("LOG_LEVEL".into(), log.log_level.to_string().into()),
        ];
        // The zone of the service is its users' too.
        environment.extend(std::env::vars_os().filter(|(name, _)| name == "TZ"));
        Ok(Self {
            listener: service::sibling("login-gateway")?,
            accept: service::sibling("login-gateway-accept")?,
            monitor: service::sibling("login-gateway-monitor")?,
            net: service::sibling("login-gateway-net")?,
            environment,
        })
    }

    /// Starts accept with its listening sockets; the result is its process id.
    pub fn start_accept(
        &self,
        settings: OwnedFd,
        link: OwnedFd,
        ssh: Vec<OwnedFd>,
        health: Option<OwnedFd>,
    ) -> io::Result<i32> {
        let (listeners, checks) = (ssh.len().to_string(), health.iter().len().to_string());
        let mut spawn = Spawn::new(&self.accept)
            .arg0("login-gateway-accept")
            .args(["--listeners", &listeners, "--health", &checks])
            .env(self.environment.clone())
            .inherit_stderr()
            .new_session()
            .fd(0, settings)
            .fd(3, link);
        for (number, socket) in (4..).zip(ssh.into_iter().chain(health)) {
            spawn = spawn.fd(number, socket);
        }
        started(spawn)
    }

    /// Starts a monitor that waits for its connection; the result is its process id.
    pub fn start_monitor(&self, settings: OwnedFd, link: OwnedFd) -> io::Result<i32> {
        let spawn = Spawn::new(&self.monitor)
            .arg0(format!("{:TITLE_ROOM$}", "login-gateway-monitor"))
            .env(self.environment.clone())
            .inherit_stderr()
            // A terminal's Ctrl-C is for the listener to answer.
            .new_session()
            .fd(0, settings)
            .fd(3, link);
        started(spawn)
    }
}

/// Children are known by their ids alone: those from before a re-execution have no more.
fn started(spawn: Spawn) -> io::Result<i32> {
    i32::try_from(spawn.start()?.id()).map_err(io::Error::other)
}
