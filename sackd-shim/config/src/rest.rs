//! Bearer tokens for slurmrestd: a user's SACK token comes in on `rest.socket`, a token of auth/jwt
//! goes out. slurmctld makes it, asked as SlurmUser, so that a site can forbid users to make their own
//! (`disable_token_creation`) and still give them some of a limited life. No key for them is here.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use slurm_auth::{message_hash, read_unverified};
use slurm_wire::ProtocolVersion;
use slurm_wire::auth_token::{AuthTokenRequest, decode_response};
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::{Credential, Message, MessageType};

use crate::error::ConfigError;
use crate::exchange::exchange;
use crate::fetch::Controllers;
use crate::hush::Hush;
use crate::sack::Signer;
use crate::srv::Resolver;

/// Name of the socket in the run directory.
const NAME: &str = "rest.socket";
/// Everybody may connect: the SACK token says who asks, and the kernel agrees.
const MODE: u32 = 0o777;
/// From the connection to the whole request.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest request, in bytes.
const LIMIT: usize = 64 * 1024;
/// Requests at a time, of all and of one user.
const AT_A_TIME: (usize, usize) = (16, 2);

/// What it takes to make a token.
#[derive(Debug)]
pub struct Desk {
    signer: Signer,
    controllers: Controllers,
    longest: Duration,
    open: Mutex<HashMap<u32, usize>>,
    hush: Hush,
}

impl Desk {
    /// Tokens of at most `longest`, made by these controllers.
    pub fn new(signer: Signer, controllers: Controllers, longest: Duration) -> Self {
        Self {
            signer,
            controllers,
            longest,
            open: Mutex::default(),
            hush: Hush::default(),
        }
    }

    /// Serves from threads of its own.
    ///
    /// # Errors
    /// [`ConfigError::System`] if the socket cannot be made.
    pub fn start(self, run_dir: &Path) -> Result<(), ConfigError> {
        let path = run_dir.join(NAME);
        let doing = || ConfigError::system(format!("listen on '{}'", path.display()));
        let listener = sys::listen::unix_stream(&path, MODE).map_err(doing())?;
        let desk = Arc::new(self);
        let work = move || serve(&listener, &desk);
        std::thread::Builder::new()
            .name("rest".to_owned())
            .spawn(work)
            .map_err(doing())?;
        tracing::info!(event = "rest.listening", path = %path.display());
        Ok(())
    }

