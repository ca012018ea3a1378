//! Slurm protocol versions: one number per release, high byte counting releases.
//! What differs by version is said where the message is packed.

use std::fmt;

use crate::WireError;

/// A Slurm protocol version, as it stands in RPC headers and SACK requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(pub u16);

impl ProtocolVersion {
    /// Slurm 23.11, the first release with SACK.
    pub const V23_11: Self = Self(0x2800);
    /// Slurm 24.05.
    pub const V24_05: Self = Self(0x2900);
    /// Slurm 24.11.
    pub const V24_11: Self = Self(0x2a00);
    /// Slurm 25.05: REQUEST_CONFIG gained its port.
    pub const V25_05: Self = Self(0x2b00);
    /// Slurm 25.11.
    pub const V25_11: Self = Self(0x2c00);
    /// Slurm 26.05.
    pub const V26_05: Self = Self(0x2d00);

    /// Every version whose RPCs are packed and unpacked here, newest first: the order in which
    /// an unknown controller is asked.
    pub const NEWEST_FIRST: [Self; 6] = [
        Self::V26_05,
        Self::V25_11,
        Self::V25_05,
        Self::V24_11,
        Self::V24_05,
        Self::V23_11,
    ];

    /// Refuses a version whose RPC layout is not known here.
    ///
    /// # Errors
    /// [`WireError::Version`].
    pub fn spoken(self) -> Result<Self, WireError> {
        if (Self::V23_11..=Self::V26_05).contains(&self) {
            Ok(self)
        } else {
            Err(WireError::Version(self.0))
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04x}", self.0)
    }
}
