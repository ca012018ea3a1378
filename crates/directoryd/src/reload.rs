//! A new configuration without an end: the same process runs the program again, which finds both sockets open. Whoever
//! asks meanwhile waits for its start and is answered; running programs have their maps.

use std::{
    convert::Infallible,
    ffi::CString,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{
            ffi::OsStrExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::{Deserialize, Serialize};
use service::exit::chain;

use crate::config::{Config, Domain};

/// What the next program is told of its sockets, as JSON.
const VARIABLE: &str = "DIRECTORYD_SOCKETS";
/// How long those who are being answered are waited for. New ones wait that much longer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Carried {
    /// Of the process: a value that came from elsewhere is not believed.
    pid: u32,
    /// By path, with their numbers.
    sockets: Vec<(PathBuf, RawFd)>,
}

/// The sockets that the program before has left. Call before anything else is opened.
pub fn left() -> Vec<(PathBuf, UnixListener)> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let carried = serde_json::from_str(&text).ok();
    let carried = carried.filter(|carried: &Carried| carried.pid == std::process::id());
    let sockets = carried.map(|carried| carried.sockets).unwrap_or_default();
    let listeners = sockets.into_iter().filter_map(|(path, number)| {
        let fd = sys::fds::take_inherited(number).ok()?;
        Some((path, UnixListener::from(fd)))
    });
    listeners.collect()
}

/// The new configuration, if it is another; what is wrong with it otherwise.
///
/// # Errors
/// All of that, in one line.
pub fn changed(path: &Path, present: &Config) -> Result<Option<Config>, String> {
    let config = Config::load(path).map_err(|error| chain(&error))?;
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    // In the form in which it can be read again, with all defaults.
    let same = toml::to_string(&config).ok() == toml::to_string(present).ok();
    Ok((!same).then_some(config))
}

/// Whether what is held was read with this configuration too.
pub fn reads_the_same(one: &Config, other: &Config) -> bool {
    let read = |config: &Config| {
        let domains = config.sources().unwrap_or_default();
        let read = domains.iter().map(Domain::fingerprint);
        read.collect::<Vec<_>>()
    };
    read(one) == read(other)
}

/// Becomes the program again, with these sockets. It returns only if that failed, and then there is nothing left to
/// go on with. Signals that come meanwhile wait, since they stay blocked.
pub fn again(sockets: &[(PathBuf, OwnedFd)]) -> io::Error {
    let run = || {
        for (_, socket) in sockets {
            fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        let carried = Carried {
            pid: std::process::id(),
            sockets: sockets
                .iter()
                .map(|(path, socket)| (path.clone(), socket.as_raw_fd()))
                .collect(),
        };
        let own = format!("{VARIABLE}={}", serde_json::to_string(&carried)?);
        let text = |bytes: &[u8]| CString::new(bytes);
        // An upgrade may have put another in its place.
        let program = std::env::current_exe()?;
        let program = program.as_os_str().as_bytes();
        let program = text(program.strip_suffix(b" (deleted)").unwrap_or(program))?;
        let arguments = std::env::args_os().map(|argument| text(argument.as_bytes()));
        let others = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
        let variables =
            others.map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let variables = variables.chain([text(own.as_bytes())]);
        let variables = variables.collect::<Result<Vec<_>, _>>()?;
        Ok(nix::unistd::execve(&program, &arguments, &variables)?)
    };
    let Err(error): io::Result<Infallible> = run();
    error
}

/// Tells the loop at a socket to take nobody any more, and to end when those whom it has are answered.
#[derive(Debug)]
pub struct Closing {
    said: AtomicBool,
    bell: UnixStream,
    rung: UnixStream,
}

impl Closing {
    /// Nothing has been said yet.
    ///
    /// # Errors
    /// If there are no descriptors.
    pub fn new() -> io::Result<Self> {
        let (bell, rung) = UnixStream::pair()?;
        let said = AtomicBool::new(false);
        Ok(Self { said, bell, rung })
    }

    /// Whether it has been.
    pub fn is_said(&self) -> bool {
        self.said.load(Ordering::Acquire)
    }

    /// Says it and waits for the loop's thread, though not for long.
    pub fn wait_for(&self, thread: &JoinHandle<()>) {
        self.said.store(true, Ordering::Release);
        let _ = (&self.bell).write(&[1]);
        let end = Instant::now() + PATIENCE;
        while !thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl AsFd for Closing {
    /// Readable from the moment when it has been said.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rung.as_fd()
    }
}
