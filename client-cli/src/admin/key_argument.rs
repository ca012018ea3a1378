//! Keys as they are given on the command line: the line itself, a file of lines, or standard input.
//! What makes a key good does not live here.

use std::fs::File;
use std::io::{self, Read};

use crate::ssh_key::{KeyError, SshKey};

/// Largest file of keys, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Why an argument gave no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyArgumentError {
    /// The file cannot be read.
    #[error("read '{name}'")]
    Read {
        /// The argument.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is too large to be a list of keys.
    #[error("'{0}' is larger than {MAX_FILE} bytes")]
    Large(String),
    /// A line of it is no good key.
    #[error("{at}")]
    Key {
        /// File and line, or the beginning of the argument.
        at: String,
        /// The cause.
        #[source]
        source: KeyError,
    },
}

impl KeyArgumentError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("a key itself is given as one argument, in quotes"),
            Self::Large(_) => None,
            Self::Key { source, .. } => source.hint(),
        }
    }
}

/// The keys that one argument stands for, at least one.
///
/// # Errors
/// [`KeyArgumentError`]; one bad line refuses the whole argument.
pub fn read(argument: &str) -> Result<Vec<SshKey>, KeyArgumentError> {
    if argument == "-" {
        return of_stream("standard input", io::stdin());
    }
    // A path of keys has no blank followed by base64; a key has nothing but.
    if argument.contains([' ', '\t', '\n']) && !std::path::Path::new(argument).exists() {
        let at = || {
            format!(
                "'{}'",
                argument.chars().take(40).collect::<String>().escape_debug()
            )
        };
        return SshKey::parse(argument)
            .map(|key| vec![key])
            .map_err(|source| KeyArgumentError::Key { at: at(), source });
    }
    let file = File::open(argument).map_err(|source| KeyArgumentError::Read {
        name: argument.into(),
        source,
    })?;
    of_stream(argument, file)
}

/// All keys of all arguments, each once.
///
/// # Errors
/// That of the first argument that is not good.
pub fn read_all(arguments: &[String]) -> Result<Vec<SshKey>, KeyArgumentError> {
    let mut keys: Vec<SshKey> = Vec::new();
    for argument in arguments {
        for key in read(argument)? {
            if !keys.iter().any(|have| have.is(&key)) {
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

fn of_stream(name: &str, stream: impl Read) -> Result<Vec<SshKey>, KeyArgumentError> {
    let mut bytes = Vec::new();
    stream
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| KeyArgumentError::Read {
            name: name.into(),
            source,
        })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(KeyArgumentError::Large(name.into()));
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = || format!("'{name}' line {}", index + 1);
        keys.push(
            SshKey::parse(line).map_err(|source| KeyArgumentError::Key { at: at(), source })?,
        );
    }
    if keys.is_empty() {
        let at = format!("'{name}'");
        return Err(KeyArgumentError::Key {
            at,
            source: KeyError::Empty,
        });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";

    #[test]
    fn the_line_itself_or_a_file_of_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let check = |text: &str, expected: &str| {
            std::fs::write(path, text).unwrap();
            let said = match read(path) {
                Ok(keys) => format!("{} keys", keys.len()),
                Err(error) => service::exit::chain(&error).replace(path, "F"),
            };
            assert!(said.contains(expected), "{text:?}: {said}");
        };
        check(&format!("# mine\n\n{KEY} a\r\n  {KEY} b\n"), "2 keys");
        check("", "there is no key in it");
        check("# nothing\n", "there is no key in it");
        check(&format!("{KEY}\nssh-dss AAAA\n"), "'F' line 2: DSA");
        check("-----BEGIN OPENSSH PRIVATE KEY-----\n", "private key");
        assert_eq!(read(&format!("{KEY} a b")).unwrap()[0].comment(), "a b");
        assert_eq!(
            read_all(&[KEY.into(), format!("{KEY} again")])
                .unwrap()
                .len(),
            1
        );
        assert!(matches!(
            read("/nonexistent/key.pub"),
            Err(KeyArgumentError::Read { .. })
        ));
        assert!(matches!(
            read("hello world"),
            Err(KeyArgumentError::Key { .. })
        ));
    }
}
