//! A new program in the same process: listening sockets, children and counts are carried over in a
//! memory file, so that a reload or an upgrade is noticed by nobody who is logged in.
//!
//! The file is JSON: the next program may be a newer one, which knows more keys or fewer.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gateway_wire::accept::{Counts, TurnedAway};
use gateway_wire::monitor::Line;
use gateway_wire::numbers::{Numbers, Traffic};
use gateway_wire::{Settings, UserName};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use sys::memfd::Shared;

use crate::accept_child::AcceptChild;
use crate::monitors::{Login, Monitors};
use crate::penalties;
use crate::sockets::{Socket, Sockets};

/// Names the memory file: `PID:DESCRIPTOR`. The process id keeps a stale value from being believed.
const VARIABLE: &str = "LOGIN_GATEWAY_CARRIED";
/// Largest memory file: some hundred bytes for each connection and each penalty.
const LIMIT: usize = 64 << 20;

/// What SIGHUP does.
#[derive(Debug, Clone)]
pub enum Reload {
    /// Reads this file and re-executes the program.
    Config(PathBuf),
    /// Ends it: the terminal is gone.
    End,
}

/// Why a carried state cannot be taken up, or not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum ReexecError {
    /// The memory file is not there or not ours.
    #[error("take over from the program before")]
    TakeOver(#[source] io::Error),
    /// It is not what a listener writes.
    #[error("read what the program before left")]
    Malformed(#[from] serde_json::Error),
    /// The new program was not started.
    #[error("start '{path}'", path = path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What the program before has left, taken over.
#[derive(Debug)]
pub struct Resumed {
    /// The settings with which it would have gone on.
    pub settings: Settings,
    pub sockets: Sockets,
    /// They go on until there is a new one.
    pub accepts: Vec<AcceptChild>,
    /// Those that have connections.
    pub monitors: Monitors,
    pub totals: Totals,
    pub penalties: penalties::Carried,
}

/// Counts since the first start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Connections taken.
    pub connections: u64,
    /// Connections that authenticated.
    pub logins: u64,
    /// Connections closed because `max-startups` was reached.
    pub refused: u64,
    /// Connections closed before that.
    pub away: TurnedAway,
    /// What accept has counted.
    pub counts: Counts,
    /// All other counts.
    #[serde(deserialize_with = "or_anew")]
    pub numbers: Numbers,
}

/// What another version keeps in another shape begins anew; nothing else suffers from that.
fn or_anew<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    from: D,
) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// What is written to the memory file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Carried {
    settings: Settings,
    ssh: Vec<(SocketAddr, RawFd)>,
    health: Option<(SocketAddr, RawFd)>,
    accepts: Vec<(i32, RawFd)>,
    logins: Vec<CarriedLogin>,
    totals: Totals,
    #[serde(deserialize_with = "or_anew")]
    penalties: penalties::Carried,
}

#[derive(Debug, Serialize, Deserialize)]
struct CarriedLogin {
    pid: i32,
    socket: Option<RawFd>,
    id: String,
    source: SocketAddr,
    user: Option<UserName>,
    opened: u64,
    terminals: BTreeSet<u32>,
    #[serde(default, deserialize_with = "or_anew")]
    traffic: Traffic,
    #[serde(default)]
    line: Line,
}

/// What the program before has left, if there was one. Call before anything else is opened.
pub fn resume() -> Result<Option<Resumed>, ReexecError> {
    let Ok(value) = std::env::var(VARIABLE) else {
        return Ok(None);
    };
    let Some(fd) = value
        .split_once(':')
        .filter(|(pid, _)| *pid == std::process::id().to_string())
        .and_then(|(_, fd)| fd.parse().ok())
    else {
        return Ok(None);
    };
    let file = sys::fds::take_inherited(fd).map_err(ReexecError::TakeOver)?;
    let bytes = sys::fds::read_shared(&file, LIMIT).map_err(ReexecError::TakeOver)?;
    let carried: Carried = serde_json::from_slice(&bytes)?;

    let socket = |(address, fd)| take(fd).map(|fd| Socket { address, fd });
    let mut monitors = Monitors::default();
    for login in carried.logins {
        let known = Login {
            id: login.id,
            source: login.source,
            user: login.user,
            opened: login.opened,
            terminals: login.terminals,
            place_of: None,
            no_login: None,
            traffic: login.traffic,
            line: login.line,
        };
        monitors.adopt(login.pid, login.socket.and_then(take), known);
    }
    let accepts = carried.accepts.into_iter();
    Ok(Some(Resumed {
        settings: carried.settings,
        sockets: Sockets {
            ssh: carried.ssh.into_iter().filter_map(socket).collect(),
            health: carried.health.and_then(socket),
        },
        accepts: accepts
            .map(|(pid, fd)| AcceptChild::known(pid, take(fd)))
            .collect(),
        monitors,
        totals: carried.totals,
        penalties: carried.penalties,
    }))
}

