//! `Match` lines: which connections a block is about, in our criteria.

use std::net::IpAddr;

use gateway_wire::policy::fits;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::{Table, Value};

use super::blocks::{Block, Line};
use super::notes::{Kind, Note, Notes};

/// Most networks that one exclusion may become.
const MAX_NETS: usize = 512;

/// Criteria of one of our blocks; empty lists hold for everybody.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Criteria {
    pub user: Vec<String>,
    pub group: Vec<String>,
    pub source: Vec<IpNet>,
    pub destination: Vec<IpNet>,
    pub destination_port: Vec<u16>,
}

impl Criteria {
    /// As the start of a block.
    pub fn to_table(&self) -> Table {
        let mut table = Table::new();
        for (key, values) in [("user", &self.user), ("group", &self.group)] {
            if !values.is_empty() {
                table.insert(key.into(), Value::from(values.clone()));
            }
        }
        for (key, nets) in [("source", &self.source), ("destination", &self.destination)] {
            if !nets.is_empty() {
                let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
                table.insert(key.into(), Value::from(nets));
            }
        }
        if !self.destination_port.is_empty() {
            let ports: Vec<i64> = self
                .destination_port
                .iter()
                .map(|p| i64::from(*p))
                .collect();
            table.insert("destination-port".into(), Value::from(ports));
        }
        table
    }

    /// Both together, if our criteria can say so.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let source = networks_in_both(&self.source, &other.source)?;
        let destination = networks_in_both(&self.destination, &other.destination)?;
        let ports = (&self.destination_port, &other.destination_port);
        let destination_port = match (ports.0.is_empty(), ports.1.is_empty()) {
            (true, _) => ports.1.clone(),
            (_, true) => ports.0.clone(),
            _ if ports.0 == ports.1 => ports.0.clone(),
            _ => return None,
        };
        let group = match (self.group.is_empty(), other.group.is_empty()) {
            (true, _) => other.group.clone(),
            (_, true) => self.group.clone(),
            _ if self.group == other.group => self.group.clone(),
            _ => return None,
        };
        Some(Self {
            user: names_in_both(&self.user, &other.user)?,
            group,
            source,
            destination,
            destination_port,
        })
    }
}

/// Networks in both lists, of which an empty one holds all; `None` if there are none.
fn networks_in_both(one: &[IpNet], other: &[IpNet]) -> Option<Vec<IpNet>> {
    match (one.is_empty(), other.is_empty()) {
        (true, _) => Some(other.to_vec()),
        (_, true) => Some(one.to_vec()),
        _ => Some(intersection(one, other)).filter(|both| !both.is_empty()),
    }
}

/// Patterns for names that fit both lists; `None` if no list says that, or nobody fits.
fn names_in_both(one: &[String], other: &[String]) -> Option<Vec<String>> {
    use gateway_wire::policy::listed;
    if one.is_empty() || one == other {
        return Some(other.to_vec());
    }
    if other.is_empty() {
        return Some(one.to_vec());
    }
    let plain = |list: &[String]| list.iter().all(|p| !p.contains(['*', '?', '!']));
    let (names, patterns) = match (plain(one), plain(other)) {
        (true, _) => (one, other),
        (_, true) => (other, one),
        _ => return None,
    };
    let both: Vec<String> = names
        .iter()
        .filter(|n| listed(patterns, n))
        .cloned()
        .collect();
    (!both.is_empty()).then_some(both)
}

/// What a block's `Match` lines say; `None`, noted, if it cannot be said here. The result is a list
/// for the day when one block becomes several.
pub fn of(block: &Block, notes: &mut Vec<Note>) -> Option<Vec<Criteria>> {
    let mut all = Criteria::default();
    for line in &block.matches {
        let one = match line_criteria(line) {
            Ok(one) => one,
            Err(why) => {
                let lines = block.lines.iter().map(|l| l.name.as_str());
                let lost: Vec<&str> = lines.collect();
                notes.note(
                    Kind::LeftOut,
                    line,
                    format!(
                        "{why}; the whole block is left out ({}): say by user, group or source whom \
                         it is about",
                        lost.join(", ")
                    ),
                );
                return None;
            }
        };
        all = match all.and(&one) {
            Some(all) => all,
            None => {
                notes.note(
                    Kind::LeftOut,
                    line,
                    "this and the Match line of the including file cannot be said together",
                );
                return None;
            }
        };
    }
    Some(vec![all])
}

