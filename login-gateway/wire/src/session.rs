//! Net and session, monitor and session. The session runs as the user: it does what it is asked,
//! since the user could do all of it without being asked.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::UserName;
use crate::accept::Endpoints;
use crate::policy::Restrictions;
use crate::settings::Policy;

/// From the monitor to a session: what the session is to know, in its descriptor 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The account.
    pub user: UserName,
    /// Its home.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: PathBuf,
    /// For `SSH_CLIENT` and `SSH_CONNECTION`.
    pub endpoints: Endpoints,
    /// As in [`crate::monitor::Connection`].
    pub login: String,
    /// What PAM wants in the environment.
    pub pam_env: Vec<(OsString, OsString)>,
    /// Set if the home has just been made: copy this into it.
    pub skel: Option<PathBuf>,
    /// What the login may do; the session keeps to it.
    pub policy: Policy,
    /// What the login's key says; its scalars are part of the policy already, its lists of
    /// addresses hold beside the policy's.
    pub restrictions: Restrictions,
    /// When and from where the user was here last, a line for a new terminal; absent if nobody
    /// knows or the policy does not show it.
    pub last_login: Option<String>,
    /// Further lines for a new terminal: what PAM says.
    pub notices: Vec<String>,
    /// How the user authenticated, a line per factor, for `SSH_USER_AUTH`.
    pub factors: Vec<String>,
}

/// From net to session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToSession {
    /// Variables from the client for the program of this channel that do not fit beside it in one message;
    /// they stand before those of [`ToSession::Start`], which follows.
    Variables {
        /// Number of the channel, chosen by net.
        channel: u32,
        /// Names and values.
        env: Vec<(String, String)>,
    },
    /// Start a program for this channel; answered by [`FromSession::Started`] or
    /// [`FromSession::Refused`].
    Start {
        /// Number of the channel, chosen by net.
        channel: u32,
        /// What to start.
        program: Program,
        /// The terminal, if one was asked for.
        pty: Option<Pty>,
        /// Variables from the client.
        env: Vec<(String, String)>,
        /// A display to forward, if one was asked for.
        x11: Option<X11>,
    },
    /// Connect somewhere; answered by [`FromSession::Connected`] or [`FromSession::Refused`].
    Connect {
        /// Number of the channel.
        channel: u32,
        /// Where to.
        target: Target,
    },
    /// Listen; answered by [`FromSession::Listening`] or [`FromSession::Refused`]. Each connection
    /// is told by [`FromSession::Accepted`].
    Listen {
        /// Number of the listener, from the same count as channels.
        channel: u32,
        /// Where.
        on: ListenOn,
    },
    /// The client's window has changed; answered by [`FromSession::Resized`], so that no key typed
    /// after it overtakes it.
    Resize {
        /// The channel.
        channel: u32,
        /// The new size.
        size: WindowSize,
    },
    /// Deliver a signal, RFC 4254 section 6.9: its name without `SIG`.
    Signal {
        /// The channel.
        channel: u32,
        /// The name.
        name: String,
    },
    /// The channel or listener is gone: hang up its terminal, close its sockets, forget it when its
    /// program has ended.
    Closed {
        /// The channel.
        channel: u32,
    },
}

/// What a forwarded channel connects to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// A TCP port, RFC 4254 section 7.2.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket, `direct-streamlocal@openssh.com`.
    Unix(String),
}

/// What the session listens on for the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ListenOn {
    /// A TCP port, RFC 4254 section 7.1; port 0 takes a free one.
    Tcp {
        /// Address as the client gave it; empty, `*` and `localhost` are special.
        address: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket, `streamlocal-forward@openssh.com`.
    Unix(String),
    /// A socket for the client's agent; later programs find it in `SSH_AUTH_SOCK`.
    Agent,
    /// A display, RFC 4254 section 6.3.1. Its TCP port is 6000 and the display's number.
    Display {
        /// Whether the first connection is the last.
        single: bool,
    },
}

