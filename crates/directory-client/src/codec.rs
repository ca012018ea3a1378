//! The bytes on the control socket, both directions.
//!
//! A frame is a little-endian `u32` length and that many bytes; a body is a version byte, a kind
//! byte and the fields in order (integers little-endian, text as `u32` length and UTF-8, lists as
//! `u32` count and items). No I/O here. The shape is private to this project: both ends are built together.

use std::{error::Error, fmt, time::Duration};

use zeroize::Zeroize;

use crate::{
    Account, AccountState, Change, Database, Domain, Entry, Explanation, Finding, Lookup, Password,
    Record, Status, Verdict,
};

/// Version byte of every body.
pub const VERSION: u8 = 1;
/// Longest request body, in bytes.
pub const MAX_REQUEST: usize = 4096;
/// Longest answer body, in bytes: 65,536 groups with long names, or a group of several hundred thousand, fit.
pub const MAX_ANSWER: usize = 16 << 20;

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
    /// Is this the user's password?
    Authenticate {
        /// Login name.
        user: String,
        /// What was typed.
        password: Password,
        /// Where the login comes from; may be empty.
        source: String,
    },
    /// A new password for a user who knows the old one.
    Change {
        /// Login name.
        user: String,
        /// The present password.
        old: Password,
        /// The one to be.
        new: Password,
        /// As in `Authenticate`.
        source: String,
    },
    /// Why may this user log in, or not?
    Explain {
        /// Login name.
        user: String,
        /// As in `Account`.
        budget: Duration,
    },
    /// Drop all passwords that are kept for when no server answers.
    Forget,
    /// What does libc see, and where does it come from?
    Entry {
        /// Of what kind.
        database: Database,
        /// Name, or number.
        key: String,
    },
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
    /// To [`Request::Authenticate`].
    Verdict(Verdict),
    /// To [`Request::Change`].
    Change(Change),
    /// To [`Request::Explain`].
    Explanation(Explanation),
    /// To [`Request::Entry`].
    Entry(Lookup<Entry>),
    /// To [`Request::Forget`]: so many are dropped.
    Forgotten(u64),
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
            Self::Authenticate {
                user,
                password,
                source,
            } => {
                body.byte(4);
                body.text(user);
                body.text(password.expose());
                body.text(source);
            }
            Self::Change {
                user,
                old,
                new,
                source,
            } => {
                body.byte(5);
                body.text(user);
                body.text(old.expose());
                body.text(new.expose());
                body.text(source);
            }
            Self::Explain { user, budget } => {
                body.byte(6);
                body.text(user);
                body.number(u32::try_from(budget.as_millis()).unwrap_or(u32::MAX));
            }
            Self::Entry { database, key } => {
                body.byte(7);
                body.byte(match database {
                    Database::Passwd => 0,
                    Database::Group => 1,
                    Database::Initgroups => 2,
                });
                body.text(key);
            }
            Self::Forget => body.byte(8),
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
            4 => Self::Authenticate {
                user: body.text()?,
                password: body.password()?,
                source: body.text()?,
            },
            5 => Self::Change {
                user: body.text()?,
                old: body.password()?,
                new: body.password()?,
                source: body.text()?,
            },
            6 => Self::Explain {
                user: body.text()?,
                budget: Duration::from_millis(body.number()?.into()),
            },
            7 => Self::Entry {
                database: match body.byte()? {
                    0 => Database::Passwd,
                    1 => Database::Group,
                    2 => Database::Initgroups,
                    _ => return Err(CodecError::Value),
                },
                key: body.text()?,
            },
            8 => Self::Forget,
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
            Self::Verdict(verdict) => {
                body.byte(6);
                verdict.write(&mut body);
            }
            Self::Change(change) => {
                body.byte(7);
                match change {
                    Change::Done => body.byte(0),
                    Change::WrongPassword => body.byte(1),
                    Change::NotAccepted(why) => {
                        body.byte(2);
                        body.text(why);
                    }
                    Change::Unavailable => body.byte(3),
                }
            }
            Self::Explanation(explanation) => {
                body.byte(8);
                explanation.write(&mut body);
            }
            Self::Entry(lookup) => {
                body.byte(9);
                match lookup {
                    Lookup::Found(entry) => {
                        body.byte(1);
                        entry.write(&mut body);
                    }
                    Lookup::NotFound => body.byte(0),
                    Lookup::Unavailable => body.byte(2),
                }
            }
            Self::Forgotten(count) => {
                body.byte(10);
                body.long(*count);
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
            6 => Self::Verdict(Verdict::read(&mut body)?),
            7 => Self::Change(match body.byte()? {
                0 => Change::Done,
                1 => Change::WrongPassword,
                2 => Change::NotAccepted(body.text()?),
                3 => Change::Unavailable,
                _ => return Err(CodecError::Value),
            }),
            8 => Self::Explanation(Explanation::read(&mut body)?),
            9 => Self::Entry(match body.byte()? {
                0 => Lookup::NotFound,
                1 => Lookup::Found(Entry::read(&mut body)?),
                2 => Lookup::Unavailable,
                _ => return Err(CodecError::Value),
            }),
            10 => Self::Forgotten(body.long()?),
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
            AccountState::Hours => 5,
            AccountState::Denied => 6,
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
            5 => AccountState::Hours,
            6 => AccountState::Denied,
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

impl Verdict {
    fn write(&self, body: &mut Writer) {
        match self {
            Self::Refused => body.byte(0),
            Self::Accepted {
                must_change,
                notices,
            } => {
                body.byte(1);
                body.byte((*must_change).into());
                body.count(notices.len());
                for notice in notices {
                    body.text(notice);
                }
            }
            Self::Expired => body.byte(2),
            Self::Unavailable => body.byte(3),
        }
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match body.byte()? {
            0 => Self::Refused,
            1 => {
                let must_change = body.flag()?;
                let mut notices = Vec::new();
                for _ in 0..body.count(4)? {
                    notices.push(body.text()?);
                }
                Self::Accepted {
                    must_change,
                    notices,
                }
            }
            2 => Self::Expired,
            3 => Self::Unavailable,
            _ => return Err(CodecError::Value),
        })
    }
}

