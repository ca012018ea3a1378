//! The bytes on the control socket, both directions.
//!
//! A frame is a little-endian `u32` length and that many bytes; a body is a version byte, a kind
//! byte and the fields in order (integers little-endian, text as `u32` length and UTF-8, lists as
//! `u32` count and items). No I/O here. The shape is private to this project: both ends are built together.

use std::{error::Error, fmt, time::Duration};

use crate::{Account, AccountState, Lookup, Status};

/// Version byte of every body.
pub const VERSION: u8 = 1;
/// Longest request body, in bytes.
pub const MAX_REQUEST: usize = 4096;
/// Longest answer body, in bytes: 4096 groups with long names and a few hundred keys fit.
pub const MAX_ANSWER: usize = 1 << 20;

/// What a program may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// One user, refreshed online within the budget.
    Account {
        /// Login name.
        user: String,
        /// How long the directory server may take; zero asks the replica alone. Sent in milliseconds.
        budget: Duration,
    },
    /// How the daemon is.
    Status,
    /// Replicate everything now, and answer when it is served.
    Refresh,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Request::Account`].
    Account(Lookup<Account>),
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Refresh`]: done.
    Refreshed,
    /// This peer is not served.
    Denied,
    /// Understood and failed, with a reason for the log.
    Failed(String),
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecError {
    /// A body of another version.
    Version(u8),
    /// A kind byte nobody knows.
    Kind(u8),
    /// The body ends in the middle of a field.
    Short,
    /// Bytes are left behind the last field.
    Trailing,
    /// Text that is not UTF-8.
    Text,
    /// A value outside its range.
    Value,
    /// A length above the cap, in bytes.
    TooLong(usize),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "body has version {version}, not {VERSION}"),
            Self::Kind(kind) => write!(f, "body is of unknown kind {kind}"),
            Self::Short => f.write_str("body ends in the middle of a field"),
            Self::Trailing => f.write_str("body has bytes behind its last field"),
            Self::Text => f.write_str("text is not utf-8"),
            Self::Value => f.write_str("field is outside its range"),
            Self::TooLong(length) => write!(f, "body of {length} bytes is above the cap"),
        }
    }
}

impl Error for CodecError {}

impl Request {
    /// The whole frame, length first.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::new();
        match self {
            Self::Account { user, budget } => {
                body.byte(1);
                body.text(user);
                body.number(u32::try_from(budget.as_millis()).unwrap_or(u32::MAX));
            }
            Self::Status => body.byte(2),
            Self::Refresh => body.byte(3),
        }
        body.frame()
    }

    /// Reads a body, without its length.
    ///
    /// # Errors
    /// Any [`CodecError`]; the connection is not worth keeping after one.
    pub fn decode(body: &[u8]) -> Result<Self, CodecError> {
        let mut body = Reader::new(body)?;
        let request = match body.byte()? {
            1 => Self::Account {
                user: body.text()?,
                budget: Duration::from_millis(body.number()?.into()),
            },
            2 => Self::Status,
            3 => Self::Refresh,
            kind => return Err(CodecError::Kind(kind)),
        };
        body.end()?;
        Ok(request)
    }
}

impl Answer {
    /// The whole frame, length first.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::new();
        match self {
            Self::Account(lookup) => {
                body.byte(1);
                match lookup {
                    Lookup::Found(account) => {
                        body.byte(1);
                        account.write(&mut body);
                    }
                    Lookup::NotFound => body.byte(0),
                    Lookup::Unavailable => body.byte(2),
                }
            }
            Self::Status(status) => {
                body.byte(2);
                status.write(&mut body);
            }
            Self::Refreshed => body.byte(3),
            Self::Denied => body.byte(4),
            Self::Failed(reason) => {
                body.byte(5);
                body.text(reason);
            }
        }
        body.frame()
    }

    /// Reads a body, without its length.
    ///
    /// # Errors
    /// Any [`CodecError`].
    pub fn decode(body: &[u8]) -> Result<Self, CodecError> {
        let mut body = Reader::new(body)?;
        let answer = match body.byte()? {
            1 => Self::Account(match body.byte()? {
                0 => Lookup::NotFound,
                1 => Lookup::Found(Account::read(&mut body)?),
                2 => Lookup::Unavailable,
                _ => return Err(CodecError::Value),
            }),
            2 => Self::Status(Status::read(&mut body)?),
            3 => Self::Refreshed,
            4 => Self::Denied,
            5 => Self::Failed(body.text()?),
            kind => return Err(CodecError::Kind(kind)),
        };
        body.end()?;
        Ok(answer)
    }
}

