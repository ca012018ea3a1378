//! Makes and checks tokens. The caller is whoever the kernel says is at the other end; nothing
//! in a request can change that.

use std::time::{SystemTime, UNIX_EPOCH};

use slurm_auth::{Claims, Context, TokenError, UserIdentity, Verifier};
use slurm_wire::ProtocolVersion;
use sys::peer::PeerCredentials;

use crate::error::ShimError;
use crate::identity::Answer;
use crate::keys::Keys;
use crate::policy::Policy;

/// A request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The client's protocol version, copied into the token.
    pub version: ProtocolVersion,
    /// Who may decode the token.
    pub ruid: u32,
    /// What it is bound to.
    pub payload: Vec<u8>,
}

/// Why no token is made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Without the identity slurmctld would take the user for somebody else or nobody.
    #[error("the user's identity is not available")]
    NoIdentity,
    /// The token could not be put together.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Keys, rules and the name of this host.
#[derive(Debug)]
pub struct Signer {
    keys: Keys,
    policy: Policy,
    host: String,
}

impl Signer {
    /// Puts a signer together.
    ///
    /// # Errors
    /// [`ShimError::System`] if the host has no name.
    pub fn new(keys: Keys, policy: Policy) -> Result<Self, ShimError> {
        Ok(Self {
            keys,
            policy,
            host: short_host_name()?,
        })
    }

    /// Looks for changed files; `forced` (SIGHUP) reads them in any case.
    pub fn refresh(&mut self, forced: bool) {
        self.keys.refresh(forced);
        self.policy.refresh(forced);
    }

    /// Makes a token for the peer.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn create(
        &mut self,
        peer: PeerCredentials,
        request: &Create,
        answer: &Answer,
    ) -> Result<(String, Claims), Refusal> {
        self.policy.refresh(false);
        let now = unix_now();
        let lifetime = i64::try_from(self.policy.lifetime().as_secs()).unwrap_or(i64::MAX);
        let claims = Claims {
            cluster: self.policy.cluster().map(str::to_owned),
            context: Context::Sack,
            exp: now.saturating_add(lifetime),
            gid: peer.gid,
            host: self.host.clone(),
            iat: now,
            id: self.identity(answer)?,
            payload: request.payload.clone(),
            ruid: request.ruid,
            uid: peer.uid,
            ver: i64::from(request.version.0),
        };
        let token = slurm_auth::sign(&claims, self.keys.ring())?;
        Ok((token, claims))
    }

    /// Checks a token for the peer.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn verify(&self, peer: PeerCredentials, token: &str) -> Result<Claims, TokenError> {
        let reader = Verifier {
            uid: peer.uid,
            now: unix_now(),
        };
        slurm_auth::verify(token, self.keys.ring(), reader)
    }

    /// As the original: a uid without an account gets a token without `id`. One whose account
    /// cannot be asked for right now gets none.
    fn identity(&self, answer: &Answer) -> Result<Option<UserIdentity>, Refusal> {
        match answer {
            _ if !self.policy.use_client_ids() => Ok(None),
            Answer::Found(identity) => Ok(Some(UserIdentity::clone(identity))),
            Answer::Absent => Ok(None),
            Answer::Unavailable => Err(Refusal::NoIdentity),
        }
    }
}

/// Seconds since 1970.
pub fn unix_now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The host name up to its first dot: slurmctld files this login node under it.
fn short_host_name() -> Result<String, ShimError> {
    let name = nix::unistd::gethostname()
        .map_err(|error| ShimError::system("read the host name")(error.into()))?;
    let name = name.to_string_lossy();
    match name.split('.').next() {
        Some(short) if !short.is_empty() => Ok(short.to_owned()),
        _ => Err(ShimError::Setting("the host has no name".to_owned())),
    }
}
