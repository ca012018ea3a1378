//! A client for tests: packets by hand, answers as text that two servers' can be compared in. What
//! differs from run to run (times of now, handles, the folder's own name) is left out of it.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ours.
pub const OURS: &str = env!("CARGO_BIN_EXE_sftp-server");
/// OpenSSH's, where Debian has it.
pub const THEIRS: &str = "/usr/lib/openssh/sftp-server";

pub const INIT: u8 = 1;
pub const OPEN: u8 = 3;
pub const CLOSE: u8 = 4;
pub const READ: u8 = 5;
pub const WRITE: u8 = 6;
pub const LSTAT: u8 = 7;
pub const FSTAT: u8 = 8;
pub const SETSTAT: u8 = 9;
pub const FSETSTAT: u8 = 10;
pub const OPENDIR: u8 = 11;
pub const READDIR: u8 = 12;
pub const REMOVE: u8 = 13;
pub const MKDIR: u8 = 14;
pub const RMDIR: u8 = 15;
pub const REALPATH: u8 = 16;
pub const STAT: u8 = 17;
pub const RENAME: u8 = 18;
pub const READLINK: u8 = 19;
pub const SYMLINK: u8 = 20;
pub const EXTENDED: u8 = 200;

pub const STATUS: u8 = 101;
pub const HANDLE: u8 = 102;
pub const DATA: u8 = 103;
pub const NAME: u8 = 104;
pub const ATTRS: u8 = 105;
pub const REPLY: u8 = 201;

/// Flags of OPEN.
pub const R: u32 = 1;
pub const W: u32 = 2;
pub const APPEND: u32 = 4;
pub const CREAT: u32 = 8;
pub const TRUNC: u32 = 16;
pub const EXCL: u32 = 32;

/// Something that stands in a packet.
#[derive(Debug, Clone)]
pub enum F {
    B(u8),
    N(u32),
    L(u64),
    S(Vec<u8>),
    Raw(Vec<u8>),
}

pub fn s(text: impl AsRef<[u8]>) -> F {
    F::S(text.as_ref().to_vec())
}

pub fn fields(fields: &[F]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        match field {
            F::B(n) => bytes.push(*n),
            F::N(n) => bytes.extend(n.to_be_bytes()),
            F::L(n) => bytes.extend(n.to_be_bytes()),
            F::S(s) => {
                bytes.extend((s.len() as u32).to_be_bytes());
                bytes.extend(s);
            }
            F::Raw(raw) => bytes.extend(raw),
        }
    }
    bytes
}

/// Attributes for a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct A {
    pub size: Option<u64>,
    pub owner: Option<(u32, u32)>,
    pub mode: Option<u32>,
    pub times: Option<(u32, u32)>,
}

