//! What the signer keeps once it serves: a list of system calls, and Landlock below it. No network:
//! the only sockets are local ones, which libc needs to ask nscd; no file is written; nothing is run.

use sys::landlock::{Give, restrict};
use sys::seccomp::{Allow, allow, allow_if, install};

use crate::error::ShimError;

const ACCESS_MODE: u64 = libc::O_ACCMODE as u64;

/// What is allowed, and why.
const ALLOWED: &[Allow] = &[
    // Serving.
    allow(libc::SYS_epoll_create1, "wait for clients"),
    allow(libc::SYS_epoll_ctl, "wait for clients"),
    allow(libc::SYS_epoll_pwait, "wait for clients"),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_epoll_wait, "wait for clients"),
    allow(libc::SYS_ppoll, "has a client ended; nscd"),
    allow(libc::SYS_accept4, "take a client's connection"),
    allow(libc::SYS_getsockopt, "SO_PEERCRED: who the client is"),
    allow(libc::SYS_ioctl, "FIONBIO: NSS modules"),
    allow(libc::SYS_read, "requests, files, signals"),
    allow(libc::SYS_readv, "nscd's answers"),
    allow(libc::SYS_recvfrom, "requests"),
    allow(libc::SYS_write, "log lines, waking the loop"),
    allow(libc::SYS_writev, "log lines; nscd requests"),
    allow(libc::SYS_sendto, "answers; readiness to systemd"),
    allow(libc::SYS_close, "end of a connection"),
    allow(libc::SYS_wait4, "the configuration process has ended"),
    allow(libc::SYS_waitid, "the same, as newer libc asks"),
    // Files: key, slurm.conf, and what NSS reads.
    allow_if(
        libc::SYS_openat,
        2,
        ACCESS_MODE,
        libc::O_RDONLY as u64,
        "read files, never write",
    ),
    allow(libc::SYS_statx, "has a file changed"),
    allow(libc::SYS_newfstatat, "as statx, from libc"),
    allow(libc::SYS_fstat, "size of a file"),
    allow(libc::SYS_lseek, "libc's buffered files"),
    allow(libc::SYS_pread64, "libc loads an NSS module"),
    allow(libc::SYS_fcntl, "close-on-exec and locks of NSS modules"),
    allow(libc::SYS_getdents64, "NSS modules that read a folder"),
    allow(libc::SYS_faccessat, "is nscd there"),
    allow(libc::SYS_faccessat2, "is nscd there"),
    allow(libc::SYS_readlinkat, "libc loads an NSS module"),
    allow(libc::SYS_uname, "NSS modules that want the host name"),
    // Asking nscd or another local daemon.
    allow_if(
        libc::SYS_socket,
        0,
        u64::MAX,
        libc::AF_UNIX as u64,
        "local sockets, no network",
    ),
    allow(libc::SYS_connect, "to nscd, to systemd's notify socket"),
    allow(libc::SYS_sendmsg, "nscd requests"),
    allow(
        libc::SYS_recvmsg,
        "nscd hands out its tables as a descriptor",
    ),
    allow(libc::SYS_setsockopt, "time limits of NSS modules"),
    allow(libc::SYS_getsockname, "NSS modules check their socket"),
    allow(libc::SYS_getpeername, "NSS modules check their socket"),
    allow(libc::SYS_shutdown, "end of a local exchange"),
    // Memory, threads, time.
    allow(libc::SYS_mlock, "a new key stays out of swap"),
    allow(libc::SYS_mmap, "memory; nscd's tables; NSS modules"),
    allow(libc::SYS_munmap, "memory"),
    allow(libc::SYS_mremap, "memory"),
    allow(libc::SYS_mprotect, "libc loads an NSS module"),
    allow(libc::SYS_madvise, "memory"),
    allow(libc::SYS_brk, "memory"),
    allow(libc::SYS_futex, "the look-up threads"),
    allow(libc::SYS_sched_yield, "the look-up threads"),
    allow(libc::SYS_clock_gettime, "time, where the vDSO has none"),
    allow(libc::SYS_clock_nanosleep, "NSS modules that try again"),
    allow(libc::SYS_gettimeofday, "time, where the vDSO has none"),
    allow(libc::SYS_getrandom, "hash tables, malloc"),
    allow(libc::SYS_getpid, "NSS modules notice a fork by it"),
    allow(libc::SYS_gettid, "abort"),
    allow(libc::SYS_getuid, "NSS modules"),
    allow(libc::SYS_geteuid, "NSS modules"),
    allow(libc::SYS_getgid, "NSS modules"),
    allow(libc::SYS_getegid, "NSS modules"),
    allow(libc::SYS_prlimit64, "libc asks for stack limits"),
    allow(libc::SYS_rt_sigprocmask, "abort; NSS modules"),
    allow(libc::SYS_rt_sigaction, "abort; NSS modules"),
    allow(libc::SYS_rt_sigreturn, "return from a signal"),
    allow(libc::SYS_sigaltstack, "end of a thread"),
    allow(libc::SYS_restart_syscall, "going on after a stop"),
    allow(libc::SYS_tgkill, "abort"),
    allow(libc::SYS_exit, "end of a thread"),
    allow(libc::SYS_exit_group, "end"),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_poll, "has a client ended; nscd"),
    #[cfg(target_arch = "x86_64")]
    allow_if(
        libc::SYS_open,
        1,
        ACCESS_MODE,
        libc::O_RDONLY as u64,
        "old NSS modules",
    ),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_stat, "old NSS modules"),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_access, "is nscd there"),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_readlink, "libc loads an NSS module"),
    #[cfg(target_arch = "x86_64")]
    allow(libc::SYS_time, "time, where the vDSO has none"),
];

