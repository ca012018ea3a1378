//! `libnss_directory.so.2`: users and groups from directoryd's map files, for every program with glibc.
//!
//! This code is loaded into programs of all kinds, setuid ones among them: no std, no thread-local storage, no
//! lock, no environment, no socket; a descriptor lives for the length of one call. glibc's own nscd client comes
//! first where there is one; what is left for here is listing everybody, and names while the daemon is away.
#![no_std]

mod libc;
mod listing;
mod lookup;
mod map;
mod room;

/// `enum nss_status` of `nss.h`.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Try again, with more room if errno is `ERANGE`.
    TryAgain = -2,
    /// It is not known.
    Unavail = -1,
    /// There is no such entry.
    NotFound = 0,
    /// Here it is.
    Success = 1,
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: takes nothing, never returns. No path leads here: everything below is checked.
    unsafe { libc::abort() }
}
