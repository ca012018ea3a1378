//! Lists of client addresses as keys and certificates carry them: `from=` of authorized_keys and
//! `source-address` of certificates. Lists of the settings are typed and not read here.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::policy::fits;

/// Whether a list of networks and patterns, joined by commas, names this address: one entry does
/// and none that starts with `!` does ("PATTERNS" of ssh_config(5)). Names of hosts never fit,
/// since addresses are not looked up. `None` if an entry is no list entry.
pub fn named(list: &str, address: IpAddr) -> Option<bool> {
    let address = address.to_canonical();
    let text = address.to_string();
    let mut found = false;
    for entry in list.split(',').map(str::trim) {
        let (pattern, excluded) = match entry.strip_prefix('!') {
            Some(pattern) => (pattern, true),
            None => (entry, false),
        };
        let hit = if pattern.is_empty() {
            return None;
        } else if pattern.contains('/') {
            network(pattern)?.contains(&address)
        } else if let Ok(one) = pattern.parse::<IpAddr>() {
            one.to_canonical() == address
        } else {
            fits(&pattern.to_ascii_lowercase(), &text)
        };
        match (hit, excluded) {
            (true, true) => return Some(false),
            (hit, _) => found |= hit,
        }
    }
    Some(found)
}

/// Whether a list of addresses and networks, joined by commas, holds this address (PROTOCOL.certkeys,
/// `source-address`). `None` if an entry is neither.
pub fn contained(list: &str, address: IpAddr) -> Option<bool> {
    let address = address.to_canonical();
    let mut found = false;
    for entry in list.split(',') {
        found |= if entry.contains('/') {
            network(entry)?.contains(&address)
        } else {
            entry.parse::<IpAddr>().ok()?.to_canonical() == address
        };
    }
    Some(found)
}

/// A network without bits beyond its mask: such bits are a mistake whose meaning nobody knows.
fn network(text: &str) -> Option<IpNet> {
    text.contains('/').then(|| parse(text).ok()).flatten()
}

/// A network, or an address as the network of one.
///
/// # Errors
/// What is wrong; for bits below the mask, with the network that is probably meant.
pub fn parse(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    match text.parse::<IpNet>() {
        Ok(network) if network.addr() == network.network() => Ok(network),
        Ok(network) => Err(format!(
            "'{text}' has bits below its mask; the network is '{}'",
            network.trunc()
        )),
        Err(_) => Err(format!("'{text}' is no network such as '192.0.2.0/24'")),
    }
}

/// Reads the networks of the settings, each by [`parse`].
///
/// # Errors
/// As [`parse`].
pub fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    if !from.is_human_readable() {
        return Vec::deserialize(from);
    }
    let texts = Vec::<String>::deserialize(from)?;
    let networks = texts.iter().map(|text| parse(text));
    networks.collect::<Result<_, _>>().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_networks() {
        let ok = |text: &str, expected: &str| {
            assert_eq!(parse(text).unwrap().to_string(), expected, "{text}");
        };
        ok("10.0.0.0/8", "10.0.0.0/8");
        ok("10.0.0.1", "10.0.0.1/32");
        ok("2001:db8::1", "2001:db8::1/128");
        for (bad, why) in [
            ("10.0.0.1/24", "the network is '10.0.0.0/24'"),
            ("2000:aa:bb:1::/56", "the network is '2000:aa:bb::/56'"),
            ("10.0.0.0/33", "no network"),
            ("host", "no network"),
        ] {
            assert!(parse(bad).unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn lists() {
        let check = |list: &str, address: &str, expected: (Option<bool>, Option<bool>)| {
            let address = address.parse().unwrap();
            let found = (named(list, address), contained(list, address));
            assert_eq!(found, expected, "{list} {address}");
        };
        let (yes, no) = (Some(true), Some(false));
        check("192.0.2.7", "192.0.2.7", (yes, yes));
        check("192.0.2.7", "::ffff:192.0.2.7", (yes, yes));
        check("192.0.2.0/24", "192.0.2.7", (yes, yes));
        check("198.51.100.1,192.0.2.0/24", "192.0.2.7", (yes, yes));
        check("192.0.2.0/24", "192.0.3.7", (no, no));
        check("2001:db8::/32", "2001:db8::1", (yes, yes));
        check("2001:DB8::1", "2001:db8::1", (yes, yes));
        check("2001:db8::/32", "192.0.2.7", (no, no));
        check("192.0.2.*", "192.0.2.7", (yes, None));
        check("!192.0.2.7,192.0.2.0/24", "192.0.2.7", (no, None));
        check("192.0.2.0/24,!192.0.2.7", "192.0.2.7", (no, None));
        check("*,!10.0.0.0/8", "192.0.2.7", (yes, None));
        check("*.example.org", "192.0.2.7", (no, None));
        check("192.0.2.7/24", "192.0.2.7", (None, None));
        check("192.0.2.0/33", "192.0.2.7", (None, None));
        check("", "192.0.2.7", (None, None));
        check("192.0.2.7,", "192.0.2.7", (None, None));
    }
}
