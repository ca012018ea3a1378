//! What can be wrong with bytes that claim to be Slurm's.
//! Who sent them, and what to do about it, is the caller's matter.

/// Why bytes could not be read as a Slurm message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field. For an incremental reader: wait for more.
    #[error("message ends inside '{0}'")]
    Truncated(&'static str),
    /// A length field asks for more than this program reads.
    #[error("'{field}' is {length} bytes long, the limit is {limit}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// What the sender asked for, in bytes (or entries, for a list).
        length: u64,
        /// What is read at most.
        limit: u64,
    },
    /// A field holds a value that the protocol does not have.
    #[error("'{field}' cannot be {value}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What stood there.
        value: u64,
    },
    /// A string lacks its NUL, has one inside, or is not UTF-8 where it must be.
    #[error("'{0}' is not a string of the protocol")]
    NotAString(&'static str),
    /// The message carries something this program never needs and therefore refuses.
    #[error("messages with '{0}' are refused")]
    Refused(&'static str),
    /// Bytes are left over where the message must end.
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
    /// The protocol version is outside of what this program reads and writes.
    #[error("protocol version 0x{0:04x} is not spoken here")]
    Version(u16),
}
