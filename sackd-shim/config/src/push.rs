//! Pushed configurations: the controller connects to us. Anybody can reach the port, so a push
//! counts only with SlurmUser's token over exactly this message.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use slurm_auth::{Claims, message_hash, read_unverified};
use slurm_wire::configuration::Configuration;
use slurm_wire::rpc::{Credential, Message, MessageType};

use crate::error::ConfigError;
use crate::exchange::{FrameError, MESSAGE_LIMIT, read_frame};
use crate::sack::Signer;

/// From the connection to its last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pushes read at a time. More are closed at once; the periodic fetch makes up for them.
const AT_A_TIME: usize = 4;

/// What the worker hears of.
#[derive(Debug)]
pub enum Event {
    /// A push that may be made.
    Pushed(Configuration),
    /// One that could not be read or may not be made: perhaps a good one that was damaged.
    PushFailed,
    /// Somebody wants a fetch now.
    FetchNow,
}

/// Who may push.
#[derive(Debug, Clone)]
pub struct Gate {
    signer: Signer,
    slurm_user: u32,
}

impl Gate {
    /// Only tokens of `slurm_user` that the signer finds good.
    pub fn new(signer: Signer, slurm_user: u32) -> Self {
        Self { signer, slurm_user }
    }

    /// The configuration in a push, if the push may be made.
    ///
    /// # Errors
    /// [`ConfigError::Push`] and others: what is wrong with it.
    pub fn open(&self, frame: &[u8]) -> Result<Configuration, ConfigError> {
        let peer = || ConfigError::wire("the pusher");
        let message = Message::decode(frame).map_err(peer())?;
        if message.message_type != MessageType::RECONFIGURE_SACKD {
            return Err(ConfigError::NoPush);
        }
        let Some(Credential::Slurm(token)) = &message.credential else {
            return Err(ConfigError::Push("it has no token"));
        };
        let claims = read_unverified(token).map_err(ConfigError::PushToken)?;
        self.check_claims(&claims, &message)?;
        // The claims are worth something only now.
        if !self.signer.verify(message.version, token)? {
            return Err(ConfigError::Push("the signer does not find its token good"));
        }
        Configuration::decode(&message.body).map_err(peer())
    }

    fn check_claims(&self, claims: &Claims, message: &Message) -> Result<(), ConfigError> {
        if claims.uid != self.slurm_user {
            return Err(ConfigError::Push("it is not from SlurmUser"));
        }
        if claims.payload != message_hash::k12(message.message_type.0, &message.body) {
            return Err(ConfigError::Push("its token is for another message"));
        }
        Ok(())
    }
}

/// Listens on `port` of all addresses, both families where the host has both.
///
/// # Errors
/// [`ConfigError::System`].
pub fn listen(port: u16) -> Result<TcpListener, ConfigError> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .map_err(ConfigError::system(format!(
            "listen on port {port} for pushes"
        )))
}

/// Takes pushes for ever, each in a thread of its own, and hands good ones on.
pub fn serve(listener: &TcpListener, gate: &Gate, events: &Sender<Event>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= AT_A_TIME {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (gate, events, count) = (gate.clone(), events.clone(), Arc::clone(&open));
        let work = move || {
            take(stream, &gate, &events);
            count.fetch_sub(1, Ordering::Relaxed);
        };
        if std::thread::Builder::new()
            .name("push".to_owned())
            .spawn(work)
            .is_err()
        {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn take(mut stream: TcpStream, gate: &Gate, events: &Sender<Event>) {
    let from = stream
        .peer_addr()
        .map_or_else(|_| "-".to_owned(), |address| address.to_string());
    let frame = match read_frame(&mut stream, MESSAGE_LIMIT, Instant::now() + TIMEOUT) {
        Ok(Some(frame)) => frame,
        // A port scan or a health check.
        Ok(None) => return,
        Err(error @ (FrameError::Io(_) | FrameError::Wire(_) | FrameError::Http)) => {
            tracing::debug!(event = "push.unreadable", from, ?error);
            let _ = events.send(Event::PushFailed);
            return;
        }
    };
    match gate.open(&frame) {
        Ok(configuration) => {
            tracing::info!(
                event = "push.taken",
                from,
                files = configuration.files.len()
            );
            let _ = events.send(Event::Pushed(configuration));
        }
        Err(error) => {
            tracing::warn!(
                event = "push.refused",
                from,
                error = service::exit::chain(&error)
            );
            let is_damaged = !matches!(error, ConfigError::NoPush | ConfigError::Wire { .. });
            if is_damaged {
                let _ = events.send(Event::PushFailed);
            }
        }
    }
}
