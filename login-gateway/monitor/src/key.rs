//! Whether a key is good for an account: in the directory, or in the user's own files, which a
//! child reads as that user.

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use gateway_wire::session::{KeyAnswer, KeyQuestion};
use gateway_wire::{MAX_MESSAGE, Settings, UserName};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use sys::identity::Identity;
use sys::memfd::Shared;
use sys::spawn::Spawn;

use crate::account::{Account, NoAccount};

/// How long the child may take; a home on a file server that hangs must not hold up the login.
const CHILD_TIME: Duration = Duration::from_secs(5);

/// Where a good key was found; for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// `sshPublicKey` and the like.
    Directory,
    /// `authorized_keys`.
    Files,
}

/// Looks for the key. An account that does not exist costs the same steps, so that the time of a
/// refusal does not tell whether a name is known.
pub fn find(
    settings: &Settings,
    account: &Result<Account, NoAccount>,
    nobody: &Identity,
    user: &UserName,
    source: IpAddr,
    key: &[u8],
) -> io::Result<Option<KeySource>> {
    let (identity, home, keys) = match account {
        Ok(account) => (
            &account.identity,
            account.home.clone(),
            &account.directory_keys[..],
        ),
        Err(_) => (nobody, PathBuf::from("/nonexistent"), &[][..]),
    };
    let listed = keys.iter().any(|line| {
        let encoded = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        STANDARD.decode(encoded).is_ok_and(|known| known == key)
    });
    // The files are read also when the directory has the key already: a login takes its time from
    // the slower of both, whichever keys exist.
    if listed && account.is_ok() {
        return Ok(Some(KeySource::Directory));
    }
    let files = settings.authorized_keys_files.clone();
    let question = KeyQuestion {
        home,
        files,
        key: key.to_vec(),
        principals: None,
        principals_files: Vec::new(),
        user: user.clone(),
        source,
    };
    let found = ask_as(settings, identity, &question)?.is_some_and(|a| a.found.is_some());
    Ok((found && account.is_ok()).then_some(KeySource::Files))
}

fn ask_as(
    settings: &Settings,
    identity: &Identity,
    question: &KeyQuestion,
) -> io::Result<Option<KeyAnswer>> {
    let bytes = gateway_wire::encode(question).map_err(io::Error::other)?;
    let question = Shared::new("key-question", &bytes)?.reader()?;
    let (mut answer, theirs) = io::pipe()?;
    let mut spawn = Spawn::new(&service::sibling("login-gateway-session")?)
        .args(["find-key"])
        .fd(0, question)
        .fd(1, theirs.into())
        .inherit_stderr();
    if settings.user.is_some() {
        spawn = spawn.identity(identity.clone());
    }
    let mut child = spawn.start()?;
    let deadline = Instant::now() + CHILD_TIME;
    let signals = nix::sys::signal::SigSet::from(Signal::SIGCHLD);
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                return Ok(None);
            }
            // The child has ended and its answer is shorter than a pipe.
            let mut bytes = Vec::new();
            answer
                .by_ref()
                .take(MAX_MESSAGE as u64)
                .read_to_end(&mut bytes)?;
            return Ok(gateway_wire::decode(&bytes).ok());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            tracing::warn!(event = "authorized_keys.timeout");
            // A child that hangs in the kernel ends when the file server answers.
            child.kill()?;
            return Ok(None);
        }
        sys::signals::wait_for(&signals, left)?;
    }
}

/// `SHA256:...`, as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_that_of_ssh_keygen() {
        // ssh-keygen -lf of this key.
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        let key = STANDARD.decode(key).unwrap();
        assert_eq!(
            fingerprint(&key),
            "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
        );
    }
}
