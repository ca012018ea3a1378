//! Looking things up in a map, with every offset checked and every chain bounded.
//!
//! Used by the daemon's socket path, so that it answers what the map says, and by tests; libc has
//! its own reader.

use crate::{
    END, ENTRY, RECORD_HEAD, hash,
    header::{self, SIZE},
    i32_at,
    protocol::Query,
    table_size, u32_at,
};

/// A map in memory.
#[derive(Debug, Clone, Copy)]
pub struct Map<'a> {
    table: &'a [u8],
    data: &'a [u8],
    buckets: usize,
}

/// Why bytes are not a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Another format, or nothing of the kind.
    #[error("the head is not that of a map")]
    Head,
    /// Less bytes than the head announces.
    #[error("the map is cut short")]
    Short,
}

impl<'a> Map<'a> {
    /// Checks the head.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MapError> {
        let (head, rest) = bytes.split_at_checked(SIZE).ok_or(MapError::Head)?;
        Self::of(head, rest)
    }

    /// [`Self::parse`] for a head and what follows it.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn of(head: &[u8], rest: &'a [u8]) -> Result<Self, MapError> {
        let number = |at| {
            i32_at(head, at)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or(MapError::Head)
        };
        if i32_at(head, 0) != Some(header::VERSION) || number(4)? != SIZE {
            return Err(MapError::Head);
        }
        let buckets = number(header::MODULE)?;
        let size = number(header::DATA_SIZE)?;
        if buckets == 0 {
            return Err(MapError::Head);
        }
        let (table, rest) = rest
            .split_at_checked(table_size(buckets))
            .ok_or(MapError::Short)?;
        let data = rest.get(..size).ok_or(MapError::Short)?;
        Ok(Self {
            table,
            data,
            buckets,
        })
    }

    /// The record under `key` (without its NUL), if there is one.
    pub fn find(&self, query: Query, key: &[u8]) -> Option<&'a [u8]> {
        let key = [key, b"\0"].concat();
        let mut at = u32_at(self.table, hash(&key) as usize % self.buckets * 4)?;
        // A chain cannot be longer than all entries; a damaged one that loops ends here.
        for _ in 0..=self.data.len() / ENTRY {
            if at == END {
                return None;
            }
            let entry = self.data.get(at as usize..)?.get(..ENTRY)?;
            if entry[0] == query.number() && self.key(entry)? == key {
                return self.record(u32_at(entry, 20)? as usize);
            }
            at = u32_at(entry, 16)?;
        }
        None
    }

    fn key(&self, entry: &[u8]) -> Option<&'a [u8]> {
        let (length, at) = (u32_at(entry, 4)? as usize, u32_at(entry, 8)? as usize);
        self.data.get(at..)?.get(..length)
    }

    fn record(&self, at: usize) -> Option<&'a [u8]> {
        let head = self.data.get(at..)?;
        let size = usize::try_from(i32_at(head, 4)?).ok()?;
        let usable = *head.get(18)? != 0;
        let record = head.get(RECORD_HEAD..)?.get(..size)?;
        usable.then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MapBuilder;

    fn thousand() -> Vec<u8> {
        let mut builder = MapBuilder::new(Vec::new(), 0);
        for n in 0..1000 {
            let (name, id) = (format!("user{n}"), (5000 + n).to_string());
            let keys = [
                (Query::UserByName, name.as_bytes()),
                (Query::UserById, id.as_bytes()),
            ];
            builder
                .add(format!("record {n}").as_bytes(), &keys)
                .unwrap();
        }
        builder.finish(1).unwrap().0
    }

    #[test]
    fn what_was_put_in_is_found_under_all_its_keys_and_nothing_else_is() {
        let bytes = thousand();
        let map = Map::parse(&bytes).unwrap();
        for n in 0..1000 {
            let record = format!("record {n}");
            let by_name = map.find(Query::UserByName, format!("user{n}").as_bytes());
            let by_id = map.find(Query::UserById, (5000 + n).to_string().as_bytes());
            assert_eq!(by_name, Some(record.as_bytes()));
            assert_eq!(by_id, Some(record.as_bytes()));
        }
        assert_eq!(map.find(Query::UserByName, b"user1000"), None);
        assert_eq!(map.find(Query::UserByName, b""), None);
        assert_eq!(map.find(Query::UserById, b"user1"), None);
        assert_eq!(map.find(Query::GroupByName, b"user1"), None);
    }

    #[test]
    fn the_first_under_a_key_wins() {
        let mut builder = MapBuilder::new(Vec::new(), 0);
        builder
            .add(b"local", &[(Query::UserByName, b"root")])
            .unwrap();
        builder
            .add(b"remote", &[(Query::UserByName, b"root")])
            .unwrap();
        let bytes = builder.finish(1).unwrap().0;
        let map = Map::parse(&bytes).unwrap();
        assert_eq!(map.find(Query::UserByName, b"root"), Some(&b"local"[..]));
    }

    #[test]
    fn an_empty_map_is_a_map() {
        let bytes = MapBuilder::new(Vec::new(), 0).finish(1).unwrap().0;
        assert_eq!(
            Map::parse(&bytes).unwrap().find(Query::UserByName, b"a"),
            None
        );
    }

    #[test]
    fn damage_is_seen_or_harmless() {
        let bytes = thousand();
        for end in (0..bytes.len()).step_by(7) {
            Map::parse(&bytes[..end]).unwrap_err();
        }
        // Every byte in turn, then words of the worst kind; the reader must come back.
        let mut damaged = bytes.clone();
        for at in (0..bytes.len()).step_by(3) {
            for value in [0x00, 0x08, 0xff] {
                damaged[at] = value;
                if let Ok(map) = Map::parse(&damaged) {
                    for key in [&b"user7"[..], b"user999", b"x"] {
                        let _ = map.find(Query::UserByName, key);
                    }
                }
            }
            damaged[at] = bytes[at];
        }
        // A chain that points at itself.
        let mut builder = MapBuilder::new(Vec::new(), 0);
        builder
            .add(b"record", &[(Query::UserByName, b"a")])
            .unwrap();
        let mut looped = builder.finish(1).unwrap().0;
        let at = looped.len() - ENTRY;
        let start = u32::try_from(at - SIZE - table_size(211)).unwrap();
        looped[at + 16..at + 20].copy_from_slice(&start.to_ne_bytes());
        looped[at..at + 1].copy_from_slice(&[9]);
        assert_eq!(
            Map::parse(&looped).unwrap().find(Query::UserByName, b"a"),
            None
        );
    }
}
