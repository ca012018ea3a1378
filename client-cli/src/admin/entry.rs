//! One LDAP entry as the server sent it: values by attribute, whatever its spelling. What makes an
//! entry a user or a group does not live here.

use std::collections::BTreeMap;

use ldap3::SearchEntry;

/// A DN with attributes; their names are case-insensitive (RFC 4512, 2.5).
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it stands.
    pub dn: String,
    values: BTreeMap<String, Vec<Vec<u8>>>,
}

impl From<SearchEntry> for Entry {
    /// Puts the library's two maps into one: an attribute lands in either by its bytes alone.
    fn from(found: SearchEntry) -> Self {
        let mut values: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for (name, texts) in found.attrs {
            let texts = texts.into_iter().map(String::into_bytes);
            values
                .entry(name.to_ascii_lowercase())
                .or_default()
                .extend(texts);
        }
        for (name, bytes) in found.bin_attrs {
            values
                .entry(name.to_ascii_lowercase())
                .or_default()
                .extend(bytes);
        }
        Self {
            dn: found.dn,
            values,
        }
    }
}

impl Entry {
    /// All values of an attribute, as bytes.
    pub fn bytes(&self, attribute: &str) -> &[Vec<u8>] {
        self.values
            .get(&attribute.to_ascii_lowercase())
            .map_or(&[], Vec::as_slice)
    }

    /// All values of an attribute that are text.
    pub fn texts(&self, attribute: &str) -> impl Iterator<Item = &str> {
        self.bytes(attribute)
            .iter()
            .filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// The first value that is text.
    pub fn text(&self, attribute: &str) -> Option<&str> {
        self.texts(attribute).next()
    }

    /// The first value, as a user or group number.
    pub fn number(&self, attribute: &str) -> Option<u32> {
        self.text(attribute)?.parse().ok()
    }

    /// Whether the entry has this object class.
    pub fn is_a(&self, class: &str) -> bool {
        self.texts("objectClass")
            .any(|have| have.eq_ignore_ascii_case(class))
    }
}