/// A forwarded display, RFC 4254 section 6.3.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct X11 {
    /// Number of the listener whose connections are the display's, [`ListenOn::Display`].
    pub listener: u32,
    /// Authentication protocol, `MIT-MAGIC-COOKIE-1`.
    pub protocol: String,
    /// The cookie in hexadecimal; the client puts the real one in its place.
    pub cookie: String,
    /// Screen number.
    pub screen: u32,
}

/// What runs on a channel, RFC 4254 section 6.5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Program {
    /// The login shell.
    Shell,
    /// A command line for the login shell, as the client sent it.
    Exec(Vec<u8>),
    /// A subsystem by name.
    Subsystem(String),
}

/// A terminal as the client wants it, RFC 4254 section 6.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pty {
    /// For `TERM`.
    pub term: String,
    /// Its size.
    pub size: WindowSize,
    /// Modes by opcode, RFC 4254 section 8.
    pub modes: Vec<(u8, u32)>,
}

/// Size of a terminal in characters and pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Columns, in characters.
    pub columns: u16,
    /// Rows, in characters.
    pub rows: u16,
    /// Width, in pixels; 0 if unknown.
    pub width: u16,
    /// Height, in pixels; 0 if unknown.
    pub height: u16,
}

/// From session to net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromSession {
    /// The program runs. Descriptors: the program's standard input, output and error. Or the
    /// terminal's master side and a pipe: the program begins when it is closed, so that it finds its
    /// terminal in the login records.
    Started {
        /// The channel.
        channel: u32,
        /// N of the terminal `/dev/pts/N`.
        terminal: Option<u32>,
    },
    /// The connection is there; its descriptor comes along.
    Connected {
        /// The channel.
        channel: u32,
    },
    /// The listener is there.
    Listening {
        /// The listener.
        channel: u32,
        /// Its TCP port, 0 for others.
        port: u16,
    },
    /// Somebody connected to a listener; the connection is the one descriptor.
    Accepted {
        /// The listener.
        channel: u32,
        /// Address of who connected, empty for Unix sockets.
        address: String,
        /// Their port.
        port: u16,
    },
    /// It does not.
    Refused {
        /// The channel.
        channel: u32,
        /// What kind of refusal it is, for the client's program.
        kind: Refusal,
        /// Why, for the user's terminal and the log.
        reason: String,
    },
    /// The terminal, if there is one, has its new size.
    Resized {
        /// The channel.
        channel: u32,
    },
    /// The program has ended.
    Exited {
        /// The channel.
        channel: u32,
        /// How.
        status: ExitStatus,
    },
}

/// Why something does not start, RFC 4254 section 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The policy or the key forbids it.
    Prohibited,
    /// It was tried and failed.
    Failed,
    /// There are too many of its kind.
    Shortage,
}

/// How a program ended, RFC 4254 section 6.10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(u32),
    /// By a signal.
    Signal {
        /// Its name without `SIG`.
        name: String,
        /// Whether it dumped core.
        core: bool,
    },
}

/// Largest [`Act`] in bytes: two texts of 1024 characters and some numbers.
pub const MAX_ACT: usize = 16 * 1024;

/// From session to the monitor, for the audit log: what the login does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Act {
    /// A program runs.
    Started {
        /// Its channel.
        channel: u32,
        /// "shell", "command" or "subsystem".
        kind: String,
        /// The command or the subsystem's name, as the client sent it, cut.
        asked: String,
        /// N of its terminal `/dev/pts/N`.
        terminal: Option<u32>,
    },
    /// It has ended.
    Ended {
        /// Its channel.
        channel: u32,
        /// How.
        status: ExitStatus,
    },
    /// A connection on the client's behalf begins.
    Connecting {
        /// Its channel.
        channel: u32,
        /// Where to.
        to: String,
    },
    /// Something listens on the client's behalf.
    Listening {
        /// Its number.
        channel: u32,
        /// Where.
        on: String,
    },
    /// Somebody connected to it.
    Accepted {
        /// The number of what listens.
        listener: u32,
        /// Address and port of who connected, empty for Unix sockets.
        from: String,
    },
    /// Something was not done, and why.
    Refused(String),
    /// So many could not be told.
    Lost(u64),
    /// The file server has done something, or has refused to.
    File(FileAct),
    /// A shell begins that lives on when its line drops.
    Kept {
        /// The channel that it began on.
        channel: u32,
        /// N of its own terminal `/dev/pts/N`.
        terminal: u32,
    },
    /// Nobody looks at it any more.
    Detached {
        /// As above.
        channel: u32,
    },
    /// Somebody does again.
    Reattached {
        /// As above.
        channel: u32,
        /// The login that does, by its name in the log.
        by: String,
    },
}

