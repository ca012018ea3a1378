//! A password on its way to the daemon, and what the directory says to it.
//!
//! Passwords that no server may see (an empty one is an anonymous bind, RFC 4513 5.1.2) cannot be made.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Longest password taken, in bytes.
pub const MAX_PASSWORD: usize = 512;

/// A password: UTF-8, not empty, no NUL, at most [`MAX_PASSWORD`] bytes; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

/// Bytes that are no password any directory may be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a password: empty, too long, with a NUL or not utf-8")]
pub struct NotAPassword;

impl Password {
    /// Takes the bytes over; on an error they are wiped as well.
    ///
    /// # Errors
    /// [`NotAPassword`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, NotAPassword> {
        let good = !bytes.is_empty() && bytes.len() <= MAX_PASSWORD && !bytes.contains(&0);
        match String::from_utf8(bytes) {
            Ok(text) if good => Ok(Self(Zeroizing::new(text))),
            Ok(mut text) => {
                text.zeroize();
                Err(NotAPassword)
            }
            Err(error) => {
                error.into_bytes().zeroize();
                Err(NotAPassword)
            }
        }
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<password>")
    }
}

/// What became of a password that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is the user's. Whether the account may log in is another question: ask for the account.
    Accepted {
        /// The directory wants a new one before anything else is done.
        must_change: bool,
        /// For the user to read: "expires in three days".
        notices: Vec<String>,
    },
    /// Wrong password, no such user, locked, too many attempts: one answer, after one time.
    Refused,
    /// It is the user's and too old for the directory to accept.
    Expired,
    /// No server could be asked.
    Unavailable,
}

/// What became of a wish for a new password.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The new password counts.
    Done,
    /// The old one is not the user's.
    WrongPassword,
    /// The directory does not want the new one; why, for the user to read.
    NotAccepted(String),
    /// No server could be asked.
    Unavailable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_password() {
        let check = |bytes: &[u8], good| {
            assert_eq!(Password::new(bytes.to_vec()).is_ok(), good, "{bytes:?}");
        };
        check(b"x", true);
        check("pässwörd".as_bytes(), true);
        check(b"", false);
        check(b"a\0b", false);
        check(b"\xff", false);
        check(&[b'a'; MAX_PASSWORD], true);
        check(&[b'a'; MAX_PASSWORD + 1], false);
        assert_eq!(
            format!("{:?}", Password::new(b"hunter2".to_vec())),
            "Ok(<password>)"
        );
    }
}
