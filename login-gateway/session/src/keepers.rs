//! The keepers of this login's shells: what they tell goes to the monitor, and while one of them lives
//! the session does, whether it has a connection or not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gateway_wire::session::{Act, ExitStatus};

use crate::kept::{Told, receive};
use crate::record::{Record, cut};

/// Their sockets, by channel.
#[derive(Default)]
pub struct Keepers(Vec<Keeper>);

struct Keeper {
    channel: u32,
    socket: OwnedFd,
    /// How far its shell is.
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    /// There may be none: the user may have gone back to another.
    Awaited,
    Lives,
    Ended,
}

impl Keepers {
    /// Listens to one more.
    pub fn add(&mut self, channel: u32, socket: OwnedFd) {
        self.0.push(Keeper {
            channel,
            socket,
            state: State::Awaited,
        });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what a channel shows is not its own program's end: its keeper tells of that.
    pub fn tells_of(&self, channel: u32) -> bool {
        let mut all = self.0.iter();
        all.any(|keeper| keeper.channel == channel && keeper.state != State::Awaited)
    }

    /// What is to be waited for.
    pub fn awaited(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|keeper| keeper.socket.as_fd())
    }

    /// Passes on what they tell.
    pub fn take(&mut self, record: &Record) {
        self.0.retain_mut(|keeper| {
            let channel = keeper.channel;
            loop {
                let act = match receive(&keeper.socket) {
                    Ok(Some((Told::Begun(terminal), _))) => {
                        keeper.state = State::Lives;
                        Act::Kept { channel, terminal }
                    }
                    Ok(Some((Told::Detached, _))) => Act::Detached { channel },
                    Ok(Some((Told::Attached(by), _))) => Act::Reattached {
                        channel,
                        by: cut(&by),
                    },
                    Ok(Some((Told::Ended(status), _))) => {
                        keeper.state = State::Ended;
                        Act::Ended { channel, status }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Ok(None) | Err(_) => {
                        if keeper.state == State::Lives {
                            // It was killed, and its shell has lost its terminal.
                            let status = ExitStatus::Signal {
                                name: "HUP".into(),
                                core: false,
                            };
                            record.tell(&Act::Ended { channel, status });
                        }
                        return false;
                    }
                };
                record.tell(&act);
            }
        });
    }
}
