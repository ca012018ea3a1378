//! What this process may still do once it listens to strangers.

use std::io;

use gateway_wire::Settings;
use libc as c;
use nix::sys::resource::{Resource, setrlimit};
use sys::seccomp::{Allow, FilterError, allow, allow_if};

/// Why the sandbox could not be closed; the process must end.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The account of the sandbox does not exist.
    #[error("look up user '{0}'")]
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

/// The system calls of russh on a current-thread tokio, with no way to make a descriptor, a
/// process, or executable memory.
pub const FILTER: &[Allow] = &[
    allow(c::SYS_read, "pipes and ptys of the user's programs"),
    allow(c::SYS_write, "as above, and the log pipe"),
    allow(c::SYS_readv, "as above"),
    allow(c::SYS_writev, "as above, and the SSH socket"),
    allow(c::SYS_recvfrom, "the SSH socket"),
    allow(c::SYS_sendto, "the SSH socket"),
    allow(
        c::SYS_recvmsg,
        "messages and descriptors from monitor and session",
    ),
    allow(c::SYS_sendmsg, "messages to monitor and session"),
    allow(c::SYS_shutdown, "end of the SSH connection"),
    allow(c::SYS_close, "descriptors of ended programs"),
    allow_if(
        c::SYS_fcntl,
        1,
        !0,
        c::F_GETFL as u64,
        "non-blocking descriptors",
    ),
    allow_if(
        c::SYS_fcntl,
        1,
        !0,
        c::F_SETFL as u64,
        "non-blocking descriptors",
    ),
    allow_if(
        c::SYS_fcntl,
        1,
        !0,
        c::F_GETFD as u64,
        "std checks descriptors it closes",
    ),
    allow_if(
        c::SYS_setsockopt,
        1,
        !0,
        c::IPPROTO_TCP as u64,
        "no delay, dead peers",
    ),
    allow_if(
        c::SYS_getsockopt,
        1,
        !0,
        c::SOL_SOCKET as u64,
        "tokio asks for the pending error",
    ),
    allow(c::SYS_getpeername, "tokio"),
    allow(c::SYS_getsockname, "tokio"),
    allow(c::SYS_epoll_ctl, "tokio"),
    #[cfg(target_arch = "x86_64")]
    allow(c::SYS_epoll_wait, "tokio"),
    allow(c::SYS_epoll_pwait, "tokio"),
    allow(c::SYS_futex, "tokio"),
    allow(c::SYS_sched_yield, "std's locks"),
    allow(c::SYS_clock_gettime, "time, where the vDSO has no clock"),
    allow(c::SYS_clock_nanosleep, "time"),
    allow(c::SYS_getrandom, "padding and keys"),
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
    allow(c::SYS_mlock, "russh locks key buffers"),
    allow(c::SYS_munlock, "russh locks key buffers"),
    allow(c::SYS_sigaltstack, "the end of a thread"),
    allow(c::SYS_rt_sigreturn, "signal handlers"),
    allow(c::SYS_rt_sigprocmask, "abort"),
    allow(c::SYS_rt_sigaction, "abort"),
    allow(c::SYS_getpid, "abort"),
    allow(c::SYS_gettid, "abort"),
    allow(c::SYS_restart_syscall, "after a stop"),
    allow(c::SYS_exit, "end"),
    allow(c::SYS_exit_group, "end"),
];

/// Gives up everything, for good. Without root (`login-gateway dev`) ids and root folder stay as
/// they are and the filter alone holds.
pub fn enter(settings: &Settings) -> Result<(), SandboxError> {
    let step = |step: &str| {
        let step = step.to_owned();
        move |source: io::Error| SandboxError::Step { step, source }
    };
    if let Some(name) = &settings.user {
        let found = nix::unistd::User::from_name(name)
            .map_err(|e| step(&format!("look up user '{name}'"))(e.into()))?;
        let user = found.ok_or_else(|| SandboxError::NoSuchUser(name.clone()))?;
        let root = &settings.empty_root;
        sys::process::enter_root(root)
            .map_err(step(&format!("enter empty root '{}'", root.display())))?;
        let groups = [user.gid];
        sys::identity::drop_to(user.uid.as_raw(), user.gid.as_raw(), &groups)
            .map_err(step(&format!("become user '{name}'")))?;
    }
    // Without its monitor this process would serve a login that nobody accounts for.
    sys::process::parent_death_signal(nix::sys::signal::Signal::SIGTERM)
        .map_err(step("set the parent-death signal"))?;
    sys::process::no_dump().map_err(step("switch core dumps off"))?;
    sys::process::no_new_privs().map_err(step("set no-new-privileges"))?;
    for (limit, value) in [(Resource::RLIMIT_NPROC, 0), (Resource::RLIMIT_FSIZE, 0)] {
        setrlimit(limit, value, value).map_err(|e| step("set resource limits")(e.into()))?;
    }
    Ok(sys::seccomp::install(FILTER)?)
}
