//! Cases 1 to 3: requests as they were captured, in pieces, with bytes too few or too many.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use serde_json::Value;
use slurm_wire::sack::ANYBODY;

use crate::client::{as_user, connect, create, rest, say, say_and_close, token, token_in, verify};
use crate::server::{Keys, Kind, Peers, Server};
use crate::tokens::read;

const VECTORS: [(&str, &str); 2] = [
    (
        "24.11",
        include_str!("../../../crates/slurm-auth/vectors/sack-24.11.5.json"),
    ),
    (
        "26.05",
        include_str!("../../../crates/slurm-auth/vectors/sack-26.05.5.json"),
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The bytes of real clients are answered now as they were then, claim by claim.
pub fn captured(peers: &Peers, kind: Kind) {
    for (version, file) in VECTORS {
        if kind != Kind::Ours && kind != Kind::Theirs(version) {
            continue;
        }
        let file: Value = serde_json::from_str(file).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        let of_sack = |v: &&Value| {
            let name = v["name"].as_str().unwrap();
            name.starts_with("create/") || name.starts_with("real client/")
        };
        let mut asked = 0;
        for vector in vectors.iter().filter(of_sack) {
            let text = |name: &str| vector[name].as_str();
            let key = bytes(text("key_hex").unwrap());
            let keys = match text("jwks") {
                Some(set) => Keys::Set(set.to_owned()),
                None => Keys::Raw(&key),
            };
            let server = peers.start(kind, &keys, text("slurm_conf_authinfo").unwrap_or(""));
            let id = |name: &str| vector[name].as_u64().unwrap() as u32;
            let request = bytes(text("request_hex").unwrap());
            let reply = as_user(id("peer_uid"), id("peer_gid"), || {
                say(&server.socket(), &request)
            });
            let (header, claims) = read(&token_in(&reply), &key);
            let name = text("name").unwrap();
            let then: Value = serde_json::from_str(text("jwt_header").unwrap()).unwrap();
            assert_eq!(header, then, "{name}");
            let then: Value = serde_json::from_str(text("jwt_claims").unwrap()).unwrap();
            let names = |value: &Value| -> Vec<String> {
                value.as_object().unwrap().keys().cloned().collect()
            };
            assert_eq!(names(&claims), names(&then), "{name}");
            for claim in ["context", "gid", "payload", "ruid", "uid", "ver"] {
                assert_eq!(claims[claim], then[claim], "{name}: {claim}");
            }
            let life =
                |claims: &Value| claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
            assert_eq!(life(&claims), life(&then), "{name}");
            asked += 1;
        }
        assert!(asked >= 7, "{version}: {asked}");
    }
}

fn answered(server: &Server, reply: &[u8]) {
    let (_, claims) = read(&token_in(reply), crate::server::KEY);
    assert_eq!(claims["uid"], 0);
    assert_eq!(claims["cluster"], "lab");
    // And the next one is served.
    token(&server.socket());
}

pub fn byte_by_byte(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    let mut slow = connect(&server.socket());
    for byte in create(ANYBODY, &[2; 33]) {
        slow.write_all(&[byte]).unwrap();
    }
    answered(&server, &rest(slow));
}

/// The two kinds of requests, and what is said to them.
fn both(server: &Server) -> [(Vec<u8>, bool); 2] {
    [
        (create(ANYBODY, &[2; 33]), true),
        (verify(&token(&server.socket())), false),
    ]
}

pub fn every_split(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for (request, is_create) in both(&server) {
        for at in 1..request.len() {
            let mut split = connect(&server.socket());
            split.write_all(&request[..at]).unwrap();
            // The server has seen the first part: it has answered another one since.
            if at % 16 == 0 {
                token(&server.socket());
            }
            split.write_all(&request[at..]).unwrap();
            let reply = rest(split);
            match is_create {
                true => drop(token_in(&reply)),
                false => assert_eq!(reply, [0; 4], "split at {at}"),
            }
        }
    }
}

pub fn every_truncation(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for (request, _) in both(&server) {
        for at in 0..request.len() {
            let reply = say_and_close(&server.socket(), &request[..at]);
            assert_eq!(reply, b"", "cut at {at} of {}", request.len());
        }
    }
    token(&server.socket());
}

pub fn half_close(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    answered(
        &server,
        &say_and_close(&server.socket(), &create(ANYBODY, &[2; 33])),
    );
}

pub fn trailing(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    let request = [&create(ANYBODY, &[2; 33])[..], b"and more"].concat();
    answered(&server, &say(&server.socket(), &request));
}

pub fn second(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    let request = create(ANYBODY, &[2; 33]);
    // One answer, also to two requests; `token_in` knows nothing behind it.
    answered(&server, &say(&server.socket(), &request.repeat(2)));
}

pub fn versions(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for version in [0_u16, 0x2600, 0x2800, 0x2d00, 0xffff] {
        let mut request = create(ANYBODY, b"");
        request[..2].copy_from_slice(&version.to_be_bytes());
        answered(&server, &say(&server.socket(), &request));
    }
}

fn with_length(request: &[u8], length: u32) -> Vec<u8> {
    let mut request = request.to_vec();
    request[2..6].copy_from_slice(&length.to_be_bytes());
    request
}

pub fn no_length(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for length in [0, 4, 8, 15] {
        let request = with_length(&create(ANYBODY, b""), length);
        answered(&server, &say(&server.socket(), &request));
    }
}

pub fn long_and_closed(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for length in [17, 1000, 100_000] {
        let request = with_length(&create(ANYBODY, b""), length);
        assert_eq!(say_and_close(&server.socket(), &request), b"", "{length}");
    }
    token(&server.socket());
}

/// Theirs waits for ever, ours for its deadline; neither answers, and both go on with others.
pub fn long_and_silent(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    let mut silent = connect(&server.socket());
    silent
        .write_all(&with_length(&create(ANYBODY, b""), 17))
        .unwrap();
    for _ in 0..10 {
        token(&server.socket());
    }
    if server.is_theirs() {
        silent.set_nonblocking(true).unwrap();
        let error = silent.read(&mut [0]).expect_err("nothing to read");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    } else {
        assert_eq!(rest(silent), b"");
    }
}

pub fn opcodes(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for opcode in [0_u32, 1, 64000, 64003, u32::MAX] {
        let mut request = create(ANYBODY, b"");
        request[6..10].copy_from_slice(&opcode.to_be_bytes());
        assert_eq!(say(&server.socket(), &request), b"", "{opcode}");
    }
    token(&server.socket());
}

pub fn payload_beyond(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for length in [1_u32, 100, 0x7fff_ffff, u32::MAX] {
        let mut request = create(ANYBODY, b"");
        request[14..18].copy_from_slice(&length.to_be_bytes());
        let mut stream = connect(&server.socket());
        stream.write_all(&request).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(stream), b"", "{length}");
    }
    token(&server.socket());
}
