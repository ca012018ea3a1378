//! Which requests must keep their order. "Requests relating to the same file" have the results that
//! they would have one at a time (draft-ietf-secsh-filexfer-02, section 6.1); all others may
//! overtake each other.
//!
//! Names are compared as text. Two names of one file (through links) are not seen to be one: a
//! client that mixes them has to wait for its answers.

use crate::request::{OpenFlags, Request};

/// What a request does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Looks at it.
    Look,
    /// Looks at what it holds, too.
    List,
    /// Changes its content or attributes.
    Change,
    /// Makes it, removes it, gives or takes its name: what lies below it changes with it.
    Name,
}

impl Use {
    fn changes(self) -> bool {
        matches!(self, Self::Change | Self::Name)
    }
}

/// What a request touches: at most two handles, and some paths.
#[derive(Debug, Default)]
pub struct Touched {
    handles: [Option<u32>; 2],
    paths: Vec<(Vec<u8>, Use)>,
}

/// Removes `.`, `..` and empty components of an absolute path, as text.
fn plain(path: &[u8]) -> Vec<u8> {
    let mut done = Vec::with_capacity(path.len());
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => done.truncate(done.iter().rposition(|b| *b == b'/').unwrap_or(0)),
            name => {
                done.push(b'/');
                done.extend_from_slice(name);
            }
        }
    }
    done
}

impl Touched {
    /// What this request touches. `absolute` makes a path absolute; `opened` gives the path of a
    /// handle.
    pub fn by(
        request: &Request,
        absolute: impl Fn(&[u8]) -> Vec<u8>,
        opened: impl Fn(u32) -> Option<Vec<u8>>,
    ) -> Self {
        let mut touched = Self::default();
        let mut path = |path: &[u8], does| touched.paths.push((plain(&absolute(path)), does));
        let mut handle = |number: Option<u32>, does| {
            let id = number?;
            let place = touched.handles.iter_mut().find(|h| h.is_none())?;
            *place = Some(id);
            opened(id).map(|path| (plain(&path), does))
        };
        let through = match request {
            Request::Open { path: p, flags, .. } => {
                path(
                    p,
                    match () {
                        () if flags.any(OpenFlags::CREATE) => Use::Name,
                        () if flags.any(OpenFlags::WRITE | OpenFlags::TRUNCATE) => Use::Change,
                        () => Use::Look,
                    },
                );
                None
            }
            Request::Lstat { path: p }
            | Request::Stat { path: p }
            | Request::Realpath { path: p }
            | Request::Readlink { path: p }
            | Request::Statvfs { path: p }
            | Request::ExpandPath { path: p } => {
                path(p, Use::Look);
                None
            }
            Request::Opendir { path: p } => {
                path(p, Use::List);
                None
            }
            Request::Setstat { path: p, .. }
            | Request::Lsetstat { path: p, .. }
            | Request::Remove { path: p }
            | Request::Mkdir { path: p, .. }
            | Request::Rmdir { path: p }
            | Request::Symlink { link: p, .. } => {
                path(p, Use::Name);
                None
            }
            Request::Rename { old, new }
            | Request::PosixRename { old, new }
            | Request::Hardlink { old, new } => {
                path(old, Use::Name);
                path(new, Use::Name);
                None
            }
            Request::Close { handle: h }
            | Request::Read { handle: h, .. }
            | Request::Fstat { handle: h }
            | Request::Fstatvfs { handle: h }
            | Request::Fsync { handle: h } => handle(*h, Use::Look),
            Request::Readdir { handle: h } => handle(*h, Use::List),
            Request::Write { handle: h, .. } | Request::Fsetstat { handle: h, .. } => {
                handle(*h, Use::Change)
            }
            Request::CopyData { from, to, .. } => {
                let from = handle(*from, Use::Look);
                let to = handle(*to, Use::Change);
                touched.paths.extend(from);
                to
            }
            Request::Limits | Request::HomeDirectory { .. } | Request::UsersGroupsById { .. } => {
                None
            }
        };
        touched.paths.extend(through);
        touched
    }

    /// If both are of the same handle, where order is passed on from each to the next.
    pub fn shares_handle(&self, other: &Self) -> bool {
        self.handles
            .iter()
            .flatten()
            .any(|h| other.handles.contains(&Some(*h)))
    }

