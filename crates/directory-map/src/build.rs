//! Laying out a map: head, hash table, records and chain entries, in the order libc expects.
//!
//! A map is never changed after it is built, but for the two life signs in its head. It may be large, so it is
//! passed on in pieces while it grows.

use std::io;

use crate::{
    END, ENTRY, RECORD_HEAD, hash,
    header::{self, SIZE},
    protocol::Query,
    table_size,
};

/// Where a map is written to.
pub trait Place {
    /// Writes a piece, so many bytes from the start of the map.
    ///
    /// # Errors
    /// Those of the place.
    fn put(&mut self, at: usize, piece: &[u8]) -> io::Result<()>;
}

/// Collects records and their keys, and lays them out.
#[derive(Debug)]
pub struct MapBuilder<P> {
    place: P,
    buckets: usize,
    /// What has not been passed on yet, and how much of the data has been.
    data: Vec<u8>,
    passed: usize,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    query: Query,
    first: bool,
    key: u32,
    length: u32,
    hash: u32,
    packet: u32,
}

/// Why a map could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Offsets are 31 bits wide.
    #[error("the map would be larger than 2 GiB")]
    TooLarge,
    /// Its place did not take it.
    #[error("write the map")]
    Write(#[from] io::Error),
}

/// Size of the pieces, in bytes.
const PIECE: usize = 256 << 10;

impl<P: Place> MapBuilder<P> {
    /// An empty map, with a table for so many keys.
    pub fn new(place: P, keys: usize) -> Self {
        Self {
            place,
            buckets: prime_from((keys.saturating_mul(4) / 3).max(211)),
            data: Vec::new(),
            passed: 0,
            entries: Vec::with_capacity(keys),
        }
    }

    /// Adds a record under each of `keys` (without their NUL). The first to come under a key is
    /// the one that is found.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn add(&mut self, record: &[u8], keys: &[(Query, &[u8])]) -> Result<(), BuildError> {
        self.put(record, keys, 0)
    }

    /// [`Self::add`] for an entry of the local files. libc takes it like any other; the NSS module, which
    /// stands behind `files`, passes over it. Its mark is the byte of the record's head that glibc calls
    /// unused.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn add_local(&mut self, record: &[u8], keys: &[(Query, &[u8])]) -> Result<(), BuildError> {
        self.put(record, keys, 1)
    }

    fn put(&mut self, record: &[u8], keys: &[(Query, &[u8])], local: u8) -> Result<(), BuildError> {
        let packet = self.offset()?;
        let size = RECORD_HEAD + record.len();
        self.number(size)?; // allocated size
        self.number(record.len())?; // size of the answer
        self.data.extend_from_slice(&u64::MAX.to_ne_bytes()); // expiry: libc does not look
        self.data.extend_from_slice(&[0, 0, 1, local]); // found, no reloads, usable
        self.number(0)?; // time to live
        self.data.extend_from_slice(record);
        for (index, (query, key)) in keys.iter().enumerate() {
            let at = self.offset()?;
            let start = self.data.len();
            self.data.extend_from_slice(key);
            self.data.push(0);
            let key = &self.data[start..];
            self.entries.push(Entry {
                query: *query,
                first: index == 0,
                key: at,
                length: offset(key.len())?,
                hash: hash(key),
                packet,
            });
        }
        // libc refuses entries and records that are not aligned to 8 bytes. Pieces are.
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        if self.data.len() >= PIECE {
            self.pass_on()?;
        }
        Ok(())
    }

    /// Writes the rest of the map; its place, and its size in bytes. `timestamp` is the head's first life
    /// sign, in seconds since 1970.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn finish(mut self, timestamp: u64) -> Result<(P, usize), BuildError> {
        let mut table = vec![END; self.buckets];
        let entries = std::mem::take(&mut self.entries);
        let count = offset(entries.len())?;
        // Backwards, so that the first to come stands first in its chain.
        for entry in entries.iter().rev() {
            let at = self.offset()?;
            let bucket = &mut table[entry.hash as usize % self.buckets];
            self.data
                .extend_from_slice(&[entry.query.number(), entry.first.into(), 0, 0]);
            self.data.extend_from_slice(&entry.length.to_ne_bytes());
            self.data.extend_from_slice(&entry.key.to_ne_bytes());
            self.data.extend_from_slice(&0u32.to_ne_bytes()); // owner
            self.data.extend_from_slice(&bucket.to_ne_bytes());
            self.data.extend_from_slice(&entry.packet.to_ne_bytes());
            self.data.extend_from_slice(&[0; 8]); // only nscd's own pointer
            *bucket = at;
            if self.data.len() >= PIECE {
                self.pass_on()?;
            }
        }
        self.pass_on()?;
        let data_size = self.offset()?;
        let mut start = vec![0; SIZE];
        let mut field = |at: usize, value: u32| {
            start[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        field(0, header::VERSION as u32);
        field(4, SIZE as u32);
        field(header::MODULE, offset(self.buckets)?);
        field(header::DATA_SIZE, data_size);
        field(header::FIRST_FREE, data_size);
        field(header::ENTRIES, count);
        field(header::MAX_ENTRIES, count);
        field(header::MAX_SEARCHED, 0);
        start[header::TIMESTAMP..header::TIMESTAMP + 8].copy_from_slice(&timestamp.to_ne_bytes());
        self.place.put(0, &start)?;
        start.clear();
        for offset in table {
            start.extend_from_slice(&offset.to_ne_bytes());
        }
        start.resize(table_size(self.buckets), 0xff);
        self.place.put(SIZE, &start)?;
        Ok((self.place, SIZE + start.len() + self.passed))
    }

    fn number(&mut self, value: usize) -> Result<(), BuildError> {
        self.data.extend_from_slice(&offset(value)?.to_ne_bytes());
        Ok(())
    }

    /// Where in the data the next byte will be.
    fn offset(&self) -> Result<u32, BuildError> {
        offset(self.passed + self.data.len())
    }

    fn pass_on(&mut self) -> Result<(), BuildError> {
        let at = SIZE + table_size(self.buckets) + self.passed;
        self.place.put(at, &self.data)?;
        self.passed += self.data.len();
        self.data.clear();
        Ok(())
    }
}

