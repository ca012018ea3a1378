//! libpam from a module's side: user, passwords, items, messages, one mark between two steps.
//!
//! Shapes are those of `security/_pam_types.h` and `security/pam_modules.h` of Linux-PAM 1.4 and later.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// `pam_handle_t`: opaque.
#[repr(C)]
pub struct RawHandle {
    _opaque: [u8; 0],
}

/// A value that PAM functions and modules return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub c_int);

impl Code {
    pub const SUCCESS: Self = Self(0);
    pub const SYSTEM: Self = Self(4);
    pub const PERM_DENIED: Self = Self(6);
    pub const AUTH_ERR: Self = Self(7);
    pub const AUTHINFO_UNAVAIL: Self = Self(9);
    pub const USER_UNKNOWN: Self = Self(10);
    pub const NEW_AUTHTOK_REQD: Self = Self(12);
    pub const ACCT_EXPIRED: Self = Self(13);
    pub const AUTHTOK_ERR: Self = Self(20);
    pub const TRY_AGAIN: Self = Self(24);
    pub const IGNORE: Self = Self(25);
}

/// Flag of `pam_sm_chauthtok`: only look whether it would work.
pub const PRELIM_CHECK: c_int = 0x4000;

const ITEM_RHOST: c_int = 4;
const ITEM_CONV: c_int = 5;
const ITEM_AUTHTOK: c_int = 6;
const ITEM_OLDAUTHTOK: c_int = 7;
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;

#[repr(C)]
struct RawMessage {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct RawResponse {
    text: *mut c_char,
    code: c_int,
}

#[repr(C)]
struct RawConversation {
    converse: Option<
        unsafe extern "C" fn(
            c_int,
            *const *const RawMessage,
            *mut *mut RawResponse,
            *mut c_void,
        ) -> c_int,
    >,
    data: *mut c_void,
}

// The file name itself, not `-lpam`: the latter needs the development package's symbolic link.
#[link(name = "libpam.so.0", kind = "dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    fn pam_get_user(
        handle: *mut RawHandle,
        user: *mut *const c_char,
        prompt: *const c_char,
    ) -> c_int;
    fn pam_get_authtok(
        handle: *mut RawHandle,
        item: c_int,
        token: *mut *const c_char,
        prompt: *const c_char,
    ) -> c_int;
    fn pam_get_item(handle: *const RawHandle, item: c_int, value: *mut *const c_void) -> c_int;
    fn pam_set_data(
        handle: *mut RawHandle,
        name: *const c_char,
        data: *mut c_void,
        cleanup: Option<unsafe extern "C" fn(*mut RawHandle, *mut c_void, c_int)>,
    ) -> c_int;
    fn pam_get_data(
        handle: *const RawHandle,
        name: *const c_char,
        data: *mut *const c_void,
    ) -> c_int;
}

unsafe extern "C" {
    fn free(memory: *mut c_void);
}

/// What the mark points to: any address that is not null.
static MARK: u8 = 1;
const MARK_NAME: &CStr = c"pam_directory_must_change";

/// A transaction that called us; lives as long as the call.
pub struct Handle(*mut RawHandle);

impl Handle {
    /// # Safety
    /// `raw` is null or libpam's live handle, for the whole life of the value.
    pub unsafe fn new(raw: *mut RawHandle) -> Option<Self> {
        (!raw.is_null()).then_some(Self(raw))
    }

    /// The user's name.
    pub fn user(&self) -> Result<String, Code> {
        let mut user = std::ptr::null();
        // SAFETY: a live handle; libpam keeps the text it returns.
        let code = unsafe { pam_get_user(self.0, &mut user, std::ptr::null()) };
        let bytes = self.bytes(code, user)?;
        String::from_utf8(bytes).map_err(|_| Code::USER_UNKNOWN)
    }

    /// The password: one that an earlier module has asked for, or the answer to `prompt`.
    pub fn password(&self, prompt: &CStr) -> Result<Vec<u8>, Code> {
        self.token(ITEM_AUTHTOK, prompt.as_ptr())
    }

    /// The password that is to be replaced.
    pub fn old_password(&self, prompt: &CStr) -> Result<Vec<u8>, Code> {
        self.token(ITEM_OLDAUTHTOK, prompt.as_ptr())
    }

