//! Forwarded connections: a channel of the client's and a socket that the session has made, in
//! either direction. Whether they are allowed is the session's decision.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use gateway_wire::session::{ListenOn, Refusal, Target, ToSession};
use gateway_wire::timeout::kind;
use nix::sys::socket::{Shutdown, shutdown};
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::activity::{Activity, OpenChannel, OpenChannels};
use crate::channel::{FromClient, feed, pump};
use crate::flow::Flow;
use crate::meter::Metered;
use crate::seqpacket::register;
use crate::session_link::{Accepted, SessionLink};

/// Forwarded connections at one time.
const MAX_FORWARDED: usize = 256;

/// What all forwarded connections of a login share.
#[derive(Clone)]
pub struct Forwarding {
    session: SessionLink,
    flow: Flow,
    whole: Arc<Activity>,
    channels: OpenChannels,
    room: Arc<Semaphore>,
}

impl Forwarding {
    /// Nothing forwarded yet.
    pub fn new(
        session: SessionLink,
        flow: Flow,
        whole: Arc<Activity>,
        channels: OpenChannels,
    ) -> Self {
        Self {
            session,
            flow,
            whole,
            channels,
            room: Arc::new(Semaphore::new(MAX_FORWARDED)),
        }
    }

    /// Room for one more.
    fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().try_acquire_owned().ok()
    }

    /// Connects for a channel that the client wants to open, and answers when it is known how that
    /// went: neither names nor hosts nor the session may keep the connection's loop waiting.
    pub async fn connect(
        &self,
        number: u32,
        target: Target,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        let Some(room) = self.room() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return;
        };
        let here = self.clone();
        let kind = match &target {
            Target::Tcp { .. } => kind::DIRECT_TCP,
            Target::Unix(_) => kind::DIRECT_UNIX,
        };
        tokio::spawn(async move {
            let connect = ToSession::Connect {
                channel: number,
                target,
            };
            match here.session.connect(number, connect).await {
                Ok(socket) => {
                    let open = here.open(channel, kind);
                    reply.accept().await;
                    open.carry(socket).await;
                }
                Err(refused) => reply.reject(failure(refused.kind)).await,
            }
            drop(room);
        });
    }

    /// Opens a channel towards the client for each connection to a listener, until the login ends.
    pub async fn serve(self, mut connections: mpsc::UnboundedReceiver<Accepted>, handle: Handle) {
        while let Some(accepted) = connections.recv().await {
            let Some(room) = self.room() else {
                eprintln!("warn: a forwarded connection is closed: {MAX_FORWARDED} are open");
                continue;
            };
            let (here, handle) = (self.clone(), handle.clone());
            let kind = match &accepted.on {
                ListenOn::Tcp { .. } => kind::FORWARDED_TCP,
                ListenOn::Unix(_) => kind::FORWARDED_UNIX,
                ListenOn::Agent => kind::AGENT,
                ListenOn::Display { .. } => kind::X11,
            };
            tokio::spawn(async move {
                // A client that does not want it closes it for whoever connected.
                if let Ok((channel, socket)) = offer(accepted, &handle).await {
                    here.open(channel, kind).carry(socket).await;
                }
                drop(room);
            });
        }
    }

    fn open(&self, channel: Channel<Msg>, kind: &'static str) -> Open {
        let (half, client) = channel.split();
        let activity = Activity::new(Some(self.whole.clone()));
        activity.moved();
        let from = FromClient::read(half, activity.clone());
        self.flow.watch(client.id(), from.inbox.clone());
        Open {
            client,
            from,
            kind,
            flow: self.flow.clone(),
            session: self.session.clone(),
            _metered: activity.meter.open(kind),
            activity,
            _counted: self.channels.one(),
        }
    }
}

/// Opens the channel that belongs to the kind of listener.
async fn offer(
    accepted: Accepted,
    handle: &Handle,
) -> Result<(Channel<Msg>, OwnedFd), russh::Error> {
    let Accepted {
        on,
        listening,
        address,
        port,
        socket,
    } = accepted;
    let port = u32::from(port);
    let channel = match on {
        // The client finds its forward by the address that it asked for.
        ListenOn::Tcp { address: asked, .. } => {
            let listening = u32::from(listening);
            handle
                .channel_open_forwarded_tcpip(asked, listening, address, port)
                .await?
        }
        ListenOn::Unix(path) => handle.channel_open_forwarded_streamlocal(path).await?,
        ListenOn::Agent => handle.channel_open_agent().await?,
        ListenOn::Display { .. } => handle.channel_open_x11(address, port).await?,
    };
    Ok((channel, socket))
}

/// The reason of RFC 4254 section 5.1.
fn failure(kind: Refusal) -> ChannelOpenFailure {
    match kind {
        Refusal::Prohibited => ChannelOpenFailure::AdministrativelyProhibited,
        Refusal::Failed => ChannelOpenFailure::ConnectFailed,
        Refusal::Shortage => ChannelOpenFailure::ResourceShortage,
    }
}

/// An open channel without a program.
struct Open {
    client: russh::ChannelWriteHalf<Msg>,
    from: FromClient,
    kind: &'static str,
    flow: Flow,
    session: SessionLink,
    activity: Arc<Activity>,
    _counted: OpenChannel,
    _metered: Metered,
}

impl Open {
    /// Carries bytes until both sides have ended, each in its own time.
    async fn carry(self, socket: OwnedFd) {
        match register(socket) {
            Ok(socket) => {
                let up = async {
                    if feed(&socket, &self.from.inbox).await {
                        let _ = shutdown(socket.get_ref().as_raw_fd(), Shutdown::Write);
                    }
                };
                let down = async {
                    let ended = pump(&socket, &self.client, None, &self.activity, |_| Ok(())).await;
                    let _ = self.client.eof().await;
                    if ended.is_err() {
                        // The connection is broken, not half closed.
                        self.from.inbox.refuse();
                    }
                };
                // A client that closes the channel hears no more; what it said is still sent.
                let down = async {
                    tokio::select! {
                        () = down => {}
                        () = self.from.closed() => {}
                    }
                };
                tokio::select! {
                    _ = async { tokio::join!(up, down) } => {}
                    () = self.session.expired(&self.activity, self.kind) => {}
                }
            }
            Err(error) => eprintln!("error: descriptor of a forwarded connection: {error}"),
        }
        let _ = self.client.close().await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.flow.forget(self.client.id());
    }
}
