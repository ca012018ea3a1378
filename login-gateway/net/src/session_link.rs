//! net's side of the user's session: start programs, connect, listen, and get the descriptors.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_wire::monitor::FromNet;
use gateway_wire::session::{ExitStatus, FromSession, ListenOn, Refusal, ToSession, WindowSize};
use gateway_wire::{MAX_MESSAGE, Policy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::activity::Activity;
use crate::monitor_link::{MonitorLink, Started};
use crate::recording::Recording;
use crate::seqpacket::{Receiver, Sender, split};

/// Patience with a terminal's new size.
const RESIZE_TIME: Duration = Duration::from_secs(1);

/// A program that has started: its descriptors, and later how it ended.
pub struct Running {
    /// The terminal, or standard input, output and error.
    pub fds: Vec<OwnedFd>,
    /// Dropped unsent if the session ends first.
    pub exit: oneshot::Receiver<ExitStatus>,
    /// For a terminal: comes when the program may begin.
    pub admitted: Option<oneshot::Receiver<Admitted>>,
}

/// A program on a terminal that is in the login records. It waits until it is let go, and ends if it
/// never is.
pub struct Admitted {
    /// The file of the terminal's recording, if there is to be one.
    pub file: Option<OwnedFd>,
    go: Option<OwnedFd>,
}

impl Admitted {
    /// Lets it begin.
    pub fn let_go(self) {
        if let Some(go) = self.go {
            // Fails if the program has gone.
            let _ = File::from(go).write_all(b"\n");
        }
    }
}

/// Why the session does not do something.
#[derive(Debug)]
pub struct Refused {
    /// What kind of refusal it is.
    pub kind: Refusal,
    /// The session's words.
    pub reason: String,
}

/// A connection that somebody made to a listener of this login.
pub struct Accepted {
    /// The listener.
    pub on: ListenOn,
    /// Its TCP port.
    pub listening: u16,
    /// Address of who connected.
    pub address: String,
    /// Their port.
    pub port: u16,
    /// The connection.
    pub socket: OwnedFd,
}

/// How far the session is.
#[derive(Clone)]
enum State {
    Starting,
    Running(Arc<Policy>),
    Ended,
}

#[derive(Default)]
struct Waiting {
    starting: HashMap<u32, oneshot::Sender<Result<Running, Refused>>>,
    running: HashMap<u32, oneshot::Sender<ExitStatus>>,
    resizing: HashMap<u32, oneshot::Sender<()>>,
    /// Terminals by channel, N of `/dev/pts/N`.
    terminals: HashMap<u32, u32>,
    recordings: HashMap<u32, Arc<Recording>>,
    connecting: HashMap<u32, oneshot::Sender<Result<OwnedFd, Refused>>>,
    opening: HashMap<u32, (ListenOn, oneshot::Sender<Result<u16, Refused>>)>,
    listeners: HashMap<u32, (ListenOn, u16)>,
    ended: bool,
}

/// Asks the session. Messages may be sent before the session exists: they wait for it.
#[derive(Clone)]
pub struct SessionLink {
    queue: mpsc::UnboundedSender<ToSession>,
    waiting: Arc<Mutex<Waiting>>,
    state: watch::Receiver<State>,
    records: Records,
    numbered: Arc<AtomicU32>,
}

/// Terminals that were opened or closed, N of `/dev/pts/N`.
type Records = mpsc::UnboundedSender<(u32, Option<Opened>)>;

/// A terminal whose program waits for its entry in the records.
struct Opened {
    /// Lets it begin, by a byte.
    go: Option<OwnedFd>,
    admitted: oneshot::Sender<Admitted>,
}

impl SessionLink {
    /// Starts the link; `session` comes when the monitor has opened it. The second value tells of
    /// connections to the login's listeners.
    pub fn start(
        session: oneshot::Receiver<Started>,
        monitor: Arc<MonitorLink>,
    ) -> (Self, mpsc::UnboundedReceiver<Accepted>) {
        let (queue, messages) = mpsc::unbounded_channel();
        let (records, recording) = mpsc::unbounded_channel();
        tokio::spawn(record(recording, monitor));
        let (accepted, connections) = mpsc::unbounded_channel();
        let (tell, state) = watch::channel(State::Starting);
        let waiting = Arc::<Mutex<Waiting>>::default();
        let link = Self {
            queue,
            waiting: waiting.clone(),
            state,
            records: records.clone(),
            numbered: Arc::default(),
        };
        let events = Events { accepted, records };
        tokio::spawn(async move {
            if let Ok(Started { socket, policy }) = session.await {
                tell.send_replace(State::Running(Arc::new(policy)));
                if let Err(error) = serve(socket, messages, &waiting, &events).await {
                    eprintln!("error: message from the session: {error}");
                }
            }
            tell.send_replace(State::Ended);
            // Dropping the senders tells every channel that the session is gone.
            *lock(&waiting) = Waiting {
                ended: true,
                ..Waiting::default()
            };
        });
        (link, connections)
    }

    /// A number that nothing else of this login has: channels and listeners are named by it.
    pub fn number(&self) -> u32 {
        self.numbered.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What the login may do, as soon as the session is there; `None` if there is none any more.
    pub async fn policy(&self) -> Option<Arc<Policy>> {
        let mut state = self.state.clone();
        let decided = state.wait_for(|state| !matches!(state, State::Starting));
        match &*decided.await.ok()? {
            State::Running(policy) => Some(policy.clone()),
            State::Starting | State::Ended => None,
        }
    }

    /// What the login may do, if the session is there.
    pub fn known_policy(&self) -> Option<Arc<Policy>> {
        match &*self.state.borrow() {
            State::Running(policy) => Some(policy.clone()),
            State::Starting | State::Ended => None,
        }
    }

    /// Resolves when the policy's time of a silent channel of this kind is over.
    pub async fn expired(&self, activity: &Activity, kind: &str) {
        let Some(policy) = self.policy().await else {
            return std::future::pending().await;
        };
        let time = activity.expired(&policy, kind).await;
        let seconds = time.as_secs_f32();
        eprintln!("info: a channel ({kind}) is closed after {seconds} seconds of silence");
    }

    /// Starts a program for `channel`.
    ///
    /// # Errors
    /// The session's refusal, or ours if it is gone.
    pub async fn run(&self, channel: u32, start: ToSession) -> Result<Running, Refused> {
        self.ask(start, |waiting, answer| {
            waiting.starting.insert(channel, answer);
        })
        .await
    }

    /// Connects for `channel`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn connect(&self, channel: u32, connect: ToSession) -> Result<OwnedFd, Refused> {
        self.ask(connect, |waiting, answer| {
            waiting.connecting.insert(channel, answer);
        })
        .await
    }

    /// Listens; the answer is the TCP port.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn listen(&self, listener: u32, on: ListenOn) -> Result<u16, Refused> {
        let question = ToSession::Listen {
            channel: listener,
            on: on.clone(),
        };
        self.ask(question, |waiting, answer| {
            waiting.opening.insert(listener, (on, answer));
        })
        .await
    }

    /// Gives a terminal its new size, and waits until it has it.
    pub async fn resize(&self, channel: u32, size: WindowSize) {
        let (sender, resized) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.ended {
                return;
            }
            waiting.resizing.insert(channel, sender);
            if let Some(recording) = waiting.recordings.get(&channel) {
                recording.resized(size);
            }
        }
        self.tell(ToSession::Resize { channel, size });
        // Keys may overtake it where the session takes its time.
        let _ = tokio::time::timeout(RESIZE_TIME, resized).await;
    }

    /// From now on a new size goes into this recording as well.
    pub fn recorded(&self, channel: u32, recording: Arc<Recording>) {
        lock(&self.waiting).recordings.insert(channel, recording);
    }

    /// Ends what has this number: a channel or a listener.
    pub fn close(&self, number: u32) {
        let mut waiting = lock(&self.waiting);
        waiting.listeners.remove(&number);
        waiting.starting.remove(&number);
        waiting.connecting.remove(&number);
        waiting.running.remove(&number);
        waiting.resizing.remove(&number);
        waiting.recordings.remove(&number);
        if let Some(terminal) = waiting.terminals.remove(&number) {
            let _ = self.records.send((terminal, None));
        }
        drop(waiting);
        self.tell(ToSession::Closed { channel: number });
    }

    /// Sends what needs no answer.
    pub fn tell(&self, message: ToSession) {
        // An ended session needs no word.
        if fits(&message) {
            let _ = self.queue.send(message);
        }
    }

    async fn ask<T>(
        &self,
        question: ToSession,
        wait: impl FnOnce(&mut Waiting, oneshot::Sender<Result<T, Refused>>),
    ) -> Result<T, Refused> {
        let gone = || Refused {
            kind: Refusal::Failed,
            reason: "the session has ended".to_owned(),
        };
        if !fits(&question) {
            return Err(Refused {
                kind: Refusal::Failed,
                reason: format!("the request is longer than {} KiB", MAX_MESSAGE / 1024),
            });
        }
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.ended {
                return Err(gone());
            }
            wait(&mut waiting, sender);
        }
        self.tell(question);
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Whether the session can be told this: a client may ask for more than one message holds, and that must
/// not end the session.
fn fits(message: &ToSession) -> bool {
    gateway_wire::encode(message).is_ok()
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    socket: OwnedFd,
    mut messages: mpsc::UnboundedReceiver<ToSession>,
    waiting: &Mutex<Waiting>,
    events: &Events,
) -> io::Result<()> {
    let (sender, mut receiver): (Sender<ToSession>, Receiver<FromSession>) = split(socket)?;
    let send = async {
        while let Some(message) = messages.recv().await {
            sender.send(&message).await?;
        }
        io::Result::Ok(())
    };
    let receive = async {
        while let Some((message, fds)) = receiver.receive().await? {
            dispatch(message, fds, waiting, events);
        }
        io::Result::Ok(())
    };
    tokio::select! {
        sent = send => sent,
        received = receive => received,
    }
}

