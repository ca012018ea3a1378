//! Names of users and groups: what a new one may look like, and which are taken by the machines
//! themselves. Whether the directory has a name already is asked elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Longest name, in bytes: what login records have room for (`UT_NAMESIZE`, utmp(5)).
pub const MAX_NAME: usize = 32;

/// Names that images and systems bring along; a directory account of that name would be hidden by
/// the local one on some machines and not on others. Debian's base-passwd, cloud images, Slurm.
const RESERVED: &[&str] = &[
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "gnats",
    "_apt",
    "nobody",
    "nogroup",
    "adm",
    "tty",
    "disk",
    "kmem",
    "dialout",
    "fax",
    "voice",
    "cdrom",
    "floppy",
    "tape",
    "sudo",
    "wheel",
    "audio",
    "dip",
    "operator",
    "src",
    "shadow",
    "utmp",
    "video",
    "sasl",
    "plugdev",
    "staff",
    "users",
    "docker",
    "messagebus",
    "sshd",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "ubuntu",
    "debian",
    "admin",
    "ec2-user",
    "rocky",
    "centos",
    "slurm",
    "slurmrestd",
    "munge",
    "gateway",
    "directory",
    "sssd",
    "nslcd",
    "halt",
    "shutdown",
];

/// A name that a new user or group may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NewName(String);

/// Why a name is refused for a new user or group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// Above [`MAX_NAME`].
    #[error("the name is longer than {MAX_NAME} characters")]
    Long,
    /// Slurm and several tools lower names.
    #[error("'{0}' has capital letters; Slurm and other tools would fold them")]
    Capital(String),
    /// A digit, `-` or `.` in front reads as a number or an option.
    #[error("'{0}' does not begin with a letter or '_'")]
    Start(String),
    /// Anything else.
    #[error("'{name}' contains {found:?}; letters a-z, digits, '_', '-' and '.' are allowed")]
    Character {
        /// The name as given.
        name: String,
        /// The first character that may not stand there.
        found: char,
    },
    /// One of [`RESERVED`].
    #[error("'{0}' is a name that systems use themselves")]
    Reserved(String),
}

impl NewName {
    /// Checks `text`; the form is a subset of what useradd(8), systemd and Slurm all take.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let Some(first) = text.chars().next() else {
            return Err(NameError::Empty);
        };
        if text.len() > MAX_NAME {
            return Err(NameError::Long);
        }
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
        if let Some(found) = text.chars().find(|c| !allowed(*c)) {
            return Err(if found.is_ascii_uppercase() {
                NameError::Capital(text.into())
            } else {
                NameError::Character {
                    name: text.into(),
                    found,
                }
            });
        }
        if !first.is_ascii_lowercase() && first != '_' {
            return Err(NameError::Start(text.into()));
        }
        if RESERVED.contains(&text) {
            return Err(NameError::Reserved(text.into()));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NewName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names and numbers of this machine's own users or groups, read from the file and not through
/// libc, which would mix in the directory.
#[derive(Debug, Default)]
pub struct LocalNames(BTreeMap<String, u32>);

impl LocalNames {
    /// Reads `/etc/passwd` or `/etc/group` (passwd(5), group(5)): the third field is the number in
    /// both. A file that is not there holds no names.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_default();
        Self::from_text(&String::from_utf8_lossy(&text))
    }

    fn from_text(text: &str) -> Self {
        let entry = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    /// Whether the machine has this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The name that has this number.
    pub fn name_of(&self, id: u32) -> Option<&str> {
        self.0
            .iter()
            .find(|(_, number)| **number == id)
            .map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names() {
        let check = |text: &str, expected: &str| {
            let said = NewName::parse(text).map_or_else(|e| e.to_string(), |_| "ok".into());
            assert!(said.contains(expected), "{text:?}: {said}");
        };
        for good in ["alice", "a", "_x", "first.last", "a-b_c9", &"a".repeat(32)] {
            check(good, "ok");
        }
        check("", "is empty");
        check(&"a".repeat(33), "longer than 32");
        check("Alice", "capital letters");
        check("1000", "does not begin with");
        check("-rf", "does not begin with");
        check(".", "does not begin with");
        check("a b", "contains ' '");
        check("a:b", "contains ':'");
        check("a/b", "contains '/'");
        check("a,dc=x", "contains ','");
        check("a)(uid=*", "contains ')'");
        check("a\0", "contains '\\0'");
        check("a\n", "contains '\\n'");
        check("jos\u{e9}", "contains 'é'");
        check("root", "systems use");
        check("ubuntu", "systems use");
    }

    #[test]
    fn local_names_come_from_the_file() {
        let local =
            LocalNames::from_text("root:x:0:0:r:/root:/bin/sh\n\n+::::\nbroken\nh:x:1000:\n");
        assert!(local.has("root") && local.has("h") && !local.has("broken"));
        assert_eq!(local.name_of(1000), Some("h"));
        assert_eq!(local.name_of(1), None);
    }
}
