//! Whose key it is: in the directory, in the user's own files, which a child reads as that user, or in
//! what a command of the policy says.
//! Whether policy takes such a key is not told here.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use gateway_wire::policy::Restrictions;
use gateway_wire::session::{KeyAnswer, KeyQuestion, Output};
use gateway_wire::{MAX_MESSAGE, Settings};
use sha2::{Digest, Sha256};
use sys::identity::Identity;

use crate::authentication::Candidate;
pub use crate::authentication::key_type;
use crate::key_command::{self, Command, Shown};
use crate::{child, trusted_file};

/// Where a good key was found; for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `sshPublicKey` and the like.
    Directory,
    /// `authorized_keys`.
    Files,
    /// What a command of the policy has said.
    Command,
    /// An authority of the policy's, `trusted-user-ca-keys`.
    Authority,
    /// The file of `break-glass`.
    BreakGlass,
}

impl Place {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Files => "files",
            Self::Command => "command",
            Self::Authority => "authority",
            Self::BreakGlass => "break-glass",
        }
    }
}

/// A key of the user's.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it stands.
    pub place: Place,
    /// What its line takes away.
    pub restrictions: Restrictions,
}

/// What looking for a key has shown.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The key, if it is the user's.
    pub found: Option<Found>,
    /// Whether the user trusts an authority, so that a certificate of this key could be good.
    pub authority: bool,
    /// What the line of a file of principals takes away that names one of the certificate's.
    pub principal: Option<Restrictions>,
}

/// Looks for the key, or for the authority of the certificate, in the same places. An account that
/// does not exist costs the same steps, so that the time of a refusal does not tell whether a name is
/// known. `authority` says whether policy trusts the certificate's, so that principals are asked for.
///
/// # Errors
/// If a child cannot be started.
pub fn find(
    settings: &Settings,
    candidate: &Candidate,
    nobody: &Identity,
    shown: &Shown<'_>,
    authority: bool,
) -> io::Result<Search> {
    let (identity, home, lines) = match &candidate.account {
        Ok(account) => (
            &account.identity,
            account.home.clone(),
            &account.directory_keys[..],
        ),
        Err(_) => (nobody, PathBuf::from("/nonexistent"), &[][..]),
    };
    let policy = &candidate.policy;
    let certificate = shown.certificate.map(|(_, certificate)| certificate);
    let question = KeyQuestion {
        home,
        files: policy.authorized_keys_files.clone(),
        lines: Vec::new(),
        key: certificate.map_or(shown.key, |c| &c.authority).to_vec(),
        principals: certificate.map(|c| c.principals.clone()),
        output: None,
        principals_files: match certificate {
            Some(_) => policy.authorized_principals_files.clone(),
            None => Vec::new(),
        },
        user: candidate.canonical_name().clone(),
        source: shown.endpoints.source.ip(),
    };
    if let Some(path) = &candidate.break_glass {
        return for_emergencies(settings, path, nobody, question);
    }
    let mut search = in_directory(settings, lines, nobody, &question)?;
    let files = !question.files.is_empty() || !question.principals_files.is_empty();
    if search.found.is_none() && files {
        let answer = ask_as(settings, identity, &question, None)?;
        let answer = answer.filter(|_| candidate.account.is_ok());
        search = search.or(answer, Place::Files);
    }
    let keys = Command {
        name: "authorized-keys-command",
        words: &policy.authorized_keys_command,
        user: &policy.authorized_keys_command_user,
    };
    let names = Command {
        name: "authorized-principals-command",
        words: &policy.authorized_principals_command,
        user: &policy.authorized_principals_command_user,
    };
    for (command, kind, asked) in [
        (keys, Output::Keys, search.found.is_none()),
        (
            names,
            Output::Principals,
            authority && search.principal.is_none(),
        ),
    ] {
        if !asked || command.words.is_empty() {
            continue;
        }
        let Some(said) = key_command::run(settings, &command, candidate, shown)? else {
            continue;
        };
        let question = KeyQuestion {
            files: Vec::new(),
            principals_files: Vec::new(),
            output: Some(kind),
            ..question.clone()
        };
        let answer = ask_as(settings, nobody, &question, Some(&said))?;
        let answer = answer.filter(|_| candidate.account.is_ok());
        search = search.or(answer, Place::Command);
    }
    Ok(search)
}

impl Search {
    fn or(self, answer: Option<KeyAnswer>, place: Place) -> Self {
        let Some(answer) = answer else {
            return self;
        };
        let found = answer.found.map(|restrictions| Found {
            place,
            restrictions,
        });
        Self {
            found: self.found.or(found),
            authority: self.authority || answer.authority,
            principal: self.principal.or(answer.principal),
        }
    }
}

/// The keys of `break-glass` and no others.
fn for_emergencies(
    settings: &Settings,
    path: &Path,
    nobody: &Identity,
    question: KeyQuestion,
) -> io::Result<Search> {
    let text = match trusted_file::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            tracing::error!(event = "break_glass.unusable", file = %path.display(), %error);
            return Ok(Search::default());
        }
    };
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let question = KeyQuestion {
        files: Vec::new(),
        principals_files: Vec::new(),
        lines: bounded(lines.iter().collect()),
        ..question
    };
    let mut search = Search::default().or(
        ask_as(settings, nobody, &question, None)?,
        Place::BreakGlass,
    );
    // Certificates stand for more people than the file names.
    search.authority = false;
    search.found = search.found.filter(|_| question.principals.is_none());
    Ok(search)
}

/// The directory's keys. A line may carry options as in `authorized_keys`; the monitor reads none
/// of those, but gives such lines to a child without rights.
fn in_directory(
    settings: &Settings,
    lines: &[String],
    nobody: &Identity,
    question: &KeyQuestion,
) -> io::Result<Search> {
    let mut search = Search::default();
    let (plain, others): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| {
        line.starts_with("ssh-") || line.starts_with("ecdsa-") || line.starts_with("sk-")
    });
    let same = |line: &&String| {
        let encoded = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        STANDARD
            .decode(encoded)
            .is_ok_and(|known| known == question.key)
    };
    if question.principals.is_none() && plain.iter().any(same) {
        search.found = Some(Found {
            place: Place::Directory,
            restrictions: Restrictions::default(),
        });
    } else if !others.is_empty() {
        let question = KeyQuestion {
            files: Vec::new(),
            lines: bounded(others),
            principals_files: Vec::new(),
            ..question.clone()
        };
        search = search.or(ask_as(settings, nobody, &question, None)?, Place::Directory);
    }
    Ok(search)
}

/// As many lines as one message can hold.
fn bounded(lines: Vec<&String>) -> Vec<String> {
    let mut left = MAX_MESSAGE / 2;
    let fits = |line: &&String| {
        let enough = line.len() + 8 <= left;
        left = left.saturating_sub(line.len() + 8);
        enough
    };
    lines.into_iter().take_while(fits).cloned().collect()
}

fn ask_as(
    settings: &Settings,
    identity: &Identity,
    question: &KeyQuestion,
    text: Option<&[u8]>,
) -> io::Result<Option<KeyAnswer>> {
    let program: &Path = &service::sibling("login-gateway-session")?;
    let identity = settings.user.is_some().then_some(identity);
    child::ask(program, "find-key", identity, question, text)
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
