//! Which names of users and groups are accepted from the directory.
//!
//! A name that passes needs no escaping in a DN, a filter, a shell or a path. Local files are not
//! checked: who writes them is trusted.

/// Longest name of a user, in bytes: what utmp and `useradd` allow.
const MAX_USER: usize = 32;

/// Longest name of a group, in bytes: Active Directory allows 256 characters, and brings some above 32 along.
const MAX_GROUP: usize = 255;

/// True for users named `[a-z_][a-z0-9_.-]{0,31}`; never `.`-led, digits-only or path-like.
pub fn is_user(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-')
    };
    first && name.len() <= MAX_USER && bytes.all(rest) && !name.contains("..")
}

/// True for groups named by letters and digits of any script, `_`, `.` and `-`. Nobody logs in as a group, so they
/// are longer, in capitals, and in the language of the site; never `.`- or `-`-led, digits-only or path-like.
pub fn is_group(name: &str) -> bool {
    let first = |c: char| c.is_alphanumeric() || c == '_';
    name.starts_with(first)
        && name.len() <= MAX_GROUP
        && name.chars().all(|c| first(c) || matches!(c, '.' | '-'))
        && !name.contains("..")
        && !name.chars().all(char::is_numeric)
}

#[cfg(test)]
mod tests {
    use super::{is_group, is_user};

    #[test]
    fn names() {
        let check = |name: &str, user, group| {
            assert_eq!((is_user(name), is_group(name)), (user, group), "{name:?}");
        };
        for both in ["a", "alice", "_x", "a.b-c_9", &"a".repeat(32)] {
            check(both, true, true);
        }
        let long = "a".repeat(33);
        for group in ["Alice", "1a", "ä", "domänen-benutzer", "HPC_2026", &long] {
            check(group, false, true);
        }
        let longer = "a".repeat(256);
        let none = [
            "",
            "-a",
            ".a",
            "a..b",
            "a/b",
            "a b",
            "a*",
            "a\0",
            "123",
            "١٢٣",
            "a,b",
            "a:b",
            "a\n",
            "a(b)",
            "a\u{202e}b",
            "a\u{301}",
        ];
        for none in none.into_iter().chain([longer.as_str()]) {
            check(none, false, false);
        }
    }
}
