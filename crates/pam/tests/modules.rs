//! Transactions through the real libpam and its own modules, with services in a private folder.
//! Nothing of the host's `/etc/pam.d` is read or changed.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::Path;
use std::rc::Rc;

use pam::{
    Answer, Conversation, ConversationOver, Credentials, Item, MAX_ANSWER, Message, PamError,
    Transaction, Transcript,
};

/// A folder with one service named `test`.
fn service(lines: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test"), lines).unwrap();
    folder
}

fn start(folder: &Path) -> Transaction {
    Transaction::start_in(folder, "test", "root", Box::new(Transcript::default())).unwrap()
}

/// Gives the same answer to every prompt and notes what was asked.
struct Says(Vec<u8>, Rc<RefCell<Vec<Message>>>);

impl Conversation for Says {
    fn converse(&mut self, messages: &[Message]) -> Result<Vec<Answer>, ConversationOver> {
        self.1.borrow_mut().extend_from_slice(messages);
        let prompts = messages
            .iter()
            .filter(|m| matches!(m, Message::Prompt { .. }));
        Ok(prompts.map(|_| Answer::new(self.0.clone())).collect())
    }
}

/// pam_unix asks for root's password without a delay and is told `answer`.
fn ask(answer: &[u8]) -> (Result<(), PamError>, Vec<Message>) {
    let folder = service("auth required pam_unix.so nodelay\n");
    let asked = Rc::new(RefCell::new(Vec::new()));
    let conversation = Box::new(Says(answer.to_vec(), asked.clone()));
    let mut transaction =
        Transaction::start_in(folder.path(), "test", "root", conversation).unwrap();
    let result = transaction.authenticate();
    drop(transaction);
    (result, asked.take())
}

#[test]
fn a_whole_login() {
    let permit = ["auth", "account", "password", "session"]
        .map(|group| format!("{group} required pam_permit.so\n"))
        .concat();
    let folder = service(&permit);
    let mut transaction = start(folder.path());
    transaction.set_item(Item::RemoteHost, "192.0.2.7").unwrap();
    transaction.set_item(Item::Terminal, "ssh").unwrap();
    transaction.set_item(Item::RemoteUser, "alice").unwrap();
    transaction.silent(true);
    transaction.authenticate().unwrap();
    transaction.account().unwrap();
    transaction.change_token().unwrap();
    transaction.set_credentials(Credentials::Establish).unwrap();
    transaction.open_session().unwrap();
    transaction.close_session().unwrap();
    transaction.set_credentials(Credentials::Delete).unwrap();
}

#[test]
fn refusals_are_told_apart() {
    let check = |word: &str, expected: PamError| {
        let folder = service(&format!("account required pam_debug.so acct={word}\n"));
        assert_eq!(start(folder.path()).account(), Err(expected), "{word}");
    };
    check("new_authtok_reqd", PamError::NewAuthTokRequired);
    check("acct_expired", PamError::AcctExpired);
    check("perm_denied", PamError::PermDenied);
    check("auth_err", PamError::AuthErr);
    check("user_unknown", PamError::UserUnknown);
    check("authinfo_unavail", PamError::AuthInfoUnavailable);
    check("authtok_expired", PamError::AuthTokExpired);
    check("maxtries", PamError::MaxTries);
    let folder = service("auth required pam_deny.so\nsession required pam_deny.so\n");
    assert_eq!(start(folder.path()).authenticate(), Err(PamError::AuthErr));
    assert_eq!(start(folder.path()).open_session(), Err(PamError::Session));
}

#[test]
fn a_service_that_is_not_there_or_no_name() {
    let folder = service("");
    let start = |service: &str, user: &str| {
        let nobody = Box::new(Transcript::default());
        Transaction::start_in(folder.path(), service, user, nobody)
            .and_then(|mut transaction| transaction.authenticate())
    };
    let said = start("missing", "root").unwrap_err().to_string();
    assert!(said.contains("PAM error"), "{said}");
    for (service, user, expected) in [
        ("../test", "root", "service"),
        ("", "root", "service"),
        ("test", "ro\0ot", "user"),
        ("test", "", "user"),
    ] {
        assert_eq!(start(service, user), Err(PamError::Text(expected)));
    }
}