fn line_criteria(line: &Line) -> Result<Criteria, String> {
    let mut criteria = Criteria::default();
    let mut words = line.arguments.iter();
    while let Some(word) = words.next() {
        let (name, joined) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let name = name.to_ascii_lowercase();
        if name == "all" {
            continue;
        }
        let value = match joined {
            Some(value) => value,
            None => words
                .next()
                .cloned()
                .ok_or_else(|| format!("'{word}' without a value"))?,
        };
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        let one = match name.as_str() {
            "user" => Criteria {
                user: list(),
                ..Criteria::default()
            },
            "group" => Criteria {
                group: list(),
                ..Criteria::default()
            },
            "address" => Criteria {
                source: addresses(&list())?,
                ..Criteria::default()
            },
            "localaddress" => Criteria {
                destination: addresses(&list())?,
                ..Criteria::default()
            },
            "localport" => {
                let port = value.parse::<u16>();
                Criteria {
                    destination_port: vec![port.map_err(|_| format!("'{value}' is no port"))?],
                    ..Criteria::default()
                }
            }
            other => return Err(format!("no block can ask for '{other}'")),
        };
        criteria = criteria
            .and(&one)
            .ok_or_else(|| format!("'{word}' stands twice and nothing fits both"))?;
    }
    Ok(criteria)
}

/// The networks of a list that sshd compares with addresses alone: a plain name fits none.
fn addresses(list: &[String]) -> Result<Vec<IpNet>, String> {
    let is_name = |entry: &String| {
        let plain = entry.strip_prefix('!').unwrap_or(entry);
        plain.contains(|c: char| c.is_ascii_alphabetic()) && !plain.contains(['*', '?', '/', ':'])
    };
    let numbers: Vec<String> = list
        .iter()
        .filter(|entry| !is_name(entry))
        .cloned()
        .collect();
    networks(&numbers)
}

/// The first entry of a `Match` line that has bits below its mask, which sshd does not take either.
pub fn misread(line: &Line) -> Option<String> {
    let mut previous = "";
    for word in &line.arguments {
        let (name, value) = word.split_once('=').unwrap_or((previous, word));
        if ["address", "localaddress"].contains(&name.to_ascii_lowercase().as_str()) {
            for entry in value.split(',') {
                let entry = entry.strip_prefix('!').unwrap_or(entry);
                if entry.parse::<IpNet>().is_ok()
                    && let Err(why) = gateway_wire::address::parse(entry)
                {
                    return Some(why);
                }
            }
        }
        previous = word;
    }
    None
}

/// The networks of an address list of sshd's: networks, addresses, `*` at the end, `!`.
pub fn networks(patterns: &[String]) -> Result<Vec<IpNet>, String> {
    let mut wanted = Vec::new();
    let mut excluded = Vec::new();
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(rest) => excluded.extend(network(rest)?),
            None => wanted.extend(network(pattern)?),
        }
    }
    for hole in excluded {
        wanted = wanted
            .into_iter()
            .flat_map(|net| without(net, &hole))
            .collect();
        if wanted.len() > MAX_NETS {
            return Err("the excluded addresses make too many networks".into());
        }
    }
    wanted = IpNet::aggregate(&wanted);
    if wanted.is_empty() {
        return Err("no address fits".into());
    }
    Ok(wanted)
}

