//! Settings of the calling process: what it may be asked for, and what it may do from now on.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

/// No core dump, no `ptrace` by the same user, `/proc/self` owned by root.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn no_dump() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// `execve` never grants more rights from here on, and an unprivileged process may install a
/// seccomp filter.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn no_new_privs() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// Blocks of the heap from `bytes` on are the kernel's own from here on, and go back to it as soon as they
/// are free: mallopt(3). Without it glibc takes the size of what was freed as a reason to keep the next.
pub fn return_blocks_from(bytes: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, bytes);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = bytes;
}

/// Gives free pages of the heap back to the kernel: malloc_trim(3). It walks over the heap, so it is for after
/// something large.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Keeps all memory, present and future, out of swap.
///
/// # Errors
/// `OutOfMemory` where `RLIMIT_MEMLOCK` is too small; callers log it and go on.
pub fn lock_memory() -> io::Result<()> {
    use nix::sys::mman::{MlockAllFlags, mlockall};
    Ok(mlockall(
        MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE,
    )?)
}

/// Keeps the pages that hold `bytes` out of swap and out of core dumps, as long as they are mapped.
///
/// # Errors
/// `OutOfMemory` where `RLIMIT_MEMLOCK` is used up; callers log it and go on.
pub fn lock_bytes(bytes: &[u8]) -> io::Result<()> {
    // SAFETY: locking does not change the memory, and the range is one that we may read.
    if unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets this process lock `bytes` of memory if that is possible; whoever is not root gets what the
/// hard limit leaves. The result is what it may lock now: `RLIMIT_MEMLOCK`, getrlimit(2).
pub fn allow_locked_memory(bytes: u64) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK) else {
        return 0;
    };
    if soft >= bytes {
        return soft;
    }
    let wanted = [(bytes, hard.max(bytes)), (hard.min(bytes), hard)];
    let set = |(soft, hard)| setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard).is_ok();
    let done = wanted.into_iter().find(|limits| set(*limits));
    done.map_or(soft, |(soft, _)| soft)
}

/// Sends `signal` to this process when its parent ends. Set it after the last change of identity:
/// the kernel clears it there.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn parent_death_signal(signal: Signal) -> io::Result<()> {
    Ok(prctl::set_pdeathsig(signal)?)
}

/// Makes `folder` the root of the process and its working folder.
///
/// # Errors
/// Those of `chroot(2)`: it needs `CAP_SYS_CHROOT`.
pub fn enter_root(folder: &Path) -> io::Result<()> {
    nix::unistd::chroot(folder)?;
    Ok(nix::unistd::chdir("/")?)
}

/// Asks for short turns on the processor, more often, for the calling thread: on a busy machine it is there
/// sooner when somebody asks, and gets no more time in all. `sched_setattr(2)`: `sched_runtime` of an ordinary
/// thread, from 0.1 ms up, since Linux 6.12; older kernels pass it over.
///
/// # Errors
/// Those of `sched_getattr(2)` and `sched_setattr(2)`; callers go on.
pub fn short_turns(turn: Duration) -> io::Result<()> {
    let mut attributes = scheduling()?;
    attributes.sched_runtime = u64::try_from(turn.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: the kernel reads the structure, whose size stands in it.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn scheduling() -> io::Result<libc::sched_attr> {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of_val(&attributes) as u32;
    // SAFETY: the kernel writes at most `size` bytes into the structure, which lives as long as the call.
    let read =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0_u32) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    attributes.size = size;
    Ok(attributes)
}

/// Names the process in `ps`: writes over the argument vector that the kernel shows, as far as it
/// reaches.
///
/// The text is cut at the length of the original arguments, which callers pad when they spawn.
///
/// # Errors
/// If `/proc/self/stat` or `prctl(PR_SET_MM)` is refused; the title is a convenience, go on.
pub fn set_title(title: &str) -> io::Result<()> {
    title_area::write(title)
}

/// A descriptor that `poll(2)` calls readable when the child has ended: `pidfd_open(2)`.
///
/// # Errors
/// Those of the call.
pub fn end_of(child: &std::process::Child) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

mod title_area {
    use std::io;

    /// Where the kernel says the arguments lie, from fields 48 and 49 of `/proc/self/stat`.
    fn bounds() -> io::Result<(usize, usize)> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // The second field may hold spaces and brackets; what follows the last bracket does not.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |n: usize| {
            rest.split_ascii_whitespace()
                .nth(n - 3)
                .and_then(|f| f.parse().ok())
        };
        field(48)
            .zip(field(49))
            .ok_or_else(|| io::Error::other("no argument area"))
    }

    pub(super) fn write(title: &str) -> io::Result<()> {
        let (start, end) = bounds()?;
        let room = end.saturating_sub(start);
        if room < 2 {
            return Err(io::Error::other("no argument area"));
        }
        let text = &title.as_bytes()[..title.len().min(room - 1)];
        let area = start as *mut u8;
        // SAFETY: the kernel has named [start, end) as this process's own argument strings, which
        // are writable memory on its stack; `text` is shorter than that. std copied the arguments
        // out before main, so no reference into the area exists.
        unsafe {
            std::ptr::write_bytes(area, 0, room);
            std::ptr::copy_nonoverlapping(text.as_ptr(), area, text.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_turns_change_nothing_else() {
        let before = scheduling().unwrap();
        short_turns(Duration::from_micros(100)).unwrap();
        let after = scheduling().unwrap();
        assert_eq!(
            (after.sched_policy, after.sched_nice),
            (before.sched_policy, before.sched_nice)
        );
        if after.sched_runtime == before.sched_runtime {
            println!("skipped: short_turns_change_nothing_else: this kernel keeps its own turns");
        } else {
            assert_eq!(after.sched_runtime, 100_000);
        }
    }
}
