//! Signing and verifying auth/slurm tokens. The clock is the caller's, so that tests can set it.
//! No replay cache: the protocol has none, a token is good until it expires.

use crate::claims::ANYBODY;
use crate::jws::{check_signature, join, split};
use crate::{Claims, Context, Keyring, TokenError};

/// Who reads a token, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verifier {
    /// Uid of the reader: over SACK that of the connecting process.
    pub uid: u32,
    /// Unix time.
    pub now: i64,
}

/// Makes a token with the key that signs at its time.
///
/// # Errors
/// [`TokenError::Claims`] if the claims have no JSON form, which none of the fields can cause.
pub fn sign(claims: &Claims, keys: &Keyring) -> Result<String, TokenError> {
    let text = serde_json::to_vec(claims).map_err(TokenError::Claims)?;
    let key = keys.signing_key(claims.iat, claims.exp);
    Ok(join(key.kid.as_deref(), &text, &key.bytes))
}

/// Checks a token as slurmctld and sackd do, in their order: key by `kid`, signature, algorithm,
/// expiry without leeway, reader, claims, context.
///
/// # Errors
/// The first [`TokenError`] met.
pub fn verify(token: &str, keys: &Keyring, reader: Verifier) -> Result<Claims, TokenError> {
    let parts = split(token)?;
    let key = keys.verifying_key(parts.header.kid.as_deref(), reader.now)?;
    check_signature(&parts, &key.bytes)?;
    if !parts.header.is_hs256() {
        return Err(TokenError::Algorithm);
    }
    let claims = Claims::from_json(&parts.claims).map_err(TokenError::Claims)?;
    if claims.exp < reader.now {
        return Err(TokenError::Expired(reader.now.saturating_sub(claims.exp)));
    }
    if claims.ruid != ANYBODY && claims.ruid != reader.uid {
        return Err(TokenError::NotForReader(claims.ruid));
    }
    match claims.context {
        Context::Sack | Context::Auth => Ok(claims),
        Context::Other(context) => Err(TokenError::Context(context)),
    }
}