fn network(pattern: &str) -> Result<Vec<IpNet>, String> {
    if pattern == "*" {
        return Ok(vec![Ipv4Net::default().into(), Ipv6Net::default().into()]);
    }
    if pattern.parse::<IpNet>().is_ok() || pattern.parse::<IpAddr>().is_ok() {
        return gateway_wire::address::parse(pattern).map(|net| vec![net]);
    }
    // 192.0.2.* and the like: whole bytes from the left.
    if let Some(start) = pattern.strip_suffix(".*") {
        let bytes: Vec<Option<u8>> = start.split('.').map(|b| b.parse().ok()).collect();
        let bytes: Vec<u8> = bytes
            .into_iter()
            .take_while(Option::is_some)
            .flatten()
            .collect();
        let stars = start.split('.').count() - bytes.len();
        let only_stars = start.split('.').skip(bytes.len()).all(|part| part == "*");
        if (stars == 0 || only_stars) && bytes.len() + stars < 4 {
            let mut address = [0; 4];
            address[..bytes.len()].copy_from_slice(&bytes);
            let net = Ipv4Net::new(address.into(), 8 * bytes.len() as u8);
            return net.map(|n| vec![n.into()]).map_err(|e| e.to_string());
        }
    }
    Err(format!("'{pattern}' is no network"))
}

/// `net` with a hole in it.
fn without(net: IpNet, hole: &IpNet) -> Vec<IpNet> {
    if hole.contains(&net) {
        return Vec::new();
    }
    if !net.contains(hole) {
        return vec![net];
    }
    match net.subnets(net.prefix_len() + 1) {
        Ok(halves) => halves.flat_map(|half| without(half, hole)).collect(),
        Err(_) => Vec::new(),
    }
}

fn intersection(one: &[IpNet], other: &[IpNet]) -> Vec<IpNet> {
    let smaller = |a: &IpNet| {
        other
            .iter()
            .filter_map(move |b| match (a.contains(b), b.contains(a)) {
                (true, _) => Some(*b),
                (_, true) => Some(*a),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    IpNet::aggregate(&one.iter().flat_map(smaller).collect())
}

/// Whether a pattern fits any name.
pub fn is_any(pattern: &str) -> bool {
    fits(pattern, "") && pattern.chars().all(|c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &str) -> Result<String, String> {
        let list: Vec<String> = list.split(',').map(str::to_owned).collect();
        networks(&list).map(|nets| {
            let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
            nets.join(" ")
        })
    }

    #[test]
    fn address_lists() {
        let ok = |list: &str, expected: &str| assert_eq!(nets(list), Ok(expected.into()), "{list}");
        ok("10.0.0.0/8", "10.0.0.0/8");
        ok("192.0.2.7,2001:db8::1", "192.0.2.7/32 2001:db8::1/128");
        ok("192.0.2.*", "192.0.2.0/24");
        ok("10.*.*.*", "10.0.0.0/8");
        ok("*", "0.0.0.0/0 ::/0");
        ok("10.0.0.0/30,!10.0.0.1", "10.0.0.0/32 10.0.0.2/31");
        ok("!10.0.0.0/9,10.0.0.0/8", "10.128.0.0/9");
        for bad in [
            "host.example",
            "10.1.2.3/8",
            "10.*.1.*",
            "10.1*",
            "10.0.0.0/8,!10.0.0.0/8",
            "!10.0.0.1",
            "",
        ] {
            assert!(nets(bad).is_err(), "{bad}");
        }
        let holes = (0..40)
            .map(|n| format!("!2001:db8:{n:x}{n:x}::{n:x}"))
            .collect::<Vec<_>>();
        assert!(nets(&format!("*,{}", holes.join(","))).is_err());
    }

    #[test]
    fn lists_of_names_together() {
        let check = |one: &str, other: &str, expected: Option<&str>| {
            let list = |text: &str| {
                text.split(' ')
                    .filter(|w| !w.is_empty())
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            let both = names_in_both(&list(one), &list(other)).map(|l| l.join(" "));
            assert_eq!(both.as_deref(), expected, "{one} and {other}");
        };
        check("", "a b", Some("a b"));
        check("a b", "", Some("a b"));
        check("a b", "b c", Some("b"));
        check("svc-* !svc-x", "svc-a svc-x bob", Some("svc-a"));
        check("a", "b", None);
        check("a*", "*b", None);
    }
}
