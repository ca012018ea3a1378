//! Handing a process over to another program exactly as it was started: what the language runtime
//! changes before `main` is noted first and undone last. Starting a new process does not live here.

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

/// What [`look`] saw: bits 0 to 2 say that this descriptor was closed.
static AT_START: AtomicU8 = AtomicU8::new(0);
/// [`AT_START`] holds an answer.
const SEEN: u8 = 0x80;
/// `SIGPIPE` was ignored.
const PIPE_IGNORED: u8 = 0x40;

/// The loader calls this before `main`, so before the runtime ignores `SIGPIPE` and opens
/// `/dev/null` in place of closed standard descriptors (`std`'s runtime start on Unix).
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let mut seen = SEEN;
    for fd in 0..3 {
        // SAFETY: F_GETFD only asks about a number; no descriptor is made, used or closed.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            seen |= 1 << fd;
        }
    }
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with a null new action the call only fills `action`, which is of the right type.
    let asked =
        unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: the call above filled it when it returned 0; `&&` keeps the order.
    if asked && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN {
        seen |= PIPE_IGNORED;
    }
    AT_START.store(seen, Ordering::Relaxed);
}

/// Becomes the program at `path`, with `arguments` (the first is its name), the environment, and the
/// signal dispositions, signal mask and descriptors that this process was started with.
///
/// Returns only if the program could not be started (execve(2) names the errors). The standard
/// descriptors that were closed at the start are closed by then; the process should say why and end.
pub fn exec(path: &CStr, arguments: &[CString]) -> io::Error {
    let seen = AT_START.load(Ordering::Relaxed);
    if seen & SEEN == 0 {
        return io::Error::other("the state at the start was not seen");
    }
    for fd in 0..3 {
        if seen & (1 << fd) != 0 {
            // SAFETY: the descriptor is the runtime's stand-in for a closed one; `std` keeps no
            // owner of it, and its own stdin, stdout and stderr treat EBADF as "nothing there".
            unsafe { libc::close(fd as c_int) };
        }
    }
    if seen & PIPE_IGNORED == 0 {
        // SAFETY: the default action is no function that could be called in a bad state.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    let mut pointers: Vec<_> = arguments.iter().map(|a| a.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: `path` and each argument are NUL-terminated and outlive the call, the list ends with
    // null, and `environ` is the process's own environment, which no other thread changes here.
    unsafe { libc::execv(path.as_ptr(), pointers.as_ptr()) };
    io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_was_seen_before_main() {
        assert_ne!(AT_START.load(Ordering::Relaxed) & SEEN, 0);
    }

    #[test]
    fn what_cannot_be_started_is_said() {
        let error = exec(c"/nonexistent/program", &[c"program".into()]);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
