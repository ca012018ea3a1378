//! The SSH connection: russh's callbacks, each short, and the time until login.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use gateway_wire::Settings;
use gateway_wire::monitor::{FromNet, GRACE_IS_OVER, Serve, ToNet};
use gateway_wire::session::{Program as What, Target, WindowSize};
use nix::sys::socket::{
    AddressFamily, SockaddrLike, SockaddrStorage, getsockname, setsockopt, sockopt,
};
use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Response, Session,
    VerifiedPublicKey, run_stream,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Sig};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::activity::{Activity, OpenChannels};
use crate::authentication::Authentication;
use crate::flow::{Flow, NobodyReads};
use crate::forward::Forwarding;
use crate::greeting::Greeted;
use crate::growing_reader::GrowingReader;
use crate::listeners::Listeners;
use crate::monitor_link::{Farewell, MonitorLink};
use crate::pause::Pause;
use crate::prompt_stream::PromptStream;
use crate::seqpacket::{Receiver, Sender, set_nonblocking, split};
use crate::session_channels::SessionChannels;
use crate::session_link::{Accepted, SessionLink};

/// Bytes that the kernel takes before they can be sent: what lies there goes out before the answer
/// to a key, however slow the line is.
const UNSENT: u32 = 128 << 10;

/// Time for the last words to reach the client.
const FAREWELL: Duration = Duration::from_secs(1);
/// For a deadline that holds no more.
const FAR_FUTURE: Duration = Duration::from_secs(365 * 86_400);

/// Waits for the one connection and serves it to its end.
pub async fn serve(
    monitor: OwnedFd,
    settings: Settings,
    config: Arc<Config>,
    banner: Option<String>,
) -> io::Result<()> {
    let (sender, mut receiver): (Sender<FromNet>, Receiver<Serve>) = split(monitor)?;
    sender.send(&FromNet::Sandboxed).await?;
    let Some((Serve { endpoints: _ }, fds)) = receiver.receive().await? else {
        // The listener wants no more connections.
        return Ok(());
    };
    let socket = fds.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
    let (link, session, farewell) = MonitorLink::start(sender, receiver.then::<ToNet>());
    let link = Arc::new(link);
    let activity = Activity::new(None);
    tokio::spawn(activity.meter.clone().report(link.clone()));
    let channels = OpenChannels::default();
    let (session, connections) = SessionLink::start(session, link.clone());
    let flow = Flow::default();
    let forwarding = Forwarding::new(
        session.clone(),
        flow.clone(),
        activity.clone(),
        channels.clone(),
    );
    let handler = Connection {
        authentication: Authentication::new(link.clone(), &settings),
        logged_in: Arc::default(),
        sessions: SessionChannels::new(
            session.clone(),
            flow.clone(),
            activity.clone(),
            channels.clone(),
        ),
        listeners: Listeners::new(session.clone()),
        forwarding,
        session,
        flow,
        channels,
        pause: Pause::default(),
        banner,
    };
    let reason = match run(socket, &settings, config, handler, connections, farewell).await {
        Ok(()) => "closed by the client".to_owned(),
        Err(error) => error,
    };
    let traffic = activity.meter.read();
    link.tell(FromNet::Ended { reason, traffic }).await
}

