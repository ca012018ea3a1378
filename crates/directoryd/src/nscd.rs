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

use crate::{
    core::Core,
    jobs::Domains,
    reload::Closing,
    wanted::{Asker, Wanted},
};

/// Most connections at a time, half of the descriptors that are usual; and most of one user, so that one
/// cannot lock out the others.
const MOST: usize = 512;
const MOST_PER_USER: usize = 128;
/// How long a request and its answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long somebody waits for the directory server, where it cannot be listed; and most who wait, of one user.
const ASKING: Duration = Duration::from_millis(1500);
const MOST_WAITING: usize = 16;
/// How long, and of how many entries at most, it is remembered that the server has none.
const NOBODY: Duration = Duration::from_secs(10);
const MOST_NOBODIES: usize = 4096;
/// The loop turns at least this often.
const TICK: Duration = Duration::from_secs(1);

/// The server's loop.
pub struct Server {
    listener: UnixListener,
    core: Arc<Core>,
    /// Who is asked where the directory cannot be listed, and what rings when there is an answer.
    sync: Domains,
    bell: UnixStream,
    rung: UnixStream,
    /// How many wait for it, by user, at this turn.
    waiting: HashMap<u32, usize>,
    /// Whom the server did not have, and when.
    nobodies: HashMap<Wanted, Instant>,
    /// Counted up at every turn, for the watchdog.
    turns: Arc<AtomicU64>,
    /// Ends it.
    closing: Arc<Closing>,
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
    Waiting(Box<Waiting>),
    Writing(Vec<u8>, usize),
}

/// Somebody who waits for the directory server.
struct Waiting {
    query: Query,
    key: Vec<u8>,
    wanted: Wanted,
    answered: mpsc::Receiver<bool>,
    until: Instant,
}

