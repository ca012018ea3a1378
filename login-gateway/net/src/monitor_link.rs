//! net's side of the monitor: ask, wait for the answer, learn of the session.

use std::io;
use std::os::fd::OwnedFd;

use gateway_wire::monitor::{FromNet, ToNet};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::seqpacket::{Receiver, Sender};

/// Asks the monitor. One question at a time.
pub struct MonitorLink {
    sender: Sender<FromNet>,
    answers: Mutex<mpsc::Receiver<bool>>,
}

impl MonitorLink {
    /// Starts to listen. The second value becomes the session's socket; it is dropped if the
    /// monitor goes away.
    pub fn start(
        sender: Sender<FromNet>,
        receiver: Receiver<ToNet>,
    ) -> (Self, oneshot::Receiver<OwnedFd>) {
        let (answer, answers) = mpsc::channel(1);
        let (session, started) = oneshot::channel();
        tokio::spawn(async move {
            if let Err(error) = listen(receiver, answer, session).await {
                eprintln!("error: message from the monitor: {error}");
            }
        });
        (
            Self {
                sender,
                answers: Mutex::new(answers),
            },
            started,
        )
    }

    /// Sends a question and waits for yes or no. A monitor that is gone has said no.
    pub async fn ask(&self, question: FromNet) -> bool {
        let mut answers = self.answers.lock().await;
        match self.sender.send(&question).await {
            Ok(()) => answers.recv().await.unwrap_or(false),
            Err(_) => false,
        }
    }

    /// Sends what needs no answer.
    pub async fn tell(&self, message: FromNet) -> io::Result<()> {
        self.sender.send(&message).await
    }
}

async fn listen(
    mut receiver: Receiver<ToNet>,
    answer: mpsc::Sender<bool>,
    session: oneshot::Sender<OwnedFd>,
) -> io::Result<()> {
    let mut session = Some(session);
    while let Some((message, fds)) = receiver.receive().await? {
        match message {
            ToNet::Accepted => drop(answer.try_send(true)),
            ToNet::Refused => drop(answer.try_send(false)),
            ToNet::Session => {
                if let (Some(session), Some(fd)) = (session.take(), fds.into_iter().next()) {
                    let _ = session.send(fd);
                }
            }
        }
    }
    Ok(())
}
