//! Makes and checks tokens. The caller is whoever the kernel says is at the other end; nothing
//! in a request can change that.

use std::time::{SystemTime, UNIX_EPOCH};

use slurm_auth::{Claims, Context, TokenError, UserIdentity, Verifier};
use slurm_wire::ProtocolVersion;
use sys::peer::PeerCredentials;

use crate::access::{Access, Caller, Denied};
use crate::config::{Cluster, Settings};
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
    /// The rules say no.
    #[error(transparent)]
    Denied(#[from] Denied),
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
    access: Access,
    host: String,
    /// SlurmUser.
    slurm_user: u32,
    /// Who runs this, and so the configuration process.
    own: u32,
    /// Whether the files were looked at for the requests that are being answered.
    has_looked: bool,
}

impl Signer {
    /// Loads the keys and slurm.conf of each cluster. One whose key is bad gets no tokens until it is good,
    /// and keeps nobody from those of the others.
    ///
    /// # Errors
    /// Those of [`Keys::load`] if no cluster has a good key; [`ShimError::System`] if the host has no name.
    pub fn of_all(settings: &Settings) -> Result<Vec<Self>, ShimError> {
        let slurm_user = settings.slurm_user.uid.as_raw();
        let load = |cluster: &Cluster| Keys::load(cluster.key.clone(), slurm_user);
        let loaded: Vec<_> = settings.clusters.iter().map(load).collect();
        let is_any_good = loaded.iter().any(Result::is_ok);
        let mut signers = Vec::new();
        for (keys, cluster) in loaded.into_iter().zip(&settings.clusters) {
            let keys = match keys {
                Err(error) if !is_any_good => return Err(error),
                Err(_) => Keys::none_yet(cluster.key.clone(), slurm_user),
                Ok(keys) => keys,
            };
            signers.push(Self::new(settings, cluster, keys)?);
        }
        Ok(signers)
    }

    fn new(settings: &Settings, cluster: &Cluster, keys: Keys) -> Result<Self, ShimError> {
        let slurm_user = settings.slurm_user.uid.as_raw();
        Ok(Self {
            keys,
            policy: Policy::new(cluster),
            access: cluster.access.clone(),
            host: short_host_name()?,
            slurm_user,
            own: nix::unistd::Uid::effective().as_raw(),
            has_looked: false,
        })
    }

    /// Looks for changed files; `forced` (SIGHUP) reads them in any case.
    pub fn refresh(&mut self, forced: bool) {
        self.policy.refresh(forced);
        self.keys.refresh(forced, self.policy.lifetime());
        self.keys.look_at_the_clock();
    }

    /// Other requests come now: files are looked at again with the first of them.
    pub fn forget_look(&mut self) {
        self.has_looked = false;
    }

    /// Looks for changed files, once for all requests that came together.
    fn look(&mut self) {
        if !self.has_looked {
            self.policy.refresh(false);
            self.keys.refresh(false, self.policy.lifetime());
            self.has_looked = true;
        }
    }

    /// Takes over what a reloaded configuration file says.
    pub fn set(&mut self, cluster: &Cluster) {
        self.policy.set(cluster);
        self.access = cluster.access.clone();
    }

    /// The keys in use.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What slurm.conf says.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether the kernel must be asked for a caller's groups.
    pub fn asks_for_groups(&self) -> bool {
        self.access.asks_for_groups()
    }

    /// Root, SlurmUser, or whoever runs this.
    pub fn is_system(&self, uid: u32) -> bool {
        uid == 0 || uid == self.slurm_user || uid == self.own
    }

    /// Makes a token for the peer.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn create(
        &mut self,
        caller: &Caller<'_>,
        request: &Create,
    ) -> Result<(String, Claims), Refusal> {
        let (peer, answer) = (caller.peer, caller.answer);
        if peer.uid != self.own {
            self.access.judge(caller, self.slurm_user)?;
        }
        self.look();
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
        let token = self.keys.sign(&claims)?;
        Ok((token, claims))
    }

    /// Checks a token for the peer. The configuration process, which runs as we do, reads what is
    /// meant for SlurmUser as well: the controller's pushes are, whoever we run as.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn verify(&mut self, peer: PeerCredentials, token: &str) -> Result<Claims, TokenError> {
        self.look();
        let reader = |uid| Verifier {
            uid,
            now: unix_now(),
        };
        match self.keys.verify(token, reader(peer.uid)) {
            Err(TokenError::NotForReader(_)) if peer.uid == self.own => {
                self.keys.verify(token, reader(self.slurm_user))
            }
            result => result,
        }
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
