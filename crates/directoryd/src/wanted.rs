//! Names that are asked for one by one, where a directory cannot be listed: who asks, and what for.

use std::{io::Write, os::unix::net::UnixStream, sync::mpsc};

use directory_map::protocol::Query;

/// One entry, by what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A user by name, with the groups that hold them.
    User(String),
    /// A user by number.
    Uid(u32),
    /// A group by name.
    Group(String),
    /// A group by number.
    Gid(u32),
}

impl Wanted {
    /// What a look-up is after; `None` if the key is no number.
    pub fn of(query: Query, key: &str) -> Option<Self> {
        Some(match query {
            Query::UserByName | Query::GroupsOfUser => Self::User(key.to_owned()),
            Query::UserById => Self::Uid(key.parse().ok()?),
            Query::GroupByName => Self::Group(key.to_owned()),
            Query::GroupById => Self::Gid(key.parse().ok()?),
        })
    }
}

/// Somebody who waits for that, and is rung for as soon as there is an answer or will be none.
#[derive(Debug)]
pub struct Asker {
    answer: mpsc::SyncSender<bool>,
    bell: UnixStream,
}

impl Asker {
    /// What comes is true if the server was asked and what it said is served; it rings at the other end of
    /// `bell`.
    pub fn new(bell: UnixStream) -> (Self, mpsc::Receiver<bool>) {
        let (answer, answered) = mpsc::sync_channel(1);
        (Self { answer, bell }, answered)
    }

    /// Tells whether the server was asked.
    pub fn tell(self, asked: bool) {
        // An asker who has gone is no error.
        let _ = self.answer.try_send(asked);
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        // Full means that it rings anyway.
        let _ = self.bell.write(&[1]);
    }
}
