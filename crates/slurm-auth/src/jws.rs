//! The JWS compact form with HS256 (RFC 7515, RFC 7518 section 3.2): parts, header, HMAC.
//! What the claims mean is not known here.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::TokenError;

/// `kid` of a token's header.
pub type KeyId = Option<String>;

/// Longest token that is looked at, in bytes.
const LONGEST: usize = 256 * 1024;

/// A token taken apart. Nothing about it is verified yet.
pub(crate) struct Parts<'a> {
    /// What the signature covers.
    pub signed: &'a str,
    pub header: Header,
    /// The claims, as JSON text.
    pub claims: Vec<u8>,
    pub signature: Vec<u8>,
}

/// `typ` is not looked at by any verifier.
#[derive(Deserialize)]
pub(crate) struct Header {
    pub alg: Option<String>,
    pub kid: KeyId,
}

impl Header {
    pub fn is_hs256(&self) -> bool {
        self.alg.as_deref() == Some("HS256")
    }
}

/// Takes a token apart.
pub(crate) fn split(token: &str) -> Result<Parts<'_>, TokenError> {
    if token.len() > LONGEST {
        return Err(TokenError::Malformed("too long"));
    }
    let malformed = || TokenError::Malformed("not three parts");
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    let decode = |part: &str, name| {
        BASE64_URL_SAFE_NO_PAD
            .decode(part)
            .map_err(|_| TokenError::Malformed(name))
    };
    let header = decode(header, "header is not Base64url")?;
    Ok(Parts {
        signed,
        header: serde_json::from_slice(&header)
            .map_err(|_| TokenError::Malformed("header is not JSON"))?,
        claims: decode(claims, "claims are not Base64url")?,
        signature: decode(signature, "signature is not Base64url")?,
    })
}

/// Puts a signed token together. Header fields stand in alphabetical order, as the original
/// writes them.
pub(crate) fn join(kid: Option<&str>, claims: &[u8], key: &[u8]) -> String {
    let header = match kid {
        None => serde_json::json!({"alg": "HS256", "typ": "JWT"}),
        Some(kid) => serde_json::json!({"alg": "HS256", "kid": kid, "typ": "JWT"}),
    };
    let mut token = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = mac(key, &token).finalize().into_bytes();
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// Compares in constant time.
pub(crate) fn check_signature(parts: &Parts<'_>, key: &[u8]) -> Result<(), TokenError> {
    mac(key, parts.signed)
        .verify_slice(&parts.signature)
        .map_err(|_| TokenError::Signature)
}

/// SHA-256 of a token's signature, in hex: names a token in a log without giving it away.
#[must_use]
pub fn signature_digest(token: &str) -> String {
    let signature = token
        .rsplit_once('.')
        .map_or("", |(_, signature)| signature);
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    Sha256::digest(signature)
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    // HMAC takes keys of every length (RFC 2104 section 3), so this cannot fail.
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of every length"),
    };
    mac.update(text.as_bytes());
    mac
}

/// Signs a header and claims that a test made by hand.
#[cfg(test)]
pub(crate) fn sign_raw(signed: &str, key: &[u8]) -> String {
    let signature = mac(key, signed).finalize().into_bytes();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}
