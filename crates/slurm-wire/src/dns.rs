//! DNS, as little of it as finds controllers: one question for SRV records and its answer
//! (RFC 1035 section 4, RFC 2782). Whom to ask, and how often, is not decided here.

use crate::{Packer, Unpacker, WireError};

/// Most bytes of an answer over UDP that we announce room for.
pub const UDP_LIMIT: u16 = 4096;
/// Most records of an answer that are read.
const RECORDS: u16 = 64;
/// Most pointers followed in one name: more are a loop.
const POINTERS: u8 = 16;

const SRV: u16 = 33;
const OPT: u16 = 41;
const INTERNET: u16 = 1;

/// A service's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Smaller ones first.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// TCP port.
    pub port: u16,
    /// Host name, without a final dot.
    pub target: String,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The places, smaller priorities first, larger weights before smaller ones.
    Places(Vec<Place>),
    /// Ask again over TCP.
    Truncated,
    /// It could not say; the code is that of RFC 1035 section 4.1.1.
    Failed(u8),
}

/// A question for the SRV records of `name`. `None` if it is no name that DNS can hold.
#[must_use]
pub fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut packet = Packer::new();
    // Recursion desired; one question, one additional record.
    packet.u16(id).u16(0x0100).u16(1).u16(0).u16(0).u16(1);
    let name = name.trim_end_matches('.');
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| (1..64).contains(n))?;
        packet.u8(length).raw(label.as_bytes());
    }
    packet.u8(0).u16(SRV).u16(INTERNET);
    // EDNS (RFC 6891): how much we can take.
    packet.u8(0).u16(OPT).u16(UDP_LIMIT).u32(0).u16(0);
    (name.len() < 254).then(|| packet.finish())
}

/// Reads the answer to the question with this id.
///
/// # Errors
/// [`WireError::Value`] for another id or no answer at all, [`WireError::Truncated`],
/// [`WireError::NotAString`] for a name that is none.
pub fn answer(id: u16, packet: &[u8]) -> Result<Answer, WireError> {
    let mut bytes = Unpacker::new(packet);
    let value = |field, value: u16| WireError::Value {
        field,
        value: u64::from(value),
    };
    let found = bytes.u16("id")?;
    if found != id {
        return Err(value("id", found));
    }
    let flags = bytes.u16("flags")?;
    if flags & 0x8000 == 0 {
        return Err(value("flags", flags));
    }
    if flags & 0x0200 != 0 {
        return Ok(Answer::Truncated);
    }
    let code = (flags & 0x0f) as u8;
    if code != 0 {
        return Ok(Answer::Failed(code));
    }
    let (questions, answers) = (bytes.u16("questions")?, bytes.u16("answers")?);
    bytes.u32("counts")?;
    for _ in 0..questions.min(RECORDS) {
        skip_name(&mut bytes)?;
        bytes.u32("question")?;
    }
    let mut places = Vec::new();
    for _ in 0..answers.min(RECORDS) {
        skip_name(&mut bytes)?;
        let (kind, class) = (bytes.u16("type")?, bytes.u16("class")?);
        bytes.u32("ttl")?;
        let length = usize::from(bytes.u16("data length")?);
        let at = packet.len() - bytes.remaining();
        let data = bytes.take(length, "data")?;
        // Aliases on the way are records of other types.
        if kind == SRV && class == INTERNET {
            places.push(place(packet, at, data)?);
        }
    }
    places.sort_by(|a, b| (a.priority, b.weight).cmp(&(b.priority, a.weight)));
    // A single "." says that there is no such service (RFC 2782).
    places.retain(|place| !place.target.is_empty());
    Ok(Answer::Places(places))
}

fn place(packet: &[u8], at: usize, data: &[u8]) -> Result<Place, WireError> {
    let mut bytes = Unpacker::new(data);
    Ok(Place {
        priority: bytes.u16("priority")?,
        weight: bytes.u16("weight")?,
        port: bytes.u16("port")?,
        target: name(packet, at + 6)?,
    })
}

