//! Keys of the door: limits of unfinished connections, per source too, and penalties.

use toml::{Table, Value};

use super::blocks::{Block, Line};
use super::notes::{Kind, Note, Notes};
use super::service::{duration, integer, plain, strings, text};

/// All of them.
pub fn keys(block: &Block, notes: &mut Vec<Note>) -> Table {
    let mut table = Table::new();
    if let Some(line) = block.get("maxstartups") {
        startups(line, &mut table, notes);
    }
    if let Some(line) = block.get("persourcemaxstartups") {
        match line.first() {
            "none" => drop(table.insert("per-source-max-startups".into(), integer(0))),
            number => match plain(number).filter(|n| *n > 0) {
                Some(number) => {
                    table.insert("per-source-max-startups".into(), integer(number));
                }
                None => not_understood(line, number, notes),
            },
        }
    }
    let lines: Vec<&Line> = block.all("persourcepenalties").collect();
    let penalties = penalties(&lines, block, notes);
    let by_source = table.contains_key("per-source-max-startups") || penalties.is_some();
    if let Some(penalties) = penalties {
        table.insert("penalties".into(), penalties.into());
    }
    match block.get("persourcenetblocksize") {
        Some(line) => match block_size(line.first()) {
            Some(size) => drop(table.insert("per-source-net-block-size".into(), size)),
            None => not_understood(line, line.first(), notes),
        },
        // sshd's default is another.
        None if by_source => {
            table.extend(block_size("32:128").map(|s| ("per-source-net-block-size".into(), s)));
        }
        None => {}
    }
    table
}

fn not_understood(line: &Line, what: &str, notes: &mut Vec<Note>) {
    let text = format!("'{what}' was not understood");
    notes.note(Kind::LeftOut, line, text);
}

/// `start:rate:full`, or one number.
fn startups(line: &Line, table: &mut Table, notes: &mut Vec<Note>) {
    let numbers: Option<Vec<u64>> = line.first().split(':').map(plain).collect();
    let (drop, full) = match numbers.as_deref() {
        Some(&[full]) => (None, full),
        Some(&[start, rate, full]) if start <= full && (1..=100).contains(&rate) => {
            (Some((start, rate)).filter(|_| start < full), full)
        }
        _ => return not_understood(line, line.first(), notes),
    };
    let full = full.max(1);
    table.insert("max-startups".into(), integer(full));
    if let Some((start, rate)) = drop {
        if start == 0 {
            notes.note(Kind::Changed, line, "it begins at one connection");
        }
        let start = ("start".to_owned(), integer(start.max(1)));
        let rate = ("rate".to_owned(), integer(rate));
        let drop: Table = [start, rate].into_iter().collect();
        table.insert("early-drop".into(), drop.into());
    }
    // The default number of waiting pairs may not be above that.
    if full < 2 {
        table.insert("warm".into(), integer(full));
    }
}

/// `ipv4` or `ipv4:ipv6`, in bits.
fn block_size(text: &str) -> Option<Value> {
    let (ipv4, ipv6) = text.split_once(':').unwrap_or((text, "128"));
    let bits = |text: &str, most| plain(text).filter(|bits| *bits <= most).map(integer);
    let ipv4 = ("ipv4".to_owned(), bits(ipv4, 32)?);
    let ipv6 = ("ipv6".to_owned(), bits(ipv6, 128)?);
    Some(Value::Table([ipv4, ipv6].into_iter().collect()))
}

/// Words of `PerSourcePenalties` and our keys; the first kind has times.
const TIMES: [(&str, &str); 8] = [
    ("crash", "crash"),
    ("authfail", "auth-fail"),
    ("invaliduser", "invalid-user"),
    ("noauth", "no-auth"),
    ("grace-exceeded", "grace-exceeded"),
    ("refuseconnection", "refuse-connection"),
    ("min", "min"),
    ("max", "max"),
];

fn penalties(lines: &[&Line], block: &Block, notes: &mut Vec<Note>) -> Option<Table> {
    let exempt = block.get("persourcepenaltyexemptlist");
    if lines.is_empty() && exempt.is_none() {
        return None;
    }
    let mut table = Table::new();
    for line in lines {
        for word in &line.arguments {
            let (name, value) = word.split_once(':').unwrap_or((word, ""));
            let name = name.to_ascii_lowercase();
            let entry = match (name.as_str(), value) {
                ("no", "") => Some(("enabled", Value::from(false))),
                ("yes", "") => Some(("enabled", Value::from(true))),
                ("max-sources4" | "max-sources6", number) => {
                    let key = if name.ends_with('4') {
                        "max-sources4"
                    } else {
                        "max-sources6"
                    };
                    plain(number).map(|number| (key, integer(number)))
                }
                ("overflow" | "overflow6", "permissive" | "deny-all") => {
                    let key = if name.ends_with('6') {
                        "overflow6"
                    } else {
                        "overflow"
                    };
                    Some((key, value.into()))
                }
                (name, time) => TIMES
                    .iter()
                    .find(|(word, _)| *word == name)
                    .and_then(|(_, key)| Some((*key, text(duration(time)?).into()))),
            };
            match entry {
                // As in sshd the first that is said counts.
                Some((key, value)) => drop(table.entry(key).or_insert(value)),
                None => not_understood(line, word, notes),
            }
        }
    }
    table.insert(
        "exempt".into(),
        strings(exempt.map_or_else(Vec::new, |line| networks(line, notes))),
    );
    Some(table)
}

/// Addresses and networks of a list.
fn networks(line: &Line, notes: &mut Vec<Note>) -> Vec<String> {
    let entries = line.arguments.iter().flat_map(|list| list.split(','));
    let mut found = Vec::new();
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let address = entry.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        match address.or_else(|_| entry.parse::<ipnet::IpNet>()) {
            Ok(network) => found.push(network.to_string()),
            Err(_) => not_understood(line, entry, notes),
        }
    }
    found
}
