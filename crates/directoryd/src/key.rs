//! Names of entries, kept once however often they are named: a directory names its people in every group
//! that they are in.

use std::{
    borrow::Borrow,
    cell::RefCell,
    collections::{HashMap, HashSet},
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

static ALL: LazyLock<Mutex<HashSet<Arc<str>>>> = LazyLock::new(Mutex::default);

/// A DN, or a name that a group lists. Equal ones are one.
#[derive(Clone)]
pub struct Key(Arc<str>);

impl Key {
    /// A number that equal keys share, for as long as one of them lives.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<u8>() as usize
    }

    /// Lets go of those that nobody has any more.
    pub fn sweep() {
        let mut all = all();
        all.retain(|key| Arc::strong_count(key) > 1);
        all.shrink_to_fit();
    }
}

fn all() -> MutexGuard<'static, HashSet<Arc<str>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        let mut all = all();
        if let Some(key) = all.get(text) {
            return Self(key.clone());
        }
        let key: Arc<str> = text.into();
        all.insert(key.clone());
        Self(key)
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Key {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl Default for Key {
    fn default() -> Self {
        "".into()
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match self == other {
            true => std::cmp::Ordering::Equal,
            false => self.0.cmp(&other.0),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

thread_local! {
    /// The keys written or read so far, while a replica is on its way to or from the disk.
    static WRITTEN: RefCell<HashMap<usize, u32>> = RefCell::default();
    static READ: RefCell<Vec<Key>> = RefCell::default();
}

/// Forgets which keys this thread has written and read: another file begins, or one has ended.
pub fn another_file() {
    WRITTEN.take();
    READ.take();
}

/// In a file each key is there once; after that, by the number that it came as (from 1 on).
impl Serialize for Key {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let known = WRITTEN.with_borrow_mut(|written| {
            let next = u32::try_from(written.len() + 1).unwrap_or(u32::MAX);
            let number = *written.entry(self.id()).or_insert(next);
            (number != next).then_some(number)
        });
        match known {
            Some(number) => (number,).serialize(to),
            None => (0u32, &self.0 as &str).serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Numbered;
        impl<'de> Visitor<'de> for Numbered {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0 and a name, or the number of one")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Key, A::Error> {
                let missing = || A::Error::custom("a key is missing");
                let number: u32 = parts.next_element()?.ok_or_else(missing)?;
                if number > 0 {
                    let at = number as usize - 1;
                    let known = READ.with_borrow(|read| read.get(at).cloned());
                    return known.ok_or_else(missing);
                }
                let text: &str = parts.next_element()?.ok_or_else(missing)?;
                let key = Key::from(text);
                READ.with_borrow_mut(|read| read.push(key.clone()));
                Ok(key)
            }
        }
        from.deserialize_tuple(2, Numbered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_one_until_nobody_has_them() {
        let (a, b) = (
            Key::from("uid=key-test"),
            Key::from("uid=key-test".to_owned()),
        );
        assert_eq!((a.id(), &a), (b.id(), &b));
        assert_ne!(a, Key::from("uid=key-test-2"));
        assert!(Key::from("uid=a") < Key::from("uid=b"));
        Key::sweep();
        assert_eq!(a.id(), Key::from("uid=key-test").id());
        drop((a, b));
        Key::sweep();
        assert!(!all().contains("uid=key-test"));
    }
}