    /// The handles, to tell which order is known already.
    pub fn handles(&self) -> impl Iterator<Item = u32> {
        self.handles.into_iter().flatten()
    }

    /// If the later of the two must wait for the earlier one because of a path.
    pub fn meets(&self, other: &Self) -> bool {
        self.paths
            .iter()
            .any(|one| other.paths.iter().any(|two| meet(one, two)))
    }
}

fn meet((one, does): &(Vec<u8>, Use), (two, does_too): &(Vec<u8>, Use)) -> bool {
    if !does.changes() && !does_too.changes() {
        return false;
    }
    if one == two {
        return true;
    }
    if one.len() > two.len() {
        below(two, *does_too, one, *does)
    } else {
        below(one, *does, two, *does_too)
    }
}

/// `upper` is the shorter path.
fn below(upper: &[u8], does: Use, lower: &[u8], does_below: Use) -> bool {
    let Some([b'/', rest @ ..]) = lower.strip_prefix(upper) else {
        return false;
    };
    does == Use::Name || does == Use::List && does_below.changes() && !rest.contains(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;

    fn touched(request: &Request) -> Touched {
        Touched::by(
            request,
            |path| [b"/home/".as_slice(), path].concat(),
            |id| Some(format!("/home/file{id}").into_bytes()),
        )
    }

    fn check(one: &Request, two: &Request, in_order: bool) {
        let (a, b) = (touched(one), touched(two));
        for (a, b) in [(&a, &b), (&b, &a)] {
            assert_eq!(
                a.shares_handle(b) || a.meets(b),
                in_order,
                "{one:?} {two:?}"
            );
        }
    }

    fn open(path: &str, flags: u32) -> Request {
        let attributes = Attributes::default();
        Request::Open {
            path: path.into(),
            flags: OpenFlags(flags),
            attributes,
        }
    }

    fn mkdir(path: &str) -> Request {
        Request::Mkdir {
            path: path.into(),
            attributes: Attributes::default(),
        }
    }

    fn stat(path: &str) -> Request {
        Request::Stat { path: path.into() }
    }

    fn read(id: u32) -> Request {
        Request::Read {
            handle: Some(id),
            offset: 0,
            length: 1,
        }
    }

    fn write(id: u32) -> Request {
        Request::Write {
            handle: Some(id),
            offset: 0,
            data: 0..0,
        }
    }

    #[test]
    fn one_handle_keeps_its_order_and_others_do_not() {
        check(&read(1), &read(1), true);
        check(&read(1), &read(2), false);
        check(&write(1), &read(2), false);
        check(&write(1), &Request::Limits, false);
        let copy = Request::CopyData {
            from: Some(1),
            offset: 0,
            length: 0,
            to: Some(2),
            to_offset: 0,
        };
        for id in [1, 2] {
            check(&copy, &read(id), true);
        }
        check(&copy, &read(3), false);
    }

    #[test]
    fn names_and_what_they_lead_to() {
        check(&stat("file1"), &write(1), true);
        check(&stat("./x/../file1"), &write(1), true);
        check(&stat("file2"), &write(1), false);
        check(&stat("file1"), &read(1), false);
        check(&stat("."), &write(1), false);
        check(&mkdir("a"), &open("a/b", OpenFlags::READ), true);
        check(&mkdir("a"), &open("ab", OpenFlags::READ), false);
        check(&mkdir("a"), &mkdir("b"), false);
        check(
            &open("f", OpenFlags::READ),
            &open("f", OpenFlags::READ),
            false,
        );
        check(
            &open("f", OpenFlags::CREATE),
            &open("f", OpenFlags::READ),
            true,
        );
        let list = Request::Opendir { path: b".".into() };
        check(&list, &mkdir("a"), true);
        check(&list, &mkdir("a/b"), false);
        check(&list, &write(1), true);
        let rename = Request::Rename {
            old: b"a".into(),
            new: b"b".into(),
        };
        for path in ["a", "b", "a/c", "b/c/d"] {
            check(&rename, &stat(path), true);
        }
        check(&rename, &stat("c"), false);
    }
}