impl Place for Vec<u8> {
    fn put(&mut self, at: usize, piece: &[u8]) -> io::Result<()> {
        let end = at + piece.len();
        if self.len() < end {
            self.resize(end, 0);
        }
        self[at..end].copy_from_slice(piece);
        Ok(())
    }
}

const _: () = assert!(ENTRY == 32 && SIZE.is_multiple_of(8));

fn offset(value: usize) -> Result<u32, BuildError> {
    i32::try_from(value)
        .map(i32::cast_unsigned)
        .map_err(|_| BuildError::TooLarge)
}

/// The smallest prime not below `from`: the hash is weak in its low bits.
fn prime_from(from: usize) -> usize {
    let is_prime = |n: usize| {
        !n.is_multiple_of(2)
            && (3..)
                .step_by(2)
                .take_while(|d| d * d <= n)
                .all(|d| !n.is_multiple_of(d))
    };
    (from.max(3)..).find(|n| is_prime(*n)).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes() {
        assert_eq!(
            [3, 4, 211, 212, 10000].map(prime_from),
            [3, 5, 211, 223, 10007]
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_map_of_one_record_has_these_bytes() {
        let mut builder = MapBuilder::new(Vec::new(), 2);
        builder
            .add(
                b"record!!",
                &[(Query::UserByName, b"a"), (Query::UserById, b"7")],
            )
            .unwrap();
        let (map, size) = builder.finish(0x0102).unwrap();
        assert_eq!(map.len(), size);
        // Head: version, its size, cycle 0, not certainly running, timestamp, 4 spare words,
        // 211 buckets, 104 bytes of data, all in use, 2 entries; then counters.
        let head = b"\x02\0\0\0\x78\0\0\0\0\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0";
        assert_eq!(&map[..24], head);
        assert_eq!(
            &map[40..60],
            b"\xd3\0\0\0\x68\0\0\0\x68\0\0\0\x02\0\0\0\x02\0\0\0"
        );
        assert!(map[60..120].iter().all(|byte| *byte == 0));
        // 211 offsets of 4 bytes, rounded up to 16.
        let data = &map[120 + 848..];
        assert_eq!(
            &data[..24],
            b"\x20\0\0\0\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\x01\0\0\0\0\0"
        );
        assert_eq!(&data[24..40], b"record!!a\x007\0\0\0\0\0");
        // The last key comes first: user by id, not the first key, 2 bytes at 34, record at 0.
        assert_eq!(
            &data[40..64],
            b"\x01\0\0\0\x02\0\0\0\x22\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0"
        );
        assert_eq!(
            &data[72..96],
            b"\0\x01\0\0\x02\0\0\0\x20\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0"
        );
        // sdbm over "a\0": 97 * 65599 mod 211.
        let bucket = 120 + (97 * 65599 % 211) * 4;
        assert_eq!(&map[bucket..bucket + 4], 72u32.to_le_bytes());
        assert_eq!(data.len(), 104);
    }
}
