//! Keys of the service: addresses, host keys, limits, PAM.

use std::net::{IpAddr, SocketAddr};

use toml::{Table, Value};

use super::blocks::{Block, Line};
use super::notes::{Kind, Note, Notes, unsaid};
use super::{Files, algorithms, doors};

/// sshd's own host keys, where the file names none.
const HOST_KEYS: [&str; 3] = [
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_rsa_key",
];
/// Longest rekey limit of ours, in bytes.
const MAX_REKEY: u64 = 1 << 30;

/// All of them.
pub fn keys(block: &Block, files: &dyn Files, notes: &mut Vec<Note>) -> Table {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| drop(table.insert(key.into(), value));
    put("listen", strings(listen(block, files, notes)));
    put("host-keys", strings(host_keys(block, files, notes)));
    put("host-certificates", strings(block.words("hostcertificate")));
    let policy = algorithms::preset(block, notes);
    put("crypto-policy", policy.name().into());
    if let Some(line) = block.get("banner").filter(|l| l.first() != "none") {
        put("banner", line.first().into());
    }
    put("login-grace-time", grace_time(block, notes).into());
    if let Some((seconds, line)) = number(block, "clientaliveinterval", duration, notes) {
        if seconds == 0 {
            notes.note(
                Kind::Changed,
                line,
                "a silent client is always asked, every 30s if nothing is said",
            );
        } else {
            put("keepalive-interval", text(seconds).into());
        }
    }
    if let Some((count, line)) = number(block, "clientalivecountmax", plain, notes) {
        if count == 0 {
            notes.note(
                Kind::Changed,
                line,
                "a client that does not answer is always closed at last",
            );
        } else {
            put("keepalive-count-max", integer(count));
        }
    }
    if let Some((tries, line)) = number(block, "maxauthtries", plain, notes) {
        if tries == 0 {
            notes.note(Kind::Changed, line, "one attempt is the least");
        }
        put("max-auth-tries", integer(tries.max(1)));
    }
    if let Some(line) = block.get("rekeylimit") {
        rekey(line, &mut put, notes);
    }
    if block.get("requiredrsasize").is_none() {
        notes.push(unsaid(
            "RequiredRSASize",
            &format!(
                "sshd takes RSA keys of 1024 bits unless told otherwise; here required-rsa-size is {}",
                policy.rsa_bits()
            ),
        ));
    }
    put("pam-service", pam(block, notes).into());
    table.extend(doors::keys(block, notes));
    table
}

fn pam(block: &Block, notes: &mut Vec<Note>) -> String {
    let Some(line) = block.get("usepam").filter(|l| l.yes() == Some(true)) else {
        return String::new();
    };
    if let Some(named) = block.get("pamservicename") {
        return named.first().to_owned();
    }
    let text = "the PAM service is login-gateway: move what your /etc/pam.d/sshd has of its own, or name \
                that one in pam-service";
    notes.note(Kind::Changed, line, text);
    "login-gateway".into()
}

fn grace_time(block: &Block, notes: &mut Vec<Note>) -> String {
    match number(block, "logingracetime", duration, notes) {
        None => "120s".into(),
        Some((0, line)) => {
            notes.note(
                Kind::Changed,
                line,
                "there is always a limit; ten minutes is what is set",
            );
            "10m".into()
        }
        Some((seconds, _)) => text(seconds),
    }
}

fn rekey(line: &Line, put: &mut impl FnMut(&str, Value), notes: &mut Vec<Note>) {
    let bytes = line.first();
    if !bytes.eq_ignore_ascii_case("default") && !bytes.eq_ignore_ascii_case("none") {
        match size(bytes) {
            Some(bytes) => {
                if bytes > MAX_REKEY {
                    notes.note(
                        Kind::Changed,
                        line,
                        "new keys are made after 1 GiB at the latest",
                    );
                }
                put("rekey-bytes", integer(bytes.min(MAX_REKEY)));
            }
            None => notes.note(Kind::LeftOut, line, format!("'{bytes}' is no size")),
        }
    }
    if let Some(time) = line
        .arguments
        .get(1)
        .filter(|t| !t.eq_ignore_ascii_case("none"))
    {
        match duration(time) {
            Some(seconds) if seconds > 0 => put("rekey-interval", text(seconds).into()),
            _ => notes.note(Kind::LeftOut, line, format!("'{time}' is no time")),
        }
    }
}

