//! Lists of members that a server gives in parts, as Active Directory does from 1500 on (MS-ADTS 3.1.1.3.1.3.3): of
//! Samba there are none, so this server is ours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    thread,
};

use support::{Lab, Settings, has_peers};

const PEOPLE: usize = 3200;
const PART: usize = 1500;
const GROUP: &str = "CN=big,ou=groups,dc=example,dc=org";

fn ber(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x84], &length[..], content].concat()
}

/// The tag and the content of the first value, and what follows.
fn first(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (head, length) = match bytes[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            let digits = bytes[2..2 + count].iter();
            let length = digits.fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (2 + count, length)
        }
    };
    (
        bytes[0],
        &bytes[head..head + length],
        &bytes[head + length..],
    )
}

fn entry(dn: &str, attributes: &[(&str, Vec<String>)]) -> Vec<u8> {
    let attributes = attributes.iter().map(|(name, values)| {
        let values: Vec<u8> = values.iter().flat_map(|v| ber(4, v.as_bytes())).collect();
        ber(
            0x30,
            &[ber(4, name.as_bytes()), ber(0x31, &values)].concat(),
        )
    });
    let attributes: Vec<u8> = attributes.flatten().collect();
    ber(
        0x64,
        &[ber(4, dn.as_bytes()), ber(0x30, &attributes)].concat(),
    )
}

/// The members from `from` on, as far as a part goes. A stubborn server never gets beyond the second.
fn part(from: usize, stubborn: bool) -> (String, Vec<String>) {
    let from = if stubborn { from.min(PART) } else { from };
    let end = (from + PART).min(PEOPLE);
    let last = match end {
        PEOPLE => "*".to_owned(),
        end => (end - 1).to_string(),
    };
    let members = (from..end).map(|n| format!("CN=u{n},ou=people,dc=example,dc=org"));
    (format!("member;range={from}-{last}"), members.collect())
}

/// What is found under a base.
fn found(base: &str, attributes: &[&str], stubborn: bool) -> Vec<Vec<u8>> {
    let one = |text: &str| vec![text.to_owned()];
    match base {
        "" => vec![entry("", &[("highestCommittedUSN", one("7"))])],
        GROUP => {
            let range = attributes[0].strip_prefix("member;range=").unwrap();
            let from = range.split('-').next().unwrap().parse().unwrap();
            let (name, members) = part(from, stubborn);
            vec![entry(GROUP, &[(&name, members)])]
        }
        _ if base.starts_with("ou=people") => (0..PEOPLE)
            .map(|n| {
                let number = (10_000 + n).to_string();
                entry(
                    &format!("CN=u{n},{base}"),
                    &[
                        ("sAMAccountName", one(&format!("u{n}"))),
                        ("uidNumber", one(&number)),
                        ("gidNumber", one("5000")),
                        ("userAccountControl", one("512")),
                    ],
                )
            })
            .collect(),
        _ if base.starts_with("ou=groups") => {
            let (name, members) = part(0, stubborn);
            let names = [("sAMAccountName", one("big")), ("gidNumber", one("5000"))];
            let both = [&names[..], &[(name.as_str(), members)]].concat();
            vec![entry(GROUP, &both)]
        }
        _ => Vec::new(),
    }
}

fn serve(mut stream: TcpStream, stubborn: bool) -> Option<()> {
    loop {
        let mut bytes = vec![0; 2];
        stream.read_exact(&mut bytes).ok()?;
        let more = usize::from(bytes[1].saturating_sub(0x80));
        bytes.resize(2 + more, 0);
        stream.read_exact(&mut bytes[2..]).ok()?;
        let length = match more {
            0 => usize::from(bytes[1]),
            _ => bytes[2..]
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit)),
        };
        let head = bytes.len();
        bytes.resize(head + length, 0);
        stream.read_exact(&mut bytes[head..]).ok()?;
        let (_, id, rest) = first(&bytes[head..]);
        let id = ber(2, id);
        let send = |stream: &mut TcpStream, answer: &[u8]| {
            let message = ber(0x30, &[&id[..], answer].concat());
            stream.write_all(&message).ok()
        };
        let done = |tag| ber(tag, b"\x0a\x01\x00\x04\x00\x04\x00");
        match first(rest) {
            (0x60, ..) => send(&mut stream, &done(0x61))?,
            (0x63, search, _) => {
                let (_, base, mut rest) = first(search);
                // Scope, aliases, two limits, types only, the filter.
                for _ in 0..6 {
                    rest = first(rest).2;
                }
                let mut list = first(rest).1;
                let mut attributes = Vec::new();
                while !list.is_empty() {
                    let (_, name, rest) = first(list);
                    attributes.push(std::str::from_utf8(name).unwrap());
                    list = rest;
                }
                let base = std::str::from_utf8(base).unwrap();
                for entry in found(base, &attributes, stubborn) {
                    send(&mut stream, &entry)?;
                }
                send(&mut stream, &done(0x65))?;
            }
            _ => return None,
        }
    }
}

fn lab(stubborn: bool) -> Lab {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("ldap://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, stubborn));
        }
    });
    let mut lab = Lab::new(Settings {
        schema: "ad",
        uri: Some(uri),
        start_tls: false,
        more_ldap: "id-mapping = false",
        ..Settings::default()
    });
    fs::write(lab.path("password"), "secret").unwrap();
    fs::set_permissions(lab.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    lab.start_daemon();
    lab
}

#[test]
fn all_parts_are_asked_for() {
    if !has_peers("all_parts_are_asked_for") {
        return;
    }
    let lab = lab(false);
    let status = lab.until(|status| status.complete);
    assert_eq!(
        (status.users, status.groups),
        (PEOPLE as u64, 1),
        "{status:?}"
    );
    let big = lab.getent("group", "big");
    let members = big.rsplit(':').next().unwrap();
    assert_eq!(members.split(',').count(), PEOPLE);
    assert_eq!(lab.groups("u3199"), [5000]);
}

#[test]
fn a_list_that_never_ends_is_none() {
    if !has_peers("a_list_that_never_ends_is_none") {
        return;
    }
    let mut lab = lab(true);
    let status = lab.until(|status| !status.problem.is_empty());
    let said = "does not give all members of 'CN=big,";
    assert!(
        status.problem.contains(said) && !status.complete,
        "{status:?}"
    );
    lab.assert_alive();
}