/// Gives up writing files, running programs, TCP and signals to others, for this thread and all it
/// starts. A second fence behind the filter: it stands where the filter has a gap.
///
/// # Errors
/// [`ShimError::System`]: the process must then end. A kernel without Landlock is only logged.
pub fn give_up_files_and_network() -> Result<(), ShimError> {
    let give = Give {
        // NSS modules read what nobody can list.
        reading: false,
        tcp: true,
        // systemd's notify socket may be one.
        abstract_sockets: false,
    };
    let version = restrict(give, &[]).map_err(ShimError::system("give up files and network"))?;
    tracing::info!(event = "sandbox.entered", landlock = version);
    Ok(())
}

/// Puts the filter over the process and all its threads, for good.
///
/// # Errors
/// [`ShimError::Filter`]: the process must then end.
pub fn enter() -> Result<(), ShimError> {
    Ok(install(ALLOWED)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;

    use super::*;
    use crate::identity::{Answer, Identities, look_up};

    /// The filter stays for the life of its process, so the test runs again in one of its own.
    #[test]
    fn confines() {
        let program = std::env::current_exe().unwrap();
        let arguments = [
            "--exact",
            "filter::tests::inside",
            "--ignored",
            "--test-threads=1",
        ];
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    #[test]
    #[ignore = "run by filter::tests::confines, in a process of its own"]
    fn inside() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("nscd");
        let _listener = UnixListener::bind(&socket).unwrap();
        let written = folder.path().join("file");
        std::fs::write(&written, "text").unwrap();
        let (pair, _other) = UnixStream::pair().unwrap();
        sys::process::no_new_privs().unwrap();
        give_up_files_and_network().unwrap();
        // Landlock alone, before the filter stands over it.
        let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
        assert!(File::create(folder.path().join("new")).is_err_and(refused));
        assert!(TcpListener::bind("127.0.0.1:0").is_err_and(refused));
        assert!(Command::new("/bin/true").status().is_err_and(refused));
        let mut identities = Identities::start().unwrap();
        enter().unwrap();
        let peer = sys::peer::credentials(&pair).unwrap();
        crate::origin::Origins::default().find(&pair, peer);
        sys::peer::groups(&pair).unwrap();
        sys::process::lock_bytes(b"key").unwrap();
        // What serving needs.
        assert_eq!(std::fs::read_to_string(&written).unwrap(), "text");
        assert!(UnixStream::connect(&socket).is_ok());
        assert!(matches!(look_up(0), Answer::Found(_)));
        assert_eq!(look_up(3_999_999_999), Answer::Absent);
        identities.ask(0);
        while identities.arrived().is_empty() {
            std::thread::yield_now();
        }
        // What it must never do.
        assert!(TcpListener::bind("127.0.0.1:0").is_err());
        assert!(TcpStream::connect("127.0.0.1:1").is_err_and(denied));
        assert!(UdpSocket::bind("127.0.0.1:0").is_err());
        assert!(File::create(folder.path().join("new")).is_err_and(denied));
        assert!(
            File::options()
                .append(true)
                .open(&written)
                .is_err_and(denied)
        );
        assert!(std::fs::remove_file(&written).is_err_and(denied));
        assert!(Command::new("/bin/true").status().is_err());
    }

    fn denied(error: std::io::Error) -> bool {
        error.raw_os_error() == Some(libc::EPERM)
    }
}
