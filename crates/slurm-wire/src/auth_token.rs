//! REQUEST_AUTH_TOKEN and its answer: a bearer token of auth/jwt, made by slurmctld.

use crate::rpc::TOKEN_LIMIT;
use crate::{Packer, Unpacker, WireError};

/// Most bytes of a user name.
const NAME_LIMIT: usize = 1024;

/// Body of REQUEST_AUTH_TOKEN: `u32` life in seconds, string user name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthTokenRequest {
    /// How long it is good, in seconds; 0 is what slurmctld takes by default.
    pub lifespan: u32,
    /// For whom; null for the caller. Only root and SlurmUser may name others.
    pub user: Option<String>,
}

impl AuthTokenRequest {
    /// Packs the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Packer::new();
        body.u32(self.lifespan);
        body.string(self.user.as_ref().map(String::as_bytes));
        body.finish()
    }

    /// Reads the body.
    ///
    /// # Errors
    /// Those of the fields.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Unpacker::new(body);
        let lifespan = bytes.u32("lifespan")?;
        let user = bytes.text(NAME_LIMIT, "user name")?.map(str::to_owned);
        bytes.end()?;
        Ok(Self { lifespan, user })
    }
}

/// Packs the body of RESPONSE_AUTH_TOKEN: string token.
#[must_use]
pub fn encode_response(token: &str) -> Vec<u8> {
    let mut body = Packer::new();
    body.string(Some(token.as_bytes()));
    body.finish()
}

/// Reads the body of RESPONSE_AUTH_TOKEN.
///
/// # Errors
/// [`WireError::NotAString`] for a null token, and those of the fields.
pub fn decode_response(body: &[u8]) -> Result<String, WireError> {
    let mut bytes = Unpacker::new(body);
    let token = bytes.text(TOKEN_LIMIT, "token")?.map(str::to_owned);
    bytes.end()?;
    token.ok_or(WireError::NotAString("token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_cuts() {
        for user in [None, Some("alice".to_owned())] {
            let request = AuthTokenRequest {
                lifespan: 1800,
                user,
            };
            let body = request.encode();
            assert_eq!(AuthTokenRequest::decode(&body), Ok(request));
            for end in 0..body.len() {
                assert!(AuthTokenRequest::decode(&body[..end]).is_err());
            }
        }
        let body = encode_response("a.b.c");
        assert_eq!(body, b"\0\0\0\x06a.b.c\0");
        assert_eq!(decode_response(&body).as_deref(), Ok("a.b.c"));
        for end in 0..body.len() {
            assert!(decode_response(&body[..end]).is_err());
        }
        assert!(decode_response(&[0; 4]).is_err());
    }
}
