//! What of libpam's C interface is used, as `security/_pam_types.h` and `security/pam_appl.h` of
//! Linux-PAM 1.4 and later define it. Declarations only.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// `pam_handle_t`: opaque.
#[repr(C)]
pub struct Handle {
    _opaque: [u8; 0],
}

/// `struct pam_message`.
#[repr(C)]
pub struct RawMessage {
    pub style: c_int,
    pub text: *const c_char,
}

/// `struct pam_response`; libpam frees both the array and each text.
#[repr(C)]
pub struct RawResponse {
    pub text: *mut c_char,
    pub code: c_int,
}

/// The conversation function. Linux-PAM passes an array of pointers to messages.
pub type Converse = extern "C" fn(
    count: c_int,
    messages: *mut *const RawMessage,
    responses: *mut *mut RawResponse,
    data: *mut c_void,
) -> c_int;

/// The function of `PAM_FAIL_DELAY`, pam_fail_delay(3).
pub type Delay = extern "C" fn(status: c_int, microseconds: c_uint, data: *mut c_void);

/// `struct pam_conv`; libpam copies it in `pam_start`.
#[repr(C)]
pub struct RawConversation {
    pub converse: Converse,
    pub data: *mut c_void,
}

// The file name itself, not `-lpam`: the latter needs the development package's symbolic link.
#[link(name = "libpam.so.0", kind = "dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    pub fn pam_start(
        service: *const c_char,
        user: *const c_char,
        conversation: *const RawConversation,
        handle: *mut *mut Handle,
    ) -> c_int;
    pub fn pam_start_confdir(
        service: *const c_char,
        user: *const c_char,
        conversation: *const RawConversation,
        folder: *const c_char,
        handle: *mut *mut Handle,
    ) -> c_int;
    pub fn pam_end(handle: *mut Handle, status: c_int) -> c_int;
    pub fn pam_set_item(handle: *mut Handle, item: c_int, value: *const c_void) -> c_int;
    pub fn pam_get_item(handle: *const Handle, item: c_int, value: *mut *const c_void) -> c_int;
    pub fn pam_authenticate(handle: *mut Handle, flags: c_int) -> c_int;
    pub fn pam_acct_mgmt(handle: *mut Handle, flags: c_int) -> c_int;
    pub fn pam_chauthtok(handle: *mut Handle, flags: c_int) -> c_int;
    pub fn pam_setcred(handle: *mut Handle, flags: c_int) -> c_int;
    pub fn pam_open_session(handle: *mut Handle, flags: c_int) -> c_int;
    pub fn pam_close_session(handle: *mut Handle, flags: c_int) -> c_int;
    pub fn pam_putenv(handle: *mut Handle, assignment: *const c_char) -> c_int;
    pub fn pam_getenvlist(handle: *mut Handle) -> *mut *mut c_char;
    pub fn pam_strerror(handle: *mut Handle, code: c_int) -> *const c_char;
}

pub const SUCCESS: c_int = 0;
pub const PERM_DENIED: c_int = 6;
pub const AUTH_ERR: c_int = 7;
pub const CRED_INSUFFICIENT: c_int = 8;
pub const AUTHINFO_UNAVAIL: c_int = 9;
pub const USER_UNKNOWN: c_int = 10;
pub const MAXTRIES: c_int = 11;
pub const NEW_AUTHTOK_REQD: c_int = 12;
pub const ACCT_EXPIRED: c_int = 13;
pub const SESSION_ERR: c_int = 14;
pub const CONV_ERR: c_int = 19;
pub const AUTHTOK_ERR: c_int = 20;
pub const AUTHTOK_EXPIRED: c_int = 27;
pub const CONV_AGAIN: c_int = 30;

pub const ITEM_USER: c_int = 2;
pub const ITEM_TTY: c_int = 3;
pub const ITEM_RHOST: c_int = 4;
pub const ITEM_RUSER: c_int = 8;
pub const ITEM_FAIL_DELAY: c_int = 10;

pub const SILENT: c_int = 0x8000;
pub const DISALLOW_NULL_AUTHTOK: c_int = 0x0001;
pub const ESTABLISH_CRED: c_int = 0x0002;
pub const DELETE_CRED: c_int = 0x0004;
pub const REINITIALIZE_CRED: c_int = 0x0008;
pub const CHANGE_EXPIRED_AUTHTOK: c_int = 0x0020;

pub const PROMPT_ECHO_OFF: c_int = 1;
pub const PROMPT_ECHO_ON: c_int = 2;
pub const ERROR_MSG: c_int = 3;
pub const TEXT_INFO: c_int = 4;

/// `PAM_MAX_NUM_MSG`.
pub const MAX_MESSAGES: c_int = 32;