impl Explanation {
    fn write(&self, body: &mut Writer) {
        body.byte(self.may.into());
        body.text(&self.verdict);
        body.count(self.findings.len());
        for finding in &self.findings {
            body.text(&finding.what);
            body.byte(finding.good.into());
            body.text(&finding.detail);
        }
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (may, verdict) = (body.flag()?, body.text()?);
        let mut findings = Vec::new();
        for _ in 0..body.count(9)? {
            findings.push(Finding {
                what: body.text()?,
                good: body.flag()?,
                detail: body.text()?,
            });
        }
        Ok(Self {
            may,
            verdict,
            findings,
        })
    }
}

impl Entry {
    fn write(&self, body: &mut Writer) {
        body.text(&self.source);
        match &self.record {
            Record::User {
                name,
                uid,
                gid,
                gecos,
                home,
                shell,
            } => {
                body.byte(0);
                body.text(name);
                body.number(*uid);
                body.number(*gid);
                for text in [gecos, home, shell] {
                    body.text(text);
                }
            }
            Record::Group { name, gid, members } => {
                body.byte(1);
                body.text(name);
                body.number(*gid);
                body.count(members.len());
                members.iter().for_each(|member| body.text(member));
            }
            Record::Groups { user, groups } => {
                body.byte(2);
                body.text(user);
                body.count(groups.len());
                for (gid, name, source) in groups {
                    body.number(*gid);
                    body.text(name);
                    body.text(source);
                }
            }
        }
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, CodecError> {
        let source = body.text()?;
        let record = match body.byte()? {
            0 => Record::User {
                name: body.text()?,
                uid: body.number()?,
                gid: body.number()?,
                gecos: body.text()?,
                home: body.text()?,
                shell: body.text()?,
            },
            1 => {
                let (name, gid) = (body.text()?, body.number()?);
                let count = body.count(4)?;
                let members = (0..count).map(|_| body.text()).collect::<Result<_, _>>()?;
                Record::Group { name, gid, members }
            }
            2 => {
                let user = body.text()?;
                let count = body.count(12)?;
                let mut group = || Ok((body.number()?, body.text()?, body.text()?));
                let groups = (0..count).map(|_| group()).collect::<Result<_, _>>()?;
                Record::Groups { user, groups }
            }
            _ => return Err(CodecError::Value),
        };
        Ok(Self { record, source })
    }
}

impl Status {
    fn write(&self, body: &mut Writer) {
        body.text(&self.version);
        body.byte(self.complete.into());
        body.byte(self.resolves.into());
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
        body.byte(self.offline_passwords.is_some().into());
        body.long(self.offline_passwords.unwrap_or_default());
        body.text(&self.offline_problem);
        body.count(self.domains.len());
        for domain in &self.domains {
            body.text(&domain.name);
            body.byte(domain.complete.into());
            body.byte(domain.age.is_some().into());
            body.duration(domain.age.unwrap_or_default());
            body.long(domain.users);
            body.long(domain.groups);
            body.byte(domain.following.into());
            body.text(&domain.server);
            body.text(&domain.problem);
        }
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, CodecError> {
        let version = body.text()?;
        let complete = body.flag()?;
        let resolves = body.flag()?;
        let known = body.flag()?;
        let age = body.duration()?;
        let mut status = Self {
            version,
            complete,
            resolves,
            age: known.then_some(age),
            generation: body.long()?,
            users: body.long()?,
            groups: body.long()?,
            local_users: body.long()?,
            local_groups: body.long()?,
            refused: body.long()?,
            server: body.text()?,
            problem: body.text()?,
            ..Self::default()
        };
        let kept = body.flag()?;
        let count = body.long()?;
        status.offline_passwords = kept.then_some(count);
        status.offline_problem = body.text()?;
        for _ in 0..body.count(39)? {
            let (name, complete) = (body.text()?, body.flag()?);
            let (known, age) = (body.flag()?, body.duration()?);
            status.domains.push(Domain {
                name,
                complete,
                age: known.then_some(age),
                users: body.long()?,
                groups: body.long()?,
                following: body.flag()?,
                server: body.text()?,
                problem: body.text()?,
            });
        }
        Ok(status)
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

    fn password(&mut self) -> Result<Password, CodecError> {
        let mut text = self.text()?;
        let password = Password::new(text.clone().into_bytes());
        text.zeroize();
        password.map_err(|_| CodecError::Value)
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

    fn password(text: &str) -> Password {
        Password::new(text.into()).unwrap()
    }

    fn requests() -> Vec<Request> {
        vec![
            Request::Account {
                user: "alice".into(),
                budget: Duration::from_millis(750),
            },
            Request::Status,
            Request::Refresh,
            Request::Authenticate {
                user: "alice".into(),
                password: password("secret"),
                source: "192.0.2.1".into(),
            },
            Request::Change {
                user: "alice".into(),
                old: password("secret"),
                new: password("better"),
                source: String::new(),
            },
            Request::Explain {
                user: "alice".into(),
                budget: Duration::ZERO,
            },
            Request::Entry {
                database: Database::Initgroups,
                key: "alice".into(),
            },
            Request::Forget,
        ]
    }

    fn entry(record: Record) -> Answer {
        Answer::Entry(Lookup::Found(Entry {
            record,
            source: "uid=alice".into(),
        }))
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
                offline_passwords: Some(3),
                offline_problem: "no secret".into(),
                domains: vec![Domain {
                    name: "a".into(),
                    age: Some(Duration::from_secs(3)),
                    users: 4,
                    following: true,
                    ..Domain::default()
                }],
                ..Status::default()
            }),
            Answer::Forgotten(7),
            Answer::Refreshed,
            Answer::Denied,
            Answer::Failed("why".into()),
            Answer::Verdict(Verdict::Refused),
            Answer::Verdict(Verdict::Expired),
            Answer::Verdict(Verdict::Unavailable),
            Answer::Verdict(Verdict::Accepted {
                must_change: true,
                notices: vec!["soon".into()],
            }),
            Answer::Change(Change::Done),
            Answer::Change(Change::WrongPassword),
            Answer::Change(Change::Unavailable),
            Answer::Change(Change::NotAccepted("too short".into())),
            Answer::Explanation(Explanation {
                may: true,
                verdict: "may log in".into(),
                findings: vec![Finding {
                    what: "entry".into(),
                    good: true,
                    detail: "uid=alice".into(),
                }],
            }),
            Answer::Entry(Lookup::NotFound),
            entry(Record::User {
                name: "alice".into(),
                uid: 1,
                gid: 2,
                gecos: "A".into(),
                home: "/home/alice".into(),
                shell: "/bin/sh".into(),
            }),
            entry(Record::Group {
                name: "g".into(),
                gid: 2,
                members: vec!["alice".into(), "bob".into()],
            }),
            entry(Record::Groups {
                user: "alice".into(),
                groups: vec![(2, "g".into(), "cn=g".into())],
            }),
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
        check(b"\x01\x0b", CodecError::Kind(11));
        check(b"\x01\x01\x03", CodecError::Value);
        check(b"\x01\x06\x04", CodecError::Value);
        check(b"\x01\x05\xff\xff\xff\xff", CodecError::Short);
        check(b"\x01\x05\x01\0\0\0\xff", CodecError::Text);
        assert_eq!(
            Request::decode(b"\x01\x04\x01\0\0\0a\0\0\0\0\0\0\0\0"),
            Err(CodecError::Value),
            "an empty password"
        );
        assert_eq!(
            body_length([1, 16, 0, 0], MAX_REQUEST),
            Err(CodecError::TooLong(4097))
        );
    }
}