/// Reads the claims of a token that somebody else has verified, as SACK clients do: the verify
/// opcode answers yes or no, the claims are in the client's hands already.
///
/// # Errors
/// [`TokenError::Malformed`], [`TokenError::Claims`].
pub fn read_unverified(token: &str) -> Result<Claims, TokenError> {
    Claims::from_json(&split(token)?.claims).map_err(TokenError::Claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserIdentity;

    const NOW: i64 = 1_795_404_705;
    const ME: Verifier = Verifier {
        uid: 1001,
        now: NOW,
    };

    fn keys() -> Keyring {
        Keyring::from_slurm_key(b"a key of some length\n").unwrap()
    }

    fn claims() -> Claims {
        Claims {
            cluster: Some("lab".to_owned()),
            context: Context::Sack,
            exp: NOW + 60,
            gid: 100,
            host: "login1".to_owned(),
            iat: NOW,
            id: None,
            payload: vec![2; 33],
            ruid: ANYBODY,
            uid: 1001,
            ver: 0x2a00,
        }
    }

    #[test]
    fn round_trip() {
        let groups = [("users".to_owned(), 100), ("größe".to_owned(), 7)].into();
        let id = UserIdentity {
            dir: "/home/alice".to_owned(),
            gecos: String::new(),
            groups,
            name: "alice".to_owned(),
            shell: "/bin/bash".to_owned(),
        };
        for claims in [
            claims(),
            Claims {
                id: Some(id),
                payload: vec![],
                ..claims()
            },
        ] {
            let token = sign(&claims, &keys()).unwrap();
            assert_eq!(verify(&token, &keys(), ME).unwrap(), claims);
            assert_eq!(read_unverified(&token).unwrap(), claims);
        }
    }

    #[test]
    fn what_is_refused() {
        let check = |change: fn(&mut Claims), words: &str| {
            let mut changed = claims();
            change(&mut changed);
            let error = verify(&sign(&changed, &keys()).unwrap(), &keys(), ME).expect_err(words);
            assert!(error.to_string().contains(words), "{words}: {error}");
        };
        check(|c| c.exp = NOW - 1, "expired 1 s ago");
        check(|c| c.ruid = 0, "uid 0 alone");
        for context in ["launch", "net", "sbcast", "SACK", ""] {
            let changed = Claims {
                context: Context::Other(context.to_owned()),
                ..claims()
            };
            let token = sign(&changed, &keys()).unwrap();
            assert!(matches!(
                verify(&token, &keys(), ME),
                Err(TokenError::Context(_))
            ));
        }
        let at_the_edge = Claims {
            exp: NOW,
            ruid: 1001,
            ..claims()
        };
        assert!(verify(&sign(&at_the_edge, &keys()).unwrap(), &keys(), ME).is_ok());
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let token = sign(&claims(), &keys()).unwrap();
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verify(&changed, &keys(), ME).is_err(), "byte {at}");
            assert!(verify(&token[..at], &keys(), ME).is_err(), "cut at {at}");
        }
        let other = Keyring::from_slurm_key(b"a key of some length").unwrap();
        assert!(matches!(
            verify(&token, &other, ME),
            Err(TokenError::Signature)
        ));
    }

    #[test]
    fn algorithm_none_and_others_are_refused() {
        let key = keys();
        let signed_as = |header: &str| {
            use base64::Engine as _;
            let encode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
            let body = serde_json::to_string(&claims()).unwrap();
            let token = join(None, body.as_bytes(), b"x");
            let (signed, _) = token.rsplit_once('.').unwrap();
            let signed = format!("{}.{}", encode(header), signed.split_once('.').unwrap().1);
            // A signature with the right key, so that only the header is wrong.
            crate::jws::sign_raw(&signed, &key.signing_key(NOW, NOW).bytes)
        };
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"hs256"}"#,
            "{}",
        ] {
            let result = verify(&signed_as(header), &key, ME);
            assert!(matches!(result, Err(TokenError::Algorithm)), "{header}");
        }
        for header in [
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"HS256","typ":"XXX","kid":"any"}"#,
        ] {
            assert!(verify(&signed_as(header), &key, ME).is_ok(), "{header}");
        }
    }

    #[test]
    fn key_sets() {
        let set = |text: &str| Keyring::from_jwks(text.as_bytes()).unwrap();
        let old =
            r#""kid":"old","alg":"HS256","kty":"oct","k":"VGhlIGtleSBiZWxvdyBtZSBuZXZlciBsaWVz""#;
        let new =
            r#""kid":"new","alg":"HS256","kty":"oct","k":"_-_-VGhlIGtleSBhYm92ZSBtZSBhbHdheXM""#;
        let before = set(&format!(r#"{{"keys":[{{{old}}},{{{new}}}]}}"#));
        let after = set(&format!(
            r#"{{"keys":[{{{old}}},{{{new},"use":"default"}}]}}"#
        ));
        let expired = set(&format!(
            r#"{{"keys":[{{{new}}},{{{old},"exp":{}}}]}}"#,
            NOW - 1
        ));
        let removed = set(&format!(r#"{{"keys":[{{{new}}}]}}"#));
        let token = sign(&claims(), &before).unwrap();
        assert!(verify(&token, &after, ME).is_ok());
        assert!(matches!(
            verify(&token, &expired, ME),
            Err(TokenError::KeyExpired(_))
        ));
        assert!(matches!(
            verify(&token, &removed, ME),
            Err(TokenError::UnknownKid(_))
        ));
        // An expired default key leaves the signing to one that is good for the token's whole life.
        for (exp, kid) in [(NOW - 1, "new"), (NOW + 59, "new"), (NOW + 60, "old")] {
            let ring = set(&format!(
                r#"{{"keys":[{{{old},"use":"default","exp":{exp}}},{{{new},"exp":{}}}]}}"#,
                NOW + 1000
            ));
            let token = sign(&claims(), &ring).unwrap();
            let header = crate::jws::split(&token).unwrap().header;
            assert_eq!(header.kid.as_deref(), Some(kid), "{exp}");
            assert_eq!(ring.kid_for(&claims()), Some(kid), "{exp}");
            assert!(verify(&token, &ring, ME).is_ok());
            assert_eq!(ring.default_has_expired(NOW), exp < NOW);
        }
        let all_gone = set(&format!(
            r#"{{"keys":[{{{old},"exp":5}},{{{new},"exp":6}}]}}"#
        ));
        assert_eq!(all_gone.signing_kid(NOW), Some("old"));
        assert_eq!(all_gone.signing_key_expires(NOW), Some(5));
        // Without a kid the default key is tried.
        let bare = Keyring::from_slurm_key(b"The key below me never lies").unwrap();
        let token = sign(&claims(), &bare).unwrap();
        assert!(verify(&token, &before, ME).is_ok());
        assert!(matches!(
            verify(&token, &after, ME),
            Err(TokenError::Signature)
        ));
    }
}
