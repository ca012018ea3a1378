//! System-call filters as data: a list of what is allowed, each with its reason. Everything else
//! answers `EPERM`. Which calls a program needs is that program's list.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// One allowed system call.
#[derive(Debug, Clone, Copy)]
pub struct Allow {
    /// Number of the call, as `libc::SYS_*` names it.
    pub call: i64,
    /// Why the program needs it.
    pub why: &'static str,
    /// If set, argument `.0` (from 0) must, under mask `.1`, equal `.2`.
    pub only: Option<(u8, u64, u64)>,
}

/// Allows a call with any arguments.
pub const fn allow(call: i64, why: &'static str) -> Allow {
    Allow {
        call,
        why,
        only: None,
    }
}

/// Allows a call only if argument `argument` equals `value` in the bits of `mask`.
pub const fn allow_if(call: i64, argument: u8, mask: u64, value: u64, why: &'static str) -> Allow {
    Allow {
        call,
        why,
        only: Some((argument, mask, value)),
    }
}

/// What any program of Rust's std needs to go on and to end: memory that is not executable, locks,
/// time, random bytes, an abort.
pub const RUNTIME: &[Allow] = &[
    allow_if(
        libc::SYS_mmap,
        2,
        libc::PROT_EXEC as u64,
        0,
        "memory, not executable",
    ),
    allow_if(
        libc::SYS_mprotect,
        2,
        libc::PROT_EXEC as u64,
        0,
        "memory, not executable",
    ),
    allow(libc::SYS_munmap, "memory"),
    allow(libc::SYS_mremap, "memory"),
    allow(libc::SYS_madvise, "memory"),
    allow(libc::SYS_brk, "memory"),
    allow(libc::SYS_futex, "std's locks"),
    allow(libc::SYS_clock_gettime, "time, where the vDSO has no clock"),
    allow(libc::SYS_getrandom, "std's hash seeds, keys"),
    allow_if(
        libc::SYS_fcntl,
        1,
        !0,
        libc::F_GETFD as u64,
        "std checks descriptors it closes",
    ),
    allow(libc::SYS_sigaltstack, "the end of a thread"),
    allow(libc::SYS_rt_sigreturn, "signal handlers"),
    allow(libc::SYS_rt_sigprocmask, "abort"),
    allow(libc::SYS_rt_sigaction, "abort"),
    allow(libc::SYS_getpid, "abort"),
    allow(libc::SYS_gettid, "abort"),
    allow_if(libc::SYS_tgkill, 2, !0, libc::SIGABRT as u64, "abort"),
    allow(libc::SYS_restart_syscall, "after a stop"),
    allow(libc::SYS_exit, "end"),
    allow(libc::SYS_exit_group, "end"),
];

/// Why a filter was not installed.
#[derive(Debug, thiserror::Error)]
#[error("install the system-call filter")]
pub struct FilterError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Installs the filter on all threads of the process, now and for good. Sets `no_new_privs`.
///
/// # Errors
/// If the list is not a valid filter or the kernel refuses it. The process must then end.
pub fn install(list: &[Allow]) -> Result<(), FilterError> {
    let program = compile(list).map_err(|e| FilterError(e.into()))?;
    seccompiler::apply_filter_all_threads(&program).map_err(|e| FilterError(e.into()))
}

fn compile(list: &[Allow]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for entry in list {
        let alternatives = rules.entry(entry.call).or_default();
        if let Some((argument, mask, value)) = entry.only {
            alternatives.push(SeccompRule::new(vec![SeccompCondition::new(
                argument,
                SeccompCmpArgLen::Qword,
                SeccompCmpOp::MaskedEq(mask),
                value,
            )?])?);
        }
    }
    // An entry without a condition allows the call whatever its neighbours say.
    for entry in list.iter().filter(|e| e.only.is_none()) {
        rules.insert(entry.call, Vec::new());
    }
    let arch = if cfg!(target_arch = "aarch64") {
        TargetArch::aarch64
    } else {
        TargetArch::x86_64
    };
    SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        arch,
    )?
    .try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_refused() {
        // The filter stays for the life of its process, so a child carries it.
        const LIST: &[Allow] = &[
            allow(libc::SYS_write, "report"),
            allow(libc::SYS_exit_group, "end"),
            allow_if(
                libc::SYS_socket,
                0,
                u64::MAX,
                libc::AF_UNIX as u64,
                "local only",
            ),
        ];
        // SAFETY: the child makes system calls only and ends with _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let done = nix::sys::prctl::set_no_new_privs().is_ok() && install(LIST).is_ok();
            // SAFETY: plain system calls.
            let (opened, inet, unix) = unsafe {
                (
                    libc::open(c"/".as_ptr(), libc::O_RDONLY),
                    libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0),
                    libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0),
                )
            };
            let right = done && opened < 0 && inet < 0 && unix >= 0;
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if right { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
    }
}
