//! Pushed configurations: the controller connects to us. Anybody can reach the port, so a push
//! counts only with SlurmUser's token over exactly this message.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use slurm_auth::{Claims, message_hash, read_unverified};
use slurm_wire::ProtocolVersion;
use slurm_wire::configuration::Configuration;
use slurm_wire::rpc::{Credential, Message, MessageType};

use crate::crowd::Crowd;
use crate::error::ConfigError;
use crate::exchange::{MESSAGE_LIMIT, read_frame};
use crate::hush::Hush;
use crate::sack::Signer;

/// From the connection to its last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Connections read at a time. For more the oldest make way; the next fetch makes up for what was cut off.
const AT_A_TIME: usize = 8;

/// What the worker hears of.
#[derive(Debug)]
pub enum Event {
    /// A push that may be made.
    Pushed(Configuration),
    /// One that could not be read or may not be made: perhaps a good one that was damaged.
    PushFailed,
    /// Somebody wants a fetch now.
    FetchNow,
    /// A fetch has ended.
    Fetched(Result<Configuration, ConfigError>),
}

/// Who may push.
#[derive(Debug, Clone)]
pub struct Gate {
    signer: Signer,
    slurm_user: u32,
    /// Tokens that the signer did not find good. Each is a line in its record, which strangers are not to fill.
    bad: Arc<Hush>,
}

impl Gate {
    /// Only tokens of `slurm_user` that the signer finds good.
    pub fn new(signer: Signer, slurm_user: u32) -> Self {
        Self {
            signer,
            slurm_user,
            bad: Arc::default(),
        }
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
        self.verify(message.version, token)?;
        Configuration::decode(&message.body).map_err(peer())
    }

    /// Whether the rest of a long message should be read at all: it says that it is a push, and its token is
    /// SlurmUser's. So nobody else fills our memory.
    fn admits(&self, start: &[u8]) -> bool {
        let Ok(head) = Message::decode_head(start) else {
            return false;
        };
        let Some(Credential::Slurm(token)) = &head.credential else {
            return false;
        };
        head.message_type == MessageType::RECONFIGURE_SACKD
            && read_unverified(token).is_ok_and(|claims| claims.uid == self.slurm_user)
            && self.verify(head.version, token).is_ok()
    }

    /// Asks the signer, unless it has said no too often just now: then a fetch makes up for a good push.
    fn verify(&self, version: ProtocolVersion, token: &str) -> Result<(), ConfigError> {
        if self.bad.is_spent() {
            return Err(ConfigError::Push("too many before it were forged"));
        }
        if self.signer.verify(version, token)? {
            return Ok(());
        }
        let _ = self.bad.may_tell();
        Err(ConfigError::Push("the signer does not find its token good"))
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

/// Takes pushes for ever, each in a thread of its own, and hands good ones on. A controller sends at once:
/// where too many are open, the oldest makes way.
pub fn serve(listener: &TcpListener, gate: &Gate, events: &Sender<Event>) {
    let hush = Arc::new(Hush::default());
    let (gate, events) = (gate.clone(), events.clone());
    Crowd::new("push", AT_A_TIME).serve(listener, move |stream| {
        take(stream, &gate, &events, &hush);
    });
}

fn take(mut stream: TcpStream, gate: &Gate, events: &Sender<Event>, hush: &Hush) {
    let from = stream
        .peer_addr()
        .map_or_else(|_| "-".to_owned(), |address| address.to_string());
    let deadline = Instant::now() + TIMEOUT;
    let is_wanted = |start: &[u8]| gate.admits(start);
    let frame = match read_frame(&mut stream, MESSAGE_LIMIT, deadline, &is_wanted) {
        Ok(Some(frame)) => frame,
        // A port scan or a health check.
        Ok(None) => return,
        Err(error) => {
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
            let is_damaged = !matches!(error, ConfigError::NoPush | ConfigError::Wire { .. });
            if let Some(untold) = hush.may_tell() {
                let error = service::exit::chain(&error);
                tracing::warn!(event = "push.refused", from, error, untold);
            }
            if is_damaged {
                let _ = events.send(Event::PushFailed);
            }
        }
    }
}