async fn run(
    socket: OwnedFd,
    settings: &Settings,
    config: Arc<Config>,
    handler: Connection,
    connections: UnboundedReceiver<Accepted>,
    farewell: oneshot::Receiver<Farewell>,
) -> Result<(), String> {
    let words = |error: russh::Error| error.to_string();
    let stream = tune(socket, settings).map_err(|e| e.to_string())?;
    let (logged_in, forwarding) = (handler.logged_in.clone(), handler.forwarding.clone());
    let (session, channels) = (handler.session.clone(), handler.channels.clone());
    // russh reads each packet in two calls; the buffer halves that. It writes whole packets, and the
    // banner without a flush, so there is no buffer on that side.
    let stream = GrowingReader::new(
        Greeted::new(stream),
        handler.flow.dry(),
        handler.pause.clone(),
    );
    let deadline = tokio::time::sleep(settings.login_grace_time);
    tokio::pin!(deadline);
    let mut running = tokio::select! {
        running = run_stream(config, stream, handler) => running.map_err(words)?,
        () = &mut deadline => return Err(GRACE_IS_OVER.into()),
    };
    let handle = running.handle();
    tokio::spawn(forwarding.serve(connections, handle.clone()));
    // A monitor that goes away says nothing; the kernel ends this process then.
    let farewell = async {
        match farewell.await {
            Ok(farewell) => farewell,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::pin!(farewell);
    let unused = async {
        match session
            .policy()
            .await
            .map(|p| p.unused_connection_timeout.0)
        {
            Some(Some(time)) => channels.unused(time).await,
            _ => std::future::pending().await,
        }
    };
    tokio::pin!(unused);
    let (words, queued, reason) = loop {
        tokio::select! {
            ended = &mut running => return ended.map_err(words),
            () = logged_in.notified() => deadline.as_mut().reset(Instant::now() + FAR_FUTURE),
            () = &mut deadline => {
                break ("Login grace time is over".to_owned(), None, GRACE_IS_OVER);
            }
            () = &mut unused => {
                break ("No channel was open for too long".to_owned(), None, "without a channel for too long");
            }
            farewell = &mut farewell => {
                break (farewell.words, Some(farewell.queued), "ended by the monitor");
            }
        }
    };
    // A client that takes nothing does not hear it, and is not waited for (T3, T23).
    let told = async {
        let _ = handle
            .disconnect(Disconnect::ByApplication, words, String::new())
            .await;
        drop(queued);
        let _ = (&mut running).await;
    };
    let _ = tokio::time::timeout(FAREWELL, told).await;
    Err(reason.to_owned())
}

/// Small packets go out at once; a peer that acknowledges nothing is gone when keepalives say so.
/// A Unix socket, from `login-gateway inetd`, has no such options.
fn tune(socket: OwnedFd, settings: &Settings) -> io::Result<PromptStream> {
    set_nonblocking(&socket)?;
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    if address.family() == Some(AddressFamily::Unix) {
        let stream = std::os::unix::net::UnixStream::from(socket);
        return Ok(PromptStream::unix(UnixStream::from_std(stream)?));
    }
    let patience = settings.keepalive_interval * settings.keepalive_count_max.max(1) as u32;
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    let _ = setsockopt(&socket.as_fd(), sockopt::TcpUserTimeout, &millis);
    let stream = std::net::TcpStream::from(socket);
    let _ = stream.set_nodelay(true);
    let _ = sys::socket::limit_unsent(&stream, UNSENT);
    Ok(PromptStream::tcp(TcpStream::from_std(stream)?))
}

/// The connection towards russh. Requests of a login wait for its policy in russh's loop: their
/// answers must stay in order and russh keeps one open answer per channel. Nothing of the login's runs
/// before, so nothing is held up.
struct Connection {
    authentication: Authentication,
    session: SessionLink,
    logged_in: Arc<Notify>,
    sessions: SessionChannels,
    forwarding: Forwarding,
    listeners: Listeners,
    flow: Flow,
    channels: OpenChannels,
    pause: Pause,
    /// Shown before authentication, once.
    banner: Option<String>,
}

impl Connection {
    /// Starts `what` on a channel. The client hears yes at once.
    fn start(
        &self,
        channel: ChannelId,
        what: What,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let started = self.sessions.start(channel, what, session.handle());
        answer(session, channel, Some(started))
    }
}

/// Answers a request on a channel. Without a session there is no answer: a client that reads a failure may
/// leave before it reads why the connection ends.
fn answer(
    session: &mut Session,
    channel: ChannelId,
    granted: Option<bool>,
) -> Result<(), russh::Error> {
    match granted {
        Some(true) => session.channel_success(channel),
        Some(false) => session.channel_failure(channel),
        None => Ok(()),
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.banner.take())
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        Ok(self.authentication.methods(user).await)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        Ok(self.authentication.password(user, password).await)
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let answer = self
            .authentication
            .key_offered(user, offer.public_key, offer.algorithm);
        Ok(answer.await)
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let answer = self
            .authentication
            .key_verified(user, key.public_key, key.algorithm);
        Ok(answer.await)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let answer = self.authentication.certificate_verified(user, certificate);
        Ok(answer.await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        responses: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.authentication.interactive(user, responses).await)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if let Some(words) = self.authentication.farewell() {
            return session.disconnect(Disconnect::ByApplication, &words, "");
        }
        self.logged_in.notify_one();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.sessions.open(channel, reply).await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Ok(port) = u16::try_from(port) else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        let host = host.to_owned();
        let (number, target) = (self.session.number(), Target::Tcp { host, port });
        self.forwarding
            .connect(number, target, channel, reply)
            .await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (number, target) = (self.session.number(), Target::Unix(path.to_owned()));
        self.forwarding
            .connect(number, target, channel, reply)
            .await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let taken = self.listeners.tcp(address, *port).await;
        *port = taken.unwrap_or(*port);
        Ok(taken.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.listeners.stop_tcp(address, port))
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.listeners.unix(path).await)
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.listeners.stop_unix(path))
    }

    async fn agent_request(
        &mut self,
        _channel: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.listeners.agent().await)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        single: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let display = self
            .sessions
            .display(channel, single, protocol, cookie, screen);
        answer(session, channel, Some(display.await))
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let received = self.flow.received(channel, data.len()).await;
        received.map_err(|NobodyReads| {
            russh::Error::IO(io::Error::other("programs leave 256 MiB unread"))
        })
    }

    fn adjust_window(&mut self, channel: ChannelId, current: u32) -> u32 {
        self.flow.granted(channel, current)
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(ending) = self.sessions.ended(channel) {
            self.pause.until_told(&ending, self.channels.number() == 1);
        }
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.sessions.closed(channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let size = size(columns, rows, width, height);
        let terminal = self.sessions.terminal(channel, term, size, modes);
        answer(session, channel, terminal.await)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let set = self.sessions.variable(channel, name, value).await;
        answer(session, channel, set)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, What::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, What::Exec(command.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.session.policy().await {
            Some(policy) if policy.subsystems.contains_key(name) => {
                self.start(channel, What::Subsystem(name.to_owned()), session)
            }
            policy => answer(session, channel, policy.map(|_| false)),
        }
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let size = size(columns, rows, width, height);
        self.sessions.resize(channel, size).await;
        Ok(())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.sessions.signal(channel, signal);
        Ok(())
    }
}

fn size(columns: u32, rows: u32, width: u32, height: u32) -> WindowSize {
    let small = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    WindowSize {
        columns: small(columns),
        rows: small(rows),
        width: small(width),
        height: small(height),
    }
}
