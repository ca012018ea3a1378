//! Starting one program for a channel: a terminal or three pipes, the environment, the command line.
//! What the user sees before the program is `stage`'s matter, what becomes of it `programs`'.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gateway_wire::session::{Program, Pty, Refusal, Setup, WindowSize, X11};
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::{AccessFlags, Pid, access, ttyname};
use sys::pty::Winsize;
use sys::spawn::Spawn;

use crate::display::Display;
use crate::environment::{self, Facts};
use crate::kept::{Keep, keeper};
use crate::stage::Stage;
use crate::{command, files, greeting, rc, terminal_modes};

/// Room in a pipe between a program and the client, in bytes; the default of 64 KiB makes bulk
/// data wait for a process switch twice as often.
const PIPE_SIZE: i32 = 256 * 1024;

/// What a client wants to run, and around it.
pub struct Wanted<'a> {
    /// The program.
    pub program: &'a Program,
    /// Its terminal.
    pub pty: Option<&'a Pty>,
    /// Variables from the client.
    pub env: &'a [(String, String)],
    /// A display to forward.
    pub x11: Option<&'a X11>,
    /// The same, once it is there.
    pub display: Option<Display>,
    /// Further variables of this login: `SSH_AUTH_SOCK`, `DISPLAY`.
    pub extra: &'a [(OsString, OsString)],
}

/// A program that runs.
pub struct Started {
    /// Its process, the leader of its group.
    pub pid: Pid,
    /// The terminal's master side.
    pub terminal: Option<OwnedFd>,
    /// N of `/dev/pts/N`.
    pub number: Option<u32>,
    /// Where the keeper of a shell tells how it goes.
    pub keeper: Option<OwnedFd>,
    /// Where a file server tells what it does.
    pub files: Option<OwnedFd>,
    /// For net: the terminal's master side and what lets the program begin, or three pipes.
    pub fds: Vec<OwnedFd>,
}

