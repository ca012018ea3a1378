//! The options of a line, sshd(8) "AUTHORIZED_KEYS FILE FORMAT". An option that is not known, or
//! not well formed, spoils its line: a restriction is never dropped in silence.

use std::net::IpAddr;

use gateway_wire::address;
use gateway_wire::policy::Restrictions;

use super::line::outside_quotes;

/// Entries of `permitopen` and `permitlisten`, and of `environment`, that one line may have.
const MAX_PERMITS: usize = 1024;
const MAX_ENVIRONMENT: usize = 256;

/// What the options of one line say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub restrictions: Restrictions,
    pub cert_authority: bool,
    pub principals: Option<Vec<String>>,
    pub verify_required: bool,
    from: Option<String>,
    /// In seconds since 1970.
    expiry: Option<u64>,
}

impl Options {
    /// Reads the options as they stand in the line; what is wrong with them is said in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (one, more) = match outside_quotes(rest, |c| c == ',') {
                Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                None => (rest, None),
            };
            if more == Some("") {
                return Err("the options end with a comma".into());
            }
            options.take(one)?;
            rest = more.unwrap_or_default();
        }
        Ok(options)
    }

    fn take(&mut self, option: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("option '{option}': {what}");
        let (name, value) = match option.split_once('=') {
            Some((name, quoted)) => {
                let value = unquote(quoted).ok_or_else(|| wrong("the value is not in quotes"))?;
                (name.to_ascii_lowercase(), Some(value))
            }
            None => (option.to_ascii_lowercase(), None),
        };
        match (name.as_str(), value) {
            (name, None) => self.flag(name).ok_or_else(|| wrong("not known"))?,
            ("command", Some(command)) => {
                // An empty text means "no command" from here on; what was meant is "nothing runs".
                let command = if command.trim().is_empty() {
                    "true".into()
                } else {
                    command
                };
                if self.restrictions.command.replace(command).is_some() {
                    return Err(wrong("it is there twice"));
                }
            }
            ("from", Some(list)) => {
                if self.from.replace(list).is_some() {
                    return Err(wrong("it is there twice"));
                }
            }
            ("principals", Some(list)) => {
                let names = list.split(',').map(|name| name.trim().to_owned()).collect();
                if self.principals.replace(names).is_some() {
                    return Err(wrong("it is there twice"));
                }
            }
            ("expiry-time", Some(time)) => {
                let time = moment(&time).ok_or_else(|| wrong("not a time"))?;
                self.expiry = Some(self.expiry.map_or(time, |earlier| earlier.min(time)));
            }
            ("environment", Some(assignment)) => {
                let variable = variable(&assignment).ok_or_else(|| wrong("not NAME=value"))?;
                let known = &mut self.restrictions.environment;
                if known.len() >= MAX_ENVIRONMENT {
                    return Err(wrong("too many"));
                }
                if !known.iter().any(|(name, _)| *name == variable.0) {
                    known.push(variable);
                }
            }
            ("permitopen", Some(target)) => {
                let target = permit(&target, false).ok_or_else(|| wrong("not host:port"))?;
                add(&mut self.restrictions.permit_open, target).ok_or_else(|| wrong("too many"))?;
            }
            ("permitlisten", Some(place)) => {
                let place = permit(&place, true).ok_or_else(|| wrong("not [host:]port"))?;
                add(&mut self.restrictions.permit_listen, place)
                    .ok_or_else(|| wrong("too many"))?;
            }
            // There are no tunnel devices here, so nothing is left to allow.
            ("tunnel", Some(_)) => {}
            _ => return Err(wrong("not known")),
        }
        Ok(())
    }

    fn flag(&mut self, name: &str) -> Option<()> {
        let (name, on) = match name.strip_prefix("no-") {
            Some(name) => (name, false),
            None => (name, true),
        };
        let left = &mut self.restrictions;
        match (name, on) {
            ("restrict", true) => {
                left.tty = false;
                left.user_rc = false;
                left.agent_forwarding = false;
                left.x11_forwarding = false;
                left.port_forwarding = false;
            }
            ("pty", on) => left.tty = on,
            ("user-rc", on) => left.user_rc = on,
            ("agent-forwarding", on) => left.agent_forwarding = on,
            ("x11-forwarding", on) => left.x11_forwarding = on,
            ("port-forwarding", on) => left.port_forwarding = on,
            ("cert-authority", true) => self.cert_authority = true,
            ("verify-required", on) => self.verify_required = on,
            // Touch is neither demanded nor checked: docs/gateway.md, T13.
            ("touch-required", _) => {}
            _ => return None,
        }
        Some(())
    }

    /// The restrictions, if the conditions hold here and now; else which does not.
    pub fn hold(self, source: IpAddr, now: u64) -> Result<Restrictions, String> {
        if let Some(list) = &self.from {
            match address::named(list, source) {
                Some(true) => {}
                Some(false) => return Err(format!("it is not for clients at '{source}'")),
                None => return Err(format!("from=\"{list}\" is not a list of addresses")),
            }
        }
        if self.expiry.is_some_and(|expiry| now >= expiry) {
            return Err("its expiry-time is over".into());
        }
        Ok(self.restrictions)
    }
}

