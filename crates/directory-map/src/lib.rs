//! The bytes of the nscd protocol, which every glibc program speaks before it reads nsswitch.conf:
//! requests, records, and the shared map in which libc looks for itself.
//!
//! No I/O and no opinion on who is in the map. Integers are in host order, as libc reads them
//! through its own structures.
#![forbid(unsafe_code)]

mod build;
pub mod protocol;
mod read;
pub mod record;

pub use build::{BuildError, MapBuilder, Place};
pub use read::{Map, MapError};

/// Layout of the head of a map (glibc `struct database_pers_head`), in bytes.
pub mod header {
    /// Size of the head.
    pub const SIZE: usize = 120;
    /// The format's version number.
    pub const VERSION: i32 = 2;
    /// Offset of the `i32` that says that the server keeps the map alive without the timestamp.
    pub const CERTAINLY_RUNNING: usize = 12;
    /// Offset of the `u64` time, in seconds since 1970, at which the map was last known good.
    ///
    /// libc asks for a new map when it is older than [`LIFETIME`] seconds.
    pub const TIMESTAMP: usize = 16;
    /// How long a timestamp is good for, in seconds.
    pub const LIFETIME: u64 = 300;
    pub(crate) const MODULE: usize = 40;
    pub(crate) const DATA_SIZE: usize = 44;
    pub(crate) const FIRST_FREE: usize = 48;
    pub(crate) const ENTRIES: usize = 52;
    pub(crate) const MAX_ENTRIES: usize = 56;
    pub(crate) const MAX_SEARCHED: usize = 60;
}

/// Size of one entry of a hash chain (glibc `struct hashentry` on 64-bit machines).
pub(crate) const ENTRY: usize = 32;
/// Size of the head of a record (glibc `struct datahead`).
pub(crate) const RECORD_HEAD: usize = 24;
/// "No entry" in the table and in chains.
pub(crate) const END: u32 = u32::MAX;

/// glibc's `__nss_hash` (the hash of sdbm) over a key with its NUL.
pub(crate) fn hash(key: &[u8]) -> u32 {
    key.iter().fold(0u32, |hash, byte| {
        hash.wrapping_mul(65599).wrapping_add(u32::from(*byte))
    })
}

/// Room the hash table takes: offsets of 4 bytes, the whole rounded up to 16.
pub(crate) fn table_size(buckets: usize) -> usize {
    (buckets * 4).next_multiple_of(16)
}

pub(crate) fn i32_at(bytes: &[u8], offset: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}
