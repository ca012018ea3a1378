//! What stands behind the addresses of a PROXY version 2 header (section 2.2.7): which endpoint of
//! the cloud's a connection came through, for the record, and the header's checksum.

use gateway_wire::accept::MAX_SAID;

const AUTHORITY: u8 = 0x02;
/// CRC32c of the header.
const CHECKSUM: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const NETNS: u8 = 0x30;
/// Google's Private Service Connect: the connection's number, big-endian.
const GCP: u8 = 0xe0;
/// Amazon's: a subtype, 1 for the id of the VPC endpoint, and a text.
const AWS: u8 = 0xea;
/// Azure's Private Link: a subtype, 1 for the link's number, little-endian.
const AZURE: u8 = 0xee;

/// Longest value that is told.
const MAX_VALUE: usize = 128;

/// Each entry: its type, where its value begins, and the value. Ends where one is cut off, since
/// balancers pad as they like.
fn entries(mut rest: &[u8], mut at: usize) -> impl Iterator<Item = (u8, usize, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, high, low], behind) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = behind.get(..length)?;
        let begin = at + 3;
        rest = &behind[length..];
        at = begin + length;
        Some((kind, begin, value))
    })
}

/// Names and values of `header`, whose entries begin at `from`.
pub fn said(header: &[u8], from: usize) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut room = MAX_SAID;
    for (kind, _, value) in entries(header.get(from..).unwrap_or_default(), from) {
        let Some((name, value)) = told(kind, value) else {
            continue;
        };
        let Some(left) = room.checked_sub(name.len() + value.len() + 4) else {
            break;
        };
        room = left;
        all.push((name.to_owned(), value));
    }
    all
}

fn told(kind: u8, value: &[u8]) -> Option<(&'static str, String)> {
    Some(match (kind, value) {
        (AUTHORITY, name) => ("authority", text(name)),
        (UNIQUE_ID, id) => ("unique-id", text(id)),
        (NETNS, name) => ("netns", text(name)),
        (AWS, [1, id @ ..]) => ("vpc-endpoint", text(id)),
        (AZURE, [1, id @ ..]) => {
            let id = u32::from_le_bytes(id.try_into().ok()?);
            ("link-id", id.to_string())
        }
        (GCP, id) => {
            let id = u64::from_be_bytes(id.try_into().ok()?);
            ("psc-connection", id.to_string())
        }
        _ => return None,
    })
}

/// As it is if it is plain, in hexadecimal digits otherwise: it goes to the log.
fn text(value: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:/@".contains(byte);
    let is_plain = value.iter().all(plain);
    let most = if is_plain { MAX_VALUE } else { MAX_VALUE / 2 };
    let value = &value[..value.len().min(most)];
    if is_plain {
        value.iter().copied().map(char::from).collect()
    } else {
        value.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whether the checksum is right; a header without one is.
pub fn is_sound(header: &[u8], from: usize) -> bool {
    let mut found = entries(header.get(from..).unwrap_or_default(), from);
    let Some((_, at, value)) = found.find(|(kind, _, _)| *kind == CHECKSUM) else {
        return true;
    };
    let Ok(said) = value.try_into().map(u32::from_be_bytes) else {
        return false;
    };
    let zeroed = header[..at].iter().chain(&[0; 4]).chain(&header[at + 4..]);
    crc32c(zeroed.copied()) == said
}

/// RFC 3720, appendix B.4.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let sum = bytes.fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (POLYNOMIAL & (sum & 1).wrapping_neg())
        })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = (value.len() as u16).to_be_bytes();
        [&[kind], &length[..], value].concat()
    }

    #[test]
    fn checksums() {
        // The vectors of RFC 3720.
        assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
        assert_eq!(crc32c(0..32), 0x46dd_794e);
        let mut header = [b"front".to_vec(), entry(4, b"pad"), entry(3, &[0; 4])].concat();
        let sum = crc32c(header.iter().copied());
        header.splice(14.., sum.to_be_bytes());
        assert!(is_sound(&header, 5));
        header[0] ^= 1;
        assert!(!is_sound(&header, 5));
        assert!(is_sound(b"front", 5));
        assert!(!is_sound(
            &[b"front".to_vec(), entry(3, b"abc")].concat(),
            5
        ));
    }

    #[test]
    fn what_balancers_say() {
        let header = [
            b"front".to_vec(),
            entry(AWS, b"\x01vpce-08d2bf15fac5001c9"),
            entry(AWS, b"\x02other"),
            entry(AZURE, &[1, 0x2a, 0, 0, 0]),
            entry(GCP, &[0, 0, 0, 0, 0, 0, 1, 0]),
            entry(UNIQUE_ID, b"\x00\n\""),
            entry(0x20, b"\x01\0\0\0\0"),
            vec![AUTHORITY, 0xff, 0xff, b'x'],
        ]
        .concat();
        let said: Vec<_> = said(&header, 5)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let expected = [
            "vpc-endpoint=vpce-08d2bf15fac5001c9",
            "link-id=42",
            "psc-connection=256",
            "unique-id=000a22",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn it_is_not_much() {
        let all = vec![entry(NETNS, &[b'x'; 1000]); 50].concat();
        let bytes: usize = said(&all, 0).iter().map(|(n, v)| n.len() + v.len()).sum();
        assert!(bytes > 200 && bytes <= MAX_SAID, "{bytes}");
        let all = vec![entry(NETNS, &[0; 1000]); 50].concat();
        assert!(said(&all, 0).iter().all(|(_, v)| v.len() == MAX_VALUE));
    }
}
