//! One session channel: bytes between russh and the descriptors of the user's program.
//!
//! The reader takes messages from russh and never waits for the program (T1, T4): what the program
//! has not read yet lies in the inbox. How much may lie there is `flow`'s matter.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway_wire::session::{ExitStatus, ToSession};
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::inbox::Inbox;
use crate::seqpacket::register;
use crate::session_link::{Running, SessionLink};

/// Most bytes taken from a program at once.
const READ_SIZE: usize = 64 * 1024;

/// `SSH_EXTENDED_DATA_STDERR`, RFC 4254 section 5.2.
const STDERR: u32 = 1;

/// After a program on a terminal has ended, how long its last output may take through the terminal
/// when a background process keeps the terminal open.
const LAST_OUTPUT: Duration = Duration::from_millis(100);

/// Between the end of a program's outputs and the news of its own end there is a signal and a
/// message; a program that takes longer than this has only closed its outputs.
const STATUS_TIME: Duration = Duration::from_millis(100);

/// Bytes of all channels of the connection, for the record.
#[derive(Default)]
pub struct Traffic {
    /// From the client.
    pub received: AtomicU64,
    /// To the client.
    pub sent: AtomicU64,
}

/// Starts to read a channel into an inbox. The second value resolves when the client has closed the
/// channel or the connection is gone.
pub fn open(
    mut from_client: ChannelReadHalf,
    traffic: Arc<Traffic>,
) -> (Arc<Inbox>, oneshot::Receiver<()>) {
    let inbox = Arc::new(Inbox::default());
    let (close, closed) = oneshot::channel();
    let into = inbox.clone();
    tokio::spawn(async move {
        while let Some(message) = from_client.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    traffic
                        .received
                        .fetch_add(data.len() as u64, Ordering::Relaxed);
                    into.push(data);
                }
                ChannelMsg::Eof => into.end(),
                ChannelMsg::Close => break,
                _ => {}
            }
        }
        into.refuse();
        let _ = close.send(());
    });
    (inbox, closed)
}

/// A program's channel, ready to run.
pub struct Program {
    /// Number between net and session.
    pub number: u32,
    /// russh's number.
    pub id: ChannelId,
    /// Towards the client.
    pub client: ChannelWriteHalf<Msg>,
    /// From the client.
    pub inbox: Arc<Inbox>,
    /// Resolves at the end of the channel.
    pub closed: oneshot::Receiver<()>,
    /// The connection, for messages that the channel's half cannot send.
    pub handle: Handle,
    /// The user's session.
    pub session: SessionLink,
    /// Bytes counted.
    pub traffic: Arc<Traffic>,
}

impl Program {
    /// Starts the program and carries its bytes until both sides are done. Ends with an explicit
    /// exit-status, EOF and close, as dropping a channel says nothing (T20).
    pub async fn run(self, start: ToSession) {
        let Self {
            number,
            id,
            client,
            inbox,
            mut closed,
            handle,
            session,
            traffic,
        } = self;
        match session.run(number, start).await {
            Ok(running) => {
                let client = Arc::new(client);
                let pipes = Pipes {
                    id,
                    client: client.clone(),
                    handle,
                    traffic,
                };
                tokio::select! {
                    () = pipes.carry(running, &inbox) => {}
                    _ = &mut closed => {}
                }
                let _ = client.close().await;
            }
            Err(reason) => {
                let text = format!("login-gateway: {reason}\r\n");
                let _ = client.extended_data_bytes(STDERR, text.into_bytes()).await;
                let _ = client.exit_status(255).await;
                let _ = client.eof().await;
                let _ = client.close().await;
            }
        }
        inbox.refuse();
        session.tell(ToSession::Closed { channel: number });
    }
}

struct Pipes {
    id: ChannelId,
    client: Arc<ChannelWriteHalf<Msg>>,
    handle: Handle,
    traffic: Arc<Traffic>,
}

