//! Tokens made by hand, right or wrong in every part: what `slurm_auth::sign` would not make.

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

pub const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Unix time.
pub fn now() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

/// Claims that every verifier takes.
pub fn good() -> Value {
    json!({
        "cluster": "lab", "context": "auth", "exp": now() + 60, "gid": 401, "host": "ctl", "iat": now(),
        "payload": BASE64_STANDARD.encode([2; 33]), "ruid": u32::MAX, "uid": 401, "ver": 0x2a00,
    })
}

/// The same, changed.
pub fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

/// The same without one of them.
pub fn without(name: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// Header and claims, signed with the key.
pub fn signed(header: &str, claims: &Value, key: &[u8]) -> String {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(header), part(&claims.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

/// Header and claims of a token whose signature this key made.
pub fn read(token: &str, key: &[u8]) -> (Value, Value) {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    mac.verify_slice(&signature).expect("signed with the key");
    let (header, claims) = signed.split_once('.').unwrap();
    let part =
        |text| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    (part(header), part(claims))
}

/// A file slurm.jwks of these `(kid, key, more)`.
pub fn jwks(keys: &[(&str, &[u8], Value)]) -> String {
    let entry = |(kid, key, more): &(&str, &[u8], Value)| {
        let mut entry = json!({"alg": "HS256", "kty": "oct", "kid": kid, "k": BASE64_URL_SAFE_NO_PAD.encode(key)});
        let more = more.as_object().cloned().unwrap_or_default();
        entry.as_object_mut().unwrap().extend(more);
        entry
    };
    json!({"keys": keys.iter().map(entry).collect::<Vec<_>>()}).to_string()
}
