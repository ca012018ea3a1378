//! What a PAM step may answer besides success, by what a login program does next.

use std::ffi::c_int;

use crate::ffi;

/// Why a step of a transaction did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PamError {
    /// The answers are not the user's (`PAM_AUTH_ERR`, `PAM_CRED_INSUFFICIENT`).
    #[error("authentication refused")]
    AuthErr,
    /// No module knows the user (`PAM_USER_UNKNOWN`).
    #[error("user unknown to every module")]
    UserUnknown,
    /// A module will not be asked again in this transaction (`PAM_MAXTRIES`).
    #[error("too many attempts")]
    MaxTries,
    /// What the modules rely on could not be reached (`PAM_AUTHINFO_UNAVAIL`).
    #[error("authentication service unavailable")]
    AuthInfoUnavailable,
    /// The account is locked or its time is over (`PAM_ACCT_EXPIRED`).
    #[error("account expired")]
    AcctExpired,
    /// The password must be changed first: [`crate::Transaction::change_token`]
    /// (`PAM_NEW_AUTHTOK_REQD`).
    #[error("password must be changed")]
    NewAuthTokRequired,
    /// The password is too old to be changed by its owner (`PAM_AUTHTOK_EXPIRED`).
    #[error("password expired for good")]
    AuthTokExpired,
    /// The user may not come in here or now (`PAM_PERM_DENIED`).
    #[error("access denied by policy")]
    PermDenied,
    /// The new password was not taken (`PAM_AUTHTOK_ERR`).
    #[error("new password not accepted")]
    AuthTokErr,
    /// The conversation gave no answer (`PAM_CONV_ERR`, `PAM_CONV_AGAIN`).
    #[error("conversation broke off")]
    Conversation,
    /// A session module failed (`PAM_SESSION_ERR`).
    #[error("session could not be opened or closed")]
    Session,
    /// A module has put another user in the place of the one that was asked about.
    #[error("a module changed the user")]
    UserChanged,
    /// A text that goes to libpam is empty, holds NUL, or names a path as a service.
    #[error("not a valid {0} for libpam")]
    Text(&'static str),
    /// Anything else; a matter of the host's configuration.
    #[error("{call}: {text} (PAM error {code})")]
    Other {
        /// The function that failed.
        call: &'static str,
        /// Its value.
        code: i32,
        /// What libpam says about it.
        text: String,
    },
}

impl PamError {
    /// The error of a return value that is not `PAM_SUCCESS`; `text` is libpam's own word for it.
    pub(crate) fn of(call: &'static str, code: c_int, text: impl FnOnce() -> String) -> Self {
        match code {
            ffi::AUTH_ERR | ffi::CRED_INSUFFICIENT => Self::AuthErr,
            ffi::USER_UNKNOWN => Self::UserUnknown,
            ffi::MAXTRIES => Self::MaxTries,
            ffi::AUTHINFO_UNAVAIL => Self::AuthInfoUnavailable,
            ffi::ACCT_EXPIRED => Self::AcctExpired,
            ffi::NEW_AUTHTOK_REQD => Self::NewAuthTokRequired,
            ffi::AUTHTOK_EXPIRED => Self::AuthTokExpired,
            ffi::PERM_DENIED => Self::PermDenied,
            ffi::AUTHTOK_ERR => Self::AuthTokErr,
            ffi::CONV_ERR | ffi::CONV_AGAIN => Self::Conversation,
            ffi::SESSION_ERR => Self::Session,
            code => Self::Other {
                call,
                code,
                text: text(),
            },
        }
    }
}
