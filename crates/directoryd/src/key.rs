//! Names of entries and of members, kept once however often they are named: a directory names its people
//! in every group that they are in. A name's number means something only together with its list.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

/// The number of a DN, or of a name that a group lists, in [`Keys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(u32);

/// No place in the table holds this one.
const FREE: u32 = u32::MAX;

/// A list of names, each there once.
#[derive(Clone, Default)]
pub struct Keys {
    /// All of them, one behind the other, and where each ends.
    text: String,
    ends: Vec<usize>,
    /// Numbers by the hash of their name; at most three quarters full, a power of two.
    table: Vec<u32>,
    hasher: RandomState,
}

impl Key {
    /// The place in a list that has one for each key.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Keys {
    /// How many there are; all keys are below.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// All keys, in the order in which they came.
    pub fn all(&self) -> impl Iterator<Item = Key> + use<> {
        (0..u32::try_from(self.len()).unwrap_or(FREE)).map(Key)
    }

    /// The name behind a key; empty for one of another list.
    pub fn text(&self, key: Key) -> &str {
        let start = match key.index() {
            0 => 0,
            index => self.ends.get(index - 1).copied().unwrap_or_default(),
        };
        let end = self.ends.get(key.index()).copied().unwrap_or_default();
        self.text.get(start..end).unwrap_or_default()
    }

    /// The key of a name that is in the list.
    pub fn find(&self, text: &str) -> Option<Key> {
        let number = *self.table.get(self.place(text)?)?;
        (number != FREE).then_some(Key(number))
    }

    /// The key of a name, which is in the list from now on.
    pub fn key(&mut self, text: &str) -> Key {
        if (self.len() + 1) * 4 > self.table.len() * 3 {
            self.grow((self.len() + 1) * 2);
        }
        let place = self.place(text).unwrap_or_default();
        if self.table[place] == FREE {
            self.table[place] = u32::try_from(self.len()).unwrap_or(FREE);
            self.text.push_str(text);
            self.ends.push(self.text.len());
        }
        Key(self.table[place])
    }

    /// An empty list with room for as much as is in this one.
    pub fn room(&self) -> Self {
        let mut fresh = Self {
            text: String::with_capacity(self.text.len()),
            ends: Vec::with_capacity(self.ends.len()),
            ..Self::default()
        };
        fresh.grow(self.len());
        fresh
    }

    /// Where the name is in the table, or where it would be; `None` without a table.
    fn place(&self, text: &str) -> Option<usize> {
        let last = self.table.len().checked_sub(1)?;
        let mut at = self.hasher.hash_one(text) as usize & last;
        while self.table[at] != FREE && self.text(Key(self.table[at])) != text {
            at = (at + 1) & last;
        }
        Some(at)
    }

    /// A table for so many keys.
    fn grow(&mut self, count: usize) {
        let size = (count * 3 / 2).next_power_of_two().max(16);
        let mut table = vec![FREE; size];
        for Key(number) in self.all() {
            let mut at = self.hasher.hash_one(self.text(Key(number))) as usize & (size - 1);
            while table[at] != FREE {
                at = (at + 1) & (size - 1);
            }
            table[at] = number;
        }
        self.table = table;
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.ends == other.ends && self.text == other.text
    }
}

impl Eq for Keys {}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.all().map(|key| self.text(key)))
            .finish()
    }
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.all().map(|key| self.text(key)))
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names, each once")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Keys, A::Error> {
                let mut keys = Keys::default();
                while let Some(name) = names.next_element::<&str>()? {
                    keys.key(name);
                }
                Ok(keys)
            }
        }
        from.deserialize_seq(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_key_and_a_key_its_name() {
        let mut keys = Keys::default();
        assert_eq!(keys.find("uid=a"), None);
        let names: Vec<String> = (0..1000).map(|n| format!("uid={n}")).collect();
        for _ in 0..2 {
            let numbers: Vec<usize> = names.iter().map(|name| keys.key(name).index()).collect();
            assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        }
        let empty = keys.key("");
        assert_eq!((keys.text(empty), keys.len()), ("", 1001));
        for name in &names {
            assert_eq!(keys.text(keys.find(name).unwrap()), name);
        }
        assert_eq!(keys.find("uid=1000"), None);
        assert_eq!(keys.text(Key(5000)), "");
        let bytes = postcard::to_stdvec(&keys).unwrap();
        let again: Keys = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(again, keys);
        assert_eq!(again.find("uid=7"), keys.find("uid=7"));
        let mut other = keys.room();
        assert_eq!((other.len(), other.find("uid=7")), (0, None));
        assert_eq!(other.key("uid=7").index(), 0);
    }
}
