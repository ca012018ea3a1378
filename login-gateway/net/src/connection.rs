//! The SSH connection: russh's callbacks, each short, and the time until login.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_wire::monitor::{FromNet, GRACE_IS_OVER, Serve, ToNet};
use gateway_wire::policy::listed;
use gateway_wire::session::{ListenOn, Program as What, Pty, Target, ToSession, WindowSize, X11};
use gateway_wire::timeout::kind;
use gateway_wire::{Policy, Settings};
use nix::sys::socket::{
    AddressFamily, SockaddrLike, SockaddrStorage, getsockname, setsockopt, sockopt,
};
use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Response, Session,
    VerifiedPublicKey, run_stream,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Disconnect, Sig};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::activity::{Activity, OpenChannel, OpenChannels};
use crate::authentication::Authentication;
use crate::channel::FromClient;
use crate::flow::{Flow, NobodyReads};
use crate::forward::Forwarding;
use crate::greeting::Greeted;
use crate::growing_reader::GrowingReader;
use crate::monitor_link::MonitorLink;
use crate::program::Program;
use crate::prompt_stream::PromptStream;
use crate::seqpacket::{Receiver, Sender, set_nonblocking, split};
use crate::session_link::{Accepted, SessionLink};

/// Variables that one channel may set, and bytes of each.
const MAX_ENV: usize = 64;
const MAX_ENV_BYTES: usize = 8 * 1024;
/// Patience with the session's answer whether it listens: it asks nobody.
const LISTEN_TIME: Duration = Duration::from_secs(10);

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
        session,
        logged_in: Arc::default(),
        sessions: Sessions::default(),
        forwarding,
        listeners: HashMap::new(),
        agent: false,
        next: 0,
        flow,
        activity: activity.clone(),
        channels,
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
    farewell: oneshot::Receiver<String>,
) -> Result<(), String> {
    let words = |error: russh::Error| error.to_string();
    let stream = tune(socket, settings).map_err(|e| e.to_string())?;
    let (logged_in, forwarding) = (handler.logged_in.clone(), handler.forwarding.clone());
    let (session, channels) = (handler.session.clone(), handler.channels.clone());
    // russh reads each packet in two calls; the buffer halves that. It writes whole packets, and the
    // banner without a flush, so there is no buffer on that side.
    let stream = GrowingReader::new(Greeted::new(stream), handler.flow.dry());
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
            Ok(words) => words,
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
    let (words, reason) = loop {
        tokio::select! {
            ended = &mut running => return ended.map_err(words),
            () = logged_in.notified() => deadline.as_mut().reset(Instant::now() + FAR_FUTURE),
            () = &mut deadline => {
                break ("Login grace time is over".to_owned(), GRACE_IS_OVER);
            }
            () = &mut unused => {
                break ("No channel was open for too long".to_owned(), "without a channel for too long");
            }
            words = &mut farewell => break (words, "ended by the monitor"),
        }
    };
    // A client that takes nothing does not hear it, and is not waited for (T3, T23).
    let told = async {
        let _ = handle
            .disconnect(Disconnect::ByApplication, words, String::new())
            .await;
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

struct Connection {
    authentication: Authentication,
    session: SessionLink,
    logged_in: Arc<Notify>,
    sessions: Sessions,
    forwarding: Forwarding,
    listeners: HashMap<Asked, u32>,
    /// Whether the client's agent is forwarded already.
    agent: bool,
    next: u32,
    flow: Flow,
    /// Of all channels.
    activity: Arc<Activity>,
    channels: OpenChannels,
    /// Shown before authentication, once.
    banner: Option<String>,
}

/// A listener as the client names it when it wants it closed.
#[derive(PartialEq, Eq, Hash)]
enum Asked {
    Tcp(String, u32),
    Unix(String),
}

/// Session channels that are open or whose program still runs.
type Sessions = Arc<Mutex<HashMap<ChannelId, Open>>>;

fn lock(sessions: &Sessions) -> MutexGuard<'_, HashMap<ChannelId, Open>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a channel on which nothing was started.
fn forget_idle(sessions: &Sessions, channel: ChannelId) -> Option<Open> {
    let mut sessions = lock(sessions);
    let idle = sessions.get(&channel).is_some_and(|o| o.idle.is_some());
    idle.then(|| sessions.remove(&channel)).flatten()
}

/// A session channel as the client prepares it.
struct Open {
    number: u32,
    /// Until a program starts.
    idle: Option<Idle>,
    activity: Arc<Activity>,
    _counted: OpenChannel,
    pty: Option<Pty>,
    env: Vec<(String, String)>,
    x11: Option<X11>,
}

/// A channel without a program.
struct Idle {
    client: ChannelWriteHalf<Msg>,
    from: FromClient,
    /// Closes it if nothing is ever started.
    expiry: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(idle) = &self.idle {
            idle.expiry.abort();
        }
    }
}

impl Connection {
    /// Starts `what` on a channel, once. The client hears yes at once: what follows may be slow.
    fn start(
        &mut self,
        channel: ChannelId,
        what: What,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let mut sessions = lock(&self.sessions);
        let Some(open) = sessions.get_mut(&channel) else {
            return session.channel_failure(channel);
        };
        let Some(idle) = open.idle.take() else {
            return session.channel_failure(channel);
        };
        idle.expiry.abort();
        let Idle { client, from, .. } = idle;
        let x11 = open.x11.take();
        let display = x11.as_ref().map(|x11| x11.listener);
        let program = Program {
            number: open.number,
            id: channel,
            client,
            from,
            handle: session.handle(),
            session: self.session.clone(),
            activity: open.activity.clone(),
            kind: match &what {
                What::Shell => kind::SHELL.to_owned(),
                What::Exec(_) => kind::COMMAND.to_owned(),
                What::Subsystem(name) => format!("{}{name}", kind::SUBSYSTEM),
            },
        };
        let start = ToSession::Start {
            channel: open.number,
            program: what,
            pty: open.pty.take(),
            env: std::mem::take(&mut open.env),
            x11,
        };
        drop(sessions);
        let (sessions, flow, link) = (
            self.sessions.clone(),
            self.flow.clone(),
            self.session.clone(),
        );
        tokio::spawn(async move {
            program.run(start).await;
            // russh says nothing of a channel that we close first.
            flow.forget(channel);
            lock(&sessions).remove(&channel);
            if let Some(display) = display {
                link.close(display);
            }
        });
        session.channel_success(channel)
    }

    /// The policy. Requests of a login wait for it here, in russh's loop: their answers must stay in
    /// order and russh keeps one open answer per channel. Nothing of the login's runs before, so
    /// nothing is held up.
    async fn policy(&self) -> Option<Arc<Policy>> {
        self.session.policy().await
    }

    /// Closes a session channel on which nothing was started, when its time is over.
    fn expire(&self, channel: ChannelId, activity: Arc<Activity>) -> AbortHandle {
        let (sessions, flow, link) = (
            self.sessions.clone(),
            self.flow.clone(),
            self.session.clone(),
        );
        let expiry = tokio::spawn(async move {
            link.expired(&activity, kind::SESSION).await;
            let Some(mut open) = forget_idle(&sessions, channel) else {
                return;
            };
            flow.forget(channel);
            if let Some(x11) = &open.x11 {
                link.close(x11.listener);
            }
            // Not to be aborted by its own end.
            if let Some(idle) = open.idle.take() {
                let _ = idle.client.close().await;
            }
        });
        expiry.abort_handle()
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Listens for the client, which waits for the answer; the session gives it at once.
    async fn listen(&mut self, on: ListenOn) -> Option<(u32, u16)> {
        let number = self.number();
        let listening = self.session.listen(number, on);
        match tokio::time::timeout(LISTEN_TIME, listening).await {
            Ok(Ok(port)) => Some((number, port)),
            Ok(Err(_)) => None,
            Err(_late) => {
                self.session.close(number);
                None
            }
        }
    }

    fn stop_listening(&mut self, asked: &Asked) -> bool {
        match self.listeners.remove(asked) {
            Some(number) => {
                self.session.close(number);
                true
            }
            None => false,
        }
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
        let number = self.number();
        let id = channel.id();
        let open = lock(&self.sessions).len();
        // The first one need not wait for the policy: without room for it, its program is refused.
        let policy = if open == 0 {
            self.session.known_policy()
        } else {
            self.policy().await
        };
        let most = policy.map_or(usize::from(open == 0), |p| p.max_sessions as usize);
        if open >= most {
            // As sshd says it.
            reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
            return Ok(());
        }
        let (half, client) = channel.split();
        let activity = Activity::new(Some(self.activity.clone()));
        activity.moved();
        let from = FromClient::read(half, activity.clone());
        self.flow.watch(id, from.inbox.clone());
        let expiry = self.expire(id, activity.clone());
        let open = Open {
            number,
            idle: Some(Idle {
                client,
                from,
                expiry,
            }),
            activity,
            _counted: self.channels.one(),
            pty: None,
            env: Vec::new(),
            x11: None,
        };
        lock(&self.sessions).insert(id, open);
        reply.accept().await;
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
        let (number, target) = (self.number(), Target::Tcp { host, port });
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
        let (number, target) = (self.number(), Target::Unix(path.to_owned()));
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
        let Ok(asked) = u16::try_from(*port) else {
            return Ok(false);
        };
        let on = ListenOn::Tcp {
            address: address.to_owned(),
            port: asked,
        };
        let Some((number, taken)) = self.listen(on).await else {
            return Ok(false);
        };
        *port = u32::from(taken);
        let asked = Asked::Tcp(address.to_owned(), *port);
        self.listeners.insert(asked, number);
        Ok(true)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.stop_listening(&Asked::Tcp(address.to_owned(), port)))
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let Some((number, _)) = self.listen(ListenOn::Unix(path.to_owned())).await else {
            return Ok(false);
        };
        self.listeners.insert(Asked::Unix(path.to_owned()), number);
        Ok(true)
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.stop_listening(&Asked::Unix(path.to_owned())))
    }

    async fn agent_request(
        &mut self,
        _channel: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        // One socket serves all programs of the login.
        if !self.agent {
            self.agent = self.listen(ListenOn::Agent).await.is_some();
        }
        Ok(self.agent)
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
        let prepares = lock(&self.sessions)
            .get(&channel)
            .is_some_and(|open| open.idle.is_some() && open.x11.is_none());
        let listening = if prepares {
            self.listen(ListenOn::Display { single }).await
        } else {
            None
        };
        let Some((listener, _)) = listening else {
            return session.channel_failure(channel);
        };
        if let Some(open) = lock(&self.sessions).get_mut(&channel) {
            open.x11 = Some(X11 {
                listener,
                protocol: protocol.to_owned(),
                cookie: cookie.to_owned(),
                screen,
            });
        }
        session.channel_success(channel)
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

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        // A running program keeps its place until it has taken what it was sent, or has ended.
        match forget_idle(&self.sessions, channel) {
            Some(open) => {
                self.flow.forget(channel);
                if let Some(x11) = &open.x11 {
                    self.session.close(x11.listener);
                }
            }
            None => self.flow.closed(channel),
        }
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
        let permitted = self.policy().await.is_some_and(|p| p.permit_tty);
        match lock(&self.sessions).get_mut(&channel) {
            Some(open) if permitted && open.idle.is_some() && open.pty.is_none() => {
                open.pty = Some(Pty {
                    term: term
                        .chars()
                        .filter(|c| c.is_ascii_graphic())
                        .take(64)
                        .collect(),
                    size: size(columns, rows, width, height),
                    modes: modes
                        .iter()
                        .map(|(mode, value)| (*mode as u8, *value))
                        .collect(),
                });
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let policy = self.policy().await;
        let allowed = policy.is_some_and(|p| listed(&p.accept_env, name))
            && name.len() + value.len() <= MAX_ENV_BYTES
            && !name.contains(['=', '\0'])
            && !value.contains('\0');
        match lock(&self.sessions).get_mut(&channel) {
            Some(open) if allowed && open.env.len() < MAX_ENV => {
                open.env.push((name.to_owned(), value.to_owned()));
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
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
        let policy = self.policy().await;
        if policy.is_some_and(|policy| policy.subsystems.contains_key(name)) {
            self.start(channel, What::Subsystem(name.to_owned()), session)
        } else {
            session.channel_failure(channel)
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
        let running = match lock(&self.sessions).get_mut(&channel) {
            Some(open) => match &mut open.pty {
                Some(pty) => {
                    pty.size = size;
                    None
                }
                None => open.idle.is_none().then_some(open.number),
            },
            None => None,
        };
        if let Some(number) = running {
            self.session.resize(number, size).await;
        }
        Ok(())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(open) = lock(&self.sessions).get(&channel) {
            let name = match signal {
                Sig::Custom(name) => name,
                named => format!("{named:?}"),
            };
            self.session.tell(ToSession::Signal {
                channel: open.number,
                name,
            });
        }
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
