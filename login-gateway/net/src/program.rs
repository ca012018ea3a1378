//! A program of the user's on a session channel: its three pipes or its terminal, and how it ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gateway_wire::session::{ExitStatus, Pty, ToSession};
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf, Sig};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::activity::Activity;
use crate::channel::{FromClient, feed, pump};
use crate::pause::Ending;
use crate::recording::Recording;
use crate::seqpacket::register;
use crate::session_link::{Admitted, Running, SessionLink};

/// `SSH_EXTENDED_DATA_STDERR`, RFC 4254 section 5.2.
const STDERR: u32 = 1;

/// After a program on a terminal has ended, how long its last output may take through the terminal
/// when a background process keeps the terminal open.
const LAST_OUTPUT: Duration = Duration::from_millis(100);

/// Between the end of a program's outputs and the news of its own end there is a signal and a
/// message; a program that takes longer than this has only closed its outputs.
const STATUS_TIME: Duration = Duration::from_millis(100);

/// A program's channel, ready to run.
pub struct Program {
    /// Number between net and session.
    pub number: u32,
    /// russh's number.
    pub id: ChannelId,
    /// Towards the client.
    pub client: ChannelWriteHalf<Msg>,
    /// From the client.
    pub from: FromClient,
    /// The connection, for messages that the channel's half cannot send.
    pub handle: Handle,
    /// The user's session.
    pub session: SessionLink,
    /// Of this channel.
    pub activity: Arc<Activity>,
    /// How far it has come to its end.
    pub ending: Arc<Ending>,
    /// Which kind of channel it is, for its time-out.
    pub kind: String,
}

impl Program {
    /// Starts the program and carries its bytes until both sides are done. Ends with an explicit
    /// exit-status, EOF and close, as dropping a channel says nothing (T20).
    pub async fn run(self, start: ToSession) {
        self.activity.moved();
        let _metered = self.activity.meter.open(&self.kind);
        tokio::select! {
            () = self.serve(start) => {}
            // As under sshd the client hears no status, and what runs loses its terminal or pipes.
            () = self.session.expired(&self.activity, &self.kind) => {}
        }
        let _ = self.client.close().await;
    }

    async fn serve(&self, start: ToSession) {
        let pty = match &start {
            ToSession::Start { pty, .. } => pty.clone(),
            _ => None,
        };
        match self.session.run(self.number, start).await {
            Ok(running) => self.carry(running, pty).await,
            Err(refused) => {
                let text = format!("login-gateway: {}\r\n", refused.reason);
                let text = self.client.extended_data_bytes(STDERR, text.into_bytes());
                tokio::select! {
                    _ = text => {}
                    () = self.from.closed() => {}
                }
                let _ = self.client.exit_status(255).await;
                let _ = self.client.eof().await;
            }
        }
    }

    async fn carry(&self, running: Running, pty: Option<Pty>) {
        let Running {
            fds,
            exit,
            admitted,
        } = running;
        let registered: io::Result<Vec<_>> = fds.into_iter().map(register).collect();
        let mut fds = match registered {
            Ok(fds) => fds,
            Err(error) => {
                eprintln!("error: descriptors of a program: {error}");
                return;
            }
        };
        if fds.len() == 1 {
            let terminal = Arc::new(fds.remove(0));
            let carried = match self.recording(admitted, pty).await {
                Ok(recording) => self.terminal(&terminal, exit, recording.as_deref()).await,
                Err(error) => Err(error),
            };
            if let Err(error) = carried {
                // The hang-up waits for no client that takes no words.
                drop(terminal);
                self.session.close(self.number);
                self.not_recorded(&error).await;
            }
        } else if fds.len() == 3 {
            let (error, output, input) = (fds.remove(2), fds.remove(1), fds.remove(0));
            self.pipes(input, output, error, exit).await;
        }
    }

    /// Carries input and both outputs to their end and reports the program's.
    async fn pipes(
        &self,
        input: AsyncFd<OwnedFd>,
        output: AsyncFd<OwnedFd>,
        error: AsyncFd<OwnedFd>,
        mut exit: oneshot::Receiver<ExitStatus>,
    ) {
        let inbox = self.from.inbox.clone();
        // The client's EOF closes the program's input.
        let mut feeder = Feeder(tokio::spawn(async move { feed(&input, &inbox).await }));
        let gone = tokio::select! {
            () = self.outputs(&output, &error, &mut exit) => false,
            () = self.from.closed() => true,
        };
        if gone {
            // Nobody hears the program any more; what the client said before is still for it.
            drop((output, error));
            tokio::select! {
                _ = &mut feeder.0 => {}
                _ = &mut exit => {}
            }
        }
    }

