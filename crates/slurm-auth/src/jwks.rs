//! slurm.jwks: the rules of each field, as slurmctld reads them. Any bad key refuses the whole
//! file, so that a typing mistake cannot silently remove a key from use.

use std::collections::HashSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::KeyError;
use crate::key::Key;

/// Smallest key that a set may hold, in bytes.
pub(crate) const MINIMUM_KEY: usize = 16;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Entry>,
}

/// Fields that are not here are ignored.
#[derive(Deserialize)]
struct Entry {
    alg: Option<String>,
    kty: Option<String>,
    kid: Option<String>,
    k: Option<Zeroizing<String>>,
    #[serde(rename = "use")]
    usage: Option<serde_json::Value>,
    exp: Option<serde_json::Value>,
}

/// Gives the keys and the position of the one that signs.
pub(crate) fn parse(file: &[u8]) -> Result<(Vec<Key>, usize), KeyError> {
    let set: Set = serde_json::from_slice(file).map_err(KeyError::Json)?;
    let mut keys = Vec::new();
    let mut kids = HashSet::new();
    let mut signing = None;
    for (index, entry) in set.keys.into_iter().enumerate() {
        let bad = |field, problem| KeyError::Field {
            index,
            field,
            problem,
        };
        if !is(entry.alg.as_deref(), "HS256") {
            return Err(bad("alg", "must be HS256"));
        }
        if !is(entry.kty.as_deref(), "oct") {
            return Err(bad("kty", "must be oct"));
        }
        let kid = entry.kid.ok_or_else(|| bad("kid", "is missing"))?;
        if !kids.insert(kid.clone()) {
            return Err(KeyError::DuplicateKid(kid));
        }
        let bytes = decode(&entry.k.ok_or_else(|| bad("k", "is missing"))?)
            .ok_or_else(|| bad("k", "is not Base64"))?;
        if bytes.len() < MINIMUM_KEY {
            return Err(bad("k", "is shorter than 16 bytes"));
        }
        let expires = match entry.exp {
            None => None,
            Some(value) => Some(unix_time(&value).ok_or_else(|| bad("exp", "is not a Unix time"))?),
        };
        let usage = entry.usage.as_ref().and_then(serde_json::Value::as_str);
        if is(usage, "default") && signing.replace(index).is_some() {
            return Err(KeyError::TwoDefaults);
        }
        keys.push(Key {
            kid: Some(kid),
            expires,
            bytes,
        });
    }
    if keys.is_empty() {
        return Err(KeyError::NoKeys);
    }
    Ok((keys, signing.unwrap_or(0)))
}

fn is(value: Option<&str>, wanted: &str) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
}

/// Base64 in either alphabet, padded or not.
fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let standard: Zeroizing<String> = Zeroizing::new(
        text.chars()
            .map(|c| match c {
                '-' => '+',
                '_' => '/',
                c => c,
            })
            .collect(),
    );
    ANY_PADDING
        .decode(standard.as_bytes())
        .ok()
        .map(Zeroizing::new)
}

fn unix_time(value: &serde_json::Value) -> Option<i64> {
    match value {
        // Programs that know floating point alone write 1.9e9; Slurm takes it as well.
        serde_json::Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?.floor();
            (-1e15..1e15).contains(&float).then_some(float as i64)
        }),
        serde_json::Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::Keyring;

    const K: &str = r#""alg":"hs256","kty":"OCT","k":"VGhlIGtleSBiZWxvdyBtZSBuZXZlciBsaWVz""#;

    fn check(keys: &str) -> Result<Keyring, String> {
        Keyring::from_jwks(format!(r#"{{"keys":[{keys}]}}"#).as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn which_key_signs() {
        let two = check(&format!(
            r#"{{"kid":"a",{K}}},{{"kid":"b",{K},"use":"Default"}}"#
        ));
        assert_eq!(two.unwrap().signing_kid(0), Some("b"));
        let none = check(&format!(
            r#"{{"kid":"a",{K},"use":"sig"}},{{"kid":"b",{K}}}"#
        ));
        assert_eq!(none.unwrap().signing_kid(0), Some("a"));
    }

    #[test]
    fn what_is_refused() {
        for (keys, words) in [
            ("", "no keys"),
            (r#"{"kid":"a","kty":"oct","k":"AAAA"}"#, "'alg' must"),
            (
                r#"{"kid":"a","alg":"HS512","kty":"oct","k":"AAAA"}"#,
                "'alg' must",
            ),
            (
                r#"{"kid":"a","alg":"HS256","kty":"RSA","k":"AAAA"}"#,
                "'kty' must",
            ),
            (
                r#"{"alg":"HS256","kty":"oct","k":"AAAA"}"#,
                "'kid' is missing",
            ),
            (r#"{"kid":"a","alg":"HS256","kty":"oct"}"#, "'k' is missing"),
            (
                r#"{"kid":"a","alg":"HS256","kty":"oct","k":"!"}"#,
                "'k' is not Base64",
            ),
            (
                r#"{"kid":"a","alg":"HS256","kty":"oct","k":"MDEyMzQ1Njc4OWFiY2Rl"}"#,
                "shorter than 16",
            ),
            (
                &format!(r#"{{"kid":"a",{K},"exp":"soon"}}"#),
                "'exp' is not",
            ),
            (
                &format!(r#"{{"kid":"a",{K}}},{{"kid":"a",{K}}}"#),
                "the id 'a'",
            ),
            (
                &format!(r#"{{"kid":"a",{K},"use":"default"}},{{"kid":"b",{K},"use":"DEFAULT"}}"#),
                "two keys",
            ),
        ] {
            let error = check(keys).expect_err(keys);
            assert!(error.contains(words), "{keys}: {error}");
        }
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, "{\"keys\":[1]}"] {
            assert!(Keyring::from_jwks(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn sixteen_bytes_either_alphabet_and_times_as_text_are_taken() {
        for k in [
            "MDEyMzQ1Njc4OWFiY2RlZg",
            "MDEyMzQ1Njc4OWFiY2RlZg==",
            "_-_-_-_-_-_-_-_-_-_-_w",
        ] {
            let key =
                format!(r#"{{"kid":"a","alg":"HS256","kty":"oct","k":"{k}","exp":"4102444800"}}"#);
            let ring = check(&key).expect(k);
            assert_eq!(ring.shortest(), 16);
            assert_eq!(ring.signing_key_expires(0), Some(4_102_444_800));
        }
        for (exp, expected) in [("1.9e9", 1_900_000_000), ("1900000000.7", 1_900_000_000)] {
            let ring = check(&format!(r#"{{"kid":"a",{K},"exp":{exp}}}"#)).expect(exp);
            assert_eq!(ring.signing_key_expires(0), Some(expected));
        }
        for exp in ["1e300", "-1e300", "true", "[]", "\"\"", "\" 1\""] {
            assert!(
                check(&format!(r#"{{"kid":"a",{K},"exp":{exp}}}"#)).is_err(),
                "{exp}"
            );
        }
    }
}
