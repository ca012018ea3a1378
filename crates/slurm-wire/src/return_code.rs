//! RESPONSE_SLURM_RC, the bare number that answers a request, and the numbers a login node meets.
//! What to do about each is the caller's matter.

use std::fmt;

use crate::{Packer, Unpacker, WireError};

/// A Slurm return code (`slurm_errno.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReturnCode(pub u32);

impl ReturnCode {
    /// It went well.
    pub const SUCCESS: Self = Self(0);
    /// The receiver does not speak the version of the request.
    pub const VERSION: Self = Self(1005);
    /// The credential was refused. Controllers up to 24.11 say this of a foreign version, too.
    pub const AUTHENTICATION: Self = Self(1007);
    /// Too many requests: wait.
    pub const BACK_OFF: Self = Self(1804);
    /// Access denied.
    pub const ACCESS_DENIED: Self = Self(2002);
    /// The user may not do this.
    pub const USER_NOT_ALLOWED: Self = Self(2010);
    /// This controller is a standby.
    pub const STANDBY: Self = Self(2027);
    /// `enable_configless` is not set at the controller.
    pub const CONFIGLESS_DISABLED: Self = Self(2126);
    /// This controller is a standby; ask the backup.
    pub const STANDBY_USE_BACKUP: Self = Self(2131);

    /// Whether this means "ask the next controller".
    #[must_use]
    pub fn is_standby(self) -> bool {
        self == Self::STANDBY || self == Self::STANDBY_USE_BACKUP
    }

    /// Body of RESPONSE_SLURM_RC: `u32`.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut body = Packer::new();
        body.u32(self.0);
        body.finish()
    }

    /// Reads the body of RESPONSE_SLURM_RC.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::Trailing`].
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Unpacker::new(body);
        let code = Self(bytes.u32("return code")?);
        bytes.end()?;
        Ok(code)
    }
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match *self {
            Self::SUCCESS => "success",
            Self::VERSION => "protocol version not spoken",
            Self::AUTHENTICATION => "token or protocol version refused",
            Self::BACK_OFF => "too many requests",
            Self::ACCESS_DENIED => "access denied",
            Self::USER_NOT_ALLOWED => "user not allowed",
            Self::STANDBY | Self::STANDBY_USE_BACKUP => "controller in standby",
            Self::CONFIGLESS_DISABLED => "enable_configless is not set at the controller",
            Self(code) => return write!(f, "return code {code}"),
        };
        write!(f, "{words} (return code {})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        assert_eq!(
            ReturnCode::decode(&[0, 0, 3, 0xef]),
            Ok(ReturnCode::AUTHENTICATION)
        );
        assert_eq!(ReturnCode::AUTHENTICATION.encode(), [0, 0, 3, 0xef]);
        assert!(ReturnCode::decode(&[0, 0, 3]).is_err());
        assert!(ReturnCode::decode(&[0; 5]).is_err());
    }
}
