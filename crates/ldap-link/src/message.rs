//! A look at each message of the server before the LDAP library reads it.
//!
//! The library parses without a limit on size and depth and panics on replies of odd shape, partly
//! before TLS is up. What passes here is one whole, well-nested message of a kind that a client gets.

/// Largest message taken, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Deepest nesting taken; an entry has 6.
const MAX_DEPTH: usize = 16;

/// Why the server's bytes are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not an LDAP message at all.
    #[error("the server does not speak LDAP")]
    NotLdap,
    /// Above [`MAX_MESSAGE`].
    #[error("a message of the server is larger than {MAX_MESSAGE} bytes")]
    TooLarge,
    /// Lengths that contradict each other, an unusual encoding, or too deep.
    #[error("a message of the server is malformed")]
    Malformed,
    /// A kind of message that servers do not send.
    #[error("the server sent a message of kind {0:#04x}")]
    Kind(u8),
}

/// From the first bytes of a message: the size of its head and of its body, or `None` if more bytes
/// are needed.
///
/// # Errors
/// [`MessageError`].
pub fn frame(bytes: &[u8]) -> Result<Option<(usize, usize)>, MessageError> {
    match bytes.first() {
        None => return Ok(None),
        Some(0x30) => {}
        Some(_) => return Err(MessageError::NotLdap),
    }
    match length(&bytes[1..]) {
        Length::Known(used, size) if size <= MAX_MESSAGE => Ok(Some((1 + used, size))),
        Length::Known(..) => Err(MessageError::TooLarge),
        Length::Short => Ok(None),
        Length::Bad => Err(MessageError::Malformed),
    }
}

/// Checks the body of a message: number, operation, perhaps controls (RFC 4511 4.1.1).
///
/// # Errors
/// [`MessageError`].
pub fn check(body: &[u8]) -> Result<(), MessageError> {
    nested(body)?;
    let (tag, id, rest) = element(body).ok_or(MessageError::Malformed)?;
    if tag != 0x02 || id.is_empty() || id.len() > 4 {
        return Err(MessageError::Malformed);
    }
    let (kind, operation, rest) = element(rest).ok_or(MessageError::Malformed)?;
    let parts = children(operation).ok_or(MessageError::Malformed);
    let good = match kind {
        // Bind, search done, modify, add, delete, rename, compare, extended: code and two texts.
        0x61 | 0x65 | 0x67 | 0x69 | 0x6b | 0x6d | 0x6f | 0x78 => matches!(
            parts?[..],
            // Codes above 127 are those of extensions (RFC 4533 has 4096).
            [(0x0a, code), (0x04, _), (0x04, _), ..] if matches!(code.len(), 1 | 2)
        ),
        // An entry: a name and attributes, each a name and a set of values.
        0x64 => match parts?[..] {
            [(0x04, name), (0x30, attributes)] => {
                std::str::from_utf8(name).is_ok() && children(attributes).is_some_and(is_attributes)
            }
            _ => false,
        },
        // A reference: places.
        0x73 => parts?
            .iter()
            .all(|(tag, place)| *tag == 0x04 && std::str::from_utf8(place).is_ok()),
        // Intermediate (RFC 4511 4.13), with name and value as RFC 4533 has them.
        0x79 => {
            matches!(parts?[..], [(0x80, name), (0x81, _)] if std::str::from_utf8(name).is_ok())
        }
        kind => return Err(MessageError::Kind(kind)),
    };
    let controls = match element(rest) {
        None => rest.is_empty(),
        Some((0xa0, controls, [])) => children(controls).is_some_and(is_controls),
        Some(_) => false,
    };
    if good && controls {
        Ok(())
    } else {
        Err(MessageError::Malformed)
    }
}

/// The code of an extended answer (StartTLS) in a checked body.
pub fn extended_code(body: &[u8]) -> Option<u8> {
    let (_, _, rest) = element(body)?;
    match element(rest)? {
        (0x78, operation, _) => match element(operation)? {
            (0x0a, [code], _) => Some(*code),
            _ => None,
        },
        _ => None,
    }
}

fn is_attributes(attributes: Vec<(u8, &[u8])>) -> bool {
    attributes.iter().all(|(tag, attribute)| {
        *tag == 0x30
            && matches!(
                children(attribute).as_deref(),
                Some([(0x04, name), (0x31, values)])
                    if std::str::from_utf8(name).is_ok()
                        && children(values).is_some_and(|values| values.iter().all(|(tag, _)| *tag == 0x04))
            )
    })
}

/// Each a name, perhaps a criticality, perhaps a value (RFC 4511 4.1.11).
fn is_controls(controls: Vec<(u8, &[u8])>) -> bool {
    controls.iter().all(|(tag, control)| {
        let name = |name: &[u8]| std::str::from_utf8(name).is_ok();
        *tag == 0x30
            && match children(control).as_deref() {
                Some([(0x04, text)] | [(0x04, text), (0x04, _)]) => name(text),
                Some([(0x04, text), (0x01, [_])] | [(0x04, text), (0x01, [_]), (0x04, _)]) => {
                    name(text)
                }
                _ => false,
            }
    })
}