    /// Counts a connection in; `false` if there is no room for it.
    fn enter(&self, uid: u32) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.entry(uid).or_default();
        let room = all < AT_A_TIME.0 && *own < AT_A_TIME.1;
        *own += usize::from(room);
        room
    }

    fn leave(&self, uid: u32) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&uid) {
            *own -= 1;
        }
        open.retain(|_, own| *own > 0);
    }

    /// One request, one answer: `ok SECONDS TOKEN` or `no REASON`.
    fn answer(&self, stream: &mut UnixStream, uid: u32) -> Result<String, ConfigError> {
        let text = request(stream).map_err(ConfigError::system("read a request for a token"))?;
        let (wanted, token) = text
            .trim_end()
            .split_once(' ')
            .ok_or(ConfigError::Rest("the request is malformed"))?;
        let wanted: u32 = wanted
            .parse()
            .map_err(|_| ConfigError::Rest("the request is malformed"))?;
        let user = self.user(uid, wanted, token)?;
        let longest = u32::try_from(self.longest.as_secs()).unwrap_or(u32::MAX);
        let lifespan = match wanted {
            0 => longest,
            some => some.min(longest),
        };
        let made = self.make(&AuthTokenRequest {
            lifespan,
            user: Some(user.clone()),
        })?;
        tracing::info!(
            target: service::log::AUDIT,
            event = "rest.made",
            uid,
            user,
            lifespan,
            signature_sha256 = slurm_auth::signature_digest(&made),
        );
        Ok(format!("ok {lifespan} {made}\n"))
    }

    /// Whose request it is: the SACK token is good, made for this very request, and by the user who
    /// connects. Whether that user may have tokens at all was the signer's matter.
    fn user(&self, uid: u32, wanted: u32, token: &str) -> Result<String, ConfigError> {
        let claims = read_unverified(token).map_err(ConfigError::PushToken)?;
        let body = AuthTokenRequest {
            lifespan: wanted,
            user: None,
        };
        let hash = message_hash::k12(MessageType::REQUEST_AUTH_TOKEN.0, &body.encode());
        if claims.payload != hash || claims.uid != uid {
            return Err(ConfigError::Rest("the SACK token is for another request"));
        }
        if !self.signer.verify(ProtocolVersion::V24_11, token)? {
            return Err(ConfigError::Rest("the SACK token is not good"));
        }
        if let Some(identity) = claims.id {
            return Ok(identity.name);
        }
        match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => Ok(user.name),
            _ => Err(ConfigError::Rest("the user has no name here")),
        }
    }

    /// Asks the controllers in order, newest version first.
    fn make(&self, request: &AuthTokenRequest) -> Result<String, ConfigError> {
        let controllers = match &self.controllers {
            Controllers::Named(list) => list.clone(),
            Controllers::Discovered => Resolver::of_system().controllers()?,
        };
        let body = request.encode();
        let message_type = MessageType::REQUEST_AUTH_TOKEN;
        let mut last = ConfigError::NoServer;
        for controller in &controllers {
            for version in ProtocolVersion::NEWEST_FIRST {
                let token = self.signer.token(version, message_type, &body)?;
                let message = Message {
                    version,
                    flags: 0,
                    message_type,
                    credential: Some(Credential::Slurm(token)),
                    body: body.clone(),
                };
                let reply = match exchange(controller, &message) {
                    Ok(reply) => reply,
                    Err(error @ ConfigError::Version { .. }) => {
                        last = error;
                        continue;
                    }
                    Err(error) => {
                        last = error;
                        break;
                    }
                };
                let wire = || ConfigError::wire(controller.name.clone());
                if reply.message_type == MessageType::RESPONSE_AUTH_TOKEN {
                    return decode_response(&reply.body).map_err(wire());
                }
                let code = ReturnCode::decode(&reply.body).map_err(wire())?;
                last = ConfigError::Code {
                    server: controller.name.clone(),
                    code,
                };
                if code != ReturnCode::AUTHENTICATION && code != ReturnCode::VERSION {
                    break;
                }
            }
        }
        Err(last)
    }
}

fn serve(listener: &UnixListener, desk: &Arc<Desk>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let Ok(peer) = sys::peer::credentials(&stream) else {
            continue;
        };
        if !desk.enter(peer.uid) {
            let _ = stream.write_all(b"no too many requests at a time\n");
            continue;
        }
        let own = Arc::clone(desk);
        let work = move || {
            let answer = own.answer(&mut stream, peer.uid).unwrap_or_else(|error| {
                let error = service::exit::chain(&error);
                if let Some(untold) = own.hush.may_tell() {
                    tracing::warn!(event = "rest.refused", uid = peer.uid, error, untold);
                }
                format!("no {error}\n")
            });
            let _ = stream.set_write_timeout(Some(TIMEOUT));
            let _ = stream.write_all(answer.as_bytes());
            own.leave(peer.uid);
        };
        let started = std::thread::Builder::new()
            .name("token".to_owned())
            .spawn(work);
        if started.is_err() {
            desk.leave(peer.uid);
        }
    }
}

/// Bytes up to the line's end, within one deadline.
fn request(stream: &mut UnixStream) -> std::io::Result<String> {
    let deadline = Instant::now() + TIMEOUT;
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    while !received.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || received.len() > LIMIT {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => received.extend_from_slice(&chunk[..n]),
        }
    }
    String::from_utf8(received).map_err(|_| std::io::ErrorKind::InvalidData.into())
}
