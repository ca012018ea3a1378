//! What a server says about a password besides yes and no: the password policy's control
//! (draft-behera-ldap-password-policy) and Active Directory's codes in the text of a refused bind.

/// The control's number, in requests and in answers.
pub const CONTROL: &str = "1.3.6.1.4.1.42.2.27.8.5.1";

/// The answer's control, as far as it could be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Seconds until the password expires.
    pub expires_in: Option<u64>,
    /// Logins left with an expired password.
    pub grace: Option<u64>,
    /// What stands against the request.
    pub error: Option<PolicyError>,
}

/// The control's error, in the draft's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyError {
    /// The password is right and too old.
    Expired,
    /// The account is locked (only if the server tells).
    Locked,
    /// Right, and to be changed before anything else.
    MustChange,
    /// The user may not change it.
    ChangeNotAllowed,
    /// The old one must come along.
    NeedOld,
    /// Not good enough.
    Quality,
    /// Too short.
    Short,
    /// Changed too recently.
    Young,
    /// Used before.
    History,
    /// Too long.
    Long,
}

impl Policy {
    /// Reads the control's value; what is not understood says nothing.
    pub fn parse(value: &[u8]) -> Self {
        let mut policy = Self::default();
        let Some((0x30, mut rest, _)) = element(value) else {
            return policy;
        };
        while let Some((tag, content, after)) = element(rest) {
            rest = after;
            match tag {
                0xa0 => match element(content) {
                    Some((0x80, number, _)) => policy.expires_in = unsigned(number),
                    Some((0x81, number, _)) => policy.grace = unsigned(number),
                    _ => {}
                },
                0x81 => policy.error = unsigned(content).and_then(PolicyError::of),
                _ => {}
            }
        }
        policy
    }

    /// True if the password can be used as it is, now and at the next login.
    pub fn is_plain(&self) -> bool {
        self.error.is_none() && self.grace.is_none()
    }

    /// What the user should read about it; empty if there is nothing.
    pub fn notices(self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(seconds) = self.expires_in {
            let (count, unit) = match seconds {
                86_400.. => (seconds / 86_400, "day"),
                3600.. => (seconds / 3600, "hour"),
                _ => (seconds.div_ceil(60), "minute"),
            };
            let s = if count == 1 { "" } else { "s" };
            notices.push(format!("Your password expires in {count} {unit}{s}."));
        }
        if let Some(left) = self.grace {
            let s = if left == 1 { "" } else { "s" };
            notices.push(format!(
                "Your password has expired; {left} login{s} left with it."
            ));
        }
        notices
    }
}

impl PolicyError {
    fn of(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Expired,
            1 => Self::Locked,
            2 => Self::MustChange,
            3 => Self::ChangeNotAllowed,
            4 => Self::NeedOld,
            5 => Self::Quality,
            6 => Self::Short,
            7 => Self::Young,
            8 => Self::History,
            9 => Self::Long,
            _ => return None,
        })
    }

    /// Why a new password was not taken, for the user.
    pub fn words(self) -> &'static str {
        match self {
            Self::Expired => "The password has expired.",
            Self::Locked => "The account is locked.",
            Self::MustChange => "The password must be changed.",
            Self::ChangeNotAllowed => "The password may not be changed.",
            Self::NeedOld => "The old password is needed.",
            Self::Quality => "The new password is too simple.",
            Self::Short => "The new password is too short.",
            Self::Young => "The password was changed too recently.",
            Self::History => "The new password has been used before.",
            Self::Long => "The new password is too long.",
        }
    }
}

/// What Active Directory says about a refused bind: the number behind "data" in
/// `80090308: LdapErr: DSID-..., comment: AcceptSecurityContext error, data 52e, v3839`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdReason {
    /// 525, 52e, and any other.
    Wrong,
    /// 530, 531, 533, 701, 775: right or not, the account is closed.
    Closed,
    /// 532, 773: right, and to be changed.
    MustChange,
}

impl AdReason {
    /// Reads the text; `None` if it is not of that shape.
    pub fn of(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("AcceptSecurityContext error, data ")?;
        Some(match rest.split(',').next()?.trim() {
            "532" | "773" => Self::MustChange,
            "530" | "531" | "533" | "701" | "775" => Self::Closed,
            _ => Self::Wrong,
        })
    }
}

/// Tag, content and what follows, of definite lengths below 64 KiB.
pub fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = match rest.split_first()? {
        (short @ 0..=0x7f, rest) => (usize::from(*short), rest),
        (0x81, rest) => (usize::from(*rest.first()?), rest.get(1..)?),
        (0x82, rest) => {
            let (head, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*head)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// An integer that is not negative.
fn unsigned(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 8 || bytes[0] & 0x80 != 0 {
        return None;
    }
    Some(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls() {
        let check = |bytes: &[u8], expected: Policy| {
            assert_eq!(Policy::parse(bytes), expected, "{bytes:02x?}");
        };
        let none = Policy::default();
        check(b"\x30\x00", none);
        check(b"", none);
        check(
            b"\x30\x05\xa0\x03\x80\x01\x3c",
            Policy {
                expires_in: Some(60),
                ..none
            },
        );
        check(
            b"\x30\x05\xa0\x03\x81\x01\x02",
            Policy {
                grace: Some(2),
                ..none
            },
        );
        check(
            b"\x30\x03\x81\x01\x02",
            Policy {
                error: Some(PolicyError::MustChange),
                ..none
            },
        );
        check(
            b"\x30\x09\xa0\x04\x80\x02\x0e\x10\x81\x01\x08",
            Policy {
                expires_in: Some(3600),
                error: Some(PolicyError::History),
                ..none
            },
        );
        check(b"\x30\x03\x81\x01\x63", none);
        check(b"\x30\x05\xa0\x03\x80\x01\xff", none);
        check(b"\x30\x84\xff\xff\xff\xff", none);
        check(b"\x30\x03\x81\x05\x00", none);
    }

    #[test]
    fn notices_are_sentences() {
        let check = |expires_in, grace, expected: &[&str]| {
            let policy = Policy {
                expires_in,
                grace,
                error: None,
            };
            assert_eq!(policy.notices(), expected);
        };
        check(None, None, &[]);
        check(Some(86_400), None, &["Your password expires in 1 day."]);
        check(Some(300_000), None, &["Your password expires in 3 days."]);
        check(Some(61), None, &["Your password expires in 2 minutes."]);
        check(
            None,
            Some(1),
            &["Your password has expired; 1 login left with it."],
        );
    }

    #[test]
    fn words_of_active_directory() {
        let text = |code: &str| {
            format!(
                "80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data {code}, v3839"
            )
        };
        assert_eq!(AdReason::of(&text("52e")), Some(AdReason::Wrong));
        assert_eq!(AdReason::of(&text("773")), Some(AdReason::MustChange));
        assert_eq!(AdReason::of(&text("775")), Some(AdReason::Closed));
        assert_eq!(AdReason::of("invalid credentials"), None);
    }
}
