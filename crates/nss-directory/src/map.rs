//! One map file, mapped: finding records in it and walking over all of them. Every offset is checked, every chain
//! bounded: a damaged file is as good as none.
//!
//! The format is that of directoryd's `directory-map` room.

use core::ffi::{CStr, c_void};
use core::ptr::null_mut;

use crate::libc;

const HEAD: usize = 120;
const ENTRY: usize = 32;
const RECORD_HEAD: usize = 24;
/// Largest file taken, in bytes.
const MAX: usize = i32::MAX as usize;
/// How long, in seconds, a life sign is good for.
const LIFETIME: i64 = 300;

pub const USER_BY_NAME: u8 = 0;
pub const USER_BY_ID: u8 = 1;
pub const GROUP_BY_NAME: u8 = 2;
pub const GROUP_BY_ID: u8 = 3;
pub const GROUPS_OF_USER: u8 = 15;

pub const PASSWD: &CStr = c"/var/run/nscd/passwd.map";
pub const GROUP: &CStr = c"/var/run/nscd/group.map";

/// A mapped file.
pub struct File {
    base: *mut c_void,
    size: usize,
}

impl File {
    /// Opens, maps and closes.
    pub fn open(path: &CStr) -> Option<Self> {
        // SAFETY: a C string and plain flags; a FIFO in the place would not block us.
        let fd = unsafe {
            libc::open(
                path.as_ptr(),
                libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK,
            )
        };
        if fd < 0 {
            return None;
        }
        // SAFETY: our descriptor.
        let size = unsafe { libc::lseek(fd, 0, libc::SEEK_END) };
        let size = usize::try_from(size).ok();
        let file = size
            .filter(|size| (HEAD..=MAX).contains(size))
            .and_then(|size| {
                // SAFETY: a fresh mapping of the whole file. directoryd never cuts a file that it has shown.
                let base = unsafe {
                    libc::mmap(null_mut(), size, libc::PROT_READ, libc::MAP_SHARED, fd, 0)
                };
                (base as isize != -1).then_some(Self { base, size })
            });
        // SAFETY: our descriptor, used no more.
        unsafe { libc::close(fd) };
        file
    }

    /// The file without its owner, to be kept between two calls.
    pub fn into_raw(self) -> (*mut c_void, usize) {
        let raw = (self.base, self.size);
        core::mem::forget(self);
        raw
    }

    /// # Safety
    /// The values come from [`Self::into_raw`] and are used for this one value only.
    pub unsafe fn from_raw(base: *mut c_void, size: usize) -> Self {
        Self { base, size }
    }

    /// The map in it.
    pub fn map(&self) -> Option<Map<'_>> {
        // SAFETY: mapped for as long as `self` lives. The one field that changes, the timestamp, is read once
        // and through a copy.
        let bytes = unsafe { core::slice::from_raw_parts(self.base.cast::<u8>(), self.size) };
        Map::parse(bytes)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: our mapping; nothing borrowed from it outlives us.
        unsafe { libc::munmap(self.base, self.size) };
    }
}

/// A map in memory.
#[derive(Clone, Copy)]
pub struct Map<'a> {
    table: &'a [u8],
    data: &'a [u8],
    buckets: usize,
    entries: usize,
    timestamp: i64,
}

impl<'a> Map<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if number(bytes, 0)? != 2 || number(bytes, 4)? != HEAD {
            return None;
        }
        let buckets = number(bytes, 40)?;
        let size = number(bytes, 44)?;
        let entries = number(bytes, 52)?;
        if buckets == 0 {
            return None;
        }
        let table_size = buckets.checked_mul(4)?.checked_next_multiple_of(16)?;
        let (table, rest) = bytes.get(HEAD..)?.split_at_checked(table_size)?;
        let data = rest.get(..size)?;
        Some(Self {
            table,
            data,
            buckets,
            entries,
            timestamp: i64::from_ne_bytes(*bytes.get(16..24)?.first_chunk()?),
        })
    }

    /// True if the daemon was there not long ago, so that what the map lacks does not exist.
    pub fn is_alive(&self) -> bool {
        // SAFETY: a null pointer is allowed (time(2)).
        let now = unsafe { libc::time(null_mut()) };
        now.saturating_sub(self.timestamp) < LIFETIME
    }

    /// The directory's record under `key` (without its NUL); one of the local files counts as none.
    pub fn find(&self, query: u8, key: &[u8]) -> Option<&'a [u8]> {
        let hash = key.iter().chain(&[0]).fold(0u32, |hash, byte| {
            hash.wrapping_mul(65599).wrapping_add(u32::from(*byte))
        });
        let mut at = word(self.table, hash as usize % self.buckets * 4)?;
        for _ in 0..=self.entries {
            if at == u32::MAX {
                return None;
            }
            let entry = self.data.get(at as usize..)?.get(..ENTRY)?;
            if *entry.first()? == query && self.is_key(entry, key)? {
                return self.record(entry);
            }
            at = word(entry, 16)?;
        }
        None
    }

    /// The directory's next record whose first key is of kind `query`, from the position on; moves the position
    /// behind it.
    pub fn next(&self, query: u8, position: &mut usize) -> Option<&'a [u8]> {
        let all = self.data.get(
            self.data
                .len()
                .checked_sub(self.entries.checked_mul(ENTRY)?)?..,
        )?;
        while *position < self.entries {
            // The first that was put in is the last.
            let at = (self.entries - 1 - *position) * ENTRY;
            *position += 1;
            let entry = all.get(at..)?.get(..ENTRY)?;
            if entry.first() == Some(&query)
                && let Some(record) = self.record(entry)
            {
                return Some(record);
            }
        }
        None
    }

    fn is_key(&self, entry: &[u8], key: &[u8]) -> Option<bool> {
        let (length, at) = (number(entry, 4)?, number(entry, 8)?);
        let stored = self.data.get(at..)?.get(..length)?;
        Some(stored.split_last() == Some((&0, key)))
    }

    fn record(&self, entry: &[u8]) -> Option<&'a [u8]> {
        let head = self.data.get(number(entry, 20)?..)?;
        let record = head.get(RECORD_HEAD..)?.get(..number(head, 4)?)?;
        let (usable, local) = (*head.get(18)?, *head.get(19)?);
        (usable != 0 && local == 0).then_some(record)
    }
}

/// A 32-bit word.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number that is not negative.
pub fn number(bytes: &[u8], at: usize) -> Option<usize> {
    i32::try_from(word(bytes, at)?)
        .ok()
        .and_then(|n| usize::try_from(n).ok())
}
