//! The configuration file: read once into `Settings`, with every wrong key named and not only the
//! first. Whether the values can be served with is `check`'s matter.

use std::ops::Range;
use std::path::{Path, PathBuf};

use gateway_wire::Settings;
use serde::Deserialize;
use service::config::{ConfigError, load};
use service::{Exit, Failure};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use crate::check::{self, Problem, Severity};

/// The file cannot be served with; the log says why, problem by problem.
#[derive(Debug, thiserror::Error)]
#[error("configuration '{path}' cannot be served with", path = .0.display())]
pub struct Unsound(PathBuf);

impl Unsound {
    /// As the end of the program.
    pub fn failure(self) -> Failure {
        let hint = format!("see \"login-gateway check --config {}\"", self.0.display());
        Failure::new(Exit::Config, self).hint(hint)
    }
}

/// Loads the file and checks that it can be served with; problems go to the log.
pub fn load_sound(path: &Path) -> Result<Settings, Unsound> {
    load_checked(path, check::problems)
}

/// Loads the file and looks for these problems; they go to the log.
pub fn load_checked(
    path: &Path,
    problems: impl FnOnce(&Settings) -> Vec<Problem>,
) -> Result<Settings, Unsound> {
    let unsound = || Unsound(path.into());
    let settings = load_naming_all(path).map_err(|problems| {
        for problem in problems {
            let problem = service::exit::chain(&problem);
            tracing::error!(event = "config.problem", problem);
        }
        unsound()
    })?;
    let mut sound = true;
    for problem in problems(&settings) {
        match problem.severity {
            Severity::Error => {
                tracing::error!(event = "config.problem", problem = problem.text);
                sound = false;
            }
            Severity::Warning => tracing::warn!(event = "config.problem", problem = problem.text),
        }
    }
    if sound { Ok(settings) } else { Err(unsound()) }
}

/// Loads the file; the error holds every key that is wrong, by line.
pub fn load_naming_all(path: &Path) -> Result<Settings, Vec<ConfigError>> {
    load(path).map_err(|first| {
        let all = match &first {
            ConfigError::Syntax { .. } => std::fs::read_to_string(path)
                .map(|text| wrong_keys(path, &text))
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        if all.is_empty() { vec![first] } else { all }
    })
}

/// Tries each key alone, since the parser stops at the first error of a file.
fn wrong_keys(path: &Path, text: &str) -> Vec<ConfigError> {
    let error = |span: Option<Range<usize>>, fallback: &Range<usize>, message: &str| {
        let before = &text[..span.as_ref().unwrap_or(fallback).start.min(text.len())];
        ConfigError::Syntax {
            path: path.into(),
            line: before.matches('\n').count() + 1,
            column: before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1,
            message: message.into(),
        }
    };
    let (table, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        let errors = syntax.iter();
        return errors
            .map(|e| error(e.span(), &(0..0), e.message()))
            .collect();
    }
    let mut wrong = Vec::new();
    for (key, value) in table.into_inner() {
        for part in parts(value) {
            let span = key.span();
            let alone: DeTable<'_> = [(key.clone(), part)].into_iter().collect();
            let document = Deserializer::from(Spanned::new(span.clone(), alone));
            if let Err(e) = Settings::deserialize(document) {
                wrong.push(error(e.span(), &span, e.message()));
            }
        }
    }
    wrong.dedup_by_key(|e| e.to_string());
    wrong.sort_by_key(|e| match e {
        ConfigError::Syntax { line, column, .. } => (*line, *column),
        _ => (0, 0),
    });
    wrong
}

/// A table in pieces of one key each, an array of tables in pieces of one key of one table,
/// anything else whole.
fn parts(value: Spanned<DeValue<'_>>) -> Vec<Spanned<DeValue<'_>>> {
    let span = value.span();
    let is_table = |value: &Spanned<DeValue<'_>>| value.get_ref().is_table();
    match value.into_inner() {
        DeValue::Table(table) if table.len() > 1 => table
            .into_iter()
            .map(|entry| {
                let alone: DeTable<'_> = [entry].into_iter().collect();
                Spanned::new(span.clone(), DeValue::Table(alone))
            })
            .collect(),
        DeValue::Array(array) if array.iter().any(is_table) => array
            .into_iter()
            .flat_map(parts)
            .map(|part| {
                let alone: DeArray<'_> = [part].into_iter().collect();
                Spanned::new(span.clone(), DeValue::Array(alone))
            })
            .collect(),
        other => vec![Spanned::new(span, other)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Settings, Vec<String>> {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).unwrap();
        let place = format!("{}:", file.path().display());
        load_naming_all(file.path()).map_err(|errors| {
            let errors = errors.iter();
            errors.map(|e| e.to_string().replace(&place, "")).collect()
        })
    }

    #[test]
    fn every_wrong_key_is_named_with_its_line() {
        let errors = load_text(
            "warm = 3\ncolour = \"red\"\nmax-startups = \"many\"\n\nlogin-grace-time = \"soon\"\n\
             [proxy-protocol]\nfrom = [\"10.0.0.0/8\"]\nto = []\nrequired = 1\n[else]\n",
        )
        .unwrap_err();
        let starts = [
            "2:1: unknown field `colour`",
            "3:16: invalid type",
            "5:20: 'soon' is not a duration",
            "8:1: unknown field `to`",
            "9:12: invalid type",
            "10:2: unknown field `else`",
        ];
        assert_eq!(errors.len(), starts.len(), "{errors:#?}");
        for (error, start) in errors.iter().zip(starts) {
            assert!(error.starts_with(start), "{error} ≠ {start}");
        }
    }

    #[test]
    fn wrong_keys_of_blocks_too() {
        let errors = load_text(
            "[[match]]\nuser = [\"a\"]\ncolour = 1\numask = \"99\"\n\n[[match]]\nwarm = 2\n\
             source = [\"10.0.0.0/33\"]\npermit-tty = 1\n",
        )
        .unwrap_err();
        let starts = [
            "3:1: unknown field `colour`",
            "4:9: '99' is not",
            "7:1: unknown field `warm`",
            "8:",
            "9:14: invalid type",
        ];
        assert_eq!(errors.len(), starts.len(), "{errors:#?}");
        for (error, start) in errors.iter().zip(starts) {
            assert!(error.starts_with(start), "{error} ≠ {start}");
        }
    }

    #[test]
    fn broken_text_and_the_example() {
        assert!(load_text("listen = [\n").unwrap_err()[0].starts_with("1:"));
        let example = include_str!("../login-gateway.example.toml");
        assert_eq!(load_text(example), Ok(Settings::default()));
    }
}
