//! `pam_directory.so`: the four PAM services for users of the directory, by way of directoryd.
//!
//! The six C entry points are here; what they do is in [`steps`], how libpam is called in [`handle`].
//! No LDAP, no file but `/etc/passwd`, no state beside libpam's own.

mod handle;
mod options;
mod steps;

use std::{
    ffi::{c_char, c_int},
    panic::{AssertUnwindSafe, catch_unwind},
};

use handle::{Code, Handle, RawHandle};
use options::Options;

/// Runs a step; a panic ends it, not the program that loaded us.
fn run(
    raw: *mut RawHandle,
    count: c_int,
    arguments: *const *const c_char,
    step: impl FnOnce(&Handle, &Options) -> Code,
) -> c_int {
    let code = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: libpam calls the entry points with its live handle and `count` arguments
        // (pam_sm_authenticate(3)), which all outlive the call.
        let (handle, arguments) = unsafe { (Handle::new(raw), handle::texts(count, arguments)) };
        match handle {
            Some(handle) => step(&handle, &Options::parse(&arguments)),
            None => Code::SYSTEM,
        }
    }));
    code.unwrap_or(Code::SYSTEM).0
}

/// `pam_sm_authenticate(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_authenticate(
    handle: *mut RawHandle,
    _flags: c_int,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    run(handle, count, arguments, steps::authenticate)
}

/// `pam_sm_setcred(3)`: there are no credentials to set.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_setcred(
    handle: *mut RawHandle,
    _flags: c_int,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    run(handle, count, arguments, steps::nothing)
}

/// `pam_sm_acct_mgmt(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_acct_mgmt(
    handle: *mut RawHandle,
    _flags: c_int,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    run(handle, count, arguments, steps::account)
}

/// `pam_sm_chauthtok(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_chauthtok(
    handle: *mut RawHandle,
    flags: c_int,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    run(handle, count, arguments, |handle, options| {
        steps::password(handle, options, flags)
    })
}

/// `pam_sm_open_session(3)`: nothing to do.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_open_session(
    handle: *mut RawHandle,
    _flags: c_int,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    run(handle, count, arguments, steps::nothing)
}

/// `pam_sm_close_session(3)`: nothing to do.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_close_session(
    handle: *mut RawHandle,
    _flags: c_int,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    run(handle, count, arguments, steps::nothing)
}
