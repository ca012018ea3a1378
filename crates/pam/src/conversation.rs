//! What modules say and ask during a transaction. How C calls it is in `callback`.

use std::cell::RefCell;
use std::rc::Rc;

use zeroize::Zeroizing;

/// Longest message that is taken from a module, in bytes; the rest is cut off. Linux-PAM's own
/// `PAM_MAX_MSG_SIZE` is 512, but modules show whole files as one message.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Longest answer in bytes: `PAM_MAX_RESP_SIZE` less its NUL.
pub const MAX_ANSWER: usize = 511;
/// Messages that a [`Transcript`] keeps.
const MAX_KEPT: usize = 64;

/// One message of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Wants an answer; `echo` says whether it may be seen while it is typed.
    Prompt {
        /// The question.
        text: String,
        /// Whether the answer may be shown.
        echo: bool,
    },
    /// Something went wrong.
    Error(String),
    /// For the user to read.
    Info(String),
}

/// An answer to a prompt, wiped when dropped: at most [`MAX_ANSWER`] bytes, no NUL.
pub type Answer = Zeroizing<Vec<u8>>;

/// The other side has gone, or nobody is there to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody answers")]
pub struct ConversationOver;

/// The side of the conversation that faces the user.
pub trait Conversation {
    /// Takes one round of messages and answers its prompts, in their order.
    ///
    /// # Errors
    /// [`ConversationOver`] makes the step that is running fail. So does a wrong number of answers.
    fn converse(&mut self, messages: &[Message]) -> Result<Vec<Answer>, ConversationOver>;
}

/// A conversation with nobody: prompts are not answered, other messages are kept to be shown
/// later. For logins by key, where account and session modules may still have something to say.
#[derive(Debug, Clone, Default)]
pub struct Transcript(Rc<RefCell<Vec<Message>>>);

impl Transcript {
    /// The messages so far; they are kept no longer.
    pub fn take(&self) -> Vec<Message> {
        self.0.take()
    }
}

impl Conversation for Transcript {
    fn converse(&mut self, messages: &[Message]) -> Result<Vec<Answer>, ConversationOver> {
        let mut kept = self.0.borrow_mut();
        for message in messages {
            if matches!(message, Message::Prompt { .. }) {
                return Err(ConversationOver);
            }
            if kept.len() < MAX_KEPT {
                kept.push(message.clone());
            }
        }
        Ok(Vec::new())
    }
}
