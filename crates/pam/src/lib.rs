//! The application side of libpam: one [`Transaction`] per login, its [`Conversation`], and errors
//! that tell apart what a login program must tell apart. Modules (`pam_*.so`) do not live here.
//!
//! `unsafe` is fenced in this room: `ffi` declares, `callback` is called from C, `transaction`
//! calls into C. Linked against `libpam.so.0` itself, so no development package is needed.

mod callback;
mod conversation;
mod error;
mod ffi;
mod transaction;

pub use conversation::{
    Answer, Conversation, ConversationOver, MAX_ANSWER, MAX_MESSAGE, Message, Transcript,
};
pub use error::PamError;
pub use transaction::{Credentials, Item, Transaction};