    /// The password to be, asked for twice in libpam's own words.
    pub fn new_password(&self) -> Result<Vec<u8>, Code> {
        self.token(ITEM_AUTHTOK, std::ptr::null())
    }

    fn token(&self, item: c_int, prompt: *const c_char) -> Result<Vec<u8>, Code> {
        let mut token = std::ptr::null();
        // SAFETY: a live handle; the prompt is null or a C string; libpam keeps the text it returns.
        let code = unsafe { pam_get_authtok(self.0, item, &mut token, prompt) };
        self.bytes(code, token)
    }

    fn bytes(&self, code: c_int, text: *const c_char) -> Result<Vec<u8>, Code> {
        if code != Code::SUCCESS.0 {
            return Err(Code(code));
        }
        if text.is_null() {
            return Err(Code::AUTH_ERR);
        }
        // SAFETY: a C string of libpam's that stays until the item is set again, after our copy.
        Ok(unsafe { CStr::from_ptr(text) }.to_bytes().to_vec())
    }

    /// Where the login comes from; empty if nobody said.
    pub fn source(&self) -> String {
        let mut value = std::ptr::null();
        // SAFETY: a live handle; the item is null or a C string of libpam's.
        let code = unsafe { pam_get_item(self.0, ITEM_RHOST, &mut value) };
        if code != Code::SUCCESS.0 || value.is_null() {
            return String::new();
        }
        // SAFETY: as above; copied before anybody sets the item.
        let text = unsafe { CStr::from_ptr(value.cast()) };
        text.to_string_lossy().into_owned()
    }

    /// Tells the user something.
    pub fn info(&self, text: &str) {
        self.say(TEXT_INFO, text);
    }

    /// Tells the user that something went wrong.
    pub fn error(&self, text: &str) {
        self.say(ERROR_MSG, text);
    }

    fn say(&self, style: c_int, text: &str) {
        let Ok(text) = CString::new(text.replace('\0', " ")) else {
            return;
        };
        let mut value = std::ptr::null();
        // SAFETY: a live handle.
        let code = unsafe { pam_get_item(self.0, ITEM_CONV, &mut value) };
        if code != Code::SUCCESS.0 || value.is_null() {
            return;
        }
        // SAFETY: PAM_CONV is libpam's own copy of the application's `struct pam_conv`.
        let conversation = unsafe { &*value.cast::<RawConversation>() };
        let Some(converse) = conversation.converse else {
            return;
        };
        let message = RawMessage {
            style,
            text: text.as_ptr(),
        };
        let messages = [&raw const message];
        let mut responses: *mut RawResponse = std::ptr::null_mut();
        // SAFETY: one message that outlives the call, as pam_conv(3) wants it.
        unsafe { converse(1, messages.as_ptr(), &mut responses, conversation.data) };
        if !responses.is_null() {
            // SAFETY: the application's array of one, from malloc, is ours to free (pam_conv(3)).
            unsafe {
                free((*responses).text.cast());
                free(responses.cast());
            }
        }
    }

    /// Remembers, for later steps of this transaction, whether a new password is wanted.
    pub fn set_must_change(&self, must: bool) {
        let mark = if must {
            (&raw const MARK).cast_mut().cast()
        } else {
            std::ptr::null_mut()
        };
        // SAFETY: a live handle and a C string; nobody reads through the mark or frees it.
        unsafe { pam_set_data(self.0, MARK_NAME.as_ptr(), mark, None) };
    }

    /// What [`Self::set_must_change`] was told last.
    pub fn must_change(&self) -> bool {
        let mut data = std::ptr::null();
        // SAFETY: a live handle and a C string.
        let code = unsafe { pam_get_data(self.0, MARK_NAME.as_ptr(), &mut data) };
        code == Code::SUCCESS.0 && !data.is_null()
    }
}

/// The module's arguments.
///
/// # Safety
/// `arguments` is null or has `count` C strings.
pub unsafe fn texts(count: c_int, arguments: *const *const c_char) -> Vec<String> {
    if arguments.is_null() {
        return Vec::new();
    }
    (0..usize::try_from(count).unwrap_or_default())
        .map(|index| {
            // SAFETY: the caller's promise.
            let text = unsafe { CStr::from_ptr(*arguments.add(index)) };
            text.to_string_lossy().into_owned()
        })
        .collect()
}
