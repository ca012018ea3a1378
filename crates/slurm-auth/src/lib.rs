//! Slurm's tokens: the cluster keys, the claims, the hash that binds a token to a message, and
//! signing and verifying. Works on bytes; which file a key is read from, and who may have a
//! token, is decided by the program that holds the key.
#![forbid(unsafe_code)]

mod claims;
mod error;
mod jwks;
mod jws;
mod key;
mod token;

pub mod jwt;
pub mod message_hash;

pub use claims::{Claims, Context, Groups, UserIdentity};
pub use error::{KeyError, TokenError};
pub use jws::{KeyId, signature_digest};
pub use key::Keyring;
pub use token::{Verifier, read_unverified, sign, verify};

#[cfg(test)]
mod vectors;
