//! Answers as packets, length in front (draft-ietf-secsh-filexfer-02, section 7).

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use nix::sys::statvfs::{FsFlags, Statvfs};

use crate::attributes;
use crate::fields::Put;
use crate::packet::{MAX_PACKET, Packet};
use crate::people::People;
use crate::refusal::{Code, Refusal};
use crate::request::{Entry, Mark, TABLE};

const VERSION: u8 = 2;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED_REPLY: u8 = 201;

/// The version that is spoken.
const PROTOCOL: u32 = 3;

/// Bytes in front of a file's: length, type, id, length of the data.
pub const DATA_HEADER: usize = 13;

fn begin(kind: u8, id: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(64);
    packet.put(&[0; 4]);
    packet.put(&[kind]);
    packet.put(&id.to_be_bytes());
    packet
}

fn end(mut packet: Vec<u8>) -> Packet {
    let length = u32::try_from(packet.len() - 4).unwrap_or(u32::MAX);
    packet[..4].copy_from_slice(&length.to_be_bytes());
    packet.into()
}

/// The answer to `SSH_FXP_INIT`, with the extensions that are permitted.
pub fn version(permitted: impl Fn(&Entry) -> bool) -> Packet {
    let mut packet = begin(VERSION, PROTOCOL);
    for entry in &TABLE {
        if let Mark::Extension(name, version) = entry.mark
            && permitted(entry)
        {
            packet.put_string(name.as_bytes());
            packet.put_string(version.as_bytes());
        }
    }
    end(packet)
}

/// How a request ended. Clients of version 2 and below know no text.
pub fn status(id: u32, client_version: u32, outcome: Result<(), Refusal>) -> Packet {
    let (code, text) = match outcome {
        Ok(()) => (Code::Ok, "Success".to_owned()),
        Err(refusal) => (refusal.code(), refusal.to_string()),
    };
    let mut packet = begin(STATUS, id);
    packet.put(&(code as u32).to_be_bytes());
    if client_version >= PROTOCOL {
        packet.put_string(text.as_bytes());
        packet.put_string(b"");
    }
    end(packet)
}

/// A new handle.
pub fn handle(id: u32, handle: u32) -> Packet {
    let mut packet = begin(HANDLE, id);
    packet.put_string(&handle.to_be_bytes());
    end(packet)
}

/// Bytes of a file, which lie behind [`DATA_HEADER`] already, `length` of them.
pub fn data(id: u32, mut packet: Packet, length: usize) -> Packet {
    packet.shorten(DATA_HEADER + length);
    let number = u32::try_from(length).unwrap_or(u32::MAX);
    let whole = number + DATA_HEADER as u32 - 4;
    packet[..4].copy_from_slice(&whole.to_be_bytes());
    packet[4] = DATA;
    packet[5..9].copy_from_slice(&id.to_be_bytes());
    packet[9..13].copy_from_slice(&number.to_be_bytes());
    packet
}

/// What `stat(2)` found.
pub fn attributes(id: u32, stat: &FileStat) -> Packet {
    let mut packet = begin(ATTRS, id);
    attributes::put_stat(&mut packet, stat);
    end(packet)
}

/// One name without attributes.
pub fn name(id: u32, name: &[u8]) -> Packet {
    let mut packet = begin(NAME, id);
    packet.put(&1u32.to_be_bytes());
    packet.put_string(name);
    packet.put_string(name);
    packet.put(&attributes::NONE);
    end(packet)
}

/// Names of a folder, one after the other.
#[derive(Debug)]
pub struct Names {
    packet: Vec<u8>,
    count: u32,
}

impl Names {
    /// None yet.
    pub fn new(id: u32) -> Self {
        let mut packet = begin(NAME, id);
        packet.put(&[0; 4]);
        Self { packet, count: 0 }
    }

    /// Appends an entry.
    pub fn push(&mut self, name: &[u8], long: &[u8], stat: &FileStat) {
        self.packet.put_string(name);
        self.packet.put_string(long);
        attributes::put_stat(&mut self.packet, stat);
        self.count += 1;
    }

    /// Bytes so far.
    pub fn length(&self) -> usize {
        self.packet.len()
    }

    /// The packet; `None` if there is no name in it.
    pub fn end(mut self) -> Option<Packet> {
        self.packet[9..13].copy_from_slice(&self.count.to_be_bytes());
        (self.count > 0).then(|| end(self.packet))
    }
}

/// `statvfs@openssh.com`: eleven numbers (PROTOCOL, section 4.4).
pub fn file_system(id: u32, found: &Statvfs) -> Packet {
    let flags = found.flags();
    let flag = |flag, bit| if flags.contains(flag) { bit } else { 0 };
    numbers(
        id,
        &[
            found.block_size(),
            found.fragment_size(),
            found.blocks(),
            found.blocks_free(),
            found.blocks_available(),
            found.files(),
            found.files_free(),
            found.files_available(),
            found.filesystem_id(),
            flag(FsFlags::ST_RDONLY, 1) | flag(FsFlags::ST_NOSUID, 2),
            found.name_max(),
        ],
    )
}

/// An extended answer of 64-bit numbers.
pub fn numbers(id: u32, numbers: &[u64]) -> Packet {
    let mut packet = begin(EXTENDED_REPLY, id);
    for number in numbers {
        packet.put(&number.to_be_bytes());
    }
    end(packet)
}

/// `users-groups-by-id@openssh.com`: two strings, each a list of names; of nobody, an empty one.
///
/// # Errors
/// [`Refusal::TooLong`] above the limit of a packet.
pub fn people(id: u32, people: &People, users: &[u32], groups: &[u32]) -> Result<Packet, Refusal> {
    let mut packet = begin(EXTENDED_REPLY, id);
    let mut list = |ids: &[u32], name: &dyn Fn(u32) -> Option<String>| {
        let mut names = Vec::new();
        for id in ids {
            names.put_string(name(*id).unwrap_or_default().as_bytes());
        }
        packet.put_string(&names);
    };
    list(users, &|id| people.user(id));
    list(groups, &|id| people.group(id));
    if packet.len() - 4 > MAX_PACKET {
        return Err(Refusal::TooLong);
    }
    Ok(end(packet))
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::Kernel(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}
