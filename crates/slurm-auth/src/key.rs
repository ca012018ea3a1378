//! The keys of a cluster: one from slurm.key, or a set from slurm.jwks.
//! Reading the files and judging their permissions happens in the program that holds them.

use std::fmt;

use zeroize::Zeroizing;

use crate::{Claims, KeyError, TokenError, jwks};

/// One HMAC key.
pub(crate) struct Key {
    /// Its id, in a set.
    pub kid: Option<String>,
    /// Unix time after which tokens made with it are refused.
    pub expires: Option<i64>,
    /// The key itself, wiped on drop.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// The keys of a cluster: one that signs, and all that verify.
pub struct Keyring {
    keys: Vec<Key>,
    signing: usize,
    /// A single slurm.key takes tokens of any `kid`; a set looks the id up.
    is_set: bool,
}

// Which keys, never the keys.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self
            .keys
            .iter()
            .map(|key| key.kid.as_deref().unwrap_or("-"))
            .collect();
        f.debug_struct("Keyring")
            .field("kids", &ids)
            .field("signing", &self.signing)
            .finish()
    }
}

impl Keyring {
    /// slurm.key: the whole file is the key, a final line feed included.
    ///
    /// # Errors
    /// [`KeyError::Empty`].
    pub fn from_slurm_key(file: &[u8]) -> Result<Self, KeyError> {
        if file.is_empty() {
            return Err(KeyError::Empty);
        }
        let bytes = Zeroizing::new(file.to_vec());
        Ok(Self {
            keys: vec![Key {
                kid: None,
                expires: None,
                bytes,
            }],
            signing: 0,
            is_set: false,
        })
    }

    /// slurm.jwks: a JSON object with a list `keys`. The key with `"use": "default"` signs, or
    /// else the first.
    ///
    /// # Errors
    /// [`KeyError`]. An empty list is one, here: the original accepts it and dies on first use.
    pub fn from_jwks(file: &[u8]) -> Result<Self, KeyError> {
        let (keys, signing) = jwks::parse(file)?;
        Ok(Self {
            keys,
            signing,
            is_set: true,
        })
    }

    /// Id of the key that signs at `now`; `None` for slurm.key.
    #[must_use]
    pub fn signing_kid(&self, now: i64) -> Option<&str> {
        self.signing_key(now, now).kid.as_deref()
    }

    /// Id of the key that [`sign`](crate::sign) takes for these claims; `None` for slurm.key.
    #[must_use]
    pub fn kid_for(&self, claims: &Claims) -> Option<&str> {
        self.signing_key(claims.iat, claims.exp).kid.as_deref()
    }

    /// Unix time at which the key that signs at `now` expires, if it does.
    #[must_use]
    pub fn signing_key_expires(&self, now: i64) -> Option<i64> {
        self.signing_key(now, now).expires
    }

    /// Whether the key that should sign is expired at `now`, so that another one does.
    #[must_use]
    pub fn default_has_expired(&self, now: i64) -> bool {
        !self.keys[self.signing].is_good(now)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a keyring has a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Length of the shortest key in bytes: anything below 16 can be guessed offline.
    #[must_use]
    pub fn shortest(&self) -> usize {
        let lengths = self.keys.iter().map(|key| key.bytes.len());
        lengths.min().unwrap_or(0)
    }

    /// Fewest different byte values in a key: a handful means that it was typed or is a pattern.
    #[must_use]
    pub fn fewest_values(&self) -> usize {
        let values = |key: &Key| {
            key.bytes
                .iter()
                .collect::<std::collections::HashSet<_>>()
                .len()
        };
        self.keys.iter().map(values).min().unwrap_or(0)
    }

    /// The memory of each key, to be kept out of swap.
    pub fn memory(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|key| key.bytes.as_slice())
    }

    /// The key for a token made at `now` and good until `until`: the default key, unless it expires
    /// before the token and another one does not. A key that has expired signs only where all have.
    pub(crate) fn signing_key(&self, now: i64, until: i64) -> &Key {
        // The index was made with the list and the list never shrinks.
        let default = &self.keys[self.signing];
        let good_at = |time| {
            std::iter::once(default)
                .chain(&self.keys)
                .find(move |key| key.is_good(time))
        };
        good_at(until).or_else(|| good_at(now)).unwrap_or(default)
    }

    /// The key for a token with this `kid`: step 1 of the verification.
    pub(crate) fn verifying_key(&self, kid: Option<&str>, now: i64) -> Result<&Key, TokenError> {
        let key = match kid {
            Some(kid) if self.is_set => self
                .keys
                .iter()
                .find(|key| key.kid.as_deref() == Some(kid))
                .ok_or_else(|| TokenError::UnknownKid(kid.to_owned()))?,
            _ => &self.keys[self.signing],
        };
        if key.is_good(now) {
            Ok(key)
        } else {
            Err(TokenError::KeyExpired(key.kid.clone().unwrap_or_default()))
        }
    }
}

impl Key {
    fn is_good(&self, now: i64) -> bool {
        self.expires.is_none_or(|expires| expires >= now)
    }
}
