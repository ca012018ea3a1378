//! One PAM transaction: from `pam_start` to `pam_end`, every step a method. Order is the caller's
//! matter; that the user stays the same is checked here.

use std::ffi::{CStr, CString, OsString, c_int, c_void};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::callback::{State, converse, no_delay};
use crate::conversation::Conversation;
use crate::error::PamError;
use crate::ffi::{self, Delay, Handle, RawConversation};

/// Variables that are taken from [`Transaction::environment`] at most.
const MAX_ENVIRONMENT: usize = 1024;

/// What a module may want to know about where the user comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The client's address.
    RemoteHost,
    /// The terminal; `ssh` where there is none, as OpenSSH has it.
    Terminal,
    /// The name of the user on the other side.
    RemoteUser,
}

/// What [`Transaction::set_credentials`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// Makes them, once authenticated and before the session is opened.
    Establish,
    /// Takes them back, when the session is closed.
    Delete,
    /// Makes them again.
    Reinitialize,
}

/// A transaction. Ends, with the status of its last step, when dropped.
///
/// Modules act on the process that calls them (limits, keyring, credentials), so one process makes
/// one transaction, from one thread.
pub struct Transaction {
    handle: *mut Handle,
    state: *mut State,
    user: CString,
    flags: c_int,
    last: c_int,
}

impl Transaction {
    /// Starts a transaction of this service (a file of `/etc/pam.d`) about this user.
    ///
    /// # Errors
    /// [`PamError::Text`]; [`PamError::Other`] if the service has no usable configuration.
    pub fn start(
        service: &str,
        user: &str,
        conversation: Box<dyn Conversation>,
    ) -> Result<Self, PamError> {
        Self::begin(service, user, conversation, None)
    }

    /// As [`Transaction::start`], with the services in `folder` in place of `/etc/pam.d`.
    ///
    /// # Errors
    /// As [`Transaction::start`].
    pub fn start_in(
        folder: &Path,
        service: &str,
        user: &str,
        conversation: Box<dyn Conversation>,
    ) -> Result<Self, PamError> {
        let folder = text(folder.as_os_str().as_encoded_bytes(), "folder")?;
        Self::begin(service, user, conversation, Some(folder))
    }

    fn begin(
        service: &str,
        user: &str,
        conversation: Box<dyn Conversation>,
        folder: Option<CString>,
    ) -> Result<Self, PamError> {
        // libpam takes the last part of a path, so "../x" would quietly be another service.
        if service.contains('/') {
            return Err(PamError::Text("service"));
        }
        let service = text(service.as_bytes(), "service")?;
        let user = text(user.as_bytes(), "user")?;
        let state = Box::into_raw(Box::new(State {
            conversation,
            panic: None,
        }));
        let mut transaction = Self {
            handle: std::ptr::null_mut(),
            state,
            user,
            flags: 0,
            last: ffi::SUCCESS,
        };
        let conversation = RawConversation {
            converse,
            data: state.cast(),
        };
        let (service, user) = (service.as_ptr(), transaction.user.as_ptr());
        let code = match folder {
            // SAFETY: all texts are NUL-terminated and copied by libpam, as is `conversation`;
            // `state` lives until the handle is ended in drop.
            None => unsafe {
                ffi::pam_start(service, user, &conversation, &mut transaction.handle)
            },
            // SAFETY: as above.
            Some(folder) => unsafe {
                ffi::pam_start_confdir(
                    service,
                    user,
                    &conversation,
                    folder.as_ptr(),
                    &mut transaction.handle,
                )
            },
        };
        transaction.done("pam_start", code)?;
        Ok(transaction)
    }

    /// Asks the modules to say nothing that is not needed (`PAM_SILENT`), for steps from here on.
    pub fn silent(&mut self, silent: bool) {
        self.flags = if silent { ffi::SILENT } else { 0 };
    }