#[test]
fn a_password_is_asked_for_and_the_wrong_one_refused() {
    let (result, asked) = ask(b"surely not this one");
    assert_eq!(result, Err(PamError::AuthErr));
    let prompt = Message::Prompt {
        text: "Password: ".into(),
        echo: false,
    };
    assert_eq!(asked, [prompt]);
}

#[test]
fn answers_that_c_could_not_hold_break_the_conversation_off() {
    for answer in [&b"a\0b"[..], &[b'x'; MAX_ANSWER + 1]] {
        let refused = ask(answer).0.unwrap_err();
        assert_ne!(refused, PamError::AuthErr, "the answer got through");
    }
}

#[test]
fn a_prompt_that_nobody_answers() {
    let folder = service("auth required pam_unix.so nodelay\n");
    let refused = start(folder.path()).authenticate().unwrap_err();
    assert_ne!(refused, PamError::AuthErr, "some answer was given");
}

#[test]
fn another_user_put_in_by_a_module_is_noticed() {
    // pam_ftp makes the first user of its list out of any other of the list.
    let folder = service("auth required pam_ftp.so ignore users=daemon,root\n");
    let asked = Rc::new(RefCell::new(Vec::new()));
    let conversation = Box::new(Says(b"root@example.org".to_vec(), asked));
    let mut transaction =
        Transaction::start_in(folder.path(), "test", "root", conversation).unwrap();
    assert_eq!(transaction.authenticate(), Err(PamError::UserChanged));
}

#[test]
fn what_modules_say_is_kept_to_be_shown() {
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), "welcome %u").unwrap();
    let path = text.path().display();
    let folder = service(&format!("session optional pam_echo.so file={path}\n"));
    let transcript = Transcript::default();
    let mut transaction =
        Transaction::start_in(folder.path(), "test", "root", Box::new(transcript.clone())).unwrap();
    // pam_echo alone leaves the stack without a verdict; only what it said matters here.
    let _ = transaction.open_session();
    assert_eq!(transcript.take(), [Message::Info("welcome root".into())]);
    transaction.silent(true);
    let _ = transaction.open_session();
    assert_eq!(transcript.take(), []);
}

#[test]
fn the_environment_comes_from_modules_and_from_us() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        config.path(),
        "SITE DEFAULT=lab\nPEER DEFAULT=@{PAM_RHOST}\n",
    )
    .unwrap();
    let path = config.path().display();
    let folder = service(&format!(
        "session required pam_env.so conffile={path} readenv=0\n"
    ));
    let mut transaction = start(folder.path());
    transaction.set_item(Item::RemoteHost, "192.0.2.7").unwrap();
    transaction.put_environment("OURS", "a=b").unwrap();
    transaction.open_session().unwrap();
    let mut variables = transaction.environment();
    variables.sort();
    let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
    let expected = [
        pair("OURS", "a=b"),
        pair("PEER", "192.0.2.7"),
        pair("SITE", "lab"),
    ];
    assert_eq!(variables, expected);
    for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0")] {
        let refused = transaction.put_environment(name, value);
        assert_eq!(refused, Err(PamError::Text("variable")));
    }
}

#[test]
#[should_panic(expected = "out of the conversation")]
fn a_panic_goes_around_c_and_on() {
    struct Panics;
    impl Conversation for Panics {
        fn converse(&mut self, _: &[Message]) -> Result<Vec<Answer>, ConversationOver> {
            panic!("out of the conversation")
        }
    }
    let folder = service("auth required pam_unix.so nodelay\n");
    let mut transaction =
        Transaction::start_in(folder.path(), "test", "root", Box::new(Panics)).unwrap();
    let _ = transaction.authenticate();
}
