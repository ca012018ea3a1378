//! net's side of the user's session: start programs, get their descriptors and how they ended.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gateway_wire::Policy;
use gateway_wire::monitor::FromNet;
use gateway_wire::session::{ExitStatus, FromSession, ToSession};
use tokio::sync::{mpsc, oneshot};

use crate::monitor_link::{MonitorLink, Started};
use crate::seqpacket::{Receiver, Sender, split};

/// A program that has started: its descriptors, and later how it ended.
pub struct Running {
    /// The terminal, or standard input, output and error.
    pub fds: Vec<OwnedFd>,
    /// Dropped unsent if the session ends first.
    pub exit: oneshot::Receiver<ExitStatus>,
}

#[derive(Default)]
struct Waiting {
    starting: HashMap<u32, oneshot::Sender<Result<Running, String>>>,
    running: HashMap<u32, oneshot::Sender<ExitStatus>>,
    /// Terminals by channel, N of `/dev/pts/N`.
    terminals: HashMap<u32, u32>,
    ended: bool,
}

/// Asks the session. Messages may be sent before the session exists: they wait for it.
#[derive(Clone)]
pub struct SessionLink {
    queue: mpsc::UnboundedSender<ToSession>,
    waiting: Arc<Mutex<Waiting>>,
    policy: Arc<OnceLock<Policy>>,
    records: Records,
}

/// Terminals that were opened, with what lets their program begin, or closed.
type Records = mpsc::UnboundedSender<(u32, Option<OwnedFd>)>;

impl SessionLink {
    /// Starts the link; `session` comes when the monitor has opened it.
    pub fn start(session: oneshot::Receiver<Started>, monitor: Arc<MonitorLink>) -> Self {
        let (queue, messages) = mpsc::unbounded_channel();
        let (records, recording) = mpsc::unbounded_channel();
        tokio::spawn(record(recording, monitor));
        let link = Self {
            queue,
            waiting: Arc::default(),
            policy: Arc::default(),
            records: records.clone(),
        };
        let (waiting, policy) = (link.waiting.clone(), link.policy.clone());
        tokio::spawn(async move {
            if let Ok(started) = session.await
                && policy.set(started.policy).is_ok()
                && let Err(error) = serve(started.socket, messages, &waiting, &records).await
            {
                eprintln!("error: message from the session: {error}");
            }
            // Dropping the senders tells every channel that the session is gone.
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            *waiting = Waiting {
                ended: true,
                ..Waiting::default()
            };
        });
        link
    }

    /// Starts a program for `channel`.
    ///
    /// # Errors
    /// The session's words, or ours if it is gone.
    pub async fn run(&self, channel: u32, start: ToSession) -> Result<Running, String> {
        let gone = || "the session has ended".to_owned();
        let (sender, started) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.ended {
                return Err(gone());
            }
            waiting.starting.insert(channel, sender);
        }
        self.tell(start);
        started.await.unwrap_or_else(|_| Err(gone()))
    }

    /// What the login may do; `None` while the session is on its way.
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.get()
    }

    /// Sends what needs no answer.
    pub fn tell(&self, message: ToSession) {
        if let ToSession::Closed { channel } = &message {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(number) = waiting.terminals.remove(channel) {
                let _ = self.records.send((number, None));
            }
        }
        // An ended session needs no word.
        let _ = self.queue.send(message);
    }
}

async fn serve(
    socket: OwnedFd,
    mut messages: mpsc::UnboundedReceiver<ToSession>,
    waiting: &Mutex<Waiting>,
    records: &Records,
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
            dispatch(message, fds, waiting, records);
        }
        io::Result::Ok(())
    };
    tokio::select! {
        sent = send => sent,
        received = receive => received,
    }
}

/// Tells the monitor of terminals, in their order, and lets a program begin when its terminal is in
/// the login records.
async fn record(
    mut terminals: mpsc::UnboundedReceiver<(u32, Option<OwnedFd>)>,
    monitor: Arc<MonitorLink>,
) {
    while let Some((number, go)) = terminals.recv().await {
        let open = go.is_some();
        let terminal = FromNet::Terminal { number, open };
        if open {
            let _ = monitor.ask(terminal).await;
        } else {
            let _ = monitor.tell(terminal).await;
        }
    }
}

fn dispatch(
    message: FromSession,
    mut fds: Vec<OwnedFd>,
    waiting: &Mutex<Waiting>,
    records: &Records,
) {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    match message {
        FromSession::Started { channel, terminal } => {
            if let Some(number) = terminal {
                let go = fds.pop();
                waiting.terminals.insert(channel, number);
                let _ = records.send((number, go));
            }
            if let Some(started) = waiting.starting.remove(&channel) {
                let (sender, exit) = oneshot::channel();
                waiting.running.insert(channel, sender);
                let _ = started.send(Ok(Running { fds, exit }));
            }
        }
        FromSession::Refused { channel, reason } => {
            if let Some(started) = waiting.starting.remove(&channel) {
                let _ = started.send(Err(reason));
            }
        }
        FromSession::Exited { channel, status } => {
            if let Some(exit) = waiting.running.remove(&channel) {
                let _ = exit.send(status);
            }
        }
        FromSession::Connected { .. }
        | FromSession::Listening { .. }
        | FromSession::Accepted { .. } => {}
    }
}
