//! A user name as a client may send it: bounded and harmless in paths, logs and PAM.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name in bytes; `useradd(8)` allows 256 at most.
pub const MAX_LEN: usize = 255;

/// A name that can be looked up. Nothing is said about whether such a user exists.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

impl UserName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name is empty, too long, or holds what no name may.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a user name")]
pub struct NotAUserName;

impl TryFrom<String> for UserName {
    type Error = NotAUserName;

    fn try_from(name: String) -> Result<Self, NotAUserName> {
        let printable = |c: char| !c.is_control() && !c.is_whitespace() && !"/:,\\\"'".contains(c);
        let first = name.chars().next().ok_or(NotAUserName)?;
        let right = name.len() <= MAX_LEN && name.chars().all(printable) && !"-+~.".contains(first);
        if right {
            Ok(Self(name))
        } else {
            Err(NotAUserName)
        }
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_names_pass() {
        let check = |name: &str| UserName::try_from(name.to_owned()).is_ok();
        for good in ["alice", "a.b", "x$", "user@example.org", "müller", "1st"] {
            assert!(check(good), "{good}");
        }
        for bad in [
            "", "-f", "..", "a/b", "a:b", "a b", "a\nb", "a\0", "~root", "+x", "a\\b",
        ] {
            assert!(!check(bad), "{bad:?}");
        }
        assert!(check(&"x".repeat(MAX_LEN)) && !check(&"x".repeat(MAX_LEN + 1)));
    }
}
