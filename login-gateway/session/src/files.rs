//! What file servers say that they do to files, on its way from them to the monitor. They are behind
//! rather than unheard: nothing is taken from them while the monitor has no room.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use gateway_wire::session::{Act, FileAct, FileOperation, MAX_ACT};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::record::{Record, cut};

/// Messages taken before others have their turn.
const TURN: usize = 64;

/// The sockets of file servers, by channel.
#[derive(Default)]
pub struct Files {
    open: Vec<(u32, OwnedFd)>,
    /// The monitor had no room.
    behind: bool,
}

/// Both ends of a file server's socket; the second is the server's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair = sys::fds::seqpacket_pair()?;
    for end in [&pair.0, &pair.1] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    Ok(pair)
}

impl Files {
    /// Listens to one more.
    pub fn add(&mut self, channel: u32, socket: OwnedFd) {
        self.open.push((channel, socket));
    }

    /// What is to be waited for: file servers, or else room.
    pub fn awaited<'a>(&'a self, record: &'a Record) -> Vec<(BorrowedFd<'a>, PollFlags)> {
        if self.behind {
            return vec![(record.as_fd(), PollFlags::POLLOUT)];
        }
        let all = self.open.iter();
        all.map(|(_, fd)| (fd.as_fd(), PollFlags::POLLIN)).collect()
    }

    /// Passes on what has been said.
    pub fn take(&mut self, record: &Record) {
        self.behind = false;
        let mut buffer = [0; MAX_ACT];
        let mut left = TURN;
        let behind = &mut self.behind;
        self.open.retain(|(channel, socket)| {
            while left > 0 {
                if !has_room(record) {
                    *behind = true;
                    return true;
                }
                left -= 1;
                match sys::fds::recv_with_fds(socket, &mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Err(_) | Ok((0, _)) => return false,
                    Ok((length, _)) => match act(*channel, &buffer[..length]) {
                        Some(act) => record.tell(&act),
                        None => {
                            eprintln!("error: malformed message of the file server");
                            return false;
                        }
                    },
                }
            }
            true
        });
    }

    /// Hears out those whose client has gone, for at most this time.
    pub fn finish(&mut self, record: &Record, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            self.take(record);
            let left = end.saturating_duration_since(Instant::now());
            if self.open.is_empty() || left.is_zero() {
                return;
            }
            let awaited = self.awaited(record).into_iter();
            let mut ready: Vec<_> = awaited.map(|(fd, what)| PollFd::new(fd, what)).collect();
            let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            match poll(&mut ready, left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn has_room(record: &Record) -> bool {
    let mut ready = [PollFd::new(record.as_fd(), PollFlags::POLLOUT)];
    poll(&mut ready, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// The message of a file server: seven fields with tabs between them, or `lost` and a number.
fn act(channel: u32, message: &[u8]) -> Option<Act> {
    let fields: Vec<&str> = std::str::from_utf8(message).ok()?.split('\t').collect();
    if let ["lost", number] = fields[..] {
        return Some(Act::Lost(number.parse().ok()?));
    }
    let [operation, refused, path, to, detail, read, written] = fields[..] else {
        return None;
    };
    let operation = FileOperation::ALL.into_iter().find(|known| {
        let name = known.event().split('.').next_back();
        name == Some(operation)
    })?;
    let bytes = match (read, written) {
        ("", "") => None,
        (read, written) => Some((read.parse().ok()?, written.parse().ok()?)),
    };
    Some(Act::File(FileAct {
        channel,
        operation,
        path: cut(path),
        to: cut(to),
        detail: cut(detail),
        bytes,
        refused: (!refused.is_empty()).then(|| cut(refused)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> (Record, OwnedFd) {
        let (ours, theirs) = pair().unwrap();
        (Record::new(ours), theirs)
    }

    fn hear(monitor: &OwnedFd) -> Option<Act> {
        let mut buffer = [0; MAX_ACT];
        let (n, _) = sys::fds::recv_with_fds(monitor, &mut buffer).ok()?;
        gateway_wire::decode(&buffer[..n]).ok()
    }

    #[test]
    fn which_messages_are_understood() {
        let close = act(3, b"close\t\t/a\t\t\t12\t34");
        let Some(Act::File(close)) = close else {
            panic!("{close:?}");
        };
        assert_eq!(
            (close.operation, close.bytes),
            (FileOperation::Close, Some((12, 34)))
        );
        let rename = act(3, "rename\tPermission denied\t/ü\t/b\t\t\t".as_bytes());
        let Some(Act::File(rename)) = rename else {
            panic!("{rename:?}");
        };
        assert_eq!((&*rename.path, &*rename.to), ("/ü", "/b"));
        assert_eq!(rename.refused.as_deref(), Some("Permission denied"));
        assert_eq!(act(3, b"lost\t7"), Some(Act::Lost(7)));
        for wrong in [
            &b""[..],
            b"close\t\t/a",
            b"format\t\t/a\t\t\t\t",
            b"close\t\t/a\t\t\tx\ty",
            b"lost\tmany",
            b"\xff",
        ] {
            assert_eq!(act(3, wrong), None);
        }
    }

    #[test]
    fn nothing_is_lost_where_the_monitor_is_behind() {
        let (record, monitor) = record();
        let (ours, theirs) = pair().unwrap();
        let mut files = Files::default();
        files.add(1, ours);
        let (mut said, mut heard) = (0, 0);
        let mut was_behind = false;
        while said < 3000 {
            let text = format!("remove\t\t/{said}\t\t\t\t");
            match sys::fds::send_with_fds(&theirs, text.as_bytes(), &[]) {
                Ok(()) => said += 1,
                // As a file server, which waits.
                Err(_) => {
                    files.take(&record);
                    was_behind |= files.behind;
                    while files.behind && hear(&monitor).is_some() {
                        heard += 1;
                        files.behind = !has_room(&record);
                    }
                }
            }
        }
        drop(theirs);
        while !files.open.is_empty() {
            files.take(&record);
            while hear(&monitor).is_some() {
                heard += 1;
            }
        }
        assert!(was_behind);
        assert_eq!(heard, 3000);
    }

    #[test]
    fn who_says_nonsense_is_heard_no_more() {
        let (record, _monitor) = record();
        let (ours, theirs) = pair().unwrap();
        let mut files = Files::default();
        files.add(1, ours);
        sys::fds::send_with_fds(&theirs, b"nonsense", &[]).unwrap();
        files.take(&record);
        assert!(files.open.is_empty());
        // One that stays open is not waited for longer than that.
        let (ours, _theirs) = pair().unwrap();
        files.add(2, ours);
        files.finish(&record, Duration::from_millis(20));
        assert_eq!(files.open.len(), 1);
    }
}
