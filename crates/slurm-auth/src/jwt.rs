//! auth/jwt bearer tokens (slurmrestd, `SLURM_JWT`): who they are for and how long they last.
//! Nothing here makes one into a message credential; that is `slurm_wire::rpc::Credential::Jwt`.

use serde::{Deserialize, Serialize};

use crate::TokenError;
use crate::jws::{check_signature, join, split};

/// Claims of a bearer token as `scontrol token` makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BearerClaims {
    /// Unix time after which it is refused.
    pub exp: i64,
    /// Unix time of creation; not checked by receivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Slurm user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sun: Option<String>,
}

/// Makes a token with the HS256 key of slurmctld (`jwt_hs256.key`, the whole file).
///
/// # Errors
/// [`TokenError::Claims`] if the claims have no JSON form.
pub fn sign(claims: &BearerClaims, key: &[u8]) -> Result<String, TokenError> {
    let text = serde_json::to_vec(claims).map_err(TokenError::Claims)?;
    Ok(join(None, &text, key))
}

/// Checks signature, algorithm and expiry, without leeway.
///
/// # Errors
/// The first [`TokenError`] met.
pub fn verify(token: &str, key: &[u8], now: i64) -> Result<BearerClaims, TokenError> {
    let parts = split(token)?;
    check_signature(&parts, key)?;
    if !parts.header.is_hs256() {
        return Err(TokenError::Algorithm);
    }
    let claims: BearerClaims = serde_json::from_slice(&parts.claims).map_err(TokenError::Claims)?;
    if claims.exp < now {
        return Err(TokenError::Expired(now.saturating_sub(claims.exp)));
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{bytes, file, text};
    use slurm_wire::ProtocolVersion;
    use slurm_wire::rpc::{Credential, Message, MessageType};

    #[test]
    fn vectors() {
        let all = file(include_str!("../vectors/auth-jwt.json"));
        let key = bytes(text(&all, "jwt_hs256_key_hex"));
        let list = all["vectors"].as_array().unwrap();
        assert_eq!(list.len(), 3);
        for vector in list {
            let token = text(vector, "token");
            let claims = verify(token, &key, 1_795_404_216).unwrap();
            assert_eq!(sign(&claims, &key).unwrap(), token);
            assert_eq!(claims.sun.as_deref(), Some("alice"));
            assert!(verify(token, &key, claims.exp).is_ok());
            assert!(matches!(
                verify(token, &key, claims.exp + 1),
                Err(TokenError::Expired(1))
            ));
            assert!(matches!(
                verify(token, b"another", 0),
                Err(TokenError::Signature)
            ));
            if let Some(expected) = vector["jwt_claims"].as_str() {
                assert_eq!(serde_json::to_string(&claims).unwrap(), expected);
            }
            if let Some(frame) = vector["ping_rpc_hex_protocol_0x2a00_plugin_102"].as_str() {
                let ping = Message {
                    version: ProtocolVersion::V24_11,
                    flags: 0,
                    message_type: MessageType::PING,
                    credential: Some(Credential::Jwt {
                        token: token.to_owned(),
                        user: None,
                    }),
                    body: vec![],
                };
                assert_eq!(ping.encode(), bytes(frame));
                assert_eq!(Message::decode(&bytes(frame)[4..]), Ok(ping));
            }
        }
    }

    #[test]
    fn exp_is_required_and_a_number() {
        for claims in [
            r#"{"sun":"alice"}"#,
            r#"{"exp":"9999999999","sun":"alice"}"#,
        ] {
            let token = join(None, claims.as_bytes(), b"key");
            assert!(matches!(
                verify(&token, b"key", 0),
                Err(TokenError::Claims(_))
            ));
        }
    }
}
