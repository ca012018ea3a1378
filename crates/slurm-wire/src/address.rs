//! Controllers' addresses as people write them: HOST, HOST:PORT, \[V6\] or \[V6\]:PORT. Nothing is looked up.

/// SlurmctldPort where nobody says otherwise.
pub const DEFAULT_PORT: u16 = 6817;

/// Host and port. A bare IPv6 address has no port. `None` if it is no address.
#[must_use]
pub fn parse(text: &str) -> Option<(&str, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':')?),
        };
        (host, port)
    } else if text.matches(':').count() > 1 {
        (text, None)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let is_plain = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == ',');
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
    };
    is_plain.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("ctl", ("ctl", 6817)),
            ("ctl:7000", ("ctl", 7000)),
            ("10.0.0.1:1", ("10.0.0.1", 1)),
            ("[fd00::1]:7000", ("fd00::1", 7000)),
            ("[fd00::1]", ("fd00::1", 6817)),
            ("fd00::1", ("fd00::1", 6817)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            ":1",
            "ctl:",
            "ctl:x",
            "ctl:0",
            "ctl:70000",
            "[fd00::1",
            "[::1]7",
            "[::1]:",
            "[]",
            "a b",
            "a,b",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
