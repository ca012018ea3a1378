//! Distinguished names made comparable, and the value of their first part.
//!
//! Servers spell one DN in several ways (RFC 4514: case, spaces, escapes); members are matched to
//! entries by the form made here, which is never sent to anybody.

/// One spelling for all spellings of a DN: types and values in lower case, no spaces around
/// separators, escapes resolved and made again one way. `None` if it is not a DN.
pub fn normal(dn: &str) -> Option<String> {
    let mut out = String::with_capacity(dn.len());
    for (index, part) in split(dn, |c| matches!(c, ',' | ';' | '+'))?
        .into_iter()
        .enumerate()
    {
        let (kind, value) = part.split_once('=')?;
        if index > 0 {
            out.push(',');
        }
        out.push_str(&kind.trim().to_lowercase());
        out.push('=');
        for c in unescape(value)?.to_lowercase().chars() {
            if matches!(c, ',' | '\\' | '=') {
                out.push('\\');
            }
            out.push(c);
        }
    }
    Some(out)
}

/// The value of the first part, if its type is `kind`: for `uid=bob,ou=people` and `uid`, `bob`.
pub fn first_value(dn: &str, kind: &str) -> Option<String> {
    let parts = split(dn, |c| matches!(c, ',' | ';' | '+'))?;
    let (first, value) = parts.first()?.split_once('=')?;
    first
        .trim()
        .eq_ignore_ascii_case(kind)
        .then(|| unescape(value))
        .flatten()
}

/// The end of a DN that is made of domain components: of `ou=corp,dc=example,dc=org`, `dc=example,dc=org`.
/// The whole of one that has no such end.
pub fn domain(dn: &str) -> &str {
    let Some(parts) = split(dn, |c| c == ',') else {
        return dn;
    };
    let is_dc = |part: &&&str| {
        let kind = part.split('=').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("dc")
    };
    let others = parts.len() - parts.iter().rev().take_while(is_dc).count();
    match others == parts.len() {
        true => dn,
        false => dn[parts[..others].iter().map(|part| part.len() + 1).sum()..].trim_start(),
    }
}

/// True if `dn` is `suffix` or lies below it; both in normal form.
pub fn is_below(dn: &str, suffix: &str) -> bool {
    dn == suffix
        || dn
            .strip_suffix(suffix)
            .is_some_and(|front| front.ends_with(','))
}

/// A value in a search filter (RFC 4515), any byte allowed.
pub fn filter_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '*' | '(' | ')' | '\\' | '\0' => out.push_str(&format!("\\{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn split(dn: &str, is_separator: impl Fn(char) -> bool) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut escaped, mut quoted) = (0, false, false);
    for (at, c) in dn.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            c if is_separator(c) && !quoted => {
                parts.push(&dn[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&dn[start..]);
    (!escaped && !quoted).then_some(parts)
}

fn unescape(value: &str) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    // Trailing spaces count only if the last one is escaped; "\ " ends in a backslash when trimmed.
    let mut value = value.trim_start();
    let trimmed = value.trim_end();
    value = if trimmed.ends_with('\\') && trimmed.len() < value.len() {
        &value[..trimmed.len() + 1]
    } else {
        trimmed
    };
    let mut bytes = value.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                let first = bytes.next()?;
                match (hex(first), bytes.peek().copied().and_then(hex)) {
                    (Some(high), Some(low)) => {
                        bytes.next();
                        out.push(high * 16 + low);
                    }
                    _ => out.push(first),
                }
            }
            b'"' => {}
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_of_a_base() {
        let check = |dn, expected| assert_eq!(domain(dn), expected, "{dn}");
        check("dc=example,dc=org", "dc=example,dc=org");
        check("OU=corp, DC=corp,DC=example", "DC=corp,DC=example");
        check("ou=a\\,b,ou=dc=x,dc=org", "dc=org");
        check("dc=odd,ou=x,dc=org", "dc=org");
        check("o=site", "o=site");
    }

    #[test]
    fn one_spelling() {
        let check = |dn: &str, expected: Option<&str>| {
            assert_eq!(normal(dn).as_deref(), expected, "{dn:?}")
        };
        check(
            "uid=bob,ou=people,dc=example,dc=org",
            Some("uid=bob,ou=people,dc=example,dc=org"),
        );
        check(
            "UID=Bob , OU = People,DC=example",
            Some("uid=bob,ou=people,dc=example"),
        );
        check("cn=Doe\\, John,dc=x", Some("cn=doe\\, john,dc=x"));
        check("cn=Doe\\2C John,dc=x", Some("cn=doe\\, john,dc=x"));
        check("cn=\"Doe, John\",dc=x", Some("cn=doe\\, john,dc=x"));
        check("cn=\\c3\\84rger,dc=x", Some("cn=ärger,dc=x"));
        check("cn=a\\ ,dc=x", Some("cn=a ,dc=x"));
        check("bob", None);
        check("uid=bob\\", None);
        check("uid=\\ff,dc=x", None);
        check("", None);
    }

    #[test]
    fn parts() {
        assert_eq!(first_value("uid=bob,dc=x", "UID").as_deref(), Some("bob"));
        assert_eq!(first_value("cn=bob,dc=x", "uid"), None);
        assert!(is_below("ou=people,dc=x", "dc=x"));
        assert!(is_below("dc=x", "dc=x"));
        assert!(!is_below("adc=x", "dc=x"));
    }

    #[test]
    fn filter_values() {
        assert_eq!(filter_value("a*(b)\\\0ü"), "a\\2a\\28b\\29\\5c\\00ü");
    }
}