/// The body length a frame announces, checked against `cap` before a byte of it is read.
///
/// # Errors
/// [`CodecError::TooLong`] above `cap`.
pub fn body_length(prefix: [u8; 4], cap: usize) -> Result<usize, CodecError> {
    let length = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    if length > cap {
        Err(CodecError::TooLong(length))
    } else {
        Ok(length)
    }
}

impl Account {
    fn write(&self, body: &mut Writer) {
        body.text(&self.name);
        body.number(self.uid);
        body.number(self.gid);
        body.text(&self.gecos);
        body.text(&self.home);
        body.text(&self.shell);
        body.count(self.groups.len());
        for (gid, name) in &self.groups {
            body.number(*gid);
            body.text(name);
        }
        body.count(self.ssh_keys.len());
        for key in &self.ssh_keys {
            body.text(key);
        }
        body.byte(match self.state {
            AccountState::Active => 0,
            AccountState::Locked => 1,
            AccountState::Expired => 2,
            AccountState::NoLogin => 3,
            AccountState::NotYet => 4,
        });
        body.duration(self.age);
        body.byte(self.fresh.into());
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, CodecError> {
        let name = body.text()?;
        let uid = body.number()?;
        let gid = body.number()?;
        let gecos = body.text()?;
        let home = body.text()?;
        let shell = body.text()?;
        let mut groups = Vec::new();
        for _ in 0..body.count(8)? {
            groups.push((body.number()?, body.text()?));
        }
        let mut ssh_keys = Vec::new();
        for _ in 0..body.count(4)? {
            ssh_keys.push(body.text()?);
        }
        let state = match body.byte()? {
            0 => AccountState::Active,
            1 => AccountState::Locked,
            2 => AccountState::Expired,
            3 => AccountState::NoLogin,
            4 => AccountState::NotYet,
            _ => return Err(CodecError::Value),
        };
        let age = body.duration()?;
        let fresh = body.flag()?;
        Ok(Self {
            name,
            uid,
            gid,
            gecos,
            home,
            shell,
            groups,
            ssh_keys,
            state,
            age,
            fresh,
        })
    }
}

impl Status {
    fn write(&self, body: &mut Writer) {
        body.text(&self.version);
        body.byte(self.complete.into());
        body.byte(self.age.is_some().into());
        body.duration(self.age.unwrap_or_default());
        body.long(self.generation);
        body.long(self.users);
        body.long(self.groups);
        body.long(self.local_users);
        body.long(self.local_groups);
        body.long(self.refused);
        body.text(&self.server);
        body.text(&self.problem);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, CodecError> {
        let version = body.text()?;
        let complete = body.flag()?;
        let known = body.flag()?;
        let age = body.duration()?;
        Ok(Self {
            version,
            complete,
            age: known.then_some(age),
            generation: body.long()?,
            users: body.long()?,
            groups: body.long()?,
            local_users: body.long()?,
            local_groups: body.long()?,
            refused: body.long()?,
            server: body.text()?,
            problem: body.text()?,
        })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        // Room for the length, written last.
        Self(vec![0, 0, 0, 0, VERSION])
    }

    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    fn number(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn long(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn duration(&mut self, value: Duration) {
        self.long(u64::try_from(value.as_millis()).unwrap_or(u64::MAX));
    }

    fn count(&mut self, value: usize) {
        self.number(u32::try_from(value).unwrap_or(u32::MAX));
    }

    fn text(&mut self, value: &str) {
        self.count(value.len());
        self.0.extend_from_slice(value.as_bytes());
    }

    fn frame(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(body: &'a [u8]) -> Result<Self, CodecError> {
        let mut body = Self(body);
        match body.byte()? {
            VERSION => Ok(body),
            version => Err(CodecError::Version(version)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.take::<1>()?[0])
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Value),
        }
    }

    fn number(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn long(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn duration(&mut self) -> Result<Duration, CodecError> {
        Ok(Duration::from_millis(self.long()?))
    }

    /// A count of items of at least `smallest` bytes each, so that a lie is seen before the loop.
    fn count(&mut self, smallest: usize) -> Result<usize, CodecError> {
        let count = usize::try_from(self.number()?).map_err(|_| CodecError::Value)?;
        if count > self.0.len() / smallest {
            Err(CodecError::Short)
        } else {
            Ok(count)
        }
    }

    fn text(&mut self) -> Result<String, CodecError> {
        let length = self.count(1)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(std::str::from_utf8(text)
            .map_err(|_| CodecError::Text)?
            .to_owned())
    }

    fn end(&self) -> Result<(), CodecError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(CodecError::Trailing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Account {
        Account {
            name: "alice".into(),
            uid: 2000,
            gid: 2000,
            gecos: "Alice Ångström".into(),
            home: "/home/alice".into(),
            shell: "/bin/bash".into(),
            groups: vec![(2000, String::new()), (2100, "physics".into())],
            ssh_keys: vec!["ssh-ed25519 AAAA".into()],
            state: AccountState::Locked,
            age: Duration::from_millis(1500),
            fresh: true,
        }
    }

    fn requests() -> Vec<Request> {
        vec![
            Request::Account {
                user: "alice".into(),
                budget: Duration::from_millis(750),
            },
            Request::Status,
            Request::Refresh,
        ]
    }

    fn answers() -> Vec<Answer> {
        let status = Status {
            complete: true,
            age: Some(Duration::from_secs(3)),
            ..Status::default()
        };
        vec![
            Answer::Account(Lookup::Found(alice())),
            Answer::Account(Lookup::NotFound),
            Answer::Account(Lookup::Unavailable),
            Answer::Status(status),
            Answer::Status(Status {
                problem: "no server".into(),
                ..Status::default()
            }),
            Answer::Refreshed,
            Answer::Denied,
            Answer::Failed("why".into()),
        ]
    }

    #[test]
    fn every_message_survives_the_trip_and_no_prefix_of_it_is_taken() {
        for request in requests() {
            let frame = request.encode();
            let length = body_length(*frame.first_chunk().unwrap(), MAX_REQUEST).unwrap();
            assert_eq!(length, frame.len() - 4);
            assert_eq!(Request::decode(&frame[4..]).unwrap(), request);
            for end in 4..frame.len() {
                Request::decode(&frame[4..end]).unwrap_err();
            }
            let longer = [&frame[4..], b"x"].concat();
            assert_eq!(Request::decode(&longer), Err(CodecError::Trailing));
        }
        for answer in answers() {
            let frame = answer.encode();
            assert_eq!(Answer::decode(&frame[4..]).unwrap(), answer);
            for end in 4..frame.len() {
                Answer::decode(&frame[4..end]).unwrap_err();
            }
        }
    }

    #[test]
    fn a_request_for_an_account_has_these_bytes() {
        let request = Request::Account {
            user: "al".into(),
            budget: Duration::from_millis(258),
        };
        assert_eq!(
            request.encode(),
            b"\x0c\0\0\0\x01\x01\x02\0\0\0al\x02\x01\0\0"
        );
    }

    #[test]
    fn lies_are_refused() {
        fn check(body: &[u8], expected: CodecError) {
            assert_eq!(Answer::decode(body), Err(expected), "{body:?}");
        }
        check(b"", CodecError::Short);
        check(b"\x02\x03", CodecError::Version(2));
        check(b"\x01\x09", CodecError::Kind(9));
        check(b"\x01\x01\x03", CodecError::Value);
        check(b"\x01\x05\xff\xff\xff\xff", CodecError::Short);
        check(b"\x01\x05\x01\0\0\0\xff", CodecError::Text);
        assert_eq!(
            body_length([1, 16, 0, 0], MAX_REQUEST),
            Err(CodecError::TooLong(4097))
        );
    }
}
