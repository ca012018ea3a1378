//! What a client may ask for: the packets of draft-ietf-secsh-filexfer-02, section 6, and OpenSSH's
//! extensions (its file PROTOCOL, section 4). Bytes in, typed requests out; nothing is done here.

use std::ops::Range;

use crate::attributes::Attributes;
use crate::fields::{BadFields, Fields};

/// `SSH_FXP_INIT`: the first packet, the only one without an id.
pub const INIT: u8 = 1;
/// `SSH_FXP_EXTENDED`: the name of the request follows.
const EXTENDED: u8 = 200;

/// Which request. The order is that of `-Q requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table below names them")]
pub enum Operation {
    Open,
    Close,
    Read,
    Write,
    Lstat,
    Fstat,
    Setstat,
    Fsetstat,
    Opendir,
    Readdir,
    Remove,
    Mkdir,
    Rmdir,
    Realpath,
    Stat,
    Rename,
    Readlink,
    Symlink,
    PosixRename,
    Statvfs,
    Fstatvfs,
    Hardlink,
    Fsync,
    Lsetstat,
    Limits,
    ExpandPath,
    CopyData,
    HomeDirectory,
    UsersGroupsById,
}

/// How a request is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// By the type of its packet.
    Type(u8),
    /// By its name, which is announced with this version.
    Extension(&'static str, &'static str),
}

/// One line of [`TABLE`].
#[derive(Debug)]
pub struct Entry {
    /// The request.
    pub operation: Operation,
    /// Its name for `-p` and `-P`, as OpenSSH has it.
    pub name: &'static str,
    /// How it is recognised.
    pub mark: Mark,
    /// Refused with `-R`; opening for writing is refused where it is looked at.
    pub writes: bool,
}

const fn plain(operation: Operation, name: &'static str, number: u8, writes: bool) -> Entry {
    let mark = Mark::Type(number);
    Entry {
        operation,
        name,
        mark,
        writes,
    }
}

const fn extension(
    operation: Operation,
    name: &'static str,
    (wire, version): (&'static str, &'static str),
    writes: bool,
) -> Entry {
    let mark = Mark::Extension(wire, version);
    Entry {
        operation,
        name,
        mark,
        writes,
    }
}

/// Every request there is.
pub const TABLE: [Entry; 29] = [
    plain(Operation::Open, "open", 3, false),
    plain(Operation::Close, "close", 4, false),
    plain(Operation::Read, "read", 5, false),
    plain(Operation::Write, "write", 6, true),
    plain(Operation::Lstat, "lstat", 7, false),
    plain(Operation::Fstat, "fstat", 8, false),
    plain(Operation::Setstat, "setstat", 9, true),
    plain(Operation::Fsetstat, "fsetstat", 10, true),
    plain(Operation::Opendir, "opendir", 11, false),
    plain(Operation::Readdir, "readdir", 12, false),
    plain(Operation::Remove, "remove", 13, true),
    plain(Operation::Mkdir, "mkdir", 14, true),
    plain(Operation::Rmdir, "rmdir", 15, true),
    plain(Operation::Realpath, "realpath", 16, false),
    plain(Operation::Stat, "stat", 17, false),
    plain(Operation::Rename, "rename", 18, true),
    plain(Operation::Readlink, "readlink", 19, false),
    plain(Operation::Symlink, "symlink", 20, true),
    extension(
        Operation::PosixRename,
        "posix-rename",
        ("posix-rename@openssh.com", "1"),
        true,
    ),
    extension(
        Operation::Statvfs,
        "statvfs",
        ("statvfs@openssh.com", "2"),
        false,
    ),
    extension(
        Operation::Fstatvfs,
        "fstatvfs",
        ("fstatvfs@openssh.com", "2"),
        false,
    ),
    extension(
        Operation::Hardlink,
        "hardlink",
        ("hardlink@openssh.com", "1"),
        true,
    ),
    extension(Operation::Fsync, "fsync", ("fsync@openssh.com", "1"), true),
    extension(
        Operation::Lsetstat,
        "lsetstat",
        ("lsetstat@openssh.com", "1"),
        true,
    ),
    extension(
        Operation::Limits,
        "limits",
        ("limits@openssh.com", "1"),
        false,
    ),
    extension(
        Operation::ExpandPath,
        "expand-path",
        ("expand-path@openssh.com", "1"),
        false,
    ),
    extension(Operation::CopyData, "copy-data", ("copy-data", "1"), true),
    extension(
        Operation::HomeDirectory,
        "home-directory",
        ("home-directory", "1"),
        false,
    ),
    extension(
        Operation::UsersGroupsById,
        "users-groups-by-id",
        ("users-groups-by-id@openssh.com", "1"),
        false,
    ),
];

/// How a packet begins.
#[derive(Debug, Clone, Copy)]
pub enum Opening<'a> {
    /// The client's highest version.
    Init(u32),
    /// A request, its id, and its fields.
    Request(&'static Entry, u32, Fields<'a>),
    /// An id of a request that nobody knows: it is to be answered with "unsupported".
    Unknown(u32),
    /// An extended request whose name is cut off.
    Cut(u32),
}

