//! Why login-admin did not do what it was asked to: one enum, the exit code of each case and the
//! sentence that says how to go on.

use std::path::PathBuf;
use std::time::Duration;

use ldap_link::LinkError;
use service::{Exit, Failure};

use crate::key_argument::KeyArgumentError;
use crate::name::NameError;

/// A cause of another library's making.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The configuration file is not there or not readable as one.
    #[error("configuration")]
    Config(#[source] service::config::ConfigError),
    /// The file was read; what it says cannot be.
    #[error("'{path}': {list}", path = path.display(), list = problems.join("; "))]
    Settings {
        /// The file.
        path: PathBuf,
        /// Every problem found, in the file's order.
        problems: Vec<String>,
    },
    /// The password came neither from a file nor from the terminal.
    #[error("read the password of '{dn}'")]
    Password {
        /// Who binds.
        dn: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The trusted certificates cannot be used.
    #[error("load trusted certificates from '{from}'")]
    Trust {
        /// The file, or `the system`.
        from: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// No connection, or no TLS on it.
    #[error("connect to '{uri}'")]
    Connect {
        /// The server.
        uri: String,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// Nothing came back in time.
    #[error("{doing}: no answer within {limit:?}")]
    Deadline {
        /// What was being done.
        doing: String,
        /// The limit.
        limit: Duration,
    },
    /// The connection ended, or what came over it is no LDAP.
    #[error("{doing}: the connection to the server broke")]
    Broken {
        /// What was being done.
        doing: String,
        /// The cause, as far as it is known.
        #[source]
        source: Cause,
    },
    /// What the server sent cannot be read as LDAP; the library gave up on it.
    #[error("the server's answer is malformed")]
    Malformed,
    /// The server said no.
    #[error("{doing}: {answer}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The answer.
        answer: Answer,
    },
    /// The server does not know a class or attribute that is needed.
    #[error("the server lacks {0}")]
    Schema(String),
    /// No such user or group.
    #[error("no {kind} '{name}' below '{base}'")]
    NoSuch {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        base: String,
    },
    /// The name leads to several entries.
    #[error("{kind} '{name}' is there {count} times below '{base}'")]
    Ambiguous {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        base: String,
        /// How often.
        count: usize,
    },
    /// The directory's entry is not a whole one.
    #[error("entry '{dn}' has no usable {attribute}")]
    Entry {
        /// The entry.
        dn: String,
        /// The attribute that is missing or malformed.
        attribute: &'static str,
    },
    /// It is there already.
    #[error("{kind} '{name}' exists{difference}")]
    Exists {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Empty, or how it differs from what was asked for.
        difference: String,
    },
    /// A new name that cannot be.
    #[error("{kind} name")]
    Name {
        /// `user` or `group`.
        kind: &'static str,
        /// The cause.
        #[source]
        source: NameError,
    },
    /// A local account would hide it.
    #[error("'{name}' is a local {kind} of this machine ('{file}')")]
    Local {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The file it stands in.
        file: &'static str,
    },
    /// Somebody has the number.
    #[error("id {id} is taken by '{by}'")]
    IdTaken {
        /// The number.
        id: u32,
        /// An entry, or a local account.
        by: String,
    },
    /// The number may not be given.
    #[error("id {id} is {why}")]
    IdRange {
        /// The number.
        id: u32,
        /// Why not.
        why: String,
    },
    /// The counter has passed the range's end.
    #[error("no id is left in {min} to {max}: the counter '{counter}' stands at {next}")]
    IdsUsedUp {
        /// The counter entry.
        counter: String,
        /// First number of the range.
        min: u32,
        /// Last number of the range.
        max: u32,
        /// What the counter gave.
        next: u64,
    },
    /// The counter entry is unusable.
    #[error("id counter '{counter}' {problem}")]
    Counter {
        /// The counter entry.
        counter: String,
        /// What is the matter with it.
        problem: &'static str,
    },
    /// A key argument was not accepted.
    #[error("key")]
    Key(#[source] KeyArgumentError),
    /// A value that cannot be stored.
    #[error("{option}: {why}")]
    Value {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The request leaves open what is meant, or would leave something dangling.
    #[error("{0}")]
    Stopped(String, Option<String>),
    /// Some steps were done and could not be undone.
    #[error("stopped half-way, and could not take back: {left}")]
    HalfDone {
        /// The steps whose result stands in the directory, or may.
        left: String,
        /// The step that failed.
        #[source]
        source: Box<AdminError>,
    },
    /// A removal got no further; it is not taken back.
    #[error("stopped half-way, done so far: {done}")]
    Unfinished {
        /// The steps that were made.
        done: String,
        /// The step that failed.
        #[source]
        source: Box<AdminError>,
    },
    /// A step failed; those before it were undone.
    #[error("nothing was changed")]
    RolledBack(#[source] Box<AdminError>),
    /// Printing the result failed.
    #[error("write the result")]
    Output(#[source] std::io::Error),
}

/// An LDAP result code other than success, with the server's words (RFC 4511, 4.1.9).
#[derive(Debug, Clone)]
pub struct Answer {
    /// The result code.
    pub code: u32,
    /// The server's diagnostic message.
    pub text: String,
}

impl Answer {
    const NAMES: &[(u32, &str)] = &[
        (1, "operations error"),
        (2, "protocol error"),
        (3, "time limit exceeded"),
        (4, "size limit exceeded"),
        (7, "authentication method not supported"),
        (8, "stronger authentication required"),
        (10, "referral to another server"),
        (11, "administrative limit exceeded"),
        (12, "critical extension not available"),
        (13, "confidentiality required"),
        (16, "no such attribute"),
        (17, "undefined attribute type"),
        (18, "inappropriate matching"),
        (19, "constraint violation"),
        (20, "attribute or value exists"),
        (21, "invalid attribute syntax"),
        (32, "no such entry"),
        (34, "invalid DN"),
        (48, "inappropriate authentication"),
        (49, "wrong bind DN or password"),
        (50, "insufficient access"),
        (51, "busy"),
        (52, "unavailable"),
        (53, "unwilling to perform"),
        (64, "naming violation"),
        (65, "object class violation"),
        (66, "not allowed on an entry with others below it"),
        (68, "the entry exists already"),
        (80, "internal error of the server"),
    ];

    /// Whether the server understood and does not allow it.
    fn is_refusal(&self) -> bool {
        matches!(self.code, 7 | 8 | 13 | 19 | 48 | 49 | 50 | 53)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::NAMES.iter().find(|(code, _)| *code == self.code);
        match name {
            Some((code, name)) => write!(f, "{name} (LDAP result {code})")?,
            None => write!(f, "LDAP result {}", self.code)?,
        }
        if self.text.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.text.escape_debug())
        }
    }
}

impl AdminError {
    /// The server's result code, where the server said one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { answer, .. } => Some(answer.code),
            _ => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Settings { .. } | Self::Trust { .. } => Exit::Config,
            Self::Name { .. } | Self::Value { .. } => Exit::Usage,
            Self::Refused { answer, .. } if answer.is_refusal() => Exit::Permission,
            Self::RolledBack(source)
            | Self::HalfDone { source, .. }
            | Self::Unfinished { source, .. } => source.exit(),
            _ => Exit::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Config(service::config::ConfigError::Read { .. }) => {
                "name the file with --config; docs/login-admin.md has a small one".into()
            }
            Self::Password { .. } => {
                "set 'bind-password-file', or run it at a terminal with --ask-password".into()
            }
            Self::Connect { source, .. }
                if matches!(source.downcast_ref(), Some(LinkError::StartTls(_))) =>
            {
                "the server refuses StartTLS: use an ldaps:// uri, or mend its certificate".into()
            }
            Self::Connect { source, .. } if is_certificate(source.as_ref()) => {
                "'ca-file' must hold the CA, and the certificate the name in 'uri'".into()
            }
            Self::Connect { .. } | Self::Broken { .. } | Self::Deadline { .. } => {
                "is the server up, and is 'uri' right? \"login-admin check\" tries each step".into()
            }
            Self::Schema(_) => {
                "load the schema on the server, or set 'schema' to what it has (rfc2307bis or rfc2307)".into()
            }
            Self::Refused { answer, .. } => match answer.code {
                4 => "the server lists no more entries to this bind DN; raise its size limit".into(),
                8 | 13 => "the server wants TLS: use 'start-tls = true' or an ldaps:// uri".into(),
                10 => "this server is a replica; set 'uri' to the one that takes writes".into(),
                32 => "does the base exist? look at 'base', 'user-base', 'group-base' and 'id-counter'".into(),
                49 => "look at 'bind-dn' and the file named by 'bind-password-file'".into(),
                50 => "the server's access rules do not let 'bind-dn' do this".into(),
                _ => return None,
            },
            Self::Exists { kind: "user", .. } => "\"user show\" prints it; keys and groups are added by \"key add\" and \"group member add\"".into(),
            Self::Exists { .. } => "members are added by \"group member add\"".into(),
            Self::IdRange { .. } => "--outside-range takes numbers outside 'id-range', but never those of the system".into(),
            Self::IdsUsedUp { .. } => "widen 'id-range'".into(),
            Self::Counter { .. } => "\"login-admin init\" makes a counter above every id in use".into(),
            Self::Local { .. } => "choose another name: the local one would win on this machine".into(),
            Self::Key(source) => return source.hint().map(str::to_owned),
            Self::Stopped(_, hint) => return hint.clone(),
            Self::HalfDone { .. } => {
                "\"user del\" and \"group del\" remove what is there; then try again".into()
            }
            Self::Unfinished { .. } => {
                "run the same command again when the cause is mended: it goes on from there".into()
            }
            Self::RolledBack(source) => return source.hint(),
            _ => return None,
        };
        Some(text)
    }
}

fn is_certificate(error: &dyn std::error::Error) -> bool {
    let text = service::exit::chain(error);
    text.contains("certificate") || text.contains("DNS")
}

/// Takes what the LDAP library says apart, so that each cause is printed once.
pub fn cause(error: ldap3::LdapError) -> Cause {
    match error {
        ldap3::LdapError::Io { source } => source.into(),
        ldap3::LdapError::LdapResult { result } => Answer::from(result).into(),
        other => other.to_string().into(),
    }
}

impl From<ldap3::LdapResult> for Answer {
    fn from(result: ldap3::LdapResult) -> Self {
        Self {
            code: result.rc,
            text: result.text,
        }
    }
}

impl std::error::Error for Answer {}

/// How the program ends because of `error`.
pub fn failure(error: AdminError) -> Failure {
    let (exit, hint) = (error.exit(), error.hint());
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