impl Pipes {
    async fn carry(self, running: Running, inbox: &Arc<Inbox>) {
        let Running { fds, exit } = running;
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
            let keys = tokio::spawn(feed(terminal.clone(), inbox.clone(), false));
            self.terminal(&terminal, exit).await;
            keys.abort();
        } else if fds.len() == 3 {
            let (error, output, input) = (fds.remove(2), fds.remove(1), fds.remove(0));
            let feeder = tokio::spawn(feed(Arc::new(input), inbox.clone(), true));
            self.pipes(&output, &error, exit).await;
            feeder.abort();
        }
    }

    /// Carries both outputs to their end and reports the program's. The status goes before EOF where
    /// it can: dropbear's client leaves at EOF and takes what it knows by then. A program that only
    /// closes its outputs and goes on gets its EOF all the same.
    async fn pipes(
        &self,
        output: &AsyncFd<OwnedFd>,
        error: &AsyncFd<OwnedFd>,
        mut exit: oneshot::Receiver<ExitStatus>,
    ) {
        let mut outputs = std::pin::pin!(async {
            tokio::join!(self.pump(output, None), self.pump(error, Some(STDERR)));
        });
        let mut status = None;
        loop {
            tokio::select! {
                ended = &mut exit, if status.is_none() => status = Some(ended.ok()),
                () = &mut outputs => break,
            }
        }
        if status.is_none() {
            let ended = tokio::time::timeout(STATUS_TIME, &mut exit).await;
            status = ended.ok().map(Result::ok);
        }
        if let Some(status) = status {
            self.report(status).await;
            let _ = self.client.eof().await;
        } else {
            let _ = self.client.eof().await;
            self.report(exit.await.ok()).await;
        }
    }

    /// A terminal's end is its program's end: background processes may keep it open.
    async fn terminal(&self, terminal: &AsyncFd<OwnedFd>, mut exit: oneshot::Receiver<ExitStatus>) {
        let mut output = std::pin::pin!(self.pump(terminal, None));
        let mut silent = false;
        let status = loop {
            tokio::select! {
                status = &mut exit => break status.ok(),
                // The last process has closed the terminal; its status is on its way.
                () = &mut output, if !silent => silent = true,
            }
        };
        if !silent {
            let _ = tokio::time::timeout(LAST_OUTPUT, output).await;
        }
        self.report(status).await;
        let _ = self.client.eof().await;
    }

    /// Program to client until the program's end of it is closed.
    async fn pump(&self, from: &AsyncFd<OwnedFd>, stream: Option<u32>) {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            let Ok(n @ 1..) = read(from, &mut buffer).await else {
                return;
            };
            self.traffic.sent.fetch_add(n as u64, Ordering::Relaxed);
            let data = Bytes::copy_from_slice(&buffer[..n]);
            let sent = match stream {
                None => self.client.data_bytes(data).await,
                Some(stream) => self.client.extended_data_bytes(stream, data).await,
            };
            if sent.is_err() {
                return;
            }
        }
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
    }
}

/// Client to program. For pipes the client's EOF closes the program's input; a terminal stays open.
async fn feed(to: Arc<AsyncFd<OwnedFd>>, inbox: Arc<Inbox>, close_at_eof: bool) {
    while let Some(data) = inbox.pop().await {
        if write_all(&to, &data).await.is_err() {
            // The program reads no more: whatever still comes is for nobody.
            inbox.refuse();
            return;
        }
    }
    if !close_at_eof {
        std::future::pending().await
    }
}

async fn read(from: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = from.readable().await?;
        if let Ok(taken) = ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), buffer)?)) {
            return taken;
        }
    }
}

async fn write_all(to: &AsyncFd<OwnedFd>, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let mut ready = to.writable().await?;
        if let Ok(written) = ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), data)?)) {
            data = &data[written?..];
        }
    }
    Ok(())
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
