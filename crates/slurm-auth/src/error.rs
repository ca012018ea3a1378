//! Why a key or a token was not taken. The texts name no part of a key or of a token.

/// Why key material was refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// slurm.key has no byte.
    #[error("the key is empty")]
    Empty,
    /// A key can be guessed.
    #[error("a key {0}")]
    Weak(&'static str),
    /// slurm.jwks is not JSON of the right shape.
    #[error("the key set is not a JSON object with a list 'keys'")]
    Json(#[source] serde_json::Error),
    /// The list has no key.
    #[error("the key set has no keys")]
    NoKeys,
    /// A field of a key is missing or wrong.
    #[error("key {index} of the key set: '{field}' {problem}")]
    Field {
        /// Position in the list, from 0.
        index: usize,
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two keys have one id.
    #[error("two keys of the key set have the id '{0}'")]
    DuplicateKid(String),
    /// More than one key is marked as the one that signs.
    #[error("two keys of the key set have 'use' set to 'default'")]
    TwoDefaults,
}

/// Why a token was refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is not three Base64url parts with JSON in the first two.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// A claim has a wrong type or is out of range, or a needed one is missing.
    #[error("the token's claims are malformed")]
    Claims(#[source] serde_json::Error),
    /// The header names another algorithm than HS256.
    #[error("the token is not signed with HS256")]
    Algorithm,
    /// There is no key at all.
    #[error("there is no good key yet")]
    NoKey,
    /// No key has this id.
    #[error("the token's key id '{0}' is unknown")]
    UnknownKid(String),
    /// The key's own `exp` has passed.
    #[error("the token's key '{0}' has expired")]
    KeyExpired(String),
    /// The signature is not that of the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// `exp` has passed.
    #[error("the token expired {0} s ago")]
    Expired(i64),
    /// Only another uid may decode it.
    #[error("the token is for uid {0} alone")]
    NotForReader(u32),
    /// It is a launch, net or sbcast token.
    #[error("the token's context '{0}' is not one of messages")]
    Context(String),
}