fn listen(block: &Block, files: &dyn Files, notes: &mut Vec<Note>) -> Vec<String> {
    let mut ports: Vec<u16> = block
        .words("port")
        .iter()
        .filter_map(|p| p.parse().ok())
        .collect();
    if ports.is_empty() {
        ports.push(22);
    }
    let family = block
        .get("addressfamily")
        .map(|l| l.first().to_ascii_lowercase());
    let (v4, v6) = match family.as_deref() {
        Some("inet") => (true, false),
        Some("inet6") => (false, true),
        // A machine without IPv6 has no such address to listen on.
        _ => (true, files.exists("/proc/net/if_inet6")),
    };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for line in block.all("listenaddress") {
        match listen_address(line.first()) {
            Some((address, Some(port))) => addresses.push((address, port).into()),
            Some((address, None)) => {
                addresses.extend(ports.iter().map(|p| SocketAddr::from((address, *p))))
            }
            None => notes.note(
                Kind::LeftOut,
                line,
                format!(
                    "'{}' is no address; write its number in listen",
                    line.first()
                ),
            ),
        }
        if line.arguments.len() > 1 {
            notes.note(Kind::LeftOut, line, "routing domains are not there");
        }
    }
    if block.get("listenaddress").is_none() {
        for port in &ports {
            if v4 {
                addresses.push(([0, 0, 0, 0], *port).into());
            }
            if v6 {
                addresses.push(([0; 8], *port).into());
            }
        }
    }
    addresses.dedup();
    addresses.iter().map(ToString::to_string).collect()
}

fn listen_address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if text == "*" {
        return Some((IpAddr::from([0, 0, 0, 0]), None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    if let Some(port) = text.strip_prefix("*:") {
        return Some((IpAddr::from([0, 0, 0, 0]), Some(port.parse().ok()?)));
    }
    Some((bare.parse().ok()?, None))
}

fn host_keys(block: &Block, files: &dyn Files, notes: &mut Vec<Note>) -> Vec<String> {
    let named = block.words("hostkey");
    // sshd takes a public key there whose private half an agent holds.
    if !named.is_empty() {
        return named;
    }
    let there: Vec<String> = HOST_KEYS
        .iter()
        .filter(|k| files.exists(k))
        .map(|k| (*k).to_owned())
        .collect();
    if there.is_empty() {
        notes.push(unsaid(
            "HostKey",
            "none is named and sshd's own are not there; see host-keys",
        ));
        return vec!["/etc/login-gateway/keys/ssh_host_ed25519_key".into()];
    }
    there
}

/// The number of a keyword; what is no number is noted.
fn number<'a>(
    block: &'a Block,
    keyword: &str,
    read: fn(&str) -> Option<u64>,
    notes: &mut Vec<Note>,
) -> Option<(u64, &'a Line)> {
    let line = block.get(keyword)?;
    match read(line.first()) {
        Some(number) => Some((number, line)),
        None => {
            notes.note(
                Kind::LeftOut,
                line,
                format!("'{}' was not understood", line.first()),
            );
            None
        }
    }
}

pub(super) fn plain(text: &str) -> Option<u64> {
    text.parse::<u32>().ok().map(u64::from)
}

/// sshd's time format, in seconds: `90`, `1m30s`, `2h`.
pub(super) fn duration(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..]
            .chars()
            .next()
            .map_or('s', |c| c.to_ascii_lowercase());
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(seconds)?)?;
        rest = rest.get(digits + 1..).unwrap_or("");
    }
    // Longer than any connection lives; and what our durations can hold.
    (!text.is_empty() && total <= 10 * 365 * 86_400).then_some(total)
}

/// The same as our durations.
pub(super) fn text(seconds: u64) -> String {
    format!("{seconds}s")
}

/// A number of bytes with K, M or G.
fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.chars().last()?.to_ascii_uppercase() {
        'K' => (&text[..text.len() - 1], 1 << 10),
        'M' => (&text[..text.len() - 1], 1 << 20),
        'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

pub(super) fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn strings(list: Vec<String>) -> Value {
    Value::from(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        for (text, seconds) in [
            ("90", Some(90)),
            ("1m30s", Some(90)),
            ("2H", Some(7200)),
            ("1h30", Some(3630)),
            ("0", Some(0)),
            ("", None),
            ("x", None),
            ("1x", None),
            ("s", None),
            ("99999999999w", None),
            ("1é", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
        for (text, bytes) in [
            ("1G", Some(1 << 30)),
            ("16k", Some(16_384)),
            ("5", Some(5)),
            ("G", None),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