fn skip_name(bytes: &mut Unpacker<'_>) -> Result<(), WireError> {
    loop {
        match bytes.u8("name")? {
            0 => return Ok(()),
            length if length < 64 => {
                bytes.take(usize::from(length), "name")?;
            }
            length if length >= 0xc0 => {
                bytes.u8("name")?;
                return Ok(());
            }
            _ => return Err(WireError::NotAString("name")),
        }
    }
}

/// Reads a name that may point back into the packet.
fn name(packet: &[u8], mut at: usize) -> Result<String, WireError> {
    let mut text = String::new();
    let mut pointers = 0;
    loop {
        let byte = |at: usize| packet.get(at).copied().ok_or(WireError::Truncated("name"));
        match byte(at)? {
            0 => return Ok(text),
            length if length < 64 => {
                let label = packet.get(at + 1..at + 1 + usize::from(length));
                let label = label.ok_or(WireError::Truncated("name"))?;
                let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_".contains(b);
                if !label.iter().all(plain) || text.len() > 253 {
                    return Err(WireError::NotAString("name"));
                }
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&String::from_utf8_lossy(label));
                at += 1 + usize::from(length);
            }
            high if high >= 0xc0 && pointers < POINTERS => {
                pointers += 1;
                at = (usize::from(high & 0x3f) << 8) | usize::from(byte(at + 1)?);
            }
            _ => return Err(WireError::NotAString("name")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer made by hand: the question, and records that point back at it.
    fn reply(id: u16, flags: u16, records: &[(u16, u16, u16, &[u8])]) -> Vec<u8> {
        let mut packet = question(id, "_slurmctld._tcp.example.org").unwrap();
        packet[2..4].copy_from_slice(&flags.to_be_bytes());
        packet[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        let opt = packet.split_off(packet.len() - 11);
        for (priority, weight, port, target) in records {
            let mut record = Packer::new();
            record.u16(0xc00c).u16(SRV).u16(INTERNET).u32(60);
            record.u16(6 + target.len() as u16);
            record.u16(*priority).u16(*weight).u16(*port).raw(target);
            packet.extend(record.finish());
        }
        packet.extend(opt);
        packet
    }

    #[test]
    fn golden_question() {
        let packet = question(0x1234, "_slurmctld._tcp.lab.").unwrap();
        let golden = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\x01\x0a_slurmctld\x04_tcp\x03lab\0\0\x21\0\x01\0\0\x29\x10\0\0\0\0\0\0\0";
        assert_eq!(packet, golden);
        for bad in ["", "a..b", &"x".repeat(64), &["abcdefg"; 40].join(".")] {
            assert_eq!(question(1, bad), None, "{bad}");
        }
    }

    #[test]
    fn answers_in_order_with_pointers() {
        // "backup" points at the question's "example.org", which starts at byte 28.
        let records: [(u16, u16, u16, &[u8]); 4] = [
            (20, 0, 6817, b"\x06backup\xc0\x1c"),
            (10, 1, 7000, b"\x01b\x04test\0"),
            (10, 5, 7001, b"\x01a\x04test\0"),
            (1, 1, 1, b"\0"),
        ];
        let packet = reply(7, 0x8180, &records);
        let Answer::Places(places) = answer(7, &packet).unwrap() else {
            panic!("no places")
        };
        let list: Vec<_> = places.iter().map(|p| (p.target.as_str(), p.port)).collect();
        let expected = [
            ("a.test", 7001),
            ("b.test", 7000),
            ("backup.example.org", 6817),
        ];
        assert_eq!(list, expected);
        for end in 0..packet.len() - 11 {
            assert!(answer(7, &packet[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_is_refused() {
        assert!(answer(8, &reply(7, 0x8180, &[])).is_err(), "another id");
        assert!(
            answer(7, &question(7, "a.b").unwrap()).is_err(),
            "a question"
        );
        assert_eq!(answer(7, &reply(7, 0x8383, &[])), Ok(Answer::Truncated));
        assert_eq!(answer(7, &reply(7, 0x8183, &[])), Ok(Answer::Failed(3)));
        for target in [&b"\xc0\x3f"[..], b"\x40", b"\x03a/b\0", b"\x09short"] {
            let packet = reply(7, 0x8180, &[(0, 0, 1, target)]);
            // A pointer at itself, a bad length, a bad character, a label past the end.
            assert!(answer(7, &packet).is_err(), "{target:?}");
        }
    }
}
