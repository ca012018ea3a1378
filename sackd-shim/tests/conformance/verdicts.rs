//! Case 4: which tokens are good, and for whom.

use serde_json::{Value, json};

use crate::client::{as_user, say, token, verify};
use crate::server::{KEY, Keys, Kind, Peers, Server};
use crate::tokens::{HEADER, good as claims_of, jwks, now, signed, with, without};

const OTHER: &[u8] = b"another key of the conformance cases, as long\n";

fn check_token(server: &Server, token: &str, expected: bool, what: &str) {
    let verdict = if expected { &[0; 4][..] } else { server.no() };
    assert_eq!(say(&server.socket(), &verify(token)), verdict, "{what}");
}

fn check(server: &Server, claims: &Value, expected: bool) {
    let token = signed(HEADER, claims, KEY);
    check_token(server, &token, expected, &claims.to_string());
}

pub fn good(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    check(&server, &claims_of(), true);
    check(&server, &with("context", "sack".into()), true);
    let own = token(&server.socket());
    for _ in 0..3 {
        check_token(&server, &own, true, "its own, replayed");
    }
    for claim in ["cluster", "iat", "ver", "payload", "uid", "gid"] {
        check(&server, &without(claim), true);
    }
    check(&server, &with("future", json!({"a": [1]})), true);
    check(&server, &with("nbf", (now() + 1000).into()), true);
    check(&server, &with("iat", (now() + 1000).into()), true);
    check(&server, &with("cluster", "other".into()), true);
}

pub fn signatures(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    check_token(
        &server,
        &signed(HEADER, &claims_of(), OTHER),
        false,
        "another key",
    );
    let cut = &KEY[..KEY.len() - 1];
    check_token(
        &server,
        &signed(HEADER, &claims_of(), cut),
        false,
        "without the line feed",
    );
    let token = signed(HEADER, &claims_of(), KEY);
    let (signed_part, _) = token.rsplit_once('.').unwrap();
    for bad in [
        format!("{signed_part}."),
        signed_part.to_owned(),
        format!("{signed_part}.AAAA"),
        "a.b.c".to_owned(),
        "..".to_owned(),
        "x".to_owned(),
    ] {
        check_token(&server, &bad, false, &bad);
    }
}

pub fn expiry(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    check(&server, &with("exp", (now() - 1).into()), false);
    check(&server, &with("exp", 0.into()), false);
    check(&server, &without("exp"), false);
    check(&server, &with("exp", (now() + 2).into()), true);
    check(&server, &with("exp", (now() + 1_000_000_000).into()), true);
}

pub fn readers(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    let token = signed(HEADER, &with("ruid", 1001.into()), KEY);
    for (uid, expected) in [(1001, true), (1002, false), (0, false)] {
        as_user(uid, 100, || {
            check_token(&server, &token, expected, "for 1001")
        });
    }
    as_user(1002, 100, || check(&server, &claims_of(), true));
}

pub fn contexts(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for context in ["launch", "net", "sbcast", "", "SACK", "auth "] {
        check(&server, &with("context", context.into()), false);
    }
}

pub fn claims(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for claim in ["ruid", "host", "context"] {
        check(&server, &without(claim), false);
    }
    for (claim, value) in [
        ("ruid", json!(-1)),
        ("uid", json!("0")),
        ("gid", json!("0")),
        ("exp", json!("never")),
    ] {
        check(&server, &with(claim, value), false);
    }
}

pub fn headers(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for (header, expected) in [
        (r#"{"alg":"HS256"}"#, true),
        (r#"{"alg":"HS256","typ":"XXX"}"#, true),
        (r#"{"alg":"HS256","typ":"JWT","kid":"whichever"}"#, true),
        (r#"{"alg":"none","typ":"JWT"}"#, false),
        (r#"{"alg":"HS512","typ":"JWT"}"#, false),
        (r#"{"typ":"JWT"}"#, false),
    ] {
        check_token(
            &server,
            &signed(header, &claims_of(), KEY),
            expected,
            header,
        );
    }
}

pub fn payloads(peers: &Peers, kind: Kind) {
    let server = peers.usual(kind);
    for payload in ["AA", "_-8=", "!!!!"] {
        check(&server, &with("payload", payload.into()), false);
    }
}

pub fn kids(peers: &Peers, kind: Kind) {
    let default = json!({"use": "default"});
    let gone = json!({"exp": now() - 10});
    let set = jwks(&[
        ("a", KEY, default),
        ("b", OTHER, Value::Null),
        ("old", OTHER, gone),
    ]);
    let server = peers.start(kind, &Keys::Set(set), "");
    let with_kid = |kid: &str, key| {
        let header = json!({"alg": "HS256", "kid": kid, "typ": "JWT"}).to_string();
        signed(&header, &claims_of(), key)
    };
    for (kid, key, expected) in [
        ("a", KEY, true),
        ("b", OTHER, true),
        ("a", OTHER, false),
        ("b", KEY, false),
        ("A", KEY, false),
        ("unknown", KEY, false),
        ("old", OTHER, false),
    ] {
        check_token(&server, &with_kid(kid, key), expected, kid);
    }
    check_token(
        &server,
        &signed(HEADER, &claims_of(), KEY),
        true,
        "without kid: the default key",
    );
    check_token(
        &server,
        &signed(HEADER, &claims_of(), OTHER),
        false,
        "without kid: another key",
    );
    let own = token(&server.socket());
    let (header, _) = crate::tokens::read(&own, KEY);
    assert_eq!(header["kid"], "a");
}
