//! What this process may still do once it accepts connections from strangers: read, write and pass
//! on what it is given. Its descriptors are made before; the filter knows no way to make others
//! but `accept`.

use gateway_wire::Settings;
use libc as c;
use sys::sandbox::SandboxError;
use sys::seccomp::{Allow, allow, allow_if};

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
    #[cfg(target_arch = "x86_64")]
    allow(c::SYS_poll, "waiting"),
    allow(c::SYS_ppoll, "waiting"),
];

/// Gives up everything else, for good.
///
/// # Errors
/// [`SandboxError`]; the process must then end.
pub fn enter(settings: &Settings) -> Result<(), SandboxError> {
    sys::sandbox::enter(settings.user.as_deref(), &settings.empty_root, FILTER)
}
