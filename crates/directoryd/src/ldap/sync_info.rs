//! What a server says about content synchronisation (RFC 4533), in bytes. The library's own readers of these
//! panic on odd shapes; these refuse.

use super::policy::element;
use crate::{
    content::{Event, Message},
    replica::Uuid,
};

/// The value of a Sync State control (RFC 4533 2.2): state, UUID, cookie.
pub fn parse_state(value: &[u8]) -> Option<(u8, Uuid, Option<Vec<u8>>)> {
    let (0x30, content, []) = element(value)? else {
        return None;
    };
    let (0x0a, &[state], rest) = element(content)? else {
        return None;
    };
    let (0x04, uuid, rest) = element(rest)? else {
        return None;
    };
    let (cookie, []) = cookie(rest) else {
        return None;
    };
    Some((state, uuid.try_into().ok()?, cookie))
}

/// The value of a Sync Info message (RFC 4533 2.5).
pub fn parse_info(value: &[u8]) -> Option<Message> {
    let (tag, content, []) = element(value)? else {
        return None;
    };
    if tag == 0x80 {
        let cookie = Some(content.to_vec());
        let event = Event::Nothing;
        return Some(Message { event, cookie });
    }
    let (cookie, rest) = cookie(content);
    let (flag, rest) = match element(rest) {
        Some((0x01, &[flag], rest)) => (Some(flag != 0), rest),
        _ => (None, rest),
    };
    let event = match (tag, rest) {
        (0xa1 | 0xa2, []) => Event::Phase {
            present: tag == 0xa2,
            last: flag.unwrap_or(true),
        },
        (0xa3, set) => {
            let (0x31, mut set, []) = element(set)? else {
                return None;
            };
            let mut uuids = Vec::new();
            while !set.is_empty() {
                let (0x04, uuid, rest) = element(set)? else {
                    return None;
                };
                uuids.push(uuid.try_into().ok()?);
                set = rest;
            }
            match flag.unwrap_or(false) {
                true => Event::Gone(uuids),
                false => Event::Present(uuids),
            }
        }
        _ => return None,
    };
    Some(Message { event, cookie })
}

/// A cookie if there is one, and what follows.
fn cookie(bytes: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    match element(bytes) {
        Some((0x04, cookie, rest)) => (Some(cookie.to_vec()), rest),
        _ => (None, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let uuid = [7; 16];
        let value = |state: u8, cookie: &[u8]| {
            let body = [&[0x0a, 1, state, 0x04, 16][..], &uuid, cookie].concat();
            [&[0x30, body.len() as u8][..], &body].concat()
        };
        assert_eq!(parse_state(&value(3, b"")), Some((3, uuid, None)));
        assert_eq!(
            parse_state(&value(1, b"\x04\x01c")),
            Some((1, uuid, Some(b"c".to_vec())))
        );
        let whole = value(1, b"\x04\x01c");
        for length in 0..whole.len() {
            assert_eq!(parse_state(&whole[..length]), None, "{length}");
        }
        assert_eq!(parse_state(b"\x30\x07\x0a\x01\x01\x04\x02ab"), None);
        assert_eq!(parse_state(&value(1, b"\x05\x00")), None);
    }

    #[test]
    fn infos() {
        let check = |bytes: &[u8], expected: &str| {
            let said = parse_info(bytes).map_or("none".to_owned(), |message| {
                format!("{:?} {:?}", message.event, message.cookie.map(|c| c.len()))
            });
            assert_eq!(said, expected, "{bytes:02x?}");
        };
        check(b"\x80\x02ab", "Nothing Some(2)");
        check(b"\xa1\x00", "Phase { present: false, last: true } None");
        check(
            b"\xa2\x03\x01\x01\x00",
            "Phase { present: true, last: false } None",
        );
        check(
            b"\xa2\x06\x04\x01c\x01\x01\xff",
            "Phase { present: true, last: true } Some(1)",
        );
        let one = "7, ".repeat(16);
        let one = one.trim_end_matches(", ");
        let set = [b"\x31\x12\x04\x10".as_slice(), &[7; 16]].concat();
        check(
            &[b"\xa3\x14", &set[..]].concat(),
            &format!("Present([[{one}]]) None"),
        );
        check(
            &[b"\xa3\x17\x01\x01\xff", &set[..]].concat(),
            &format!("Gone([[{one}]]) None"),
        );
        check(b"\xa3\x00", "none");
        check(b"\xa3\x04\x31\x02\x04\x00", "none");
        check(b"\xa4\x00", "none");
        check(b"\xa1\x02\x05\x00", "none");
        check(b"", "none");
    }
}
