//! Algorithm lists: ours are presets, so the nearest one is taken and said.

use gateway_wire::policy::fits;
use gateway_wire::settings::CryptoPolicy;

use super::blocks::{Block, Line};
use super::notes::{Kind, Note, Notes};

const LISTS: [&str; 3] = ["ciphers", "kexalgorithms", "macs"];

/// Key exchanges, ciphers and MACs of FIPS 140-3.
const FIPS: [&str; 16] = [
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group*-sha256",
    "diffie-hellman-group*-sha512",
    "diffie-hellman-group-exchange-sha256",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes*-cbc",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
];

const MODERN: [&str; 11] = [
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
];

/// The preset nearest to the lists of a file.
pub fn preset(block: &Block, notes: &mut Vec<Note>) -> CryptoPolicy {
    let lines: Vec<&Line> = LISTS.iter().filter_map(|k| block.get(k)).collect();
    // A list that adds to, takes from or reorders sshd's own names no choice between presets.
    let whole = |line: &&&Line| !line.first().starts_with(['+', '-', '^']);
    let listed: Vec<Vec<&str>> = lines
        .iter()
        .filter(whole)
        .map(|line| line.first().split(',').collect())
        .collect();
    let of = |names: &[&str], list: &[&str]| {
        let known = |n: &&&str| names.iter().any(|p| fits(p, n));
        list.iter().filter(known).count()
    };
    let fips = !listed.is_empty() && listed.iter().all(|list| of(&FIPS, list) == list.len());
    let kex_is_fips = block.get("kexalgorithms").is_some_and(|_| fips);
    let chosen = if kex_is_fips {
        CryptoPolicy::Fips140
    } else if listed.iter().all(|list| of(&MODERN, list) > 0) {
        CryptoPolicy::Modern
    } else {
        CryptoPolicy::Compatible
    };
    let name = match chosen {
        CryptoPolicy::Modern => "modern",
        CryptoPolicy::Compatible => "compatible",
        CryptoPolicy::Fips140 => "fips-140-3",
    };
    for line in lines {
        notes.note(
            Kind::Changed,
            line,
            format!(
                "single algorithms are not chosen here; the nearest preset is crypto-policy = \"{name}\""
            ),
        );
    }
    chosen
}

/// `PubkeyAcceptedAlgorithms` as patterns of key types: signature algorithms of RSA are one type.
pub fn key_types(line: &Line, notes: &mut Vec<Note>) -> Vec<String> {
    let text = line.first();
    let (sign, list) = match text.chars().next() {
        Some(sign @ ('+' | '-' | '^')) => (Some(sign), &text[1..]),
        _ => (None, text),
    };
    let mut types: Vec<String> = Vec::new();
    for name in list.split(',') {
        let name = match name {
            "ssh-rsa" | "ssh-rsa-cert-v01@openssh.com" => {
                if sign != Some('-') {
                    notes.note(
                        Kind::LeftOut,
                        line,
                        format!("'{name}' signs with SHA-1, which is never accepted"),
                    );
                }
                continue;
            }
            "rsa-sha2-256" | "rsa-sha2-512" => "ssh-rsa".to_owned(),
            "rsa-sha2-256-cert-v01@openssh.com" | "rsa-sha2-512-cert-v01@openssh.com" => {
                "ssh-rsa-cert-v01@openssh.com".to_owned()
            }
            other => other.replace("rsa-sha2-*", "ssh-rsa*"),
        };
        if !name.is_empty() && !types.contains(&name) {
            types.push(name);
        }
    }
    match sign {
        None => types,
        Some('-') => std::iter::once("*".to_owned())
            .chain(types.into_iter().map(|t| format!("!{t}")))
            .collect(),
        Some(_) => vec!["*".into()],
    }
}

/// `CASignatureAlgorithms` as patterns; what is added to sshd's own list is in ours already.
pub fn signatures(line: &Line, notes: &mut Vec<Note>) -> Vec<String> {
    let text = line.first();
    let names = |list: &str| -> Vec<String> {
        let names = list.split(',').filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    let listed = match text.strip_prefix(['+', '-', '^']) {
        Some(list) => names(list),
        None => names(text),
    };
    if !text.starts_with('-') && listed.iter().any(|name| name == "ssh-rsa") {
        let why = "'ssh-rsa' signs with SHA-1, which is never accepted";
        notes.note(Kind::LeftOut, line, why);
    }
    match text.chars().next() {
        Some('-') => std::iter::once("*".to_owned())
            .chain(listed.into_iter().map(|name| format!("!{name}")))
            .collect(),
        Some('+' | '^') => vec!["*".into()],
        _ => listed,
    }
}
