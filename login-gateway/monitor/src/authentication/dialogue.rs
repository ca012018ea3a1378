//! PAM's conversation: with nobody, with one password, or with the user prompt by prompt through
//! net. What the modules decide is the caller's matter.

use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::Instant;

use gateway_wire::UserName;
use gateway_wire::accept::Endpoints;
use gateway_wire::monitor::{FromNet, Prompt, ToNet, Typed};
use pam::{
    Answer, Conversation, ConversationOver, Credentials, Item, MAX_ANSWER, Message, PamError,
    Transaction,
};

use crate::link::{Event, Link};

/// Times that a client may be asked within one dialogue.
const MAX_ROUNDS: usize = 32;
/// Longest text of one round, and of one prompt, in bytes.
const MAX_TEXT: usize = 16 * 1024;
const MAX_PROMPT: usize = 2 * 1024;
/// Texts that are kept for later.
const MAX_KEPT: usize = 64;

/// One PAM transaction and who answers in it.
pub struct Pam {
    transaction: Transaction,
    voice: Voice,
    /// Whether the account step was good.
    pub judged: bool,
}

impl Pam {
    /// Starts one. `factors` are what was passed before, as OpenSSH tells its modules.
    pub fn start(
        service: &str,
        user: &UserName,
        endpoints: &Endpoints,
        voice: Voice,
        factors: &[String],
    ) -> Result<Self, PamError> {
        let mut transaction = Transaction::start(service, user.as_str(), Box::new(voice.clone()))?;
        let source = endpoints.source.ip().to_canonical().to_string();
        transaction.set_item(Item::RemoteHost, &source)?;
        transaction.set_item(Item::Terminal, "ssh")?;
        transaction.leave_delay_to_caller()?;
        if !factors.is_empty() {
            transaction.put_environment("SSH_AUTH_INFO_0", &factors.join("\n"))?;
        }
        Ok(Self {
            transaction,
            voice,
            judged: false,
        })
    }

    /// PAM's authentication step.
    pub fn authenticate(&mut self) -> Result<(), PamError> {
        self.transaction.authenticate()
    }

    /// PAM's account step, silent from the user's side unless a dialogue is going on.
    pub fn account(&mut self) -> Result<(), PamError> {
        let decided = self.transaction.account();
        self.judged = decided.is_ok();
        decided
    }

    /// The same, and where a new password is due the user chooses one.
    pub fn account_with_new_password(&mut self) -> Result<(), PamError> {
        match self.account() {
            Err(PamError::NewAuthTokRequired) => {
                self.transaction.change_token()?;
                self.account()
            }
            decided => decided,
        }
    }

    /// Ends the dialogue: what modules say from here on is kept.
    pub fn hush(&mut self) {
        self.voice.0.borrow_mut().partner = Partner::Nobody;
    }

    /// What modules said and nobody has seen; it is kept no longer.
    pub fn texts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.voice.0.borrow_mut().texts)
    }

    /// Makes the user's credentials and opens the PAM session.
    pub fn open_session(&mut self) -> Result<(), PamError> {
        self.hush();
        self.transaction.set_credentials(Credentials::Establish)?;
        self.transaction.open_session()
    }

    /// Closes the PAM session and takes the credentials back.
    pub fn close_session(&mut self) -> Result<(), PamError> {
        self.transaction.close_session()?;
        self.transaction.set_credentials(Credentials::Delete)
    }

    /// What modules want in the user's environment.
    pub fn environment(&mut self) -> Vec<(OsString, OsString)> {
        let mut variables = self.transaction.environment();
        // Meant for modules alone.
        variables.retain(|(name, _)| !name.as_encoded_bytes().starts_with(b"SSH_AUTH_INFO"));
        variables
    }
}

/// The side of the conversation that faces the user.
#[derive(Clone)]
pub struct Voice(Rc<RefCell<State>>);

struct State {
    partner: Partner,
    /// Said and not yet shown.
    texts: Vec<String>,
    rounds: usize,
    heard: Instant,
    interrupted: Option<Event>,
}

