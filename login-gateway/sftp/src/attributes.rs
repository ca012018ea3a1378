//! File attributes (draft-ietf-secsh-filexfer-02, section 5), as they come and as they go. Setting
//! them on a file does not live here.

use nix::sys::stat::FileStat;

use crate::fields::{BadFields, Fields, Put};

const SIZE: u32 = 0x1;
const OWNER: u32 = 0x2;
const PERMISSIONS: u32 = 0x4;
const TIMES: u32 = 0x8;
const EXTENDED: u32 = 0x8000_0000;

/// What a client asks for; a part that is not there is left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// In bytes.
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// As in `st_mode`; bits of the type may be set and mean nothing.
    pub permissions: Option<u32>,
    /// Of the last access and the last change, in seconds since the epoch.
    pub times: Option<(u32, u32)>,
}

impl Attributes {
    /// Reads them; pairs of extended attributes are skipped.
    ///
    /// # Errors
    /// [`BadFields`] if the packet ends before they do.
    pub fn decode(fields: &mut Fields<'_>) -> Result<Self, BadFields> {
        let flags = fields.u32()?;
        let mut attributes = Self::default();
        if flags & SIZE != 0 {
            attributes.size = Some(fields.u64()?);
        }
        if flags & OWNER != 0 {
            attributes.owner = Some((fields.u32()?, fields.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            attributes.permissions = Some(fields.u32()?);
        }
        if flags & TIMES != 0 {
            attributes.times = Some((fields.u32()?, fields.u32()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..fields.u32()? {
                fields.string()?;
                fields.string()?;
            }
        }
        Ok(attributes)
    }
}

/// No attributes at all, as in the answers that only name something.
pub const NONE: [u8; 4] = [0; 4];

/// Appends what `stat(2)` found. Times are cut to 32 bits, as version 3 has it.
pub fn put_stat(packet: &mut Vec<u8>, stat: &FileStat) {
    packet.put(&(SIZE | OWNER | PERMISSIONS | TIMES).to_be_bytes());
    packet.put(&(stat.st_size as u64).to_be_bytes());
    for part in [
        stat.st_uid,
        stat.st_gid,
        stat.st_mode,
        stat.st_atime as u32,
        stat.st_mtime as u32,
    ] {
        packet.put(&part.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_alone_together_and_cut() {
        let mut packet = (SIZE | OWNER | PERMISSIONS | TIMES | EXTENDED)
            .to_be_bytes()
            .to_vec();
        packet.put(&7u64.to_be_bytes());
        for part in [1u32, 2, 0o644, 3, 4, 1] {
            packet.put(&part.to_be_bytes());
        }
        packet.put_string(b"acl@example.org");
        packet.put_string(b"anything");
        let whole = Attributes {
            size: Some(7),
            owner: Some((1, 2)),
            permissions: Some(0o644),
            times: Some((3, 4)),
        };
        assert_eq!(Attributes::decode(&mut Fields::of(&packet)), Ok(whole));
        for cut in 0..packet.len() {
            assert!(Attributes::decode(&mut Fields::of(&packet[..cut])).is_err());
        }
        assert_eq!(
            Attributes::decode(&mut Fields::of(&NONE)),
            Ok(Attributes::default())
        );
        let only = [&OWNER.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 2]].concat();
        let only = Attributes::decode(&mut Fields::of(&only)).unwrap();
        assert_eq!((only.owner, only.size), (Some((1, 2)), None));
    }
}
