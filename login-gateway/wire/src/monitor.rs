//! Listener and monitor, monitor and net. The monitor trusts nothing that net says beyond what
//! SECURITY.md lists.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::UserName;
use crate::accept::Endpoints;
use crate::doors::Failure;
use crate::numbers::{Tally, Traffic};
use crate::settings::Policy;

/// Why a connection ended that did not authenticate in time, in the words of [`FromNet::Ended`].
pub const GRACE_IS_OVER: &str = "login grace time is over";

/// From the listener to a waiting monitor; the connection's socket is the one descriptor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Name of this connection in every log line, eight hexadecimal digits.
    pub login: String,
    /// Where it came from and went to.
    pub endpoints: Endpoints,
}

/// From the listener to a monitor whose user has logged in, or is about to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToMonitor {
    /// Show these words on the login's terminals.
    Message(String),
    /// End the login; the client is told these words.
    End(String),
    /// The user may log in.
    Welcome,
}

/// From a monitor to the listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromMonitor {
    /// Authentication is over; the connection no longer counts as a start-up.
    Authenticated(UserName),
    /// A terminal of the login, N of `/dev/pts/N`, was opened or closed.
    Terminal {
        /// N.
        number: u32,
        /// Whether it was opened.
        open: bool,
    },
    /// The connection ended without a login.
    Failed(Failure),
    /// May the user log in, who may have this many logins at one time? Answered by
    /// [`ToMonitor::Welcome`] or [`ToMonitor::End`].
    MayLogIn {
        /// The user.
        user: UserName,
        /// More than 0.
        max_logins: u32,
    },
    /// The user has proved who they are, and may not log in now.
    Denied,
    /// The session of an authenticated user could not be opened.
    NoSession,
    /// What was counted since the last one.
    Tally(Tally),
    /// What the connection has carried so far.
    Traffic(Traffic),
    /// How the login is reached from now on.
    Line(Line),
}

/// How a login is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// By its own connection.
    #[default]
    Connected,
    /// By none: its connection has dropped, its shells wait.
    Detached,
    /// From another login of the same user.
    Reattached,
}

impl Line {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Detached => "detached",
            Self::Reattached => "reattached",
        }
    }
}

/// From the monitor to net, once: the connection. Its socket is the one descriptor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Serve {
    /// As in [`Connection`].
    pub endpoints: Endpoints,
}

/// From net to the monitor. Each request of authentication is answered by one [`ToNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromNet {
    /// The sandbox is in place; send the connection.
    Sandboxed,
    /// Which methods may this user try? The request `none`, RFC 4252 section 5.2.
    Methods {
        /// The account.
        user: UserName,
    },
    /// May this key log in as this user? Asked before a signature exists, and the client learns
    /// the answer. For a certificate russh shows its inner key alone.
    KeyOffered {
        /// The account.
        user: UserName,
        /// The key in SSH wire form, RFC 4253 section 6.6.
        key: Vec<u8>,
        /// How it would sign, if it is RSA.
        rsa: Option<RsaHash>,
    },
    /// The client has signed with this key; russh has checked the signature.
    KeyVerified {
        /// The account.
        user: UserName,
        /// The key in SSH wire form.
        key: Vec<u8>,
        /// How it has signed, if it is RSA.
        rsa: Option<RsaHash>,
    },
    /// The client has signed with the key of this certificate; russh has checked that signature,
    /// the certificate's own and its time.
    CertificateVerified {
        /// The account.
        user: UserName,
        /// The certificate in SSH wire form, PROTOCOL.certkeys.
        certificate: Vec<u8>,
        /// How its key has signed, if it is RSA.
        rsa: Option<RsaHash>,
    },
    /// A password, RFC 4252 section 8.
    Password {
        /// The account.
        user: UserName,
        /// What was typed.
        password: Typed,
    },
    /// Keyboard-interactive is to begin, RFC 4256 section 3.1.
    Interactive {
        /// The account.
        user: UserName,
    },
    /// The answers to [`ToNet::Prompts`].
    Responses(Vec<Typed>),
    /// A terminal of the login was opened or closed, for utmp and wtmp. The opening is answered by
    /// [`ToNet::Accepted`] when it has been entered, with the file of its recording if the policy wants
    /// one.
    Terminal {
        /// N of `/dev/pts/N`.
        number: u32,
        /// Whether it was opened.
        open: bool,
    },
    /// The connection has ended; for the record.
    Ended {
        /// Why, in net's words.
        reason: String,
        /// What it has carried.
        traffic: Traffic,
    },
    /// What the connection has carried so far; now and then, after a login.
    Traffic(Traffic),
}

/// The hash of an RSA signature that is not SHA-1, RFC 8332; an RSA key without one signs with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RsaHash {
    /// `rsa-sha2-256`.
    Sha256,
    /// `rsa-sha2-512`.
    Sha512,
}

/// From the monitor to net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToNet {
    /// The offered key, or the login, is good.
    Accepted,
    /// It is not; no reason is given.
    Refused {
        /// Methods that may go on.
        methods: Vec<Method>,
        /// Whether this factor was good and another must follow, RFC 4252 section 5.1.
        partial: bool,
    },
    /// The user has proved who they are, but may not log in now: the connection ends with these words
    /// of PAM's.
    Denied {
        /// For the user.
        words: String,
    },
    /// Ask the user, RFC 4256 section 3.2; answered by [`FromNet::Responses`].
    Prompts {
        /// Title.
        name: String,
        /// What to tell the user before the prompts.
        instructions: String,
        /// The questions; there may be none.
        prompts: Vec<Prompt>,
    },
    /// The user's session has started; its socket is the one descriptor.
    Session(Box<Policy>),
    /// The connection is over; the client may be told these words.
    Farewell(String),
}

/// A way to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Method {
    /// Keys and certificates.
    PublicKey,
    /// A password in one message.
    Password,
    /// A dialogue.
    KeyboardInteractive,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PublicKey, Self::Password, Self::KeyboardInteractive];

    /// Its name in SSH.
    pub fn name(self) -> &'static str {
        match self {
            Self::PublicKey => "publickey",
            Self::Password => "password",
            Self::KeyboardInteractive => "keyboard-interactive",
        }
    }
}

/// One question of a dialogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Its words.
    pub text: String,
    /// Whether the answer may be seen.
    pub echo: bool,
}

/// What a user typed and nobody else may see: wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typed(Zeroizing<Vec<u8>>);

impl Typed {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}
