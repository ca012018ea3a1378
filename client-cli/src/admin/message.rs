//! The outer shape of LDAP messages (RFC 4511, 5.1): where one ends, and whether its insides fit into
//! one another. What a message says is the LDAP library's matter, which takes the shape for granted.

/// Largest message that is read, in bytes; a page of entries comes as one message each.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Deepest nesting; a search result needs 5, filters and controls a few more.
const MAX_DEPTH: usize = 64;

/// Why bytes are no LDAP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It does not begin as one.
    #[error("the server does not speak LDAP")]
    Foreign,
    /// Above [`MAX_MESSAGE`].
    #[error("the server sent a message of more than {MAX_MESSAGE} bytes")]
    Large,
    /// Above [`MAX_DEPTH`].
    #[error("the server sent a message nested more than {MAX_DEPTH} deep")]
    Deep,
    /// An element is longer than what it stands in, or of a form that LDAP forbids.
    #[error("the server sent a damaged message")]
    Damaged,
}

/// An element's head: bytes of the head, bytes of its content, and whether it holds others.
type Head = (usize, usize, bool);

/// Reads the head at the beginning of `bytes`; none while more bytes are needed.
fn head(bytes: &[u8]) -> Result<Option<Head>, MessageError> {
    let &[tag, first, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    // LDAP has no tag numbers above 30 and no indefinite lengths (RFC 4511, 5.1).
    if tag & 0x1f == 0x1f || first == 0x80 {
        return Err(MessageError::Damaged);
    }
    let constructed = tag & 0x20 != 0;
    if first < 0x80 {
        return Ok(Some((2, usize::from(first), constructed)));
    }
    let count = usize::from(first & 0x7f);
    if count > 4 {
        return Err(MessageError::Damaged);
    }
    let Some(length) = rest.get(..count) else {
        return Ok(None);
    };
    let length = length
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    Ok(Some((2 + count, length, constructed)))
}

/// The size of the whole message that begins with `bytes`; none while more bytes are needed.
///
/// # Errors
/// [`MessageError`] as soon as it can be known.
pub fn size(bytes: &[u8]) -> Result<Option<usize>, MessageError> {
    if bytes.first().is_some_and(|tag| *tag != 0x30) {
        return Err(MessageError::Foreign);
    }
    match head(bytes).map_err(|_| MessageError::Foreign)? {
        Some((_, length, _)) if length > MAX_MESSAGE => Err(MessageError::Large),
        Some((head, length, _)) => Ok(Some(head + length)),
        None => Ok(None),
    }
}

/// Checks that every element of a whole message ends where the one around it allows.
///
/// # Errors
/// [`MessageError::Deep`] or [`MessageError::Damaged`].
pub fn check(message: &[u8]) -> Result<(), MessageError> {
    let mut ends = vec![message.len()];
    let mut at = 0;
    while let Some(end) = ends.last().copied() {
        if at == end {
            ends.pop();
            continue;
        }
        let inside = message.get(at..end).ok_or(MessageError::Damaged)?;
        let (head, length, constructed) = head(inside)?.ok_or(MessageError::Damaged)?;
        if head + length > inside.len() {
            return Err(MessageError::Damaged);
        }
        at += head;
        if !constructed {
            at += length;
        } else if ends.len() > MAX_DEPTH {
            return Err(MessageError::Deep);
        } else {
            ends.push(at + length);
        }
    }
    Ok(())
}

/// The result code of an extended response (RFC 4511, 4.12), if `message` is one.
pub fn extended_result(message: &[u8]) -> Option<u8> {
    let inside = |bytes: &'static [u8], at: &mut usize| -> Option<()> {
        let found = message.get(*at..*at + bytes.len())? == bytes;
        found.then(|| *at += bytes.len())
    };
    let (mut at, _, _) = head(message).ok()??;
    // Message 1, then [APPLICATION 24], then an ENUMERATED of one byte.
    inside(b"\x02\x01\x01", &mut at)?;
    inside(b"\x78", &mut at)?;
    at += head(message.get(at - 1..)?).ok()??.0 - 1;
    inside(b"\x0a\x01", &mut at)?;
    message.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bind response, result 49, without texts.
    const BIND: &[u8] = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x31\x04\x00\x04\x00";

    #[test]
    fn a_message_is_whole_at_its_size() {
        for end in 0..BIND.len() {
            let known = size(&BIND[..end]).unwrap();
            assert_eq!(known, (end >= 2).then_some(BIND.len()), "{end}");
        }
        assert_eq!(check(BIND), Ok(()));
        let long = b"\x30\x84\x00\x00\x00\x03\x02\x01\x01";
        assert_eq!(size(&long[..5]), Ok(None));
        assert_eq!(size(long), Ok(Some(9)));
        assert_eq!(check(long), Ok(()));
    }

    #[test]
    fn what_is_no_message() {
        assert_eq!(size(b"HTTP/1.1"), Err(MessageError::Foreign));
        assert_eq!(size(b"\x30\x80"), Err(MessageError::Foreign));
        assert_eq!(size(b"\x30\x88\x00"), Err(MessageError::Foreign));
        assert_eq!(size(b"\x30\x84\x7f\xff\xff\xff"), Err(MessageError::Large));
        for damaged in [
            &b"\x30\x03\x02\x05\x01"[..],
            b"\x30\x02\x02\x80",
            b"\x30\x01\x02",
            b"\x30\x02\x1f\x00",
            b"\x30\x04\x31\x03\x02\x00",
        ] {
            assert_eq!(check(damaged), Err(MessageError::Damaged), "{damaged:x?}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |inside: Vec<u8>, _| {
                let length = (inside.len() as u32).to_be_bytes();
                [&[0x30, 0x84][..], &length, &inside].concat()
            })
        };
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(MessageError::Deep));
        assert_eq!(check(&nested(2000)), Err(MessageError::Deep));
    }

    #[test]
    fn extended_results() {
        let fine = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00";
        assert_eq!(extended_result(fine), Some(0));
        assert_eq!(
            extended_result(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x34\x04\x00\x04\x00"),
            Some(52)
        );
        assert_eq!(extended_result(BIND), None);
        for end in 0..10 {
            assert_eq!(extended_result(&fine[..end]), None, "{end}");
        }
    }
}