/// A descriptor that the program before has left. A connection's end is told by its process, so
/// one that is missing costs no more than a number.
fn take(fd: RawFd) -> Option<OwnedFd> {
    sys::fds::take_inherited(fd)
        .inspect_err(|error| tracing::error!(event = "reload.lost", fd, %error))
        .ok()
}

/// Becomes the program at `path`, started with the arguments of this one. Returns only if that
/// failed; everything is then as it was.
///
/// Monitors that wait for a connection are not carried over: they have the old settings, and end
/// when their sockets do.
pub fn reexec(
    path: &Path,
    settings: &Settings,
    sockets: &Sockets,
    accepts: &[AcceptChild],
    monitors: &Monitors,
    totals: Totals,
    penalties: penalties::Carried,
) -> Result<Infallible, ReexecError> {
    let mut kept: Vec<BorrowedFd<'_>> = Vec::new();
    let mut carried = Carried {
        settings: settings.clone(),
        totals,
        penalties,
        ..Carried::default()
    };
    for socket in &sockets.ssh {
        kept.push(socket.fd.as_fd());
        carried.ssh.push((socket.address, socket.fd.as_raw_fd()));
    }
    if let Some(socket) = &sockets.health {
        kept.push(socket.fd.as_fd());
        carried.health = Some((socket.address, socket.fd.as_raw_fd()));
    }
    for accept in accepts {
        if let Some(socket) = &accept.socket {
            kept.push(socket.as_fd());
            carried.accepts.push((accept.pid, socket.as_raw_fd()));
        }
    }
    for (pid, monitor) in monitors.iter() {
        let Some(login) = monitor.login.clone() else {
            continue;
        };
        kept.extend(monitor.socket.as_ref().map(AsFd::as_fd));
        carried.logins.push(CarriedLogin {
            pid,
            socket: monitor.socket.as_ref().map(AsRawFd::as_raw_fd),
            id: login.id,
            source: login.source,
            user: login.user,
            opened: login.opened,
            terminals: login.terminals,
            traffic: login.traffic,
            line: login.line,
        });
    }

    let start = |source| ReexecError::Start {
        path: path.into(),
        source,
    };
    let file = Shared::new("carried", &serde_json::to_vec(&carried)?).map_err(start)?;
    let file = file.reader().map_err(start)?;
    kept.push(file.as_fd());
    close_on_exec(&kept, FdFlag::empty());
    let carried = format!("{}:{}", std::process::id(), file.as_raw_fd());
    let error = execute(path, &carried);
    close_on_exec(&kept, FdFlag::FD_CLOEXEC);
    Err(start(error))
}

/// By `execve(2)` itself: `execvp(3)`, which std calls, would hand a half-written program to the
/// shell as a script.
fn execute(path: &Path, carried: &str) -> io::Error {
    let text = |bytes: &[u8]| CString::new(bytes);
    let run = || {
        let program = text(path.as_os_str().as_bytes())?;
        let arguments = std::env::args_os().map(|a| text(a.as_bytes()));
        let others = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
        let variables =
            others.map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
        let own = text(format!("{VARIABLE}={carried}").as_bytes());
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let variables = variables.chain([own]).collect::<Result<Vec<_>, _>>()?;
        Ok(nix::unistd::execve(&program, &arguments, &variables)?)
    };
    let Err(error): io::Result<Infallible> = run();
    error
}

fn close_on_exec(fds: &[BorrowedFd<'_>], flag: FdFlag) {
    for fd in fds {
        // Fails for no open descriptor.
        let _ = fcntl(fd, FcntlArg::F_SETFD(flag));
    }
}