enum Partner {
    /// Prompts are not answered.
    Nobody,
    /// Hidden prompts are answered with this, as by sshd for the method `password`.
    Password(Typed),
    /// The user answers.
    User {
        link: Rc<RefCell<Link>>,
        deadline: Instant,
        /// Whether the answers count; else modules get something that is nobody's password, so
        /// that they do what they do when it is wrong.
        honest: bool,
    },
}

impl Voice {
    /// With nobody.
    pub fn silent() -> Self {
        Self::with(Partner::Nobody)
    }

    /// With one password.
    pub fn password(password: Typed, honest: bool) -> Self {
        Self::with(Partner::Password(if honest {
            password
        } else {
            wrong(password)
        }))
    }

    /// With the user, until `deadline`.
    pub fn user(link: Rc<RefCell<Link>>, deadline: Instant, honest: bool) -> Self {
        Self::with(Partner::User {
            link,
            deadline,
            honest,
        })
    }

    fn with(partner: Partner) -> Self {
        Self(Rc::new(RefCell::new(State {
            partner,
            texts: Vec::new(),
            rounds: 0,
            heard: Instant::now(),
            interrupted: None,
        })))
    }

    /// When the user last answered, or the dialogue began.
    pub fn heard(&self) -> Instant {
        self.0.borrow().heard
    }

    /// What came in place of an answer.
    pub fn interrupted(&self) -> Option<Event> {
        self.0.borrow_mut().interrupted.take()
    }

    /// Shows what was said since the last prompt, by a round without prompts. For refusals; after
    /// a success it can wait for the terminal.
    pub fn show_rest(&self) {
        let mut state = self.0.borrow_mut();
        if !state.texts.is_empty() && matches!(state.partner, Partner::User { .. }) {
            let _ = state.ask(Vec::new());
        }
    }
}

impl Conversation for Voice {
    fn converse(&mut self, messages: &[Message]) -> Result<Vec<Answer>, ConversationOver> {
        let mut state = self.0.borrow_mut();
        let mut prompts = Vec::new();
        for message in messages {
            match message {
                Message::Prompt { text, echo } => prompts.push(Prompt {
                    text: cut(text, MAX_PROMPT).to_owned(),
                    echo: *echo,
                }),
                Message::Error(text) | Message::Info(text) if state.texts.len() < MAX_KEPT => {
                    state.texts.push(cut(text, MAX_TEXT).to_owned());
                }
                _ => {}
            }
        }
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        match &state.partner {
            Partner::Nobody => Err(ConversationOver),
            Partner::Password(_) if prompts.iter().any(|prompt| prompt.echo) => {
                Err(ConversationOver)
            }
            Partner::Password(password) => {
                let answer = Answer::new(password.expose().to_vec());
                Ok(vec![answer; prompts.len()])
            }
            Partner::User { .. } => state.ask(prompts),
        }
    }
}

impl State {
    fn ask(&mut self, prompts: Vec<Prompt>) -> Result<Vec<Answer>, ConversationOver> {
        let Partner::User {
            link,
            deadline,
            honest,
        } = &self.partner
        else {
            return Err(ConversationOver);
        };
        self.rounds += 1;
        if self.interrupted.is_some() || self.rounds > MAX_ROUNDS {
            return Err(ConversationOver);
        }
        let count = prompts.len();
        let text = self.texts.join("\n");
        self.texts.clear();
        let question = ToNet::Prompts {
            name: String::new(),
            instructions: cut(&text, MAX_TEXT).to_owned(),
            prompts,
        };
        let mut link = link.borrow_mut();
        link.net
            .answer(question, &[])
            .map_err(|_| ConversationOver)?;
        let event = link
            .wait(None, Some(*deadline), true)
            .unwrap_or(Event::End("the dialogue failed"));
        self.heard = Instant::now();
        let answers = match event {
            Event::Net(FromNet::Responses(answers)) => answers,
            event => {
                self.interrupted = Some(event);
                return Err(ConversationOver);
            }
        };
        let fits =
            |typed: &Typed| typed.expose().len() <= MAX_ANSWER && !typed.expose().contains(&0);
        if answers.len() != count || !answers.iter().all(fits) {
            return Err(ConversationOver);
        }
        let honest = |typed: Typed| if *honest { typed } else { wrong(typed) };
        let answer = |typed: Typed| Answer::new(honest(typed).expose().to_vec());
        Ok(answers.into_iter().map(answer).collect())
    }
}

