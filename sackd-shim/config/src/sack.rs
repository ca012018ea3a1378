//! The client's side of the signer's socket: a token for our requests, a verdict on others'.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slurm_auth::message_hash;
use slurm_wire::ProtocolVersion;
use slurm_wire::rpc::MessageType;
use slurm_wire::sack::{ANYBODY, Request, VERIFY_LIMIT, parse_token_reply, parse_verdict_reply};

use crate::error::ConfigError;

/// Patience with the signer; it lives on this machine.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The signer's socket.
#[derive(Debug, Clone)]
pub struct Signer {
    path: PathBuf,
}

impl Signer {
    /// The socket in a run directory.
    pub fn in_run_dir(run_dir: &Path) -> Self {
        Self {
            path: run_dir.join("sack.socket"),
        }
    }

    /// A token for one message of ours.
    ///
    /// # Errors
    /// [`ConfigError::NoToken`] if the signer refuses, [`ConfigError::System`].
    pub fn token(
        &self,
        version: ProtocolVersion,
        message_type: MessageType,
        body: &[u8],
    ) -> Result<String, ConfigError> {
        let payload = message_hash::k12(message_type.0, body).to_vec();
        let reply = self.ask(&Request::Create {
            version,
            ruid: ANYBODY,
            payload,
        })?;
        parse_token_reply(&reply)
            .map_err(ConfigError::wire("the signer"))?
            .ok_or(ConfigError::NoToken)
    }

    /// Whether the signer finds a token good for us: signature, expiry, reader, context.
    ///
    /// # Errors
    /// [`ConfigError::System`].
    pub fn verify(&self, version: ProtocolVersion, token: &str) -> Result<bool, ConfigError> {
        let reply = self.ask(&Request::Verify {
            version,
            token: token.to_owned(),
        })?;
        Ok(parse_verdict_reply(&reply).unwrap_or(false))
    }

    fn ask(&self, request: &Request) -> Result<Vec<u8>, ConfigError> {
        let doing = format!("ask the signer at '{}'", self.path.display());
        let reply = || -> std::io::Result<Vec<u8>> {
            let mut stream = UnixStream::connect(&self.path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            stream.write_all(&request.encode())?;
            let mut reply = Vec::new();
            stream
                .take(VERIFY_LIMIT as u64 + 8)
                .read_to_end(&mut reply)?;
            Ok(reply)
        };
        reply().map_err(ConfigError::system(doing))
    }
}
