//! Why a request was not done, and how that is said in `SSH_FXP_STATUS`
//! (draft-ietf-secsh-filexfer-02, section 7). Codes are OpenSSH's; texts say more than its do.

use nix::errno::Errno;

/// The codes of section 7 that a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "named as in the protocol")]
pub enum Code {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    OpUnsupported = 8,
}

/// A request that was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The kernel's answer.
    #[error("{}", .0.desc())]
    Kernel(#[from] Errno),
    /// There is no more to read.
    #[error("End of file")]
    End,
    /// `-R`, `-p` or `-P`.
    #[error("Permission denied")]
    NotPermitted,
    /// The fields of the packet are wrong.
    #[error("Bad message")]
    BadMessage,
    /// Nobody knows such a request.
    #[error("Operation unsupported")]
    Unsupported,
    /// Closing or syncing what is not open.
    #[error("No such handle")]
    NoSuchHandle,
    /// The handle is unknown, or a folder's where a file's is needed.
    #[error("Not an open handle of that kind")]
    WrongHandle,
    /// `SSH_FXP_RENAME` never replaces.
    #[error("The new name exists")]
    Exists,
    /// Copying a file onto itself.
    #[error("Source and destination are the same")]
    Same,
    /// `~name` of nobody.
    #[error("No such user")]
    NoSuchUser,
    /// The home of nobody.
    #[error("No such user")]
    NoSuchHome,
    /// A size for a symbolic link.
    #[error("A link has no size to set")]
    LinkSize,
    /// An answer above the limit of a packet.
    #[error("The answer would be too long")]
    TooLong,
}

impl Refusal {
    /// How it is numbered.
    pub fn code(self) -> Code {
        match self {
            Self::Kernel(errno) => match errno {
                Errno::ENOENT | Errno::ENOTDIR | Errno::EBADF | Errno::ELOOP => Code::NoSuchFile,
                Errno::EPERM | Errno::EACCES | Errno::EFAULT => Code::PermissionDenied,
                Errno::ENAMETOOLONG | Errno::EINVAL => Code::BadMessage,
                Errno::ENOSYS => Code::OpUnsupported,
                _ => Code::Failure,
            },
            Self::End => Code::Eof,
            Self::NotPermitted => Code::PermissionDenied,
            Self::BadMessage | Self::LinkSize => Code::BadMessage,
            Self::Unsupported => Code::OpUnsupported,
            Self::NoSuchHandle | Self::NoSuchUser => Code::NoSuchFile,
            Self::WrongHandle | Self::Exists | Self::Same | Self::NoSuchHome | Self::TooLong => {
                Code::Failure
            }
        }
    }
}

impl From<crate::fields::BadFields> for Refusal {
    fn from(_: crate::fields::BadFields) -> Self {
        Self::BadMessage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_so() {
        for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EIO, Errno::EEXIST] {
            assert_eq!(Refusal::Kernel(errno).code(), Code::Failure);
        }
        assert_eq!(
            Refusal::Kernel(Errno::ENOSPC).to_string(),
            "No space left on device"
        );
    }
}
