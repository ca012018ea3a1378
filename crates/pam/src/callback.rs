//! The function that libpam calls in the middle of a step. It copies what it is given, asks the
//! [`Conversation`], and hands answers back in memory that libpam will free. No panic crosses it.

use std::any::Any;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use zeroize::Zeroize;

use crate::conversation::{Answer, Conversation, MAX_ANSWER, MAX_MESSAGE, Message};
use crate::ffi::{self, RawMessage, RawResponse};

/// What `appdata_ptr` points to.
pub(crate) struct State {
    pub(crate) conversation: Box<dyn Conversation>,
    /// A panic of the conversation, to be carried on once libpam has returned.
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

/// The conversation function of every transaction.
pub(crate) extern "C" fn converse(
    count: c_int,
    messages: *mut *const RawMessage,
    responses: *mut *mut RawResponse,
    data: *mut c_void,
) -> c_int {
    if messages.is_null() || responses.is_null() || data.is_null() {
        return ffi::CONV_ERR;
    }
    let Ok(length) = usize::try_from(count) else {
        return ffi::CONV_ERR;
    };
    if !(1..=ffi::MAX_MESSAGES).contains(&count) {
        return ffi::CONV_ERR;
    }
    // SAFETY: `data` is the State that `Transaction` boxed for this handle. The transaction is
    // inside a call of libpam, on this thread, and holds no reference to it meanwhile.
    let state = unsafe { &mut *data.cast::<State>() };
    // SAFETY: Linux-PAM passes `count` pointers to messages (pam_conv(3)); checked for null above.
    let messages = unsafe { std::slice::from_raw_parts(messages, length) };
    match catch_unwind(AssertUnwindSafe(|| round(state, messages))) {
        Ok(Some(array)) => {
            // SAFETY: checked for null above; pam_conv(3) wants the array stored there.
            unsafe { *responses = array };
            ffi::SUCCESS
        }
        Ok(None) => ffi::CONV_ERR,
        Err(panic) => {
            state.panic = Some(panic);
            ffi::CONV_ERR
        }
    }
}

/// Called in place of the sleep after a refusal; whoever made the transaction sleeps.
pub(crate) extern "C" fn no_delay(_status: c_int, _microseconds: c_uint, _data: *mut c_void) {}

fn round(state: &mut State, raw: &[*const RawMessage]) -> Option<*mut RawResponse> {
    if state.panic.is_some() {
        return None;
    }
    let messages: Vec<Message> = raw.iter().map(|m| message(*m)).collect::<Option<_>>()?;
    let answers = state.conversation.converse(&messages).ok()?;
    let prompts = messages
        .iter()
        .filter(|m| matches!(m, Message::Prompt { .. }))
        .count();
    let fits = |a: &Answer| a.len() <= MAX_ANSWER && !a.contains(&0);
    if answers.len() != prompts || !answers.iter().all(fits) {
        return None;
    }
    responses(&messages, answers)
}

/// Copies one message; `None` for a style that is not of this interface.
fn message(raw: *const RawMessage) -> Option<Message> {
    // SAFETY: null or a message of libpam's that lives until the conversation function returns.
    let raw = unsafe { raw.as_ref() }?;
    let bytes = if raw.text.is_null() {
        &[][..]
    } else {
        // SAFETY: a NUL-terminated text of the module's that outlives this call (pam_conv(3)).
        unsafe { CStr::from_ptr(raw.text) }.to_bytes()
    };
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_MESSAGE)]).into_owned();
    match raw.style {
        ffi::PROMPT_ECHO_OFF => Some(Message::Prompt { text, echo: false }),
        ffi::PROMPT_ECHO_ON => Some(Message::Prompt { text, echo: true }),
        ffi::ERROR_MSG => Some(Message::Error(text)),
        ffi::TEXT_INFO => Some(Message::Info(text)),
        _ => None,
    }
}

/// The answers as an array of `malloc`ed texts, one entry per message; libpam takes it over.
fn responses(messages: &[Message], answers: Vec<Answer>) -> Option<*mut RawResponse> {
    // SAFETY: plain allocation; zeroed memory is a valid RawResponse (null text, code 0).
    let array: *mut RawResponse =
        unsafe { libc::calloc(messages.len(), size_of::<RawResponse>()) }.cast();
    if array.is_null() {
        return None;
    }
    let mut answers = answers.into_iter();
    for (at, message) in messages.iter().enumerate() {
        let Message::Prompt { .. } = message else {
            continue;
        };
        let Some(text) = answers.next().and_then(|answer| copy(&answer)) else {
            free(array, at);
            return None;
        };
        // SAFETY: `at` is below the length of the array allocated above.
        unsafe { (*array.add(at)).text = text };
    }
    Some(array)
}

/// A `malloc`ed C string; the caller has made sure that there is no NUL inside.
fn copy(answer: &Answer) -> Option<*mut libc::c_char> {
    // SAFETY: zeroed allocation of one byte more than the text, which is the NUL.
    let text: *mut u8 = unsafe { libc::calloc(answer.len() + 1, 1) }.cast();
    if text.is_null() {
        return None;
    }
    // SAFETY: the fresh allocation is larger than the answer and does not overlap it.
    unsafe { std::ptr::copy_nonoverlapping(answer.as_ptr(), text, answer.len()) };
    Some(text.cast())
}

/// Wipes and frees what [`responses`] had made before it ran out of memory.
fn free(array: *mut RawResponse, filled: usize) {
    for at in 0..filled {
        // SAFETY: inside the array; the text is null or a C string of `copy`, owned by us.
        unsafe {
            let text = (*array.add(at)).text;
            if !text.is_null() {
                let length = libc::strlen(text);
                std::slice::from_raw_parts_mut(text.cast::<u8>(), length).zeroize();
                libc::free(text.cast());
            }
        }
    }
    // SAFETY: allocated by `calloc` in `responses`, handed to nobody.
    unsafe { libc::free(array.cast()) };
}
