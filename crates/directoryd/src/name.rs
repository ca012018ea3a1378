//! Which names of users and groups are accepted from the directory.
//!
//! A name that passes needs no escaping in a DN, a filter, a shell or a path. Local files are not
//! checked: who writes them is trusted.

/// Longest name, in bytes: what utmp and `useradd` allow.
pub const MAX: usize = 32;

/// True for `[a-z_][a-z0-9_.-]{0,31}`; never `.`-led, digits-only or path-like.
pub fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-')
    };
    first && name.len() <= MAX && bytes.all(rest) && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn names() {
        let check = |name: &str, expected| assert_eq!(is_valid(name), expected, "{name:?}");
        for good in ["a", "alice", "_x", "a.b-c_9", &"a".repeat(32)] {
            check(good, true);
        }
        let long = "a".repeat(33);
        let bad = [
            "", "Alice", "1a", "-a", ".a", "a..b", "a/b", "a b", "a*", "a\0", "ä", "123", "a,b",
        ];
        for bad in bad.into_iter().chain([long.as_str()]) {
            check(bad, false);
        }
    }
}
