//! Programs that say which keys or which principals are good, `authorized-keys-command` and
//! `authorized-principals-command`. They are run here; what they say is read by a child without
//! rights.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_wire::Settings;
use gateway_wire::accept::Endpoints;
use gateway_wire::certificate::Certificate;
use gateway_wire::session::MAX_KEYS;
use nix::unistd::{Uid, User, getgrouplist};
use sys::identity::Identity;
use sys::spawn::Spawn;

use crate::authentication::Candidate;
use crate::{child, key};

/// How long one may take.
const TIME: Duration = Duration::from_secs(10);
/// Where it finds its own programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command of the policy.
pub struct Command<'a> {
    /// Its key in the configuration.
    pub name: &'static str,
    /// The program and its arguments, with tokens.
    pub words: &'a [String],
    /// The account that it runs as.
    pub user: &'a str,
}

/// What the client has shown.
pub struct Shown<'a> {
    /// The key, or the certificate's key.
    pub key: &'a [u8],
    /// The certificate, as it came and as it was read.
    pub certificate: Option<(&'a [u8], &'a Certificate)>,
    /// The connection.
    pub endpoints: Endpoints,
}

/// Runs it. `None` if it must not be run, fails, says nothing, says too much or takes too long, which
/// is logged. A name that nobody has is asked for as well, so that time does not tell it from others.
///
/// # Errors
/// If the system has no room for another process.
pub fn run(
    settings: &Settings,
    command: &Command<'_>,
    candidate: &Candidate,
    shown: &Shown<'_>,
) -> io::Result<Option<Vec<u8>>> {
    let spawn = match prepare(settings, command, &tokens(candidate, shown)) {
        Ok(spawn) => spawn,
        Err(error) => {
            tracing::error!(
                event = "key_command.unusable",
                command = command.name,
                error
            );
            return Ok(None);
        }
    };
    let limit = usize::try_from(MAX_KEYS).unwrap_or(usize::MAX);
    let said = child::output(spawn, command.name, TIME, limit)?;
    Ok(said.filter(|said| !said.is_empty()))
}

fn prepare(
    settings: &Settings,
    command: &Command<'_>,
    tokens: &[(char, String)],
) -> Result<Spawn, String> {
    let (program, arguments) = command.words.split_first().ok_or("no program")?;
    let program = Path::new(program);
    service::trusted_program::check(program)?;
    let user = User::from_name(command.user)
        .map_err(|error| format!("user '{}': {error}", command.user))?
        .ok_or_else(|| format!("no user '{}'", command.user))?;
    let mut arguments = arguments
        .iter()
        .map(|word| expand(word, tokens))
        .collect::<Result<Vec<String>, String>>()?;
    if arguments.is_empty() {
        arguments.push(expand("%u", tokens)?);
    }
    let environment = [
        ("PATH", PATH.into()),
        ("USER", user.name.clone().into()),
        ("LOGNAME", user.name.clone().into()),
        ("HOME", user.dir.clone().into_os_string()),
    ];
    let spawn = Spawn::new(program)
        .args(arguments)
        .env(environment.map(|(name, value)| (name.into(), value)))
        .folder("/");
    if settings.user.is_some() {
        return Ok(spawn.identity(identity(&user)?));
    }
    // Without root we are who we are.
    if user.uid == Uid::effective() {
        Ok(spawn)
    } else {
        Err(format!("only root can run it as '{}'", user.name))
    }
}

fn identity(user: &User) -> Result<Identity, String> {
    let name = CString::new(user.name.clone()).map_err(|e| e.to_string())?;
    let groups = getgrouplist(&name, user.gid).map_err(|e| e.to_string())?;
    Ok(Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.iter().map(|group| group.as_raw()).collect(),
    })
}

/// The tokens of sshd_config(5).
fn tokens(candidate: &Candidate, shown: &Shown<'_>) -> Vec<(char, String)> {
    let (uid, home) = match &candidate.account {
        Ok(account) => (account.identity.uid, account.home.display().to_string()),
        Err(_) => (65_534, "/nonexistent".to_owned()),
    };
    let Endpoints {
        source,
        destination,
    } = shown.endpoints;
    let connection = format!(
        "{} {} {} {}",
        source.ip().to_canonical(),
        source.port(),
        destination.ip().to_canonical(),
        destination.port()
    );
    let kind = |key: &[u8]| key::key_type(key).unwrap_or_default().to_owned();
    let mut tokens = vec![
        ('%', "%".to_owned()),
        ('u', candidate.canonical_name().as_str().to_owned()),
        ('U', uid.to_string()),
        ('h', home),
        ('f', key::fingerprint(shown.key)),
        ('C', connection),
        // Routing domains are for sshd on OpenBSD and Linux' VRF; there is none here.
        ('D', String::new()),
    ];
    match shown.certificate {
        None => {
            tokens.push(('k', STANDARD.encode(shown.key)));
            tokens.push(('t', kind(shown.key)));
        }
        Some((bytes, certificate)) => tokens.extend([
            ('k', STANDARD.encode(bytes)),
            ('t', certificate.name.clone()),
            ('i', certificate.key_id.clone()),
            ('s', certificate.serial.to_string()),
            ('K', STANDARD.encode(&certificate.authority)),
            ('T', kind(&certificate.authority)),
            ('F', key::fingerprint(&certificate.authority)),
        ]),
    }
    tokens
}

fn expand(word: &str, tokens: &[(char, String)]) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = word.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let name = rest.next();
        let token = tokens.iter().find(|(known, _)| Some(*known) == name);
        // For the authority of a certificate there is nothing to say while a key is shown.
        match (token, name) {
            (Some((_, value)), _) => text.push_str(value),
            (None, Some('i' | 's' | 'K' | 'T' | 'F')) => {}
            _ => return Err(format!("'{word}': a token that is not known")),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let tokens = [('u', "ann".to_owned()), ('%', "%".to_owned())];
        let check = |word: &str, expected: Option<&str>| {
            assert_eq!(expand(word, &tokens).ok().as_deref(), expected, "{word}");
        };
        check("%u", Some("ann"));
        check("--user=%u:%%u", Some("--user=ann:%u"));
        check("%K", Some(""));
        check("%x", None);
        check("100%", None);
        check("", Some(""));
    }
}
