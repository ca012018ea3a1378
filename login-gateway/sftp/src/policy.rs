//! Which requests are done at all: `-R`, `-p` and `-P`. Where paths lead is decided in `paths`.

use crate::request::{Entry, OpenFlags};

/// What the command line permits.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Nothing may be changed.
    pub read_only: bool,
    /// Only these requests, by name; unknown names mean nothing.
    pub allowed: Option<Vec<String>>,
    /// Not these, whatever is allowed.
    pub denied: Vec<String>,
}

impl Policy {
    /// If a request may be done, as far as its name goes.
    pub fn permits(&self, entry: &Entry) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == entry.name);
        !(self.read_only && entry.writes
            || named(&self.denied)
            || self.allowed.as_deref().is_some_and(|list| !named(list)))
    }

    /// If a file may be opened like this.
    pub fn permits_open(&self, flags: OpenFlags) -> bool {
        let changes = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        !(self.read_only && flags.any(changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::TABLE;

    #[test]
    fn lists_and_read_only() {
        let check = |policy: &Policy, permitted: &[&str], refused: &[&str]| {
            for entry in &TABLE {
                if permitted.contains(&entry.name) {
                    assert!(policy.permits(entry), "{}", entry.name);
                }
                if refused.contains(&entry.name) {
                    assert!(!policy.permits(entry), "{}", entry.name);
                }
            }
        };
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let mut policy = Policy::default();
        check(&policy, &["write", "copy-data"], &[]);
        policy.denied = list(&["remove", "nonsense"]);
        check(&policy, &["write"], &["remove"]);
        policy.allowed = Some(list(&["open", "remove"]));
        check(&policy, &["open"], &["remove", "write", "limits"]);
        let policy = Policy {
            read_only: true,
            ..Policy::default()
        };
        check(
            &policy,
            &["open", "read", "limits"],
            &["write", "fsync", "copy-data", "symlink"],
        );
        assert!(policy.permits_open(OpenFlags(OpenFlags::READ)));
        assert!(policy.permits_open(OpenFlags(OpenFlags::READ | OpenFlags::APPEND)));
        assert!(!policy.permits_open(OpenFlags(OpenFlags::READ | OpenFlags::TRUNCATE)));
    }
}