/// What a request comes to.
enum Reply {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The server must be asked.
    Ask(Query, Wanted),
    /// Nothing more.
    Close,
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
        sync: Domains,
        turns: Arc<AtomicU64>,
        closing: Arc<Closing>,
        reload: mpsc::SyncSender<()>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (bell, rung) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rung.set_nonblocking(true)?;
        Ok(Self {
            listener,
            core,
            sync,
            bell,
            rung,
            waiting: HashMap::new(),
            nobodies: HashMap::new(),
            turns,
            closing,
            reload,
            connections: Vec::new(),
        })
    }

    /// Serves until it is to end.
    pub fn run(mut self) {
        while !self.closing.is_said() || !self.connections.is_empty() {
            self.turns.fetch_add(1, Ordering::Relaxed);
            let (new, ready) = self.wait();
            // However often it rang.
            while matches!(self.rung.read(&mut [0; 64]), Ok(1..)) {}
            let now = Instant::now();
            self.waiting.clear();
            for connection in &self.connections {
                if let State::Waiting(_) = connection.state {
                    *self.waiting.entry(connection.uid).or_default() += 1;
                }
            }
            let connections = std::mem::take(&mut self.connections);
            for (mut connection, ready) in connections.into_iter().zip(ready) {
                let next = match (&connection.state, ready) {
                    // One who waits has nothing more to say but that there is nobody any more.
                    (State::Waiting(_), true) => Next::Close,
                    (State::Waiting(_), false) | (_, true) => self.proceed(&mut connection),
                    (_, false) => Next::Keep,
                };
                if matches!(next, Next::Keep) && connection.deadline > now {
                    self.connections.push(connection);
                }
            }
            if new && !self.closing.is_said() {
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
            let end = match &connection.state {
                State::Waiting(waiting) => waiting.until,
                State::Reading(_) | State::Writing(..) => connection.deadline,
            };
            patience = patience.min(end.saturating_duration_since(now));
            let events = match connection.state {
                State::Reading(_) => PollFlags::POLLIN,
                State::Waiting(_) => PollFlags::empty(),
                State::Writing(..) => PollFlags::POLLOUT,
            };
            fds.push(PollFd::new(connection.stream.as_fd(), events));
        }
        fds.push(PollFd::new(self.rung.as_fd(), PollFlags::POLLIN));
        let open = self.connections.len() < MOST && !self.closing.is_said();
        if open {
            fds.push(PollFd::new(self.closing.as_fd(), PollFlags::POLLIN));
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
        let new = open && ready.pop() == Some(true);
        // What only wakes us up.
        ready.truncate(self.connections.len());
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

    fn proceed(&mut self, connection: &mut Connection) -> Next {
        if let State::Reading(request) = &mut connection.state {
            match read(&mut connection.stream, request) {
                Ok(Some((wish, key))) => {
                    let reply = self.answer(&connection.stream, connection.uid, wish, &key);
                    connection.state = match reply {
                        Reply::Bytes(answer) => State::Writing(answer, 0),
                        Reply::Ask(query, wanted) => self.ask(connection.uid, query, &key, wanted),
                        Reply::Close => return Next::Close,
                    };
                }
                Ok(None) => return Next::Keep,
                Err(()) => return Next::Close,
            }
        }
        if let State::Waiting(waiting) = &connection.state {
            let Some(answer) = self.answered(waiting) else {
                return Next::Keep;
            };
            connection.state = State::Writing(answer, 0);
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

    /// What to send, or to do.
    fn answer(&self, stream: &UnixStream, uid: u32, wish: Wish, key: &[u8]) -> Reply {
        let Some((0, name)) = key.split_last() else {
            return Reply::Close;
        };
        match wish {
            Wish::Record(query) => {
                let present = self.core.present.get();
                let wanted = match present.find(query, name) {
                    None if !present.complete => self.core.wanted(query, name),
                    _ => None,
                };
                match wanted {
                    Some(wanted) => Reply::Ask(query, wanted),
                    None => Reply::Bytes(self.record(query, name, present.complete)),
                }
            }
            Wish::Map(database) => {
                if key != database.key() {
                    return Reply::Close;
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
                Reply::Close
            }
            Wish::Invalidate => {
                let ours = [Database::Passwd, Database::Group]
                    .iter()
                    .any(|one| one.key() == key);
                if uid == 0 && ours {
                    // Full means that it will be done anyway.
                    let _ = self.reload.try_send(());
                }
                match uid {
                    0 => Reply::Bytes(0i32.to_ne_bytes().to_vec()),
                    _ => Reply::Close,
                }
            }
            Wish::Elsewhere(size) => Reply::Bytes(protocol::not_served(size)),
        }
    }

    /// What is served under a key now; `known` if what is not does not exist.
    fn record(&self, query: Query, name: &[u8], known: bool) -> Vec<u8> {
        let present = self.core.present.get();
        let found = present.find(query, name).map(<[u8]>::to_vec);
        let result = match (&found, known) {
            (Some(_), _) => "found",
            (None, true) => "not_found",
            (None, false) => "unavailable",
        };
        self.core
            .numbers
            .answered("socket", question(query), result);
        found.unwrap_or_else(|| record::absent(query, known))
    }

    /// Has the directory server asked, if that was not just done and the user does not ask too much.
    fn ask(&mut self, uid: u32, query: Query, key: &[u8], wanted: Wanted) -> State {
        let name = key.strip_suffix(b"\0").unwrap_or(key);
        let now = Instant::now();
        let since = self.nobodies.get(&wanted);
        if since.is_some_and(|since| now.duration_since(*since) < NOBODY) {
            return State::Writing(self.record(query, name, true), 0);
        }
        let waiting = self.waiting.entry(uid).or_default();
        let (Ok(bell), true) = (self.bell.try_clone(), *waiting < MOST_WAITING) else {
            return State::Writing(self.record(query, name, false), 0);
        };
        *waiting += 1;
        let (asker, answered) = Asker::new(bell);
        self.sync.find(wanted.clone(), asker);
        State::Waiting(Box::new(Waiting {
            query,
            key: name.to_vec(),
            wanted,
            answered,
            until: now + ASKING,
        }))
    }

    /// The answer, as soon as the server has said something or will not do so in time.
    fn answered(&mut self, waiting: &Waiting) -> Option<Vec<u8>> {
        let now = Instant::now();
        let known = match waiting.answered.try_recv() {
            Ok(known) => known,
            Err(mpsc::TryRecvError::Disconnected) => false,
            Err(mpsc::TryRecvError::Empty) if now >= waiting.until => false,
            Err(mpsc::TryRecvError::Empty) => return None,
        };
        let present = self.core.present.get();
        if known && present.find(waiting.query, &waiting.key).is_none() {
            if self.nobodies.len() >= MOST_NOBODIES {
                self.nobodies
                    .retain(|_, since| now.duration_since(*since) < NOBODY);
            }
            if self.nobodies.len() < MOST_NOBODIES {
                self.nobodies.insert(waiting.wanted.clone(), now);
            }
        }
        Some(self.record(waiting.query, &waiting.key, known))
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