    /// Tells the modules about the other side.
    ///
    /// # Errors
    /// [`PamError::Text`].
    pub fn set_item(&mut self, item: Item, value: &str) -> Result<(), PamError> {
        let value = text(value.as_bytes(), "item")?;
        let number = match item {
            Item::RemoteHost => ffi::ITEM_RHOST,
            Item::Terminal => ffi::ITEM_TTY,
            Item::RemoteUser => ffi::ITEM_RUSER,
        };
        // SAFETY: a live handle; libpam copies the text.
        let code = unsafe { ffi::pam_set_item(self.handle, number, value.as_ptr().cast()) };
        self.done("pam_set_item", code)
    }

    /// Leaves the delay after a refusal to the caller, who can make it the same for every cause
    /// (`PAM_FAIL_DELAY`).
    ///
    /// # Errors
    /// [`PamError::Other`] if this libpam knows no such item.
    pub fn leave_delay_to_caller(&mut self) -> Result<(), PamError> {
        let function: Delay = no_delay;
        // SAFETY: a live handle; this item is the function itself, which lives for ever.
        let code = unsafe {
            ffi::pam_set_item(self.handle, ffi::ITEM_FAIL_DELAY, function as *const c_void)
        };
        self.done("pam_set_item", code)
    }

    /// Makes the modules ask for proof that the user is who they say. Empty passwords are refused.
    /// A refusal may take seconds, the modules' delay against guessing, unless
    /// [`Transaction::leave_delay_to_caller`] was called.
    ///
    /// # Errors
    /// [`PamError`]; [`PamError::UserChanged`] if a module put another user in.
    pub fn authenticate(&mut self) -> Result<(), PamError> {
        let flags = self.flags | ffi::DISALLOW_NULL_AUTHTOK;
        // SAFETY: a live handle.
        let code = unsafe { ffi::pam_authenticate(self.handle, flags) };
        self.done("pam_authenticate", code)?;
        self.same_user()
    }

    /// Asks whether the account may be used, here and now. Needed for every method of
    /// authentication, also for those that libpam had no part in.
    ///
    /// # Errors
    /// [`PamError::NewAuthTokRequired`], [`PamError::AcctExpired`], [`PamError::PermDenied`],
    /// [`PamError::UserUnknown`] and others.
    pub fn account(&mut self) -> Result<(), PamError> {
        let flags = self.flags | ffi::DISALLOW_NULL_AUTHTOK;
        // SAFETY: a live handle.
        let code = unsafe { ffi::pam_acct_mgmt(self.handle, flags) };
        self.done("pam_acct_mgmt", code)?;
        self.same_user()
    }

    /// Makes the user choose a new password, if the old one has expired.
    ///
    /// # Errors
    /// [`PamError::AuthTokErr`] if the new one was not taken, and others.
    pub fn change_token(&mut self) -> Result<(), PamError> {
        let flags = self.flags | ffi::CHANGE_EXPIRED_AUTHTOK;
        // SAFETY: a live handle.
        let code = unsafe { ffi::pam_chauthtok(self.handle, flags) };
        self.done("pam_chauthtok", code)?;
        self.same_user()
    }

    /// Makes or takes back credentials of the user (groups, tickets) for this process.
    ///
    /// # Errors
    /// [`PamError`].
    pub fn set_credentials(&mut self, what: Credentials) -> Result<(), PamError> {
        let flags = match what {
            Credentials::Establish => ffi::ESTABLISH_CRED,
            Credentials::Delete => ffi::DELETE_CRED,
            Credentials::Reinitialize => ffi::REINITIALIZE_CRED,
        };
        // SAFETY: a live handle.
        let code = unsafe { ffi::pam_setcred(self.handle, self.flags | flags) };
        self.done("pam_setcred", code)
    }

    /// Opens the PAM session.
    ///
    /// # Errors
    /// [`PamError`].
    pub fn open_session(&mut self) -> Result<(), PamError> {
        // SAFETY: a live handle.
        let code = unsafe { ffi::pam_open_session(self.handle, self.flags) };
        self.done("pam_open_session", code)
    }

    /// Closes the PAM session.
    ///
    /// # Errors
    /// [`PamError`].
    pub fn close_session(&mut self) -> Result<(), PamError> {
        // SAFETY: a live handle.
        let code = unsafe { ffi::pam_close_session(self.handle, self.flags) };
        self.done("pam_close_session", code)
    }