/// Reads type and id of a packet; `None` if not even those are there, so nothing can be answered.
pub fn open(packet: &[u8]) -> Option<Opening<'_>> {
    let mut fields = Fields::of(packet);
    let number = fields.u8().ok()?;
    let id = fields.u32().ok()?;
    if number == INIT {
        return Some(Opening::Init(id));
    }
    let mut named = None;
    if number == EXTENDED {
        match fields.string() {
            Ok(name) => named = Some(name.strip_suffix(&[0]).unwrap_or(name)),
            Err(BadFields) => return Some(Opening::Cut(id)),
        }
    }
    let found = TABLE.iter().find(|entry| match (entry.mark, named) {
        (Mark::Type(own), None) => own == number,
        (Mark::Extension(own, _), Some(name)) => own.as_bytes() == name,
        _ => false,
    });
    Some(found.map_or(Opening::Unknown(id), |entry| {
        Opening::Request(entry, id, fields)
    }))
}

/// What an open file may be used for, `SSH_FXF_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFlags(pub u32);

#[allow(missing_docs, reason = "the bits of section 6.3, by their names there")]
impl OpenFlags {
    pub const READ: u32 = 0x01;
    pub const WRITE: u32 = 0x02;
    pub const APPEND: u32 = 0x04;
    pub const CREATE: u32 = 0x08;
    pub const TRUNCATE: u32 = 0x10;
    pub const EXCLUSIVE: u32 = 0x20;

