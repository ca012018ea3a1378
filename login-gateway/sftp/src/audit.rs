//! The record of what was done, in the words of OpenSSH's INFO lines: written when a request begins,
//! at the level `-l` must reach. Paths are escaped, so that a name forges no line.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use tracing::{debug, info};

use crate::attributes::Attributes;
use crate::file;
use crate::handles::Handle;
use crate::refusal::{Code, Refusal};
use crate::request::{OpenFlags, Request};

macro_rules! audit {
    ($($arguments:tt)*) => { info!(target: "sftp", $($arguments)*) };
}

/// Notes a request that is about to be done. `name` gives the path of a handle.
pub fn begins(request: &Request, name: impl Fn(Option<u32>) -> Option<Vec<u8>>) {
    if !tracing::enabled!(target: "sftp", tracing::Level::INFO) {
        return;
    }
    match request {
        Request::Open {
            path,
            flags,
            attributes,
        } => audit!(
            "open \"{}\" flags {} mode 0{:o}",
            path.escape_ascii(),
            flag_names(*flags),
            file::mode(attributes)
        ),
        Request::Opendir { path } => audit!("opendir \"{}\"", path.escape_ascii()),
        Request::Remove { path } => audit!("remove name \"{}\"", path.escape_ascii()),
        Request::Mkdir { path, attributes } => audit!(
            "mkdir name \"{}\" mode 0{:o}",
            path.escape_ascii(),
            attributes.permissions.map_or(0o777, |p| p & 0o7777)
        ),
        Request::Rmdir { path } => audit!("rmdir name \"{}\"", path.escape_ascii()),
        Request::Rename { old, new } => pair("rename", old, new),
        Request::PosixRename { old, new } => pair("posix-rename", old, new),
        Request::Hardlink { old, new } => pair("hardlink", old, new),
        Request::Symlink { target, link } => pair("symlink", target, link),
        Request::Setstat { path, attributes } | Request::Lsetstat { path, attributes } => {
            set(path, attributes);
        }
        Request::Fsetstat { handle, attributes } => {
            if let Some(path) = name(*handle) {
                set(&path, attributes);
            }
        }
        Request::Statvfs { path } => audit!("statvfs \"{}\"", path.escape_ascii()),
        Request::CopyData { from, to, .. } => {
            if let (Some(from), Some(to)) = (name(*from), name(*to)) {
                pair("copy-data", &from, &to);
            }
        }
        Request::Stat { path } => debug!(target: "sftp", "stat name \"{}\"", path.escape_ascii()),
        Request::Lstat { path } => {
            debug!(target: "sftp", "lstat name \"{}\"", path.escape_ascii())
        }
        Request::Realpath { path } => {
            debug!(target: "sftp", "realpath \"{}\"", path.escape_ascii())
        }
        Request::Readlink { path } => {
            debug!(target: "sftp", "readlink \"{}\"", path.escape_ascii())
        }
        _ => {}
    }
}

fn pair(what: &str, old: &[u8], new: &[u8]) {
    let (old, new) = (old.escape_ascii(), new.escape_ascii());
    audit!("{what} old \"{old}\" new \"{new}\"");
}

fn set(path: &[u8], wanted: &Attributes) {
    let path = path.escape_ascii();
    if let Some(size) = wanted.size {
        audit!("set \"{path}\" size {size}");
    }
    if let Some(mode) = wanted.permissions {
        audit!("set \"{path}\" mode {mode:04o}");
    }
    if let Some((_, changed)) = wanted.times {
        audit!("set \"{path}\" modtime {}", date(changed));
    }
    if let Some((user, group)) = wanted.owner {
        audit!("set \"{path}\" owner {user} group {group}");
    }
}

/// A time as the record has it, in local time.
pub fn date(seconds: u32) -> String {
    let mut text = String::new();
    if let Some(t) = sys::clock::local_time(i64::from(seconds)) {
        let _ = write!(text, "{:04}{:02}{:02}-", t.year, t.month + 1, t.day);
        let _ = write!(text, "{:02}:{:02}:{:02}", t.hour, t.minute, t.second);
    }
    text
}

/// How a file is opened, in words.
pub fn flag_names(flags: OpenFlags) -> String {
    let names = [
        (OpenFlags::READ, "READ"),
        (OpenFlags::WRITE, "WRITE"),
        (OpenFlags::APPEND, "APPEND"),
        (OpenFlags::CREATE, "CREATE"),
        (OpenFlags::TRUNCATE, "TRUNCATE"),
        (OpenFlags::EXCLUSIVE, "EXCL"),
    ];
    let set = names.into_iter().filter(|(bit, _)| flags.any(*bit));
    set.map(|(_, name)| name).collect::<Vec<_>>().join(",")
}

/// Notes that a handle is closed; at the end of the program it is `forced`.
pub fn closes(handle: &Handle, forced: bool) {
    if !tracing::enabled!(target: "sftp", tracing::Level::INFO) {
        return;
    }
    let how = if forced { "forced " } else { "" };
    let path = handle.name.escape_ascii();
    if handle.is_folder {
        audit!("{how}closedir \"{path}\"");
    } else {
        let (read, written) = (
            handle.read.load(Ordering::Relaxed),
            handle.written.load(Ordering::Relaxed),
        );
        audit!("{how}close \"{path}\" bytes read {read} written {written}");
    }
}

/// Notes how a request failed.
pub fn failed(refusal: Refusal) {
    if refusal.code() != Code::Eof {
        audit!("sent status {refusal}");
    }
}

/// Notes the beginning of the connection.
pub fn opened(user: &str, client: &str) {
    audit!(
        "session opened for local user {user} from [{}]",
        client.escape_debug()
    );
}

/// Notes its end.
pub fn ended(user: &str, client: &str) {
    audit!(
        "session closed for local user {user} from [{}]",
        client.escape_debug()
    );
}
