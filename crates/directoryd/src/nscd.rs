//! The socket that libc asks. One thread, many connections, none of which can hold up another, and
//! nothing here ever waits for LDAP.
//!
//! Protocol: [`directory_map::protocol`]. Garbage ends its connection without an answer.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use directory_map::{
    protocol::{self, Database, HEADER, Query, Wish},
    record,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::core::Core;

/// Most connections at a time, half of the descriptors that are usual; and most of one user, so that one
/// cannot lock out the others.
const MOST: usize = 512;
const MOST_PER_USER: usize = 128;
/// How long a request and its answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The loop turns at least this often.
const TICK: Duration = Duration::from_secs(1);

/// The server's loop.
pub struct Server {
    listener: UnixListener,
    core: Arc<Core>,
    /// Counted up at every turn, for the watchdog.
    turns: Arc<AtomicU64>,
    /// Rung when root asks for local files to be read again.
    reload: mpsc::SyncSender<()>,
    connections: Vec<Connection>,
}

struct Connection {
    stream: UnixStream,
    uid: u32,
    deadline: Instant,
    state: State,
}

enum State {
    Reading(Vec<u8>),
    Writing(Vec<u8>, usize),
}

/// Whether a connection is still of use.
enum Next {
    Keep,
    Close,
}

impl Server {
    /// A server on `listener`.
    ///
    /// # Errors
    /// If the listener cannot be set up.
    pub fn new(
        listener: UnixListener,
        core: Arc<Core>,
        turns: Arc<AtomicU64>,
        reload: mpsc::SyncSender<()>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            core,
            turns,
            reload,
            connections: Vec::new(),
        })
    }

    /// Serves for ever.
    pub fn run(mut self) {
        loop {
            self.turns.fetch_add(1, Ordering::Relaxed);
            let (new, ready) = self.wait();
            let now = Instant::now();
            let connections = std::mem::take(&mut self.connections);
            for (mut connection, ready) in connections.into_iter().zip(ready) {
                let next = if ready {
                    self.proceed(&mut connection)
                } else {
                    Next::Keep
                };
                if matches!(next, Next::Keep) && connection.deadline > now {
                    self.connections.push(connection);
                }
            }
            if new {
                self.accept();
            }
        }
    }

    /// Waits until something can be done: a new connection, and which of the old ones.
    fn wait(&self) -> (bool, Vec<bool>) {
        let now = Instant::now();
        let mut patience = TICK;
        let mut fds = Vec::with_capacity(self.connections.len() + 1);
        for connection in &self.connections {
            patience = patience.min(connection.deadline.saturating_duration_since(now));
            let events = match connection.state {
                State::Reading(_) => PollFlags::POLLIN,
                State::Writing(..) => PollFlags::POLLOUT,
            };
            fds.push(PollFd::new(connection.stream.as_fd(), events));
        }
        if self.connections.len() < MOST {
            fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        let millis = u16::try_from(patience.as_millis())
            .unwrap_or(u16::MAX)
            .saturating_add(1);
        if poll(&mut fds, PollTimeout::from(millis)).is_err() {
            // Interrupted, or out of kernel memory: neither is helped by going round faster.
            std::thread::sleep(Duration::from_millis(1));
            return (false, vec![false; self.connections.len()]);
        }
        let mut ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let new = ready.len() > self.connections.len() && ready.pop() == Some(true);
        (new, ready)
    }

    fn accept(&mut self) {
        let mut per_user: HashMap<u32, usize> = HashMap::new();
        for connection in &self.connections {
            *per_user.entry(connection.uid).or_default() += 1;
        }
        while self.connections.len() < MOST {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Out of descriptors: it would come back at once.
                    tracing::warn!(event = "nscd.accept", %error);
                    std::thread::sleep(Duration::from_millis(20));
                    return;
                }
            };
            let Ok(peer) = sys::peer::credentials(&stream) else {
                continue;
            };
            let count = per_user.entry(peer.uid).or_default();
            if stream.set_nonblocking(true).is_err() || (*count >= MOST_PER_USER && peer.uid != 0) {
                continue;
            }
            let mut connection = Connection {
                stream,
                uid: peer.uid,
                deadline: Instant::now() + PATIENCE,
                state: State::Reading(Vec::with_capacity(64)),
            };
            // The request is mostly there already.
            if matches!(self.proceed(&mut connection), Next::Keep) {
                *count += 1;
                self.connections.push(connection);
            }
        }
    }

    fn proceed(&self, connection: &mut Connection) -> Next {
        if let State::Reading(request) = &mut connection.state {
            match read(&mut connection.stream, request) {
                Ok(Some((wish, key))) => {
                    let Some(answer) = self.answer(&connection.stream, connection.uid, wish, &key)
                    else {
                        return Next::Close;
                    };
                    connection.state = State::Writing(answer, 0);
                }
                Ok(None) => return Next::Keep,
                Err(()) => return Next::Close,
            }
        }
        if let State::Writing(answer, sent) = &mut connection.state {
            while *sent < answer.len() {
                match connection.stream.write(&answer[*sent..]) {
                    Ok(count) if count > 0 => *sent += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Keep,
                    _ => return Next::Close,
                }
            }
        }
        Next::Close
    }

    /// The bytes to send; `None` to close, also when all was sent here.
    fn answer(&self, stream: &UnixStream, uid: u32, wish: Wish, key: &[u8]) -> Option<Vec<u8>> {
        let (nul, name) = key.split_last()?;
        if *nul != 0 {
            return None;
        }
        match wish {
            Wish::Record(query) => {
                let present = self.core.present.get();
                let found = present.find(query, name).map(<[u8]>::to_vec);
                let result = match (&found, present.complete) {
                    (Some(_), _) => "found",
                    (None, true) => "not_found",
                    (None, false) => "unavailable",
                };
                self.core
                    .numbers
                    .answered("socket", question(query), result);
                Some(found.unwrap_or_else(|| record::absent(query, present.complete)))
            }
            Wish::Map(database) => {
                if key != database.key() {
                    return None;
                }
                let present = self.core.present.get();
                let (fd, size) = present.map(database);
                let question = match database {
                    Database::Passwd => "passwd",
                    Database::Group => "group",
                };
                self.core.numbers.answered("map", question, "handed_out");
                let bytes = [key, &size.to_ne_bytes()].concat();
                let _ = sys::fds::send_with_fds(stream, &bytes, &[fd]);
                None
            }
            Wish::Invalidate => {
                let ours = [Database::Passwd, Database::Group]
                    .iter()
                    .any(|one| one.key() == key);
                if uid == 0 && ours {
                    // Full means that it will be done anyway.
                    let _ = self.reload.try_send(());
                }
                (uid == 0).then(|| 0i32.to_ne_bytes().to_vec())
            }
            Wish::Elsewhere(size) => Some(protocol::not_served(size)),
        }
    }
}

fn question(query: Query) -> &'static str {
    match query {
        Query::UserByName | Query::UserById => "passwd",
        Query::GroupByName | Query::GroupById => "group",
        Query::GroupsOfUser => "initgroups",
    }
}

/// Reads on; the whole request once it is there, and never a byte more than it.
fn read(stream: &mut UnixStream, request: &mut Vec<u8>) -> Result<Option<(Wish, Vec<u8>)>, ()> {
    loop {
        let (wish, total) = match request.first_chunk::<HEADER>() {
            None => (None, HEADER),
            Some(head) => {
                let (wish, length) = protocol::request(*head).map_err(|_| ())?;
                (Some(wish), HEADER + length)
            }
        };
        if let Some(wish) = wish
            && request.len() == total
        {
            return Ok(Some((wish, request[HEADER..].to_vec())));
        }
        let start = request.len();
        request.resize(total, 0);
        let read = stream.read(&mut request[start..]);
        request.truncate(start + read.as_ref().map_or(0, |count| *count));
        match read {
            Ok(0) => return Err(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(_) => return Err(()),
        }
    }
}
