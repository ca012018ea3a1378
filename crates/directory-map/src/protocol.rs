//! Requests as they come over the socket, and the answers that are no record.
//!
//! Shape of a request: three `i32` (version 2, type, key length), then the key with its NUL (glibc
//! `nscd/nscd-client.h`). The answer to a look-up is a record's bytes; see [`crate::record`].

/// The protocol's version number.
pub const VERSION: i32 = 2;
/// Size of a request before its key, in bytes.
pub const HEADER: usize = 12;
/// Longest key, in bytes, NUL included.
pub const MAX_KEY: usize = 1024;

/// The two databases served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// Users.
    Passwd,
    /// Groups, and the group lists of users.
    Group,
}

impl Database {
    /// The name in map requests, with its NUL.
    pub fn key(self) -> &'static [u8] {
        match self {
            Self::Passwd => b"passwd\0",
            Self::Group => b"group\0",
        }
    }
}

/// A look-up that has a record for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Query {
    /// A user by name.
    UserByName,
    /// A user by number; the key is decimal text.
    UserById,
    /// A group by name.
    GroupByName,
    /// A group by number; the key is decimal text.
    GroupById,
    /// The groups of a user, by user name.
    GroupsOfUser,
}

impl Query {
    /// The protocol's number for it.
    pub fn number(self) -> u8 {
        match self {
            Self::UserByName => 0,
            Self::UserById => 1,
            Self::GroupByName => 2,
            Self::GroupById => 3,
            Self::GroupsOfUser => 15,
        }
    }

    /// The map in which libc looks for it. libc keeps group lists in the group map.
    pub fn database(self) -> Database {
        match self {
            Self::UserByName | Self::UserById => Database::Passwd,
            Self::GroupByName | Self::GroupById | Self::GroupsOfUser => Database::Group,
        }
    }
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// One record.
    Record(Query),
    /// The descriptor of a whole map.
    Map(Database),
    /// Forget what is known of a database and look again.
    Invalidate,
    /// A database that is not served here; the answer is this many bytes long.
    Elsewhere(usize),
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Another version of the protocol.
    #[error("request has version {0}, not {VERSION}")]
    Version(i32),
    /// A type that is not part of the protocol, or that nobody may ask for (shutdown, statistics).
    #[error("request of type {0} is not answered")]
    Kind(i32),
    /// A key without its NUL, or longer than [`MAX_KEY`].
    #[error("key of {0} bytes is not acceptable")]
    Key(i32),
}

/// Reads the head of a request: the wish and the length of the key to follow, in bytes.
///
/// # Errors
/// [`RequestError`]; the connection is then closed without an answer.
pub fn request(head: [u8; HEADER]) -> Result<(Wish, usize), RequestError> {
    let field =
        |at: usize| i32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (version, kind, length) = (field(0), field(4), field(8));
    if version != VERSION {
        return Err(RequestError::Version(version));
    }
    let wish = match kind {
        0 => Wish::Record(Query::UserByName),
        1 => Wish::Record(Query::UserById),
        2 => Wish::Record(Query::GroupByName),
        3 => Wish::Record(Query::GroupById),
        15 => Wish::Record(Query::GroupsOfUser),
        11 => Wish::Map(Database::Passwd),
        12 => Wish::Map(Database::Group),
        10 => Wish::Invalidate,
        // The sizes of the answers' structures in nscd-client.h.
        4..=7 => Wish::Elsewhere(32),
        14 => Wish::Elsewhere(24),
        16 | 17 => Wish::Elsewhere(24),
        19 => Wish::Elsewhere(16),
        20 => Wish::Elsewhere(12),
        _ => return Err(RequestError::Kind(kind)),
    };
    match usize::try_from(length) {
        Ok(length) if (1..=MAX_KEY).contains(&length) => Ok((wish, length)),
        _ => Err(RequestError::Key(length)),
    }
}

/// The whole bytes of a request, for tests and for our own tools. `key` goes without its NUL.
pub fn encode_request(kind: i32, key: &[u8]) -> Vec<u8> {
    let length = i32::try_from(key.len() + 1).unwrap_or(i32::MAX);
    let mut bytes = [VERSION, kind, length].map(i32::to_ne_bytes).concat();
    bytes.extend_from_slice(key);
    bytes.push(0);
    bytes
}

/// An answer of `size` bytes that says "not served here": libc goes on with nsswitch.conf.
pub fn not_served(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size.max(8)];
    bytes[..4].copy_from_slice(&VERSION.to_ne_bytes());
    bytes[4..8].copy_from_slice(&(-1i32).to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_glibc_writes_them() {
        fn check(bytes: &[u8], expected: Result<(Wish, usize), RequestError>) {
            assert_eq!(
                request(*bytes.first_chunk().unwrap()),
                expected,
                "{bytes:?}"
            );
        }
        // What `getent passwd bob` sends on a little-endian machine.
        #[cfg(target_endian = "little")]
        assert_eq!(
            encode_request(0, b"bob"),
            b"\x02\0\0\0\0\0\0\0\x04\0\0\0bob\0"
        );
        check(
            &encode_request(0, b"bob"),
            Ok((Wish::Record(Query::UserByName), 4)),
        );
        check(
            &encode_request(15, b"bob"),
            Ok((Wish::Record(Query::GroupsOfUser), 4)),
        );
        check(
            &encode_request(12, b"group"),
            Ok((Wish::Map(Database::Group), 6)),
        );
        check(&encode_request(14, b"host"), Ok((Wish::Elsewhere(24), 5)));
        check(&encode_request(8, b""), Err(RequestError::Kind(8)));
        check(&encode_request(-1, b""), Err(RequestError::Kind(-1)));
        check(
            &encode_request(0, &[b'x'; 1023]),
            Ok((Wish::Record(Query::UserByName), 1024)),
        );
        check(
            &encode_request(0, &[b'x'; 1024]),
            Err(RequestError::Key(1025)),
        );
        check(
            b"GET / HTTP/1.1",
            Err(RequestError::Version(i32::from_ne_bytes(*b"GET "))),
        );
        let mut none = encode_request(0, b"");
        none[8..12].copy_from_slice(&(-5i32).to_ne_bytes());
        check(&none, Err(RequestError::Key(-5)));
    }
}
