//! Connections that the user's client makes and takes through us: what the policy and the key allow,
//! made with the user's own rights. The bytes are net's matter: it gets the connected sockets.

mod agent;
mod connect;
mod listen;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gateway_wire::session::{Act, FromSession, ListenOn, Refusal, Setup, Target, X11};

use self::agent::AgentSocket;
use self::connect::ConnectError;
use self::listen::{ListenError, Listener};
use crate::display::{Display, xauth};
use crate::permitted;
use crate::record::{Record, cut};

/// Connections on their way at one time; each has a thread.
const MAX_CONNECTING: usize = 64;
/// Listeners of one login.
const MAX_LISTENERS: usize = 64;
/// Connections taken from one listener before the others have their turn.
const ACCEPT_AT_ONCE: usize = 16;
/// Rest after a connection could not be taken, for want of descriptors most likely.
const PAUSE: Duration = Duration::from_secs(1);

/// Why something is not forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The policy or the key forbids it.
    #[error("{0} is not permitted")]
    Prohibited(String),
    /// There are too many.
    #[error("too many {0} at one time")]
    Shortage(&'static str),
    /// Programs would find no cookie.
    #[error("X11 is not forwarded: no 'xauth' in the login's search path")]
    NoXauth,
    /// The other end is not to be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Nothing can listen there.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl ForwardError {
    fn kind(&self) -> Refusal {
        match self {
            Self::Prohibited(_) => Refusal::Prohibited,
            Self::Shortage(_) => Refusal::Shortage,
            Self::NoXauth | Self::Connect(_) | Self::Listen(_) => Refusal::Failed,
        }
    }
}

/// The login's listeners, and connections on their way.
pub struct Forwards<'a> {
    setup: &'a Setup,
    net: Arc<OwnedFd>,
    connecting: Arc<AtomicUsize>,
    listeners: BTreeMap<u32, Listener>,
    agent: Option<AgentSocket>,
    /// Ports of displays by listener; a single one listens no more after its first connection.
    displays: BTreeMap<u32, u16>,
    paused: Option<Instant>,
    record: Arc<Record>,
}

impl<'a> Forwards<'a> {
    /// Nothing yet. `net` is told of what happens.
    ///
    /// # Errors
    /// If the descriptor cannot be copied.
    pub fn new(net: BorrowedFd<'_>, setup: &'a Setup, record: Arc<Record>) -> io::Result<Self> {
        Ok(Self {
            setup,
            net: Arc::new(net.try_clone_to_owned()?),
            connecting: Arc::default(),
            listeners: BTreeMap::new(),
            agent: None,
            displays: BTreeMap::new(),
            paused: None,
            record,
        })
    }

    /// Connects for a channel; net hears how it went, later.
    ///
    /// # Errors
    /// Those of the socket to net.
    pub fn connect(&self, channel: u32, target: Target) -> io::Result<()> {
        if let Err(error) = self.may_connect(&target) {
            return self.refuse(channel, &error);
        }
        if self.connecting.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTING {
            self.connecting.fetch_sub(1, Ordering::Relaxed);
            return self.refuse(channel, &ForwardError::Shortage("connections on their way"));
        }
        let to = match &target {
            Target::Tcp { host, port } => cut(&format!("{host}:{port}")),
            Target::Unix(path) => cut(path),
        };
        self.record.tell(&Act::Connecting { channel, to });
        let (net, connecting) = (self.net.clone(), self.connecting.clone());
        let record = self.record.clone();
        let home = self.setup.home.clone();
        let started = std::thread::Builder::new()
            .name("connect".into())
            // glibc's resolver and the modules of nsswitch.conf(5) keep buffers there.
            .stack_size(512 * 1024)
            .spawn(move || {
                let connected = connect::to(&target, &home);
                connecting.fetch_sub(1, Ordering::Relaxed);
                // Without net there is nobody to tell.
                let _ = match connected {
                    Ok(socket) => {
                        tell(&net, &FromSession::Connected { channel }, &[socket.as_fd()])
                    }
                    Err(error) => refuse(&net, &record, channel, &error.into()),
                };
            });
        if started.is_err() {
            self.connecting.fetch_sub(1, Ordering::Relaxed);
            return self.refuse(channel, &ForwardError::Shortage("threads"));
        }
        Ok(())
    }

    fn may_connect(&self, target: &Target) -> Result<(), ForwardError> {
        let (policy, key) = (&self.setup.policy, &self.setup.restrictions);
        let (allowed, name) = match target {
            Target::Tcp { host, port } => (
                policy.tcp_forwarding.local()
                    && permitted::open(&policy.permit_open, &key.permit_open, host, *port),
                format!("forwarding to '{host}' port {port}"),
            ),
            Target::Unix(path) => (
                policy.stream_local_forwarding.local()
                    && permitted::anything(&policy.permit_open, &key.permit_open),
                format!("forwarding to '{path}'"),
            ),
        };
        if allowed {
            Ok(())
        } else {
            Err(ForwardError::Prohibited(name))
        }
    }

