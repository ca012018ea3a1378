//! What this process may still do once it accepts connections from strangers: read, write and pass
//! on what it is given. Its descriptors are made before; the filter knows no way to make others
//! but `accept`.

use std::io;

use gateway_wire::Settings;
use libc as c;
use nix::sys::resource::{Resource, setrlimit};
use sys::seccomp::{Allow, FilterError, allow, allow_if};

/// Why the sandbox could not be closed; the process must end.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The account of the sandbox does not exist.
    #[error("look up user '{0}': no such user")]
    NoSuchUser(String),
    /// A step failed.
    #[error("{step}")]
    Step {
        /// What was being done.
        step: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The filter was refused.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// The system calls of one thread that accepts, reads a header and passes sockets on.
pub const FILTER: &[Allow] = &[
    allow(c::SYS_accept4, "new connections"),
    allow(c::SYS_getsockname, "the address a client connected to"),
    allow_if(
        c::SYS_ioctl,
        1,
        !0,
        c::FIONBIO,
        "std makes a socket non-blocking",
    ),
    allow_if(
        c::SYS_setsockopt,
        2,
        !0,
        c::SO_RCVLOWAT as u64,
        "wakes when the header is whole",
    ),
    allow(
        c::SYS_recvfrom,
        "headers, requests, numbers from the listener",
    ),
    allow(c::SYS_sendto, "answers to health checks"),
    allow(c::SYS_recvmsg, "numbers from the listener"),
    allow(c::SYS_sendmsg, "sockets to the listener"),
    allow(c::SYS_shutdown, "the end of an answer"),
    allow(c::SYS_close, "connections that are done"),
    allow(c::SYS_write, "the log"),
    allow_if(
        c::SYS_fcntl,
        1,
        !0,
        c::F_GETFD as u64,
        "std checks descriptors it closes",
    ),
    #[cfg(target_arch = "x86_64")]
    allow(c::SYS_poll, "waiting"),
    allow(c::SYS_ppoll, "waiting"),
    allow(
        c::SYS_clock_gettime,
        "deadlines, where the vDSO has no clock",
    ),
    allow_if(
        c::SYS_mmap,
        2,
        c::PROT_EXEC as u64,
        0,
        "memory, not executable",
    ),
    allow_if(
        c::SYS_mprotect,
        2,
        c::PROT_EXEC as u64,
        0,
        "memory, not executable",
    ),
    allow(c::SYS_munmap, "memory"),
    allow(c::SYS_mremap, "memory"),
    allow(c::SYS_madvise, "memory"),
    allow(c::SYS_brk, "memory"),
    allow(c::SYS_futex, "std's locks around the log"),
    allow(c::SYS_getrandom, "std's hash seeds"),
    allow(c::SYS_sigaltstack, "the end of a thread"),
    allow(c::SYS_rt_sigreturn, "signal handlers"),
    allow(c::SYS_rt_sigprocmask, "abort"),
    allow(c::SYS_rt_sigaction, "abort"),
    allow(c::SYS_getpid, "abort"),
    allow(c::SYS_gettid, "abort"),
    allow_if(c::SYS_tgkill, 2, !0, c::SIGABRT as u64, "abort"),
    allow(c::SYS_restart_syscall, "after a stop"),
    allow(c::SYS_exit, "end"),
    allow(c::SYS_exit_group, "end"),
];

/// Gives up everything, for good. Without root (`login-gateway dev`) ids and root folder stay as
/// they are and the filter alone holds.
pub fn enter(settings: &Settings) -> Result<(), SandboxError> {
    let step = |step: String| move |source: io::Error| SandboxError::Step { step, source };
    if let Some(name) = &settings.user {
        let looking = format!("look up user '{name}'");
        let found = nix::unistd::User::from_name(name).map_err(|e| step(looking)(e.into()))?;
        let user = found.ok_or_else(|| SandboxError::NoSuchUser(name.clone()))?;
        let root = &settings.empty_root;
        sys::process::enter_root(root)
            .map_err(step(format!("enter empty root '{}'", root.display())))?;
        sys::identity::drop_to(user.uid.as_raw(), user.gid.as_raw(), &[user.gid])
            .map_err(step(format!("become user '{name}'")))?;
    }
    // The listener keeps its process id when it re-executes itself, so this fires only at its end.
    sys::process::parent_death_signal(nix::sys::signal::Signal::SIGTERM)
        .map_err(step("set the parent-death signal".into()))?;
    sys::process::no_dump().map_err(step("switch core dumps off".into()))?;
    sys::process::no_new_privs().map_err(step("set no-new-privileges".into()))?;
    // No limit on file sizes: the log may go to a file.
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)
        .map_err(|e| step("forbid new processes".into())(e.into()))?;
    Ok(sys::seccomp::install(FILTER)?)
}
