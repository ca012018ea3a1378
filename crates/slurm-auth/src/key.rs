//! The keys of a cluster: one from slurm.key, or a set from slurm.jwks.
//! Reading the files and judging their permissions happens in the program that holds them.

use std::fmt;

use zeroize::Zeroizing;

use crate::{KeyError, TokenError, jwks};

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

    /// Id of the key that signs; `None` for slurm.key.
    #[must_use]
    pub fn signing_kid(&self) -> Option<&str> {
        self.signing_key().kid.as_deref()
    }

    /// Unix time at which the signing key expires, if it does.
    #[must_use]
    pub fn signing_key_expires(&self) -> Option<i64> {
        self.signing_key().expires
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

    /// Length of the signing key in bytes: anything below 16 can be guessed offline.
    #[must_use]
    pub fn signing_key_length(&self) -> usize {
        self.signing_key().bytes.len()
    }

    pub(crate) fn signing_key(&self) -> &Key {
        // The index was made with the list and the list never shrinks.
        &self.keys[self.signing]
    }

    /// The key for a token with this `kid`: step 1 of the verification.
    pub(crate) fn verifying_key(&self, kid: Option<&str>, now: i64) -> Result<&Key, TokenError> {
        let key = match kid {
            Some(kid) if self.is_set => self
                .keys
                .iter()
                .find(|key| key.kid.as_deref() == Some(kid))
                .ok_or_else(|| TokenError::UnknownKid(kid.to_owned()))?,
            _ => self.signing_key(),
        };
        match key.expires {
            Some(expires) if expires < now => {
                Err(TokenError::KeyExpired(key.kid.clone().unwrap_or_default()))
            }
            _ => Ok(key),
        }
    }
}