/// A program that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No terminal.
    #[error("open a terminal")]
    Terminal(#[source] io::Error),
    /// No pipes.
    #[error("open pipes")]
    Pipes(#[source] io::Error),
    /// The account's shell is not there, or no program.
    #[error("login shell '{shell}'", shell = shell.display())]
    Shell {
        /// The shell.
        shell: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The user, or the container, has as many processes as it may.
    #[error(
        "no more processes can be started: end some of yours first, or ask for more ('ulimit -u' shows how many)"
    )]
    Processes(#[source] io::Error),
    /// It is no subsystem of this login.
    #[error("unknown subsystem '{0}'")]
    Subsystem(String),
    /// There are as many as the policy allows.
    #[error("no more than {0} shells and commands at one time are permitted")]
    Sessions(u32),
}

impl StartError {
    /// For the client's program.
    pub fn kind(&self) -> Refusal {
        match self {
            Self::Sessions(_) | Self::Subsystem(_) => Refusal::Prohibited,
            Self::Terminal(_) | Self::Pipes(_) | Self::Shell { .. } | Self::Processes(_) => {
                Refusal::Failed
            }
        }
    }
}

/// Starts it.
///
/// # Errors
/// [`StartError`]; its text is for the user's eyes as well.
pub fn start(setup: &Setup, wanted: &Wanted<'_>) -> Result<Started, StartError> {
    let command = command::of(setup, wanted.program).ok_or_else(|| match wanted.program {
        Program::Subsystem(name) => StartError::Subsystem(name.clone()),
        Program::Shell | Program::Exec(_) => StartError::Subsystem(String::new()),
    })?;
    let shell_failed = |source: io::Error| match source.kind() {
        io::ErrorKind::WouldBlock => StartError::Processes(source),
        _ => StartError::Shell {
            shell: command.program.clone(),
            source,
        },
    };
    runnable(&command.program).map_err(shell_failed)?;
    let rc = rc::of(setup, wanted);
    let (heard, record) = match command.records.then(files::pair).transpose() {
        Ok(pair) => pair.unzip(),
        Err(error) => return Err(StartError::Pipes(error)),
    };
    let facts = |terminal| Facts {
        from_client: wanted.env,
        terminal,
        original: command.original.as_deref(),
        extra: wanted.extra,
    };
    let run = |spawn: Spawn| {
        let mask = setup.policy.umask;
        let spawn = match mask {
            Some(mask) => spawn.umask(mask.0),
            None => spawn,
        };
        let child = spawn.start().map_err(shell_failed)?;
        Ok(Pid::from_raw(child.id().cast_signed()))
    };
    let Some(pty) = wanted.pty else {
        let vars = environment::of(setup, &facts(None));
        let ((input, to_input), (from_output, output), (from_error, error)) =
            pipes().map_err(StartError::Pipes)?;
        let plain = rc.is_none() && wanted.display.is_none();
        let spawn = if plain && enterable(&setup.home) {
            let spawn = Spawn::new(&command.program)
                .arg0(&command.arg0)
                .args(&command.args)
                .env(vars)
                .folder(&setup.home);
            match record {
                Some(record) => spawn.fd(command::RECORD, record),
                None => spawn,
            }
        } else {
            let stage = Stage::new(setup, &command, vars, None, rc, wanted.display.clone());
            stage.spawn(None, record).map_err(StartError::Pipes)?
        };
        let pid = run(spawn.fd(0, input).fd(1, output).fd(2, error).new_session())?;
        return Ok(Started {
            pid,
            terminal: None,
            number: None,
            keeper: None,
            files: heard,
            fds: vec![to_input, from_output, from_error],
        });
    };
    let open = || -> io::Result<_> {
        let (master, slave) = sys::pty::open(winsize(pty.size))?;
        sys::pty::edit_settings(&slave, |s| terminal_modes::apply(s, &pty.modes))?;
        let path = ttyname(&slave)?;
        let number = number(&path).ok_or_else(|| io::Error::other("it is not in /dev/pts"))?;
        let copies = (slave.try_clone()?, slave.try_clone()?, master.try_clone()?);
        Ok((master, slave, (path, number), copies, io::pipe()?))
    };
    let (master, slave, (path, number), (output, error, for_net), (wait, go)) =
        open().map_err(StartError::Terminal)?;
    let vars = environment::of(setup, &facts(Some((&pty.term, &path))));
    let is_login =
        matches!(wanted.program, Program::Shell) && setup.policy.force_command.is_empty();
    let greeting = is_login.then(|| greeting::of(setup)).flatten();
    let time = setup.policy.reattach_time.0.filter(|_| is_login);
    let keep = time.map(|time| Keep {
        time,
        login: setup.login.clone(),
        source: setup.endpoints.source.ip().to_canonical().to_string(),
    });
    let is_kept = keep.is_some();
    let stage = Stage::new(setup, &command, vars, greeting, rc, wanted.display.clone()).kept(keep);
    let spawned = || {
        if !is_kept {
            return Ok((stage.spawn(Some(wait.into()), record)?, None));
        }
        let (ours, theirs) = sys::fds::seqpacket_pair()?;
        keeper::nonblocking(&ours)?;
        Ok((stage.spawn_kept(wait.into(), theirs)?, Some(ours)))
    };
    let (spawn, keeper) = spawned().map_err(StartError::Terminal)?;
    let spawn = spawn
        .fd(0, slave)
        .fd(1, output)
        .fd(2, error)
        .new_terminal_session();
    Ok(Started {
        pid: run(spawn)?,
        terminal: Some(master),
        number: Some(number),
        keeper,
        files: heard,
        fds: vec![for_net, go.into()],
    })
}

/// The size as the kernel takes it.
pub fn winsize(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.width,
        ws_ypixel: size.height,
    }
}

/// Whether the shell can be run, with the words of the kernel if not.
fn runnable(shell: &Path) -> io::Result<()> {
    access(shell, AccessFlags::X_OK)?;
    if std::fs::metadata(shell)?.is_file() {
        Ok(())
    } else {
        Err(io::Error::other("not a program"))
    }
}

fn enterable(home: &Path) -> bool {
    home.is_dir() && access(home, AccessFlags::X_OK).is_ok()
}

/// N of `/dev/pts/N`.
pub fn number(path: &Path) -> Option<u32> {
    path.strip_prefix("/dev/pts").ok()?.to_str()?.parse().ok()
}

type Pipe = (OwnedFd, OwnedFd);

/// Read and write ends for standard input, output and error.
fn pipes() -> io::Result<(Pipe, Pipe, Pipe)> {
    let pipe = |size: Option<i32>| -> io::Result<Pipe> {
        let (reader, writer) = io::pipe()?;
        if let Some(size) = size {
            // Refused when the user has many pipes; the default size works as well.
            let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size));
        }
        Ok((reader.into(), writer.into()))
    };
    Ok((pipe(Some(PIPE_SIZE))?, pipe(Some(PIPE_SIZE))?, pipe(None)?))
}
