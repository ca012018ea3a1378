//! One name or number, and the groups of a user: `getpwnam(3)`, `getgrouplist(3)` and their relatives.

use core::ffi::{CStr, c_char, c_int, c_long};

use crate::Status;
use crate::libc::{self, Group, Passwd};
use crate::map::{
    File, GROUP, GROUP_BY_ID, GROUP_BY_NAME, GROUPS_OF_USER, PASSWD, USER_BY_ID, USER_BY_NAME,
    number, word,
};
use crate::room::{Room, Trouble};

/// Finds a record, and hands it to `fill`, which writes what the caller gets.
///
/// # Safety
/// `errno` is the caller's place for an error number.
unsafe fn one(
    path: &CStr,
    query: u8,
    key: &[u8],
    errno: *mut c_int,
    fill: impl FnOnce(&[u8]) -> Result<(), Trouble>,
) -> Status {
    let (status, error) = match File::open(path) {
        None => (Status::Unavail, libc::ENOENT),
        Some(file) => match file.map() {
            None => (Status::Unavail, libc::ENOENT),
            Some(map) => match map.find(query, key) {
                Some(record) => match fill(record) {
                    Ok(()) => (Status::Success, 0),
                    Err(Trouble::Small) => (Status::TryAgain, libc::ERANGE),
                    Err(Trouble::Damaged) => (Status::Unavail, libc::ENOENT),
                },
                // Without the daemon nobody knows whether it has come since.
                None if map.is_alive() => (Status::NotFound, libc::ENOENT),
                None => (Status::Unavail, libc::EAGAIN),
            },
        },
    };
    if status != Status::Success {
        // SAFETY: the caller's promise.
        unsafe { errno.write(error) };
    }
    status
}

/// Decimal digits of an id, as keys have them.
struct Digits([u8; 10], usize);

impl Digits {
    fn of(mut id: u32) -> Self {
        let mut digits = Self([0; 10], 10);
        loop {
            digits.1 -= 1;
            if let Some(digit) = digits.0.get_mut(digits.1) {
                *digit = b'0' + (id % 10) as u8;
            }
            id /= 10;
            if id == 0 || digits.1 == 0 {
                return digits;
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        self.0.get(self.1..).unwrap_or_default()
    }
}

/// # Safety
/// As glibc calls it: a C string, room for the result, a buffer of `length` bytes, and a place for errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_directory_getpwnam_r(
    name: *const c_char,
    result: *mut Passwd,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    // SAFETY: the caller's promise.
    unsafe {
        one(PASSWD, USER_BY_NAME, name, errno, |record| {
            result.write(Room::new(buffer, length).passwd(record)?);
            Ok(())
        })
    }
}

/// # Safety
/// As [`_nss_directory_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_directory_getpwuid_r(
    uid: u32,
    result: *mut Passwd,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        one(
            PASSWD,
            USER_BY_ID,
            Digits::of(uid).bytes(),
            errno,
            |record| {
                result.write(Room::new(buffer, length).passwd(record)?);
                Ok(())
            },
        )
    }
}

/// # Safety
/// As [`_nss_directory_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_directory_getgrnam_r(
    name: *const c_char,
    result: *mut Group,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    // SAFETY: the caller's promise.
    unsafe {
        one(GROUP, GROUP_BY_NAME, name, errno, |record| {
            result.write(Room::new(buffer, length).group(record)?);
            Ok(())
        })
    }
}

/// # Safety
/// As [`_nss_directory_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_directory_getgrgid_r(
    gid: u32,
    result: *mut Group,
    buffer: *mut c_char,
    length: usize,
    errno: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        one(
            GROUP,
            GROUP_BY_ID,
            Digits::of(gid).bytes(),
            errno,
            |record| {
                result.write(Room::new(buffer, length).group(record)?);
                Ok(())
            },
        )
    }
}

/// Adds the groups of a user, but for `group`, to the list that the caller has begun.
///
/// # Safety
/// `start`, `size` and `groups` describe a list from malloc, as glibc keeps it; `limit` is its greatest length, or
/// not positive for none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_directory_initgroups_dyn(
    user: *const c_char,
    group: u32,
    start: *mut c_long,
    size: *mut c_long,
    groups: *mut *mut u32,
    limit: c_long,
    errno: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    let user = unsafe { CStr::from_ptr(user) }.to_bytes();
    let fill = |record: &[u8]| {
        let count = number(record, 8).ok_or(Trouble::Damaged)?;
        for index in 0..count {
            let gid = word(record, 12 + index * 4).ok_or(Trouble::Damaged)?;
            // SAFETY: the caller's promise.
            if gid != group && !unsafe { add(gid, start, size, groups, limit) }? {
                break;
            }
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { one(GROUP, GROUPS_OF_USER, user, errno, fill) }
}

/// Adds one to the list if it is not in it; false if the list is as long as it may be.
///
/// # Safety
/// As [`_nss_directory_initgroups_dyn`].
unsafe fn add(
    gid: u32,
    start: *mut c_long,
    size: *mut c_long,
    groups: *mut *mut u32,
    limit: c_long,
) -> Result<bool, Trouble> {
    // SAFETY: the caller's promise, here and below.
    let (used, room, list) = unsafe { (*start, *size, *groups) };
    let (Ok(used_len), Ok(room_len)) = (usize::try_from(used), usize::try_from(room)) else {
        return Err(Trouble::Damaged);
    };
    // SAFETY: `start` elements of the list are filled in.
    let present = unsafe { core::slice::from_raw_parts(list, used_len) };
    if present.contains(&gid) {
        return Ok(true);
    }
    let mut list = list;
    if used_len >= room_len {
        if limit > 0 && room >= limit {
            return Ok(false);
        }
        let mut more = room.max(16).saturating_mul(2);
        if limit > 0 {
            more = more.min(limit);
        }
        let bytes = usize::try_from(more)
            .ok()
            .and_then(|more| more.checked_mul(size_of::<u32>()));
        // SAFETY: the list is malloc's.
        let grown = unsafe { libc::realloc(list.cast(), bytes.ok_or(Trouble::Damaged)?) };
        if grown.is_null() {
            return Err(Trouble::Small);
        }
        list = grown.cast();
        // SAFETY: the caller's places.
        unsafe {
            groups.write(list);
            size.write(more);
        }
    }
    // SAFETY: there is room for one more.
    unsafe {
        list.add(used_len).write(gid);
        start.write(used + 1);
    }
    Ok(true)
}