    /// The status goes before EOF where it can: dropbear's client leaves at EOF and takes what it
    /// knows by then. A program that only closes its outputs and goes on gets its EOF all the same,
    /// unless the client has sent its own: with both it may close the channel (see `pause`).
    async fn outputs(
        &self,
        output: &AsyncFd<OwnedFd>,
        error: &AsyncFd<OwnedFd>,
        exit: &mut oneshot::Receiver<ExitStatus>,
    ) {
        let mut outputs = std::pin::pin!(async {
            let (client, activity) = (&self.client, &*self.activity);
            let _ = tokio::join!(
                pump(output, client, None, activity, |_| Ok(())),
                pump(error, client, Some(STDERR), activity, |_| Ok(()))
            );
        });
        let mut status = None;
        loop {
            tokio::select! {
                ended = &mut *exit, if status.is_none() => status = Some(ended.ok()),
                () = &mut outputs => break,
            }
        }
        if status.is_none() {
            let ended = tokio::time::timeout(STATUS_TIME, &mut *exit).await;
            status = ended.ok().map(Result::ok);
        }
        let early = status.is_none() && !self.from.inbox.ended() && self.ending.fall_silent();
        if early {
            let _ = self.client.eof().await;
        }
        let status = match status {
            Some(status) => status,
            None => exit.await.ok(),
        };
        self.report(status).await;
        if !early {
            let _ = self.client.eof().await;
        }
    }

    /// A terminal's end is its program's end: background processes may keep it open. The client's
    /// EOF leaves it open too.
    ///
    /// # Errors
    /// If what it shows cannot be recorded.
    async fn terminal(
        &self,
        terminal: &Arc<AsyncFd<OwnedFd>>,
        mut exit: oneshot::Receiver<ExitStatus>,
        recording: Option<&Recording>,
    ) -> io::Result<()> {
        let (keys, inbox) = (terminal.clone(), self.from.inbox.clone());
        let _feeder = Feeder(tokio::spawn(async move { feed(&keys, &inbox).await }));
        let failed = OnceLock::new();
        let copy = |data: &[u8]| {
            let written = recording.map_or(Ok(()), |recording| recording.output(data));
            written.map_err(|error| {
                let kind = error.kind();
                let _ = failed.set(error);
                kind.into()
            })
        };
        let output = pump(terminal, &self.client, None, &self.activity, copy);
        let mut output = std::pin::pin!(output);
        let mut silent = false;
        let status = loop {
            tokio::select! {
                status = &mut exit => break Some(status.ok()),
                // The last process has closed the terminal; its status is on its way.
                _ = &mut output, if !silent => match failed.get() {
                    Some(error) => return Err(io::Error::new(error.kind(), error.to_string())),
                    None => silent = true,
                },
                () = self.from.closed() => break None,
            }
        };
        if let Some(status) = status {
            if !silent {
                let _ = tokio::time::timeout(LAST_OUTPUT, output).await;
            }
            self.report(status).await;
            let _ = self.client.eof().await;
        }
        Ok(())
    }

    /// Lets the program begin, and returns the recording of its terminal if there is to be one. Where it
    /// cannot be begun, the program does not begin either: there may be a file and no room in it.
    async fn recording(
        &self,
        admitted: Option<oneshot::Receiver<Admitted>>,
        pty: Option<Pty>,
    ) -> io::Result<Option<Arc<Recording>>> {
        let (Some(admitted), Some(pty)) = (admitted, pty) else {
            return Ok(None);
        };
        // Without an answer the login ends.
        let Ok(mut admitted) = admitted.await else {
            return Ok(None);
        };
        let recording = match admitted.file.take() {
            Some(file) => Some(Arc::new(Recording::begin(file, &pty)?)),
            None => None,
        };
        if let Some(recording) = &recording {
            self.session.recorded(self.number, recording.clone());
        }
        admitted.let_go();
        Ok(recording)
    }

    /// Nobody works unrecorded where there is to be a recording: the terminal has hung up.
    async fn not_recorded(&self, error: &io::Error) {
        eprintln!("error: a recording cannot be written: {error}");
        let text = "\r\nlogin-gateway: the recording of this terminal cannot be written\r\n";
        let text = self
            .client
            .extended_data_bytes(STDERR, text.as_bytes().to_vec());
        tokio::select! {
            _ = text => {}
            () = self.from.closed() => {}
        }
        self.report(None).await;
    }

    async fn report(&self, status: Option<ExitStatus>) {
        match status {
            Some(ExitStatus::Code(code)) => {
                let _ = self.client.exit_status(code).await;
            }
            Some(ExitStatus::Signal { name, core }) => {
                let signal = signal_named(&name);
                let _ = self
                    .handle
                    .exit_signal_request(self.id, signal, core, String::new(), String::new())
                    .await;
            }
            None => {
                let _ = self.client.exit_status(255).await;
            }
        }
        self.ending.told();
    }
}

/// Feeds a program until it is dropped.
struct Feeder(JoinHandle<bool>);

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.session.close(self.number);
        self.ending.told();
    }
}

/// The signals of RFC 4254 section 6.10 have names of their own in russh; others go as they are.
fn signal_named(name: &str) -> Sig {
    match name {
        "ABRT" => Sig::ABRT,
        "ALRM" => Sig::ALRM,
        "FPE" => Sig::FPE,
        "HUP" => Sig::HUP,
        "ILL" => Sig::ILL,
        "INT" => Sig::INT,
        "KILL" => Sig::KILL,
        "PIPE" => Sig::PIPE,
        "QUIT" => Sig::QUIT,
        "SEGV" => Sig::SEGV,
        "TERM" => Sig::TERM,
        "USR1" => Sig::USR1,
        // Private names carry a domain: RFC 4254 section 6.10 with RFC 4250 section 4.6.1.
        "USR2" => Sig::Custom("USR2".into()),
        other => Sig::Custom(format!("{other}@slurm-login")),
    }
}
