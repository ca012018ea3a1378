//! What of libc is used: structures of `pwd.h` and `grp.h`, a few functions, a few numbers of Linux.

use core::ffi::{c_char, c_int, c_long, c_void};

/// `struct passwd`.
#[repr(C)]
pub struct Passwd {
    pub name: *mut c_char,
    pub password: *mut c_char,
    pub uid: u32,
    pub gid: u32,
    pub gecos: *mut c_char,
    pub home: *mut c_char,
    pub shell: *mut c_char,
}

/// `struct group`.
#[repr(C)]
pub struct Group {
    pub name: *mut c_char,
    pub password: *mut c_char,
    pub gid: u32,
    pub members: *mut *mut c_char,
}

pub const ENOENT: c_int = 2;
pub const EAGAIN: c_int = 11;
pub const ERANGE: c_int = 34;
pub const O_RDONLY: c_int = 0;
pub const O_CLOEXEC: c_int = 0o2_000_000;
pub const O_NONBLOCK: c_int = 0o4000;
pub const SEEK_END: c_int = 2;
pub const PROT_READ: c_int = 1;
pub const MAP_SHARED: c_int = 1;

#[link(name = "c")]
unsafe extern "C" {
    pub fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    pub fn close(fd: c_int) -> c_int;
    pub fn lseek(fd: c_int, offset: c_long, whence: c_int) -> c_long;
    pub fn mmap(
        address: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: c_long,
    ) -> *mut c_void;
    pub fn munmap(address: *mut c_void, length: usize) -> c_int;
    pub fn time(to: *mut c_long) -> c_long;
    pub fn realloc(memory: *mut c_void, size: usize) -> *mut c_void;
    pub fn abort() -> !;
}