/// What the file server did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileAct {
    /// Its channel.
    pub channel: u32,
    /// What it was.
    pub operation: FileOperation,
    /// Absolute, as the client sees it; escaped and cut.
    pub path: String,
    /// The new name of what is renamed or copied to, where a link leads; else empty.
    pub to: String,
    /// How a file was opened, what was set; may be empty.
    pub detail: String,
    /// Read and written, of a file that is closed.
    pub bytes: Option<(u64, u64)>,
    /// Why it was not done; absent: it was.
    pub refused: Option<String>,
}

/// Operations on files that are on the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as named")]
pub enum FileOperation {
    Open,
    Close,
    Remove,
    Rename,
    Mkdir,
    Rmdir,
    Setstat,
    Symlink,
    Link,
    Copy,
}

impl FileOperation {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::Close,
        Self::Remove,
        Self::Rename,
        Self::Mkdir,
        Self::Rmdir,
        Self::Setstat,
        Self::Symlink,
        Self::Link,
        Self::Copy,
    ];

    /// Its event in the audit log; behind the dot stands what the file server calls it.
    pub fn event(self) -> &'static str {
        match self {
            Self::Open => "sftp.open",
            Self::Close => "sftp.close",
            Self::Remove => "sftp.remove",
            Self::Rename => "sftp.rename",
            Self::Mkdir => "sftp.mkdir",
            Self::Rmdir => "sftp.rmdir",
            Self::Setstat => "sftp.setstat",
            Self::Symlink => "sftp.symlink",
            Self::Link => "sftp.link",
            Self::Copy => "sftp.copy",
        }
    }
}

/// From the monitor to a session program that only looks for a key: is this key, or the authority
/// that signed this certificate, among the user's own? Its answer is a [`KeyAnswer`] on descriptor
/// 1, at most [`crate::MAX_MESSAGE`] bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyQuestion {
    /// The user's home.
    pub home: PathBuf,
    /// Files of authorised keys, relative to the home unless absolute; `%u`, `%h` and `%%` stand
    /// for the user, the home and a percent sign.
    pub files: Vec<PathBuf>,
    /// Lines of authorised keys that do not come from the user's files.
    pub lines: Vec<String>,
    /// The key in SSH wire form; for a certificate, that of its authority.
    pub key: Vec<u8>,
    /// The certificate's principals; absent: it is a plain key.
    pub principals: Option<Vec<String>>,
    /// What the text on descriptor 3 is, if there is one: what a command of the policy said.
    pub output: Option<Output>,
    /// Files of principals, `authorized-principals-files`, with the same percent signs.
    pub principals_files: Vec<PathBuf>,
    /// The account's name, for principals and patterns.
    pub user: UserName,
    /// The client, for `from=`.
    pub source: IpAddr,
}

/// What a command of the policy prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Lines as in `authorized_keys`, `authorized-keys-command`.
    Keys,
    /// Lines as in files of principals, `authorized-principals-command`.
    Principals,
}

/// Most bytes that such a command may print, and of a file of keys.
pub const MAX_KEYS: u64 = 1 << 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyAnswer {
    /// The line's restrictions, if the key is there and its conditions hold.
    pub found: Option<Restrictions>,
    /// Whether there is any line with `cert-authority`, so that a certificate could be good where
    /// its bare key is not.
    pub authority: bool,
    /// The restrictions of the line in a file of principals that names one of the certificate's.
    pub principal: Option<Restrictions>,
}