/// Something that is nobody's password, as long as what was typed.
fn wrong(typed: Typed) -> Typed {
    Typed::new(
        b"\x08\n\r\x7fWRONG"
            .iter()
            .copied()
            .cycle()
            .take(typed.expose().len())
            .collect(),
    )
}

/// At most `limit` bytes of a text.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(echo: bool) -> Message {
        Message::Prompt {
            text: "Password: ".into(),
            echo,
        }
    }

    #[test]
    fn a_password_answers_hidden_prompts_alone() {
        let typed = || Typed::new(b"hunter2".to_vec());
        let mut voice = Voice::password(typed(), true);
        let said = [Message::Info("hello".into()), prompt(false)];
        let answers = voice.converse(&said).unwrap();
        assert_eq!(answers, [Answer::new(b"hunter2".to_vec())]);
        assert!(voice.converse(&[prompt(true)]).is_err());
        let mut voice = Voice::password(typed(), false);
        let answers = voice.converse(&[prompt(false)]).unwrap();
        assert_eq!(answers[0].len(), 7);
        assert_ne!(answers[0].as_slice(), b"hunter2");
        assert!(Voice::silent().converse(&[prompt(false)]).is_err());
    }

    /// What a dialogue comes to whose partner says these things, and what it was asked.
    fn dialogue(
        said: Vec<FromNet>,
        honest: bool,
    ) -> (Result<Vec<Answer>, ConversationOver>, Voice, ToNet) {
        let (net, theirs) = crate::net_process::NetProcess::played_by_a_test();
        let (listener, _) = sys::fds::seqpacket_pair().unwrap();
        let signals = sys::signals::Signals::of(&[]).unwrap();
        let link = Rc::new(RefCell::new(Link {
            listener,
            signals,
            net,
        }));
        for message in said {
            let bytes = gateway_wire::encode(&message).unwrap();
            sys::fds::send_with_fds(&theirs, &bytes, &[]).unwrap();
        }
        let deadline = Instant::now() + std::time::Duration::from_secs(20);
        let mut voice = Voice::user(link, deadline, honest);
        let answers = voice.converse(&[Message::Error("Locked?".into()), prompt(false)]);
        let mut buffer = vec![0; 4096];
        let (n, _) = sys::fds::recv_with_fds(&theirs, &mut buffer).unwrap();
        (answers, voice, gateway_wire::decode(&buffer[..n]).unwrap())
    }

    #[test]
    fn the_user_is_asked_and_answers() {
        let typed = || vec![FromNet::Responses(vec![Typed::new(b"secret".to_vec())])];
        let (answers, _, asked) = dialogue(typed(), true);
        assert_eq!(answers.unwrap(), [Answer::new(b"secret".to_vec())]);
        let ToNet::Prompts {
            instructions,
            prompts,
            ..
        } = asked
        else {
            panic!("{asked:?}")
        };
        assert_eq!((instructions.as_str(), prompts.len()), ("Locked?", 1));
        let (answers, _, _) = dialogue(typed(), false);
        assert_ne!(answers.unwrap(), [Answer::new(b"secret".to_vec())]);
        let long = vec![b'x'; MAX_ANSWER + 1];
        for wrong in [vec![], vec![vec![]; 2], vec![vec![0]], vec![long]] {
            let typed = wrong.into_iter().map(Typed::new).collect();
            assert!(dialogue(vec![FromNet::Responses(typed)], true).0.is_err());
        }
    }

    #[test]
    fn another_question_in_place_of_the_answer_ends_the_dialogue_and_is_kept() {
        let user = UserName::try_from("alice".to_owned()).unwrap();
        let other = FromNet::Interactive { user };
        let (answers, mut voice, _) = dialogue(vec![other.clone()], true);
        assert!(answers.is_err());
        // A module that goes on asking hears nothing.
        assert!(voice.converse(&[prompt(true)]).is_err());
        let Some(Event::Net(kept)) = voice.interrupted() else {
            panic!("nothing kept")
        };
        assert_eq!(kept, other);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(cut("äöü", 3), "ä");
        assert_eq!(cut("abc", 3), "abc");
    }
}
