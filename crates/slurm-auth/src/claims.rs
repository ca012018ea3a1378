//! The claims of an auth/slurm token and the rules for reading them.
//! Whether they permit anything is decided by `token::verify` and by its callers.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// `ruid` of a token that anybody may decode.
pub const ANYBODY: u32 = u32::MAX;

/// What a token says. Fields stand in alphabetical order because the original writes them so,
/// and captured tokens are compared byte for byte. Unknown claims are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Lower-case ClusterName of the signer; no verifier compares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What kind of token it is.
    pub context: Context,
    /// Unix time after which it is refused.
    pub exp: i64,
    /// Caller's effective group; missing reads as 4294967295.
    #[serde(default = "nobody")]
    pub gid: u32,
    /// Short host name of the signer; slurmctld files registered login nodes under it.
    pub host: String,
    /// Unix time of creation.
    #[serde(default)]
    pub iat: i64,
    /// Who the caller is, with `use_client_ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<UserIdentity>,
    /// What the token is bound to; written as standard padded Base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "payload")]
    pub payload: Vec<u8>,
    /// Who may decode it: one uid, or 4294967295 for anybody.
    pub ruid: u32,
    /// Caller's user id; missing reads as 4294967295.
    #[serde(default = "nobody")]
    pub uid: u32,
    /// Protocol version of the client that asked.
    #[serde(default)]
    pub ver: i64,
}

/// Kinds of tokens. A SACK server makes only [`Context::Sack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// Made over SACK for a local caller.
    Sack,
    /// Made by a daemon for itself.
    Auth,
    /// `launch`, `net`, `sbcast`, or one of the future: never for messages.
    Other(String),
}

impl Context {
    /// The word in the token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sack => "sack",
            Self::Auth => "auth",
            Self::Other(other) => other,
        }
    }
}

/// The caller's entries in the user and group databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIdentity {
    /// Home directory.
    pub dir: String,
    /// Comment field; may be empty.
    pub gecos: String,
    /// All groups.
    pub groups: Groups,
    /// User name.
    pub name: String,
    /// Login shell.
    pub shell: String,
}

/// Group name to group id.
pub type Groups = BTreeMap<String, u32>;

impl Serialize for Context {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(from)?.as_str() {
            "sack" => Self::Sack,
            "auth" => Self::Auth,
            other => Self::Other(other.to_owned()),
        })
    }
}

fn nobody() -> u32 {
    u32::MAX
}

/// Receivers from 26.05 on refuse anything but padded standard Base64, so this does as well.
mod payload {
    use super::{BASE64_STANDARD, Deserialize, Deserializer, Engine, Serializer};
    use serde::de::Error as _;

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64_STANDARD
            .decode(text)
            .map_err(|_| D::Error::custom("payload is not Base64"))
    }
}

impl Claims {
    /// Reads claims from JSON text.
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        let claims: Self = serde_json::from_slice(text)?;
        if claims.host.is_empty() {
            return Err(serde_json::Error::custom("host is empty"));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: &str) -> Result<Claims, serde_json::Error> {
        let text = format!(r#"{{"context":"sack","exp":1,"host":"h"{extra}}}"#);
        Claims::from_json(text.as_bytes())
    }

    #[test]
    fn leniency_and_its_end() {
        let claims = read(r#","ruid":4294967295,"nbf":9,"future":{}"#).unwrap();
        assert_eq!(
            (claims.uid, claims.gid, claims.iat, claims.ver),
            (ANYBODY, ANYBODY, 0, 0)
        );
        for refused in [
            "",
            r#","ruid":-1"#,
            r#","ruid":4294967296"#,
            r#","ruid":"0""#,
            r#","ruid":0,"uid":"0""#,
            r#","ruid":0,"payload":"AA""#,
            r#","ruid":0,"payload":"_-8=""#,
            r#","ruid":0,"id":{}"#,
        ] {
            assert!(read(refused).is_err(), "{refused}");
        }
        for missing in [
            r#"{"context":"sack","exp":1,"ruid":0}"#,
            r#"{"context":"sack","exp":1,"ruid":0,"host":""}"#,
            r#"{"context":"sack","host":"h","ruid":0}"#,
            r#"{"exp":1,"host":"h","ruid":0}"#,
            r#"{"context":"sack","exp":"1","host":"h","ruid":0}"#,
        ] {
            assert!(Claims::from_json(missing.as_bytes()).is_err(), "{missing}");
        }
    }
}
