//! Listing everybody: `getpwent(3)` and `getgrent(3)`.
//!
//! glibc calls these under a lock of its own; the mapping is kept between two calls, so a listing is of one
//! generation from start to end.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::Status;
use crate::libc::{self, Group, Passwd};
use crate::map::{File, GROUP, GROUP_BY_NAME, PASSWD, USER_BY_NAME};
use crate::room::{Room, Trouble};

struct Listing {
    base: AtomicPtr<c_void>,
    size: AtomicUsize,
    position: AtomicUsize,
}

static USERS: Listing = Listing::new();
static GROUPS: Listing = Listing::new();

impl Listing {
    const fn new() -> Self {
        Self {
            base: AtomicPtr::new(null_mut()),
            size: AtomicUsize::new(0),
            position: AtomicUsize::new(0),
        }
    }

    fn end(&self) {
        let base = self.base.swap(null_mut(), Relaxed);
        if !base.is_null() {
            // SAFETY: put there by `start`, and taken out just now.
            drop(unsafe { File::from_raw(base, self.size.load(Relaxed)) });
        }
        self.position.store(0, Relaxed);
    }

    fn start(&self, path: &CStr) -> Status {
        self.end();
        match File::open(path) {
            Some(file) => {
                let (base, size) = file.into_raw();
                self.size.store(size, Relaxed);
                self.base.store(base, Relaxed);
                Status::Success
            }
            None => Status::Unavail,
        }
    }

    /// # Safety
    /// `errno` is the caller's place for an error number.
    unsafe fn next(
        &self,
        path: &CStr,
        query: u8,
        errno: *mut c_int,
        fill: impl FnOnce(&[u8]) -> Result<(), Trouble>,
    ) -> Status {
        if self.base.load(Relaxed).is_null() && self.start(path) != Status::Success {
            // SAFETY: the caller's promise.
            unsafe { errno.write(libc::ENOENT) };
            return Status::Unavail;
        }
        // SAFETY: put there by `start`; forgotten below, so that it stays.
        let file = unsafe { File::from_raw(self.base.load(Relaxed), self.size.load(Relaxed)) };
        let mut position = self.position.load(Relaxed);
        let record = file.map().and_then(|map| map.next(query, &mut position));
        let (status, error) = match record.map(fill) {
            None => (Status::NotFound, libc::ENOENT),
            Some(Ok(())) => (Status::Success, 0),
            // The same one again, into more room.
            Some(Err(Trouble::Small)) => {
                position = self.position.load(Relaxed);
                (Status::TryAgain, libc::ERANGE)
            }
            Some(Err(Trouble::Damaged)) => (Status::Unavail, libc::ENOENT),
        };
        let _ = file.into_raw();
        self.position.store(position, Relaxed);
        if status != Status::Success {
            // SAFETY: the caller's promise.
            unsafe { errno.write(error) };
        }
        status
    }
}

/// Begins anew.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_directory_setpwent(_stay_open: c_int) -> Status {
    USERS.start(PASSWD)
}

/// Ends the listing.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_directory_endpwent() -> Status {
    USERS.end();
    Status::Success
}

/// # Safety
/// As glibc calls it: room for the result, a buffer of `length` bytes, and a place for errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_directory_getpwent_r(
    result: *mut Passwd,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        USERS.next(PASSWD, USER_BY_NAME, errno, |record| {
            result.write(Room::new(buffer, length).passwd(record)?);
            Ok(())
        })
    }
}

/// Begins anew.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_directory_setgrent(_stay_open: c_int) -> Status {
    GROUPS.start(GROUP)
}

/// Ends the listing.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_directory_endgrent() -> Status {
    GROUPS.end();
    Status::Success
}

/// # Safety
/// As [`_nss_directory_getpwent_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_directory_getgrent_r(
    result: *mut Group,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        GROUPS.next(GROUP, GROUP_BY_NAME, errno, |record| {
            result.write(Room::new(buffer, length).group(record)?);
            Ok(())
        })
    }
}