/// What stands between the quotes, `\"` being a quote; `None` if it is not in quotes, or goes on
/// after them.
fn unquote(text: &str) -> Option<String> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let at = rest.find(['"', '\\'])?;
        value.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("\\\"") {
            value.push('"');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('\\') {
            value.push('\\');
            rest = after;
        } else {
            return (rest == "\"").then_some(value);
        }
    }
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, in local time unless `Z` or `UTC` follows.
fn moment(text: &str) -> Option<u64> {
    let zoned = text.strip_suffix('Z').or_else(|| text.strip_suffix("UTC"));
    let digits = zoned.unwrap_or(text);
    if ![8, 12, 14].contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let two = |at: usize| digits.get(at..at + 2).map_or(Ok(0), str::parse::<u8>).ok();
    let date = (digits[..4].parse().ok()?, two(4)?, two(6)?);
    sys::local_time::seconds(date, (two(8)?, two(10)?, two(12)?), zoned.is_some())
}

fn variable(assignment: &str) -> Option<(String, String)> {
    let (name, value) = assignment.split_once('=')?;
    let right = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let good = !name.is_empty() && name.chars().all(right) && !value.contains('\0');
    good.then(|| (name.to_owned(), value.to_owned()))
}

/// `host:port`, the host in brackets if it holds colons; a port alone, where allowed, is any host's.
fn permit(text: &str, bare_port: bool) -> Option<String> {
    let (host, port) = if bare_port && !text.contains(':') {
        ("*", text)
    } else if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        (host, port.strip_prefix(':')?)
    } else {
        text.split_once(':')?
    };
    let host_fits = (1..=1024).contains(&host.len()) && !host.contains([' ', '\t', '[', ']']);
    let port_fits = port == "*"
        || port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    if !host_fits || !port_fits {
        return None;
    }
    Some(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

fn add(list: &mut Vec<String>, entry: String) -> Option<()> {
    if list.len() >= MAX_PERMITS {
        return None;
    }
    list.push(entry);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restrictions(text: &str) -> Restrictions {
        Options::parse(text).unwrap().restrictions
    }

    #[test]
    fn flags_hold_in_their_order() {
        let none = restrictions("restrict");
        assert!(!none.tty && !none.user_rc && !none.port_forwarding);
        assert!(!none.agent_forwarding && !none.x11_forwarding);
        let some = restrictions("no-pty,restrict,PTY,Agent-Forwarding");
        assert!(some.tty && some.agent_forwarding && !some.x11_forwarding);
        assert!(!restrictions("pty,restrict").tty);
        assert!(!restrictions("no-user-rc").user_rc);
    }

    #[test]
    fn values() {
        let got = restrictions(
            r#"command="say \"a, b\" \x",environment="A=1",environment="A=2",environment="B=x=y",permitopen="h:22",permitopen="[::1]:*",permitlisten="8080",permitlisten="localhost:1""#,
        );
        assert_eq!(got.command.as_deref(), Some(r#"say "a, b" \x"#));
        let pairs: Vec<(&str, &str)> = got
            .environment
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(pairs, [("A", "1"), ("B", "x=y")]);
        assert_eq!(got.permit_open, ["h:22", "[::1]:*"]);
        assert_eq!(got.permit_listen, ["*:8080", "localhost:1"]);
        // Nothing is to run, which is not the same as no restriction.
        assert_eq!(
            restrictions(r#"command="""#).command.as_deref(),
            Some("true")
        );
    }

    #[test]
    fn what_spoils_a_line() {
        for bad in [
            "colour",
            "no-restrict",
            "no-cert-authority",
            "restrict,",
            ",restrict",
            "command=date",
            "command=\"a\"b",
            "command=\"a",
            "command",
            "command=\"a\",command=\"b\"",
            "from=\"*\",from=\"*\"",
            "principals=\"a\",principals=\"b\"",
            "environment=\"A\"",
            "environment=\"=1\"",
            "environment=\"A B=1\"",
            "permitopen=\"22\"",
            "permitopen=\"h:0\"",
            "permitopen=\"h:+1\"",
            "permitopen=\"h:70000\"",
            "permitopen=\":22\"",
            "permitlisten=\"x\"",
            "expiry-time=\"2024\"",
            "expiry-time=\"20241301\"",
            "expiry-time=\"2024010100Z\"",
            "pty=\"1\"",
        ] {
            assert!(Options::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn conditions() {
        let here = "192.0.2.7".parse().unwrap();
        let check = |text: &str, now: u64, expected: bool| {
            let held = Options::parse(text).unwrap().hold(here, now);
            assert_eq!(held.is_ok(), expected, "{text}: {held:?}");
        };
        check("from=\"!192.0.2.7,*\"", 0, false);
        check("from=\"192.0.2.?\"", 0, true);
        // date -u -d '2024-02-29 12:34:56' +%s
        check("expiry-time=\"20240229123456Z\"", 1_709_210_095, true);
        check("expiry-time=\"20240229123456Z\"", 1_709_210_096, false);
        check(
            "expiry-time=\"20240229123456UTC\",expiry-time=\"20990101\"",
            1_709_210_096,
            false,
        );
    }
}
