//! From an sshd_config(5) to our configuration, as far as ours can say it; what it cannot say is
//! listed, and where leaving it out would let more people do more things, the result is closed
//! instead. Nothing is looked up but the files that the text includes.

mod algorithms;
mod authentication;
mod blocks;
mod criteria;
mod doors;
mod keywords;
mod login;
mod login_keys;
mod notes;
mod service;
#[cfg(test)]
mod tests;
mod words;

use std::io;

use gateway_wire::Settings;
use toml::{Table, Value};

pub use blocks::MAX_TEXT;
pub use notes::{Kind, Note};

/// Where included files come from.
pub trait Files {
    /// Path and text of each file that a pattern names, in order.
    ///
    /// # Errors
    /// If a file that is there cannot be read.
    fn matching(&self, pattern: &str) -> io::Result<Vec<(String, String)>>;

    /// Whether this file exists on this machine.
    fn exists(&self, path: &str) -> bool;
}

/// The result.
#[derive(Debug)]
pub struct Imported {
    /// The text of our configuration file.
    pub toml: String,
    /// What is not as it was.
    pub notes: Vec<Note>,
}

/// Why nothing can be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// sshd would not read the file either.
    #[error("{file}:{line}: {what}")]
    Syntax {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// An included file cannot be read.
    #[error("{file}:{line}: include '{pattern}'")]
    Include {
        /// The file that includes.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What it includes.
        pattern: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What was made is not what the gateway reads: a fault of ours.
    #[error("the result would not load")]
    Result(#[from] toml::de::Error),
    /// What was made cannot be written as text.
    #[error("write the result")]
    Text(#[from] toml::ser::Error),
}

/// Translates the text of `file`.
///
/// # Errors
/// [`ImportError`].
pub fn import(file: &str, text: &str, files: &dyn Files) -> Result<Imported, ImportError> {
    let blocks = blocks::read(file, text, files)?;
    let mut notes = Vec::new();
    let global = &blocks[0];
    let mut table = service::keys(global, files, &mut notes);
    let chooser = login::Logins::of(global);
    table.extend(login_keys::of(None, global, &mut notes));
    let mut deciding = Vec::new();
    let mut matching = Vec::new();
    let mut disabling = Vec::new();
    for block in &blocks[1..] {
        let Some(criteria) = criteria::of(block, &mut notes) else {
            continue;
        };
        let keys = login_keys::of(Some(block), global, &mut notes);
        for about in &criteria {
            deciding.extend(chooser.in_block(block, about, &mut notes));
            if let Some(keys) = login_keys::disabling(block) {
                let mut entry = about.to_table();
                entry.extend(keys);
                disabling.push(entry);
            }
            if !keys.is_empty() {
                let mut entry = about.to_table();
                entry.extend(keys.clone());
                matching.push(Value::Table(entry));
            }
        }
    }
    blocks::shared_keys(&blocks, &mut notes);
    let (allowed, global_blocks) = chooser.everywhere(&mut notes);
    if !allowed {
        table.insert("allow-login".into(), false.into());
    }
    deciding.extend(global_blocks);
    // Blocks that decide who logs in stand first, but keys of the others that close a block must not
    // be hidden by them: those carry allow-login themselves and stand before.
    let closing = |value: &Value| value.get("allow-login").is_some();
    let (closed, open): (Vec<_>, Vec<_>) = matching.into_iter().partition(closing);
    // No way in above the blocks nor in one: no list lets anybody in either.
    let ways = |value: &Value| {
        let ways = value.get("authentication-methods");
        ways.and_then(Value::as_array).map(Vec::is_empty)
    };
    let none = ways(&Value::Table(table.clone())) == Some(true)
        && !open.iter().any(|block| ways(block) == Some(false));
    let mut shut = Table::new();
    if none {
        table.remove("authentication-methods");
        shut.insert("allow-login".into(), false.into());
    }
    let all: Vec<Value> = Some(Value::Table(shut))
        .filter(|_| none)
        .into_iter()
        .chain(closed)
        .chain(deciding.into_iter().chain(disabling).map(Value::Table))
        .chain(open)
        .collect();
    let defaults = Table::try_from(Settings::default())?;
    table.retain(|key, value| defaults.get(key) != Some(value));
    let mut all = all;
    all.dedup();
    if !all.is_empty() {
        table.insert("match".into(), Value::Array(all));
    }
    notes.sort_by_key(|note| note.order);
    notes.dedup();
    let name: String = file.chars().filter(|c| !c.is_control()).collect();
    let toml = format!(
        "# From '{name}', by login-gateway import-sshd-config.\n{}\n",
        toml::to_string(&table)?.trim_end()
    );
    let _: Settings = toml::from_str(&toml)?;
    Ok(Imported { toml, notes })
}