/// Who hears of what the session tells unasked.
struct Events {
    accepted: mpsc::UnboundedSender<Accepted>,
    records: Records,
}

/// Tells the monitor of terminals, in their order, and their channels when a terminal is in the login
/// records and the file of its recording is there.
async fn record(
    mut terminals: mpsc::UnboundedReceiver<(u32, Option<Opened>)>,
    monitor: Arc<MonitorLink>,
) {
    while let Some((number, opened)) = terminals.recv().await {
        let open = opened.is_some();
        let terminal = FromNet::Terminal { number, open };
        match opened {
            Some(opened) => {
                // Without an answer the login ends, and what waits does not begin.
                if let Some((_, file)) = monitor.ask_for_fd(terminal).await {
                    let go = opened.go;
                    let _ = opened.admitted.send(Admitted { file, go });
                }
            }
            None => {
                let _ = monitor.tell(terminal).await;
            }
        }
    }
}

/// An answer for a channel that has gone meanwhile is dropped, and its descriptors are closed.
fn dispatch(
    message: FromSession,
    mut fds: Vec<OwnedFd>,
    waiting: &Mutex<Waiting>,
    events: &Events,
) {
    let mut waiting = lock(waiting);
    match message {
        FromSession::Started { channel, terminal } => {
            if let Some(started) = waiting.starting.remove(&channel) {
                let admitted = terminal.map(|number| {
                    let (admitted, receiver) = oneshot::channel();
                    let go = fds.pop();
                    waiting.terminals.insert(channel, number);
                    let _ = events.records.send((number, Some(Opened { go, admitted })));
                    receiver
                });
                let (sender, exit) = oneshot::channel();
                waiting.running.insert(channel, sender);
                let _ = started.send(Ok(Running {
                    fds,
                    exit,
                    admitted,
                }));
            }
        }
        FromSession::Resized { channel } => {
            waiting.resizing.remove(&channel);
        }
        FromSession::Connected { channel } => {
            if let (Some(connected), Some(socket)) =
                (waiting.connecting.remove(&channel), fds.into_iter().next())
            {
                let _ = connected.send(Ok(socket));
            }
        }
        FromSession::Listening { channel, port } => {
            if let Some((on, listening)) = waiting.opening.remove(&channel) {
                waiting.listeners.insert(channel, (on, port));
                let _ = listening.send(Ok(port));
            }
        }
        FromSession::Accepted {
            channel,
            address,
            port,
        } => {
            if let (Some((on, listening)), Some(socket)) =
                (waiting.listeners.get(&channel), fds.into_iter().next())
            {
                let _ = events.accepted.send(Accepted {
                    on: on.clone(),
                    listening: *listening,
                    address,
                    port,
                    socket,
                });
            }
        }
        FromSession::Refused {
            channel,
            kind,
            reason,
        } => {
            let refused = Refused { kind, reason };
            if let Some(started) = waiting.starting.remove(&channel) {
                let _ = started.send(Err(refused));
            } else if let Some(connected) = waiting.connecting.remove(&channel) {
                let _ = connected.send(Err(refused));
            } else if let Some((_, listening)) = waiting.opening.remove(&channel) {
                let _ = listening.send(Err(refused));
            }
        }
        FromSession::Exited { channel, status } => {
            if let Some(exit) = waiting.running.remove(&channel) {
                let _ = exit.send(status);
            }
        }
    }
}
