//! What was done to files, told to whoever started this program, for an audit log: a message on a
//! `SOCK_SEQPACKET` socket for each operation, once it is known how it went. Changes and opened files
//! alone; what only looks is not told.
//!
//! Shape: seven fields of UTF-8 with a tab between them: operation, why it was refused, path, other
//! path, details, bytes read, bytes written. What does not apply is empty. `lost` and a number say that
//! so many messages found no room.

use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::attributes::Attributes;
use crate::audit::{date, flag_names};
use crate::file;
use crate::handles::Handle;
use crate::paths::Paths;
use crate::refusal::Refusal;
use crate::request::{OpenFlags, Request};

/// Longest path in a message, in characters.
const MAX_PATH: usize = 1024;
/// Patience with a reader that is behind, in milliseconds.
const PATIENCE: u16 = 1000;

/// The reader's ear.
#[derive(Debug)]
pub struct Recorder {
    socket: OwnedFd,
    lost: AtomicU64,
}

/// One operation, before it is known how it went.
#[derive(Debug, Default)]
pub struct Noted {
    operation: &'static str,
    path: Vec<u8>,
    other: Vec<u8>,
    detail: String,
    bytes: Option<(u64, u64)>,
}

impl Noted {
    /// What this request is about to do; `None` if it changes nothing and opens no file. `handles` are
    /// those that it names.
    pub fn of(
        request: &Request,
        handles: &[Option<Arc<Handle>>; 2],
        paths: &Paths,
    ) -> Option<Self> {
        let path = |path: &[u8]| paths.absolute(path);
        let [first, second] = handles.each_ref().map(Option::as_deref);
        let (operation, path, other, detail) = match request {
            Request::Open {
                path: name,
                flags,
                attributes,
            } => {
                let mut detail = flag_names(*flags);
                if flags.any(OpenFlags::CREATE) {
                    let _ = write!(detail, " mode 0{:o}", file::mode(attributes));
                }
                ("open", path(name), Vec::new(), detail)
            }
            Request::Close { .. } => return first.and_then(Self::closes),
            Request::Remove { path: name } => ("remove", path(name), Vec::new(), String::new()),
            Request::Mkdir {
                path: name,
                attributes,
            } => {
                let mode = attributes.permissions.map_or(0o777, |p| p & 0o7777);
                ("mkdir", path(name), Vec::new(), format!("mode 0{mode:o}"))
            }
            Request::Rmdir { path: name } => ("rmdir", path(name), Vec::new(), String::new()),
            Request::Rename { old, new } | Request::PosixRename { old, new } => {
                ("rename", path(old), path(new), String::new())
            }
            // Where a link leads is text until somebody follows it.
            Request::Symlink { target, link } => {
                ("symlink", path(link), target.clone(), String::new())
            }
            Request::Hardlink { old, new } => ("link", path(new), path(old), String::new()),
            Request::Setstat {
                path: name,
                attributes,
            }
            | Request::Lsetstat {
                path: name,
                attributes,
            } => ("setstat", path(name), Vec::new(), changes(attributes)),
            Request::Fsetstat { attributes, .. } => (
                "setstat",
                first?.path.clone(),
                Vec::new(),
                changes(attributes),
            ),
            Request::CopyData { .. } => (
                "copy",
                first?.path.clone(),
                second?.path.clone(),
                String::new(),
            ),
            _ => return None,
        };
        Some(Self {
            operation,
            path,
            other,
            detail,
            bytes: None,
        })
    }

    /// A file that is closed, with what was read and written.
    pub fn closes(handle: &Handle) -> Option<Self> {
        if handle.is_folder {
            return None;
        }
        let bytes = [&handle.read, &handle.written].map(|bytes| bytes.load(Ordering::Relaxed));
        Some(Self {
            operation: "close",
            path: handle.path.clone(),
            bytes: Some((bytes[0], bytes[1])),
            ..Self::default()
        })
    }

    fn message(&self, outcome: Result<(), Refusal>) -> String {
        let status = outcome
            .err()
            .map_or_else(String::new, |why| why.to_string());
        let number = |bytes: Option<u64>| bytes.map_or_else(String::new, |b| b.to_string());
        [
            self.operation.to_owned(),
            status,
            printable(&self.path),
            printable(&self.other),
            self.detail.clone(),
            number(self.bytes.map(|(read, _)| read)),
            number(self.bytes.map(|(_, written)| written)),
        ]
        .join("\t")
    }
}

impl Recorder {
    /// Takes the socket, which does not block.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            lost: AtomicU64::new(0),
        }
    }

    /// Tells one operation. A reader that is behind is waited for, but not for long.
    pub fn tell(&self, noted: &Noted, outcome: Result<(), Refusal>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && !self.send(&format!("lost\t{lost}")) {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if !self.send(&noted.message(outcome)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&self, text: &str) -> bool {
        let send = || sys::fds::send_with_fds(&self.socket, text.as_bytes(), &[]);
        match send() {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut ready, PollTimeout::from(PATIENCE));
                send().is_ok()
            }
            // The reader has gone.
            Err(_) => false,
        }
    }
}

fn changes(wanted: &Attributes) -> String {
    let mut all = Vec::new();
    all.extend(wanted.size.map(|size| format!("size {size}")));
    all.extend(wanted.permissions.map(|mode| format!("mode {mode:04o}")));
    all.extend(
        wanted
            .times
            .map(|(_, changed)| format!("modtime {}", date(changed))),
    );
    let owner = wanted.owner;
    all.extend(owner.map(|(user, group)| format!("owner {user} group {group}")));
    all.join(" ")
}

/// A path as text of one meaning: backslashes, control characters and bytes that are no UTF-8 are
/// escaped. One that is cut ends with an ellipsis.
fn printable(path: &[u8]) -> String {
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    match text.char_indices().nth(MAX_PATH) {
        Some((at, _)) => text[..at].to_owned() + "…",
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_meaning_and_an_end() {
        assert_eq!(printable(b"/a b/\xc3\xbc"), "/a b/ü");
        assert_eq!(
            printable(b"a\tb\nc\\n\xff\x1b"),
            "a\\tb\\nc\\\\n\\xff\\u{1b}"
        );
        let long = printable(&b"\xff".repeat(5000));
        assert_eq!(long.chars().count(), MAX_PATH + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn who_is_behind_is_waited_for_and_who_has_gone_is_not() {
        let (ours, theirs) = sys::fds::seqpacket_pair().unwrap();
        nix::fcntl::fcntl(
            &ours,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .unwrap();
        let recorder = Recorder::new(ours);
        let noted = Noted {
            operation: "remove",
            path: b"/x".to_vec(),
            ..Noted::default()
        };
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut heard = Vec::new();
            while heard.len() < 3000 {
                let (n, _) = sys::fds::recv_with_fds(&theirs, &mut buffer).unwrap();
                heard.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
            }
            heard
        });
        for _ in 0..3000 {
            recorder.tell(&noted, Err(Refusal::NotPermitted));
        }
        let heard = reader.join().unwrap();
        let expected = "remove\tPermission denied\t/x\t\t\t\t";
        assert!(heard.iter().all(|text| text == expected), "{heard:?}");
        recorder.tell(&noted, Ok(()));
        assert_eq!(recorder.lost.load(Ordering::Relaxed), 1);
    }
}