enum Length {
    Known(usize, usize),
    Short,
    Bad,
}

/// A definite length of at most four bytes.
fn length(bytes: &[u8]) -> Length {
    match bytes.first() {
        None => Length::Short,
        Some(short @ 0..=0x7f) => Length::Known(1, usize::from(*short)),
        Some(long @ 0x81..=0x84) => {
            let count = usize::from(*long - 0x80);
            match bytes.get(1..=count) {
                None => Length::Short,
                Some(digits) => Length::Known(
                    1 + count,
                    digits
                        .iter()
                        .fold(0, |n, digit| n << 8 | usize::from(*digit)),
                ),
            }
        }
        Some(_) => Length::Bad,
    }
}

/// Tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    // Tags of several bytes do not occur in LDAP.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let Length::Known(used, size) = length(rest) else {
        return None;
    };
    let (content, rest) = rest.get(used..)?.split_at_checked(size)?;
    Some((*tag, content, rest))
}

fn children(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (tag, content, rest) = element(bytes)?;
        found.push((tag, content));
        bytes = rest;
    }
    Some(found)
}

/// Every constructed element is filled exactly by its children, and not too deep. The stack is ours,
/// not the thread's.
fn nested(body: &[u8]) -> Result<(), MessageError> {
    let mut open = vec![(body, 1)];
    while let Some((bytes, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(MessageError::Malformed);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (tag, content, after) = element(rest).ok_or(MessageError::Malformed)?;
            if tag & 0x20 != 0 {
                open.push((content, depth + 1));
            }
            rest = after;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let check = |bytes: &[u8], expected| assert_eq!(frame(bytes), expected, "{bytes:02x?}");
        check(b"", Ok(None));
        check(b"\x30", Ok(None));
        check(b"\x30\x0c", Ok(Some((2, 12))));
        check(b"\x30\x82\x01", Ok(None));
        check(b"\x30\x82\x01\x00", Ok(Some((4, 256))));
        check(b"\x30\x84\xff\xff\xff\xff", Err(MessageError::TooLarge));
        check(b"\x30\x80", Err(MessageError::Malformed));
        check(b"\x30\x85\0\0\0\0\0", Err(MessageError::Malformed));
        check(b"HTTP/1.1 400", Err(MessageError::NotLdap));
    }

    #[test]
    fn messages() {
        let check = |body: &[u8], expected| assert_eq!(super::check(body), expected, "{body:02x?}");
        // Bind answer "success" (RFC 4511 4.2.2).
        check(b"\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00", Ok(()));
        // Entry "dc=x" with a: [v].
        check(
            b"\x02\x01\x02\x64\x10\x04\x04dc=x\x30\x08\x30\x06\x04\x01a\x31\x01\x04",
            Err(MessageError::Malformed),
        );
        check(
            b"\x02\x01\x02\x64\x12\x04\x04dc=x\x30\x0a\x30\x08\x04\x01a\x31\x03\x04\x01v",
            Ok(()),
        );
        // Search done with a control of name "1".
        check(
            b"\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00\xa0\x05\x30\x03\x04\x011",
            Ok(()),
        );
        check(
            b"\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00\xa0\x05\x30\x03\x02\x011",
            Err(MessageError::Malformed),
        );
        check(
            b"\x02\x01\x02\x65\x04\x0a\x01\x00\x04",
            Err(MessageError::Malformed),
        );
        check(
            b"\x02\x01\x02\x65\x05\x0a\x01\x00\x04\x00",
            Err(MessageError::Malformed),
        );
        check(b"\x02\x01\x02\x79\x00", Err(MessageError::Malformed));
        check(b"\x02\x01\x02\x79\x06\x80\x011\x81\x01x", Ok(()));
        check(
            b"\x02\x01\x02\x79\x06\x81\x011\x80\x01x",
            Err(MessageError::Malformed),
        );
        check(b"\x02\x01\x02\x7a\x00", Err(MessageError::Kind(0x7a)));
        check(
            b"\x02\x01\x02\x65\x08\x0a\x02\x10\x00\x04\x00\x04\x00",
            Ok(()),
        );
        check(
            b"\x02\x01\x02\x7f\x81\x00\x00",
            Err(MessageError::Malformed),
        );
        check(b"", Err(MessageError::Malformed));
        let mut deep = b"\x04\x00".to_vec();
        for _ in 0..40 {
            deep = [&[0x30, u8::try_from(deep.len()).unwrap()], &deep[..]].concat();
        }
        check(&deep, Err(MessageError::Malformed));
        assert_eq!(
            extended_code(b"\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00"),
            Some(2)
        );
        assert_eq!(
            extended_code(b"\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"),
            None
        );
    }
}