    /// Listens; net hears how it went, now.
    ///
    /// # Errors
    /// Those of the socket to net.
    pub fn listen(&mut self, channel: u32, on: &ListenOn) -> io::Result<()> {
        match self.open(on) {
            Ok(listener) => {
                let is_display = matches!(on, ListenOn::Display { .. });
                let port = listener.port();
                let on = match on {
                    ListenOn::Tcp { address, .. } => cut(&format!("{address}:{port}")),
                    ListenOn::Unix(path) => cut(path),
                    ListenOn::Agent => "agent".to_owned(),
                    ListenOn::Display { .. } => "x11".to_owned(),
                };
                self.record.tell(&Act::Listening { channel, on });
                if is_display {
                    self.displays.insert(channel, port);
                }
                self.listeners.insert(channel, listener);
                self.tell(&FromSession::Listening { channel, port }, &[])
            }
            Err(error) => self.refuse(channel, &error),
        }
    }

    fn open(&mut self, on: &ListenOn) -> Result<Listener, ForwardError> {
        let (policy, key) = (&self.setup.policy, &self.setup.restrictions);
        let prohibited = |what: String| Err(ForwardError::Prohibited(what));
        if self.listeners.len() >= MAX_LISTENERS {
            return Err(ForwardError::Shortage("listeners"));
        }
        match on {
            ListenOn::Tcp { address, port } => {
                let allowed = policy.tcp_forwarding.remote()
                    && permitted::listen(&policy.permit_listen, &key.permit_listen, address, *port);
                if !allowed {
                    return prohibited(format!("listening on '{address}' port {port}"));
                }
                Ok(listen::tcp(address, *port, policy.gateway_ports)?)
            }
            ListenOn::Unix(path) => {
                let allowed = policy.stream_local_forwarding.remote()
                    && permitted::anything(&policy.permit_listen, &key.permit_listen);
                if !allowed {
                    return prohibited(format!("listening on '{path}'"));
                }
                Ok(listen::unix(&self.setup.home.join(path))?)
            }
            ListenOn::Agent => {
                if !policy.agent_forwarding || self.agent.is_some() {
                    return prohibited("forwarding of the agent".to_owned());
                }
                let (socket, listener) = AgentSocket::make()?;
                self.agent = Some(socket);
                Ok(listener)
            }
            ListenOn::Display { single } => {
                if !policy.x11_forwarding {
                    return prohibited("forwarding of X11".to_owned());
                }
                if xauth(&policy.path).is_none() {
                    return Err(ForwardError::NoXauth);
                }
                Ok(listen::display(*single)?)
            }
        }
    }

    /// The display of a program; `None` if its listener has gone or the client's words are no cookie.
    pub fn display(&self, x11: &X11) -> Option<Display> {
        let port = self.displays.get(&x11.listener)?;
        Display::new(xauth(&self.setup.policy.path)?, *port, x11)
    }

    /// Stops a listener, and forgets it.
    pub fn close(&mut self, channel: u32) {
        self.listeners.remove(&channel);
        self.displays.remove(&channel);
    }

    /// Ends what listens: there is nobody to carry it to.
    pub fn close_all(&mut self) {
        self.listeners.clear();
        self.displays.clear();
        self.agent = None;
    }

    /// Variables for the programs of the login.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        self.agent
            .iter()
            .map(|agent| ("SSH_AUTH_SOCK".into(), agent.path().into()))
            .collect()
    }

    /// Descriptors to wait for; none while it pauses.
    pub fn waiting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let rests = self.paused.is_some();
        self.listeners
            .values()
            .filter(move |_| !rests)
            .flat_map(Listener::waiting)
    }

    /// How long the pause has still to go; `None` if there is none.
    pub fn pause(&mut self) -> Option<Duration> {
        let left = self.paused?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.paused = None;
        }
        self.paused.is_some().then_some(left)
    }

    /// Takes the connections that wait, and hands them to net.
    ///
    /// # Errors
    /// Those of the socket to net.
    pub fn accept(&mut self) -> io::Result<()> {
        for (channel, listener) in &mut self.listeners {
            for _ in 0..ACCEPT_AT_ONCE {
                match listener.accept() {
                    Ok(Some((socket, address, port))) => {
                        let channel = *channel;
                        let from = match address.as_str() {
                            "" => String::new(),
                            address => format!("{address}:{port}"),
                        };
                        self.record.tell(&Act::Accepted {
                            listener: channel,
                            from,
                        });
                        let message = FromSession::Accepted {
                            channel,
                            address,
                            port,
                        };
                        tell(&self.net, &message, &[socket.as_fd()])?;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        eprintln!("warn: take a forwarded connection: {error}");
                        self.paused = Some(Instant::now() + PAUSE);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&self, message: &FromSession, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        tell(&self.net, message, fds)
    }

    fn refuse(&self, channel: u32, error: &ForwardError) -> io::Result<()> {
        refuse(&self.net, &self.record, channel, error)
    }
}

fn tell(net: &OwnedFd, message: &FromSession, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = gateway_wire::encode(message).map_err(io::Error::other)?;
    sys::fds::send_with_fds(net, &bytes, fds)
}

fn refuse(net: &OwnedFd, record: &Record, channel: u32, error: &ForwardError) -> io::Result<()> {
    let reason = service::exit::chain(error);
    record.tell(&Act::Refused(cut(&reason)));
    let kind = error.kind();
    let refused = FromSession::Refused {
        channel,
        kind,
        reason,
    };
    tell(net, &refused, &[])
}
