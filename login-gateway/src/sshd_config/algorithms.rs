//! Algorithm lists: ours are presets, so the nearest one is taken and said.

use gateway_wire::crypto::CryptoPolicy;
use gateway_wire::policy::fits;

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
    let name = chosen.name();
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

/// `PubkeyAcceptedAlgorithms` or `CASignatureAlgorithms`; `None` where all that is `known` here stays
/// good, as in sshd's own list, which has them all.
pub fn signatures(line: &Line, known: &[String], notes: &mut Vec<Note>) -> Option<Vec<String>> {
    let text = line.first();
    let sign = text.chars().next().filter(|c| matches!(c, '+' | '-' | '^'));
    let names = text.trim_start_matches(['+', '-', '^']).split(',');
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    if sign == Some('-') {
        let left = |name: &&String| !names.iter().any(|pattern| fits(pattern, name));
        return Some(known.iter().filter(left).cloned().collect());
    }
    let (here, elsewhere): (Vec<&str>, Vec<&str>) = names
        .into_iter()
        .partition(|pattern| known.iter().any(|name| fits(pattern, name)));
    for name in elsewhere {
        let why = match name {
            "ssh-rsa" | "ssh-rsa-cert-v01@openssh.com" => {
                "signs with SHA-1, which is never accepted"
            }
            _ => "is no algorithm here",
        };
        notes.note(Kind::LeftOut, line, format!("'{name}' {why}"));
    }
    sign.is_none()
        .then(|| here.into_iter().map(str::to_owned).collect())
}
