//! The SSH connection: russh's callbacks, each short, and the time until login.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway_wire::monitor::{FromNet, Serve, ToNet};
use gateway_wire::session::{Program as What, Pty, ToSession, WindowSize};
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
use tokio::sync::{Notify, oneshot};

use crate::authentication::Authentication;
use crate::channel::{self, Program, Traffic};
use crate::crypto::WINDOW;
use crate::growing_reader::GrowingReader;
use crate::inbox::Inbox;
use crate::monitor_link::MonitorLink;
use crate::prompt_stream::PromptStream;
use crate::seqpacket::{Receiver, Sender, set_nonblocking, split};
use crate::session_link::SessionLink;

/// Channels open at one time; OpenSSH's `MaxSessions` is 10, tools that share a connection use more.
const MAX_CHANNELS: usize = 64;
/// Variables that one channel may set, and bytes of each.
const MAX_ENV: usize = 64;
const MAX_ENV_BYTES: usize = 8 * 1024;

/// Unread bytes of one channel above which no more window is given.
///
/// russh gives the window back when bytes arrive, not when a program has read them, and would
/// otherwise have to stop reading from the client: then no window of the client's would arrive
/// either, and a program that writes as it reads would wait for ever (T1, T2).
const BACKLOG: usize = 1 << 20;
/// Window of every channel while one is behind, in bytes: the least that russh grants, and not
/// nothing, since russh only ever looks again when bytes have arrived.
const THROTTLED: u32 = 2;
/// Time between two such windows.
const PACE: Duration = Duration::from_millis(5);

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
    let (link, session) = MonitorLink::start(sender, receiver.then::<ToNet>());
    let link = Arc::new(link);
    let traffic = Arc::new(Traffic::default());
    let handler = Connection {
        authentication: Authentication::new(link.clone(), &settings),
        session: SessionLink::start(session, link.clone()),
        logged_in: Arc::default(),
        channels: HashMap::new(),
        next: 0,
        traffic: traffic.clone(),
        banner,
    };
    let reason = match run(socket, &settings, config, handler).await {
        Ok(()) => "closed by the client".to_owned(),
        Err(error) => error,
    };
    let bytes_in = traffic.received.load(Ordering::Relaxed);
    let bytes_out = traffic.sent.load(Ordering::Relaxed);
    link.tell(FromNet::Ended {
        reason,
        bytes_in,
        bytes_out,
    })
    .await
}

async fn run(
    socket: OwnedFd,
    settings: &Settings,
    config: Arc<Config>,
    handler: Connection,
) -> Result<(), String> {
    let words = |error: russh::Error| error.to_string();
    let stream = tune(socket, settings).map_err(|e| e.to_string())?;
    let logged_in = handler.logged_in.clone();
    // russh reads each packet in two calls; the buffer halves that. It writes whole packets, and the
    // banner without a flush, so there is no buffer on that side.
    let stream = GrowingReader::new(stream);
    let deadline = tokio::time::sleep(settings.login_grace_time);
    tokio::pin!(deadline);
    let mut running = tokio::select! {
        running = run_stream(config, stream, handler) => running.map_err(words)?,
        () = &mut deadline => return Err("login grace time is over".into()),
    };
    let handle = running.handle();
    tokio::select! {
        ended = &mut running => return ended.map_err(words),
        () = logged_in.notified() => {}
        () = &mut deadline => {
            let text = "Login grace time is over".to_owned();
            let _ = handle.disconnect(Disconnect::ByApplication, text, String::new()).await;
            let _ = tokio::time::timeout(Duration::from_secs(1), &mut running).await;
            return Err("login grace time is over".into());
        }
    }
    running.await.map_err(words)
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
    Ok(PromptStream::tcp(TcpStream::from_std(stream)?))
}

struct Connection {
    authentication: Authentication,
    session: SessionLink,
    logged_in: Arc<Notify>,
    channels: HashMap<ChannelId, Open>,
    next: u32,
    traffic: Arc<Traffic>,
    /// Shown before authentication, once.
    banner: Option<String>,
}

/// A session channel as the client prepares it.
struct Open {
    number: u32,
    idle: Option<(ChannelWriteHalf<Msg>, oneshot::Receiver<()>)>,
    inbox: Arc<Inbox>,
    pty: Option<Pty>,
    env: Vec<(String, String)>,
}

impl Connection {
    /// Starts `what` on a channel, once. The client hears yes at once: what follows may be slow.
    fn start(
        &mut self,
        channel: ChannelId,
        what: What,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(open) = self.channels.get_mut(&channel) else {
            return session.channel_failure(channel);
        };
        let Some((client, closed)) = open.idle.take() else {
            return session.channel_failure(channel);
        };
        let program = Program {
            number: open.number,
            id: channel,
            client,
            inbox: open.inbox.clone(),
            closed,
            handle: session.handle(),
            session: self.session.clone(),
            traffic: self.traffic.clone(),
        };
        let start = ToSession::Start {
            channel: open.number,
            program: what,
            pty: open.pty.take(),
            env: std::mem::take(&mut open.env),
            x11: None,
        };
        tokio::spawn(program.run(start));
        session.channel_success(channel)
    }

    /// Whether some program has left so much unread that clients should stop sending.
    fn behind(&self) -> bool {
        self.channels
            .values()
            .any(|open| open.inbox.len() > BACKLOG)
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
        if self.channels.len() >= MAX_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.next += 1;
        let id = channel.id();
        let (from_client, client) = channel.split();
        let (inbox, closed) = channel::open(from_client, self.traffic.clone());
        let idle = Some((client, closed));
        self.channels.insert(
            id,
            Open {
                number: self.next,
                idle,
                inbox,
                pty: None,
                env: Vec::new(),
            },
        );
        reply.accept().await;
        Ok(())
    }

    async fn data(
        &mut self,
        _channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        // The client sends the few bytes of a throttled window at once, and russh would grant the
        // next few at once: this is the pace of that exchange.
        if data.len() <= THROTTLED as usize && self.behind() {
            tokio::time::sleep(PACE).await;
        }
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        if self.behind() { THROTTLED } else { WINDOW }
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
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
        match self.channels.get_mut(&channel) {
            Some(open) if open.idle.is_some() && open.pty.is_none() => {
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
        let allowed = name.len() + value.len() <= MAX_ENV_BYTES
            && !name.contains(['=', '\0'])
            && !value.contains('\0');
        match self.channels.get_mut(&channel) {
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
        let known = |policy: &Policy| policy.subsystems.contains_key(name);
        if self.session.policy().is_none_or(known) {
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
        if let Some(open) = self.channels.get_mut(&channel) {
            let size = size(columns, rows, width, height);
            match &mut open.pty {
                Some(pty) => pty.size = size,
                None => self.session.tell(ToSession::Resize {
                    channel: open.number,
                    size,
                }),
            }
        }
        Ok(())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(open) = self.channels.get(&channel) {
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