    /// If any of these is set.
    pub fn any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// A request with its fields. Handles are `None` where no handle of ours can be meant; paths are
/// bytes without a zero.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields are named as in the protocol")]
pub enum Request {
    Open {
        path: Vec<u8>,
        flags: OpenFlags,
        attributes: Attributes,
    },
    Close {
        handle: Option<u32>,
    },
    Read {
        handle: Option<u32>,
        offset: u64,
        length: u32,
    },
    /// Where in the packet the bytes lie.
    Write {
        handle: Option<u32>,
        offset: u64,
        data: Range<usize>,
    },
    Lstat {
        path: Vec<u8>,
    },
    Fstat {
        handle: Option<u32>,
    },
    Setstat {
        path: Vec<u8>,
        attributes: Attributes,
    },
    Fsetstat {
        handle: Option<u32>,
        attributes: Attributes,
    },
    Opendir {
        path: Vec<u8>,
    },
    Readdir {
        handle: Option<u32>,
    },
    Remove {
        path: Vec<u8>,
    },
    Mkdir {
        path: Vec<u8>,
        attributes: Attributes,
    },
    Rmdir {
        path: Vec<u8>,
    },
    Realpath {
        path: Vec<u8>,
    },
    Stat {
        path: Vec<u8>,
    },
    Rename {
        old: Vec<u8>,
        new: Vec<u8>,
    },
    Readlink {
        path: Vec<u8>,
    },
    /// In the order of OpenSSH, not of the draft: what the link says, then the link.
    Symlink {
        target: Vec<u8>,
        link: Vec<u8>,
    },
    PosixRename {
        old: Vec<u8>,
        new: Vec<u8>,
    },
    Statvfs {
        path: Vec<u8>,
    },
    Fstatvfs {
        handle: Option<u32>,
    },
    Hardlink {
        old: Vec<u8>,
        new: Vec<u8>,
    },
    Fsync {
        handle: Option<u32>,
    },
    Lsetstat {
        path: Vec<u8>,
        attributes: Attributes,
    },
    Limits,
    ExpandPath {
        path: Vec<u8>,
    },
    /// A length of 0 copies to the end.
    CopyData {
        from: Option<u32>,
        offset: u64,
        length: u64,
        to: Option<u32>,
        to_offset: u64,
    },
    HomeDirectory {
        user: Vec<u8>,
    },
    UsersGroupsById {
        users: Vec<u32>,
        groups: Vec<u32>,
    },
}

impl Request {
    /// Reads the fields of a request that [`open`] has recognised in `packet`. What follows them is
    /// ignored, as OpenSSH does.
    ///
    /// # Errors
    /// [`BadFields`] if one is missing or wrong.
    pub fn decode(
        operation: Operation,
        mut fields: Fields<'_>,
        packet: &[u8],
    ) -> Result<Self, BadFields> {
        let f = &mut fields;
        Ok(match operation {
            Operation::Open => Self::Open {
                path: f.path()?,
                flags: OpenFlags(f.u32()?),
                attributes: Attributes::decode(f)?,
            },
            Operation::Close => Self::Close {
                handle: f.handle()?,
            },
            Operation::Read => Self::Read {
                handle: f.handle()?,
                offset: f.u64()?,
                length: f.u32()?,
            },
            Operation::Write => {
                let (handle, offset) = (f.handle()?, f.u64()?);
                let length = f.string()?.len();
                let end = packet.len() - f.rest();
                Self::Write {
                    handle,
                    offset,
                    data: end - length..end,
                }
            }
            Operation::Lstat => Self::Lstat { path: f.path()? },
            Operation::Fstat => Self::Fstat {
                handle: f.handle()?,
            },
            Operation::Setstat => Self::Setstat {
                path: f.path()?,
                attributes: Attributes::decode(f)?,
            },
            Operation::Fsetstat => Self::Fsetstat {
                handle: f.handle()?,
                attributes: Attributes::decode(f)?,
            },
            Operation::Opendir => Self::Opendir { path: f.path()? },
            Operation::Readdir => Self::Readdir {
                handle: f.handle()?,
            },
            Operation::Remove => Self::Remove { path: f.path()? },
            Operation::Mkdir => Self::Mkdir {
                path: f.path()?,
                attributes: Attributes::decode(f)?,
            },
            Operation::Rmdir => Self::Rmdir { path: f.path()? },
            Operation::Realpath => Self::Realpath { path: f.path()? },
            Operation::Stat => Self::Stat { path: f.path()? },
            Operation::Rename => Self::Rename {
                old: f.path()?,
                new: f.path()?,
            },
            Operation::Readlink => Self::Readlink { path: f.path()? },
            Operation::Symlink => Self::Symlink {
                target: f.path()?,
                link: f.path()?,
            },
            Operation::PosixRename => Self::PosixRename {
                old: f.path()?,
                new: f.path()?,
            },
            Operation::Statvfs => Self::Statvfs { path: f.path()? },
            Operation::Fstatvfs => Self::Fstatvfs {
                handle: f.handle()?,
            },
            Operation::Hardlink => Self::Hardlink {
                old: f.path()?,
                new: f.path()?,
            },
            Operation::Fsync => Self::Fsync {
                handle: f.handle()?,
            },
            Operation::Lsetstat => Self::Lsetstat {
                path: f.path()?,
                attributes: Attributes::decode(f)?,
            },
            Operation::Limits => Self::Limits,
            Operation::ExpandPath => Self::ExpandPath { path: f.path()? },
            Operation::CopyData => Self::CopyData {
                from: f.handle()?,
                offset: f.u64()?,
                length: f.u64()?,
                to: f.handle()?,
                to_offset: f.u64()?,
            },
            Operation::HomeDirectory => Self::HomeDirectory { user: f.path()? },
            Operation::UsersGroupsById => Self::UsersGroupsById {
                users: numbers(f.string()?)?,
                groups: numbers(f.string()?)?,
            },
        })
    }
}

fn numbers(bytes: &[u8]) -> Result<Vec<u32>, BadFields> {
    let mut fields = Fields::of(bytes);
    let mut numbers = Vec::with_capacity(bytes.len() / 4);
    while fields.rest() > 0 {
        numbers.push(fields.u32()?);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Put;

    fn whole(packet: &[u8]) -> Option<Request> {
        match open(packet)? {
            Opening::Request(entry, 9, fields) => {
                Request::decode(entry.operation, fields, packet).ok()
            }
            _ => None,
        }
    }

    #[test]
    fn the_bytes_of_a_write_are_found_where_they_lie() {
        let mut packet = vec![6, 0, 0, 0, 9];
        packet.put_string(&[0, 0, 0, 3]);
        packet.put(&8u64.to_be_bytes());
        packet.put_string(b"content");
        packet.put(b"ignored");
        let Some(Request::Write {
            handle: Some(3),
            offset: 8,
            data,
        }) = whole(&packet)
        else {
            panic!("not a write");
        };
        assert_eq!(&packet[data], b"content");
        for cut in 0..packet.len() - 7 {
            assert_eq!(whole(&packet[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn what_is_not_known_has_an_id_to_answer_to() {
        for packet in [&[99, 0, 0, 0, 9][..], b"\xc8\0\0\0\x09\0\0\0\x01x"] {
            assert!(matches!(open(packet), Some(Opening::Unknown(9))));
        }
        assert!(matches!(
            open(b"\xc8\0\0\0\x09\0\0\0\x02x"),
            Some(Opening::Cut(9))
        ));
        assert!(matches!(open(&[INIT, 0, 0, 0, 3]), Some(Opening::Init(3))));
        assert!(open(&[3, 0, 0, 0]).is_none());
        assert!(open(&[]).is_none());
    }

    #[test]
    fn a_handle_of_another_length_is_nobodys() {
        let packet = b"\x04\0\0\0\x09\0\0\0\x03abc";
        assert_eq!(whole(packet), Some(Request::Close { handle: None }));
    }

    #[test]
    fn ids_of_people_come_in_fours() {
        assert_eq!(numbers(&[0, 0, 0, 1, 0, 0, 0, 2]), Ok(vec![1, 2]));
        assert_eq!(numbers(&[0, 0, 0, 1, 0]), Err(BadFields));
    }
}