impl A {
    pub fn field(&self) -> F {
        let mut flags = 0;
        let mut rest = Vec::new();
        if let Some(size) = self.size {
            flags |= 1;
            rest.push(F::L(size));
        }
        if let Some((user, group)) = self.owner {
            flags |= 2;
            rest.extend([F::N(user), F::N(group)]);
        }
        if let Some(mode) = self.mode {
            flags |= 4;
            rest.push(F::N(mode));
        }
        if let Some((a, m)) = self.times {
            flags |= 8;
            rest.extend([F::N(a), F::N(m)]);
        }
        rest.insert(0, F::N(flags));
        F::Raw(fields(&rest))
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub kind: u8,
    pub id: u32,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn code(&self) -> u32 {
        assert_eq!(self.kind, STATUS, "{self:?}");
        u32::from_be_bytes(self.body[..4].try_into().unwrap())
    }

    /// The text of a status.
    pub fn text(&self) -> String {
        assert_eq!(self.kind, STATUS);
        String::from_utf8(Bytes(&self.body[4..]).string().to_vec()).unwrap()
    }

    pub fn handle(&self) -> Vec<u8> {
        assert_eq!(self.kind, HANDLE, "{self:?}");
        Bytes(&self.body).string().to_vec()
    }

    pub fn data(&self) -> &[u8] {
        assert_eq!(self.kind, DATA, "{}", self.kind);
        Bytes(&self.body).string()
    }

    /// First name of a NAME.
    pub fn name(&self) -> Vec<u8> {
        assert_eq!(self.kind, NAME, "{self:?}");
        Bytes(&self.body[4..]).string().to_vec()
    }

    pub fn names(&self) -> Vec<Vec<u8>> {
        assert_eq!(self.kind, NAME, "{self:?}");
        let mut bytes = Bytes(&self.body);
        (0..bytes.n()).map(|_| entry(&mut bytes, "").0).collect()
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn n(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn l(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    fn string(&mut self) -> &'a [u8] {
        let n = self.n() as usize;
        self.take(n)
    }
}

/// "now" if it is near.
fn time(seconds: u32) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    if now.abs_diff(u64::from(seconds)) < 10_000 {
        "now".into()
    } else {
        seconds.to_string()
    }
}

fn attributes(bytes: &mut Bytes<'_>) -> (String, bool) {
    let flags = bytes.n();
    let mut text = format!("{flags:x}");
    let mut recent = false;
    if flags & 1 != 0 {
        let _ = write!(text, " size {}", bytes.l());
    }
    if flags & 2 != 0 {
        let _ = write!(text, " owner {}:{}", bytes.n(), bytes.n());
    }
    if flags & 4 != 0 {
        let _ = write!(text, " mode {:o}", bytes.n());
    }
    if flags & 8 != 0 {
        let (a, m) = (time(bytes.n()), time(bytes.n()));
        recent = m == "now";
        // Reading changes it, and how often depends on the mount.
        let _ = write!(
            text,
            " times {} {m}",
            if a == "now" { "now" } else { "set" }
        );
    }
    (text, recent)
}

/// The folder of a test, and the one around it.
fn hide(text: &str, folder: &str) -> String {
    let text = text.replace(folder, "<folder>");
    match folder.strip_suffix("/1/2/3/4/5/6/7/8/work") {
        Some(outer) => text.replace(outer, "<outer>"),
        None => text,
    }
}

fn entry(bytes: &mut Bytes<'_>, folder: &str) -> (Vec<u8>, String) {
    let name = bytes.string().to_vec();
    let long = bytes.string().escape_ascii().to_string();
    let (attributes, recent) = attributes(bytes);
    let shown = name.escape_ascii().to_string();
    let (shown, mut long) = match folder {
        "" => (shown, long),
        folder => (hide(&shown, folder), hide(&long, folder)),
    };
    if recent {
        // The minute may change between two servers, and what is newer than a coarse clock's now
        // shows its year.
        let mut words: Vec<_> = long.split(' ').collect();
        let is_time = |w: &&str| w.len() == 5 && w.as_bytes()[2] == b':';
        if let Some(at) = words.iter().position(is_time) {
            words[at] = "now";
        } else if let Some(at) = words.iter().position(|w| *w == "2026" || *w == "2027") {
            words[at] = "now";
            words.remove(at - 1);
        }
        long = words.join(" ");
    }
    (name, format!("{shown} [{long}] {attributes}"))
}

/// One connection to a server of its own.
pub struct Client {
    pub child: Child,
    pub input: Option<ChildStdin>,
    pub output: ChildStdout,
    /// The working folder of the server.
    pub folder: PathBuf,
    next: u32,
    handles: BTreeMap<String, Vec<u8>>,
    pub log: Vec<String>,
    pub version: Vec<u8>,
    /// Listings leave `..` out.
    pub no_parent: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    /// Starts a server in this folder and greets it.
    pub fn start(program: &str, arguments: &[&str], folder: &Path) -> Self {
        Self::with(Command::new(program).args(arguments), folder)
    }

    pub fn with(command: &mut Command, folder: &Path) -> Self {
        let mut child = command
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env_remove("SSH_CONNECTION")
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut client = Self {
            child,
            input,
            output,
            folder: folder.canonicalize().unwrap(),
            next: 1,
            handles: BTreeMap::new(),
            log: Vec::new(),
            version: Vec::new(),
            no_parent: false,
        };
        client.send_raw(&fields(&[F::N(5), F::B(INIT), F::N(3)]));
        let answer = client.receive();
        assert_eq!((answer.kind, answer.id), (2, 3));
        client.version = answer.body;
        client
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Sends a request and does not wait; the result is its id.
    pub fn send(&mut self, kind: u8, parts: &[F]) -> u32 {
        let id = self.next;
        self.next += 1;
        let mut body = fields(&[F::B(kind), F::N(id)]);
        body.extend(fields(parts));
        let mut packet = (body.len() as u32).to_be_bytes().to_vec();
        packet.extend(body);
        self.send_raw(&packet);
        id
    }

    pub fn receive(&mut self) -> Answer {
        self.try_receive().expect("the server ended")
    }

    /// `None` at the end.
    pub fn try_receive(&mut self) -> Option<Answer> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.output.read_exact(&mut body).ok()?;
        let id = u32::from_be_bytes(body[1..5].try_into().unwrap());
        Some(Answer {
            kind: body[0],
            id,
            body: body[5..].to_vec(),
        })
    }

    pub fn ask(&mut self, kind: u8, parts: &[F]) -> Answer {
        let id = self.send(kind, parts);
        let answer = self.receive();
        assert_eq!(answer.id, id);
        answer
    }

    pub fn extended(&mut self, name: &str, parts: &[F]) -> Answer {
        let parts: Vec<_> = std::iter::once(s(name))
            .chain(parts.iter().cloned())
            .collect();
        self.ask(EXTENDED, &parts)
    }

    /// Asks, and writes question and answer down.
    pub fn note(&mut self, what: &str, kind: u8, parts: &[F]) -> Answer {
        let answer = self.ask(kind, parts);
        let text = self.text(&answer);
        self.log.push(format!("{what} -> {text}"));
        answer
    }

    pub fn note_extended(&mut self, what: &str, name: &str, parts: &[F]) -> Answer {
        let parts: Vec<_> = std::iter::once(s(name))
            .chain(parts.iter().cloned())
            .collect();
        self.note(what, EXTENDED, &parts)
    }

    /// A comparable form.
    pub fn text(&self, answer: &Answer) -> String {
        let folder = self
            .folder
            .as_os_str()
            .as_bytes()
            .escape_ascii()
            .to_string();
        let mut body = Bytes(&answer.body);
        match answer.kind {
            STATUS => format!("status {}", body.n()),
            HANDLE => format!("handle of {}", body.string().len()),
            DATA => format!("data {}", body.string().escape_ascii()),
            NAME => {
                let entries: Vec<_> = (0..body.n()).map(|_| entry(&mut body, &folder).1).collect();
                format!("names {}", entries.join("; "))
            }
            ATTRS => format!("attributes {}", attributes(&mut body).0),
            other => {
                let text = body.0.escape_ascii().to_string();
                format!("{other} {text}")
            }
        }
    }

    /// Opens and remembers the handle by this name.
    pub fn open(&mut self, name: &str, path: &str, flags: u32, attributes: A) {
        let parts = [s(path), F::N(flags), attributes.field()];
        let answer = self.note(&format!("open {path} {flags:x}"), OPEN, &parts);
        if answer.kind == HANDLE {
            self.handles.insert(name.into(), answer.handle());
        }
    }

    pub fn opendir(&mut self, name: &str, path: &str) {
        let answer = self.note(&format!("opendir {path}"), OPENDIR, &[s(path)]);
        if answer.kind == HANDLE {
            self.handles.insert(name.into(), answer.handle());
        }
    }

    /// The handle of a name; one that nobody has if it was not opened.
    pub fn h(&self, name: &str) -> F {
        s(self
            .handles
            .get(name)
            .cloned()
            .unwrap_or_else(|| vec![0x7f; 4]))
    }

    /// All names of a folder, in order.
    pub fn list(&mut self, path: &str) {
        self.opendir("list", path);
        if !self.handles.contains_key("list") {
            return;
        }
        let mut entries = Vec::new();
        let folder = self
            .folder
            .as_os_str()
            .as_bytes()
            .escape_ascii()
            .to_string();
        loop {
            let handle = self.h("list");
            let answer = self.ask(READDIR, &[handle]);
            if answer.kind != NAME {
                entries.sort();
                let text = self.text(&answer);
                self.log
                    .push(format!("list {path} -> {} {text}", entries.join("\n  ")));
                break;
            }
            let mut body = Bytes(&answer.body);
            for _ in 0..body.n() {
                let (name, text) = entry(&mut body, &folder);
                if !(self.no_parent && name == b"..") {
                    entries.push(text);
                }
            }
        }
        let handle = self.h("list");
        self.note("closedir", CLOSE, &[handle]);
        self.handles.remove("list");
    }

    pub fn forget(&mut self, name: &str) {
        self.handles.remove(name);
    }

    /// Closes both ends and waits; the server must end.
    pub fn finish(&mut self) -> ExitStatus {
        drop(self.input.take());
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

/// Waits for an end that must come.
pub fn wait(child: &mut Child) -> ExitStatus {
    for _ in 0..3000 {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the server does not end");
}