    /// Sets a variable that modules can read and that [`Transaction::environment`] will hold.
    ///
    /// # Errors
    /// [`PamError::Text`] if the name is empty or holds `=` or either holds NUL.
    pub fn put_environment(&mut self, name: &str, value: &str) -> Result<(), PamError> {
        // Without "=" libpam would delete the variable.
        if name.is_empty() || name.contains('=') {
            return Err(PamError::Text("variable"));
        }
        let assignment = text(format!("{name}={value}").as_bytes(), "variable")?;
        // SAFETY: a live handle; libpam copies the text.
        let code = unsafe { ffi::pam_putenv(self.handle, assignment.as_ptr()) };
        self.done("pam_putenv", code)
    }

    /// The variables that modules want in the user's environment.
    pub fn environment(&mut self) -> Vec<(OsString, OsString)> {
        // SAFETY: a live handle; the result is null or a list that is ours to free.
        let list = unsafe { ffi::pam_getenvlist(self.handle) };
        let mut variables = Vec::new();
        if list.is_null() {
            return variables;
        }
        let mut at = list;
        // SAFETY: the list ends with a null pointer (pam_getenvlist(3)); `at` stops there.
        while let Some(entry) = unsafe { at.as_ref() }.filter(|entry| !entry.is_null()) {
            // SAFETY: each entry is a NUL-terminated text that is ours until freed below.
            let bytes = unsafe { CStr::from_ptr(*entry) }.to_bytes();
            let mut halves = bytes.splitn(2, |b| *b == b'=').map(<[u8]>::to_vec);
            if let (Some(name), Some(value)) = (halves.next(), halves.next())
                && variables.len() < MAX_ENVIRONMENT
            {
                variables.push((OsString::from_vec(name), OsString::from_vec(value)));
            }
            // SAFETY: allocated by libpam with malloc for us to free; not used after this.
            unsafe { libc::free((*entry).cast()) };
            // SAFETY: the entry was not the last, so the next one is inside the list.
            at = unsafe { at.add(1) };
        }
        // SAFETY: as for the entries.
        unsafe { libc::free(list.cast()) };
        variables
    }

    /// Notes how a call ended; a panic of the conversation goes on from here.
    fn done(&mut self, call: &'static str, code: c_int) -> Result<(), PamError> {
        self.last = code;
        // SAFETY: our own box, freed in drop; libpam has returned, so `converse` is not running.
        if let Some(panic) = unsafe { &mut *self.state }.panic.take() {
            std::panic::resume_unwind(panic);
        }
        if code == ffi::SUCCESS {
            return Ok(());
        }
        Err(PamError::of(call, code, || {
            // SAFETY: pam_strerror knows every number and does not use the handle; the text is
            // static.
            let text = unsafe { ffi::pam_strerror(self.handle, code) };
            if text.is_null() {
                return String::new();
            }
            // SAFETY: not null, static and NUL-terminated.
            unsafe { CStr::from_ptr(text) }
                .to_string_lossy()
                .into_owned()
        }))
    }

    fn same_user(&mut self) -> Result<(), PamError> {
        let mut value: *const c_void = std::ptr::null();
        // SAFETY: a live handle; libpam stores a pointer to its own copy.
        let code = unsafe { ffi::pam_get_item(self.handle, ffi::ITEM_USER, &mut value) };
        // SAFETY: on success null or a NUL-terminated text that lives until the item is changed.
        let same = code == ffi::SUCCESS
            && !value.is_null()
            && unsafe { CStr::from_ptr(value.cast()) } == self.user.as_c_str();
        if same {
            Ok(())
        } else {
            self.last = ffi::AUTH_ERR;
            Err(PamError::UserChanged)
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: a live handle, not used after this.
            unsafe { ffi::pam_end(self.handle, self.last) };
        }
        // SAFETY: boxed in `begin`; the handle that knew it is gone.
        drop(unsafe { Box::from_raw(self.state) });
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("user", &self.user)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

fn text(bytes: &[u8], what: &'static str) -> Result<CString, PamError> {
    if bytes.is_empty() {
        return Err(PamError::Text(what));
    }
    CString::new(bytes).map_err(|_| PamError::Text(what))
}
