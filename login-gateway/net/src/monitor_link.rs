//! net's side of the monitor: ask, wait for the answer, learn of the session.

use std::io;
use std::os::fd::OwnedFd;

use gateway_wire::Policy;
use gateway_wire::monitor::{FromNet, ToNet};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::seqpacket::{Receiver, Sender};

/// The user's session, when it has started.
pub struct Started {
    /// Its socket.
    pub socket: OwnedFd,
    /// What the login may do.
    pub policy: Policy,
}

/// The end, in the monitor's words.
pub struct Farewell {
    /// For the client.
    pub words: String,
    /// Dropped when they are on their way: what was asked of the monitor then has no answer.
    pub queued: oneshot::Sender<()>,
}

/// Asks the monitor. One question at a time.
pub struct MonitorLink {
    sender: Sender<FromNet>,
    answers: Mutex<mpsc::Receiver<(ToNet, Option<OwnedFd>)>>,
}

impl MonitorLink {
    /// Starts to listen. The second value becomes the session, the third the words with which the
    /// monitor ends the connection; both are dropped if it goes away.
    pub fn start(
        sender: Sender<FromNet>,
        receiver: Receiver<ToNet>,
    ) -> (
        Self,
        oneshot::Receiver<Started>,
        oneshot::Receiver<Farewell>,
    ) {
        let (answer, answers) = mpsc::channel(1);
        let (session, started) = oneshot::channel();
        let (farewell, ended) = oneshot::channel();
        tokio::spawn(async move {
            if let Err(error) = listen(receiver, answer, session, farewell).await {
                eprintln!("error: message from the monitor: {error}");
            }
        });
        (
            Self {
                sender,
                answers: Mutex::new(answers),
            },
            started,
            ended,
        )
    }

    /// Sends a question and waits for the answer; `None` if the monitor is gone.
    pub async fn ask(&self, question: FromNet) -> Option<ToNet> {
        Some(self.ask_for_fd(question).await?.0)
    }

    /// The same for an answer that may come with a descriptor.
    pub async fn ask_for_fd(&self, question: FromNet) -> Option<(ToNet, Option<OwnedFd>)> {
        let mut answers = self.answers.lock().await;
        self.sender.send(&question).await.ok()?;
        answers.recv().await
    }

    /// Sends what needs no answer.
    pub async fn tell(&self, message: FromNet) -> io::Result<()> {
        self.sender.send(&message).await
    }
}

async fn listen(
    mut receiver: Receiver<ToNet>,
    answer: mpsc::Sender<(ToNet, Option<OwnedFd>)>,
    session: oneshot::Sender<Started>,
    farewell: oneshot::Sender<Farewell>,
) -> io::Result<()> {
    let mut session = Some(session);
    let mut answer = Some(answer);
    let mut farewell = Some(farewell);
    while let Some((message, fds)) = receiver.receive().await? {
        match message {
            ToNet::Session(policy) => {
                if let (Some(session), Some(socket)) = (session.take(), fds.into_iter().next()) {
                    let policy = *policy;
                    let _ = session.send(Started { socket, policy });
                }
            }
            ToNet::Farewell(words) => {
                let (queued, words_are_queued) = oneshot::channel();
                drop(farewell.take().map(|f| f.send(Farewell { words, queued })));
                let _ = words_are_queued.await;
                // What has not come by now never will. Who waits for it does so in russh's loop and would
                // keep the words from going out.
                session = None;
                answer = None;
            }
            answered => {
                let first = fds.into_iter().next();
                drop(
                    answer
                        .as_ref()
                        .map(|answer| answer.try_send((answered, first))),
                );
            }
        }
    }
    Ok(())
}
