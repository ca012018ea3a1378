//! What this process may still do once it listens to strangers.

use gateway_wire::Settings;
use libc as c;
use sys::sandbox::SandboxError;
use sys::seccomp::{Allow, allow, allow_if};

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
    allow(c::SYS_sched_yield, "std's locks"),
    allow(c::SYS_clock_nanosleep, "time"),
    allow(c::SYS_mlock, "russh locks key buffers"),
    allow(c::SYS_munlock, "russh locks key buffers"),
];

/// Gives up everything else, for good.
///
/// # Errors
/// [`SandboxError`]; the process must then end.
pub fn enter(settings: &Settings) -> Result<(), SandboxError> {
    sys::sandbox::enter(settings.user.as_deref(), &settings.empty_root, FILTER)
}
