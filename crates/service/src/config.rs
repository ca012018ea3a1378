//! Reading configuration and secret files: bounded, with permission checks, errors that name the
//! file and the line. What the keys mean belongs to each daemon.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::{Secret, regular_file};

/// Largest configuration file that is read, in bytes.
pub const MAX_CONFIG: u64 = 1 << 20;

/// Why a configuration or secret file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be opened or read.
    #[error("read '{path}'", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than allowed.
    #[error("'{path}' is larger than {limit} bytes", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Others may write the configuration, so it cannot be trusted.
    #[error("'{path}' may be written by group or others (mode {mode:04o})", path = path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may read the secret, so it is one no longer.
    #[error("secret '{path}' may be read by others (mode {mode:04o})", path = path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The secret file is empty.
    #[error("secret '{path}' is empty", path = .0.display())]
    Empty(PathBuf),
    /// The text is not what the daemon expects.
    #[error("{path}:{line}:{column}: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
}

impl ConfigError {
    /// What is wrong at a byte of a file's text.
    pub fn at(path: &Path, bytes: &[u8], offset: usize, message: &str) -> Self {
        let before = &bytes[..offset.min(bytes.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Self::Syntax {
            path: path.into(),
            line,
            column,
            message: message.into(),
        }
    }
}

/// Loads a TOML file into a typed value.
///
/// The type should carry `#[serde(deny_unknown_fields, rename_all = "kebab-case")]`.
///
/// # Errors
/// [`ConfigError`]; a file that group or others may write is refused, since who writes it decides
/// what a privileged daemon does.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(path, &read_trusted(path, MAX_CONFIG)?.0)
}

/// Reads a file of at most `limit` bytes that only its owner may write; with its permission bits.
///
/// # Errors
/// [`ConfigError`].
pub fn read_trusted(path: &Path, limit: u64) -> Result<(Vec<u8>, u32), ConfigError> {
    let (bytes, mode) = read_bounded(path, limit)?;
    if mode & 0o022 != 0 {
        return Err(ConfigError::Writable {
            path: path.into(),
            mode,
        });
    }
    Ok((bytes, mode))
}

/// Parses TOML text as [`load`] does; `path` is only named in errors.
///
/// # Errors
/// [`ConfigError::Syntax`].
pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ConfigError> {
    let syntax = |offset, message: &str| ConfigError::at(path, bytes, offset, message);
    let text =
        std::str::from_utf8(bytes).map_err(|e| syntax(e.valid_up_to(), "the text is not UTF-8"))?;
    toml::from_str(text).map_err(|e| syntax(e.span().map_or(0, |s| s.start), e.message()))
}

/// Reads a secret of at most `limit` bytes, whole, line ends included.
///
/// # Errors
/// [`ConfigError`]; any permission bit for others is refused, and so is an empty file.
pub fn read_secret(path: &Path, limit: u64) -> Result<Secret<Vec<u8>>, ConfigError> {
    let (bytes, mode) = read_bounded(path, limit)?;
    let secret = Secret::new(bytes);
    if mode & 0o007 != 0 {
        return Err(ConfigError::Readable {
            path: path.into(),
            mode,
        });
    }
    if secret.expose().is_empty() {
        return Err(ConfigError::Empty(path.into()));
    }
    Ok(secret)
}

/// Reads a text that is shown to people, `limit` bytes of it at most. What is wrong with it comes
/// along: a longer one is cut, and bytes that are no UTF-8 are replaced.
///
/// # Errors
/// [`ConfigError`] if there is none.
pub fn read_text(path: &Path, limit: u64) -> Result<(String, Option<String>), ConfigError> {
    let (bytes, _) = read_some(path, limit)?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut wrong = None;
    if let Err(error) = std::str::from_utf8(&bytes)
        && (error.error_len().is_some() || bytes.len() <= size)
    {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        wrong = Some(format!("{}:{line}: the text is not UTF-8", path.display()));
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if text.len() > size {
        text.truncate(text.floor_char_boundary(size));
        wrong = Some(format!("'{}' is cut at {limit} bytes", path.display()));
    }
    Ok((text, wrong))
}

fn read_bounded(path: &Path, limit: u64) -> Result<(Vec<u8>, u32), ConfigError> {
    let (bytes, mode) = read_some(path, limit)?;
    if bytes.len() as u64 > limit {
        return Err(ConfigError::TooLarge {
            path: path.into(),
            limit,
        });
    }
    Ok((bytes, mode))
}

/// A file's permission bits and its first bytes: one more than `limit`, if it has as many.
fn read_some(path: &Path, limit: u64) -> Result<(Vec<u8>, u32), ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.into(),
        source,
    };
    let (file, meta) = regular_file::open(path).map_err(read)?;
    // One allocation of the final size: a growing buffer would leave copies of a secret behind.
    let mut bytes = Vec::with_capacity(meta.len().min(limit) as usize + 1);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(read)?;
    Ok((bytes, meta.mode() & 0o7777))
}

/// Serde form of a [`std::time::Duration`]: a number and a unit, as in `"250ms"`, `"30s"`, `"5m"`,
/// `"12h"`, `"7d"`. Use with `#[serde(with = "service::config::duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Reads the text form.
    ///
    /// # Errors
    /// If the text is not a number followed by a known unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "'{text}' is not a duration such as \"250ms\", \"30s\", \"5m\""
            ))
        })
    }

    /// Writes the text form, in the largest unit that is exact.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(*value))
    }

    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];

    /// Parses the text form.
    pub fn parse(text: &str) -> Option<Duration> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..digits].parse().ok()?;
        let unit = UNITS.iter().find(|(name, _)| *name == &text[digits..])?.1;
        Some(Duration::from_millis(number.checked_mul(unit)?))
    }

    /// The text form, in the largest unit that is exact.
    pub fn text(value: Duration) -> String {
        let millis = value.as_millis() as u64;
        let (name, unit) = UNITS
            .into_iter()
            .find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit))
            .unwrap_or(("s", 1000));
        format!("{}{name}", millis / unit)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    #[derive(Debug, serde::Deserialize, serde::Serialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Sample {
        #[serde(with = "duration")]
        grace_time: Duration,
        tries: u32,
    }

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn loads_and_names_the_line_of_what_is_wrong() {
        let check = |text: &str, expected: &str| {
            let file = file(text, 0o644);
            let said = match load::<Sample>(file.path()) {
                Ok(sample) => format!("{sample:?}"),
                Err(error) => error.to_string(),
            };
            assert!(said.contains(expected), "{text:?}: {said}");
        };
        check("grace-time = \"30s\"\ntries = 6\n", "30s");
        check(
            "grace-time = \"30s\"\ntries = 6\ncolour = 1\n",
            ":3:1: unknown field `colour`",
        );
        check(
            "grace-time = \"30s\"\ntries = \"six\"\n",
            ":2:9: invalid type",
        );
        check(
            "grace-time = \"30 parsecs\"\ntries = 6\n",
            ":1:14: '30 parsecs' is not a duration",
        );
        check("grace-time = \n", ":1:");
        check("\n\ngrace-time", ":3:");
        check("tries = 1\n", "missing field `grace-time`");
    }

    #[test]
    fn refuses_what_others_may_write_or_read() {
        let config = file("grace-time = \"30s\"\ntries = 6\n", 0o664);
        assert!(matches!(
            load::<Sample>(config.path()),
            Err(ConfigError::Writable { .. })
        ));
        for (mode, text, ok) in [
            (0o600, "key", true),
            (0o640, "key", true),
            (0o644, "key", false),
            (0o600, "", false),
        ] {
            let secret = file(text, mode);
            assert_eq!(
                read_secret(secret.path(), 10).is_ok(),
                ok,
                "{mode:o} {text:?}"
            );
        }
        assert!(matches!(
            read_secret(file("much too long", 0o600).path(), 4),
            Err(ConfigError::TooLarge { limit: 4, .. })
        ));
        assert!(matches!(
            load::<Sample>(Path::new("/dev")),
            Err(ConfigError::Read { .. })
        ));
    }

    #[test]
    fn texts_are_utf8_and_bounded() {
        let check = |bytes: &[u8], text: &str, wrong: Option<&str>| {
            let file = file("", 0o644);
            std::fs::write(file.path(), bytes).unwrap();
            let (read, said) = read_text(file.path(), 10).unwrap();
            assert_eq!(read, text);
            assert_eq!(said.is_some(), wrong.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(wrong.unwrap_or_default()));
        };
        check("ä\n".as_bytes(), "ä\n", None);
        check(b"1234567890", "1234567890", None);
        check(b"12345678901", "1234567890", Some("cut at 10 bytes"));
        check("123456789ä".as_bytes(), "123456789", Some("cut"));
        check(
            b"a\nb\xff",
            "a\nb\u{fffd}",
            Some(":2: the text is not UTF-8"),
        );
        check(b"123456789\xe4", "123456789", Some("cut"));
        assert!(read_text(Path::new("/nonexistent"), 10).is_err());
    }

    #[test]
    fn durations_round_trip() {
        for text in ["250ms", "30s", "5m", "12h", "7d"] {
            assert_eq!(duration::text(duration::parse(text).unwrap()), text);
        }
        for bad in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "99999999999999999999s",
            "99999999999999999d",
        ] {
            assert_eq!(duration::parse(bad), None, "{bad}");
        }
    }
}
