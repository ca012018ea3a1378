//! Case 9: keys that change while it serves. Theirs reads them when told (SIGHUP), ours by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::client::token;
use crate::server::{KEY, Keys, Kind, Peers, Server};
use crate::tokens::{jwks, now, read};

const OTHER: &[u8] = b"the next key of the conformance cases, as long\n";

fn is_signed_with(server: &Server, key: &[u8]) -> bool {
    let token = token(&server.socket());
    // `read` panics with another key; its kid tells them apart without.
    let (signed, _) = token.rsplit_once('.').unwrap();
    slurm_auth::read_unverified(&token).unwrap();
    let keys = slurm_auth::Keyring::from_slurm_key(key).unwrap();
    let reader = slurm_auth::Verifier { uid: 0, now: now() };
    !signed.is_empty() && slurm_auth::verify(&token, &keys, reader).is_ok()
}

pub fn new_key(peers: &Peers, kind: Kind) {
    let mut server = peers.usual(kind);
    assert!(is_signed_with(&server, KEY));
    server.replace_keys(&Keys::Raw(OTHER));
    if server.is_theirs() {
        server.hang_up();
    }
    server.wait_for("the new key", |server| is_signed_with(server, OTHER));
}

fn set() -> String {
    let default = json!({"use": "default"});
    jwks(&[("a", KEY, default), ("b", OTHER, Value::Null)])
}

pub fn bad_files(peers: &Peers, kind: Kind) {
    let mut server = peers.start(kind, &Keys::Set(set()), "");
    let signs_still = |server: &Server| {
        let (header, _) = read(&token(&server.socket()), KEY);
        assert_eq!(header["kid"], "a");
    };
    let key = |more: Value| jwks(&[("b", OTHER, more)]);
    let two = jwks(&[
        ("b", OTHER, json!({"use": "default"})),
        ("c", KEY, json!({"use": "default"})),
    ]);
    for (text, words) in [
        (String::new(), "EOF"),
        ("{\"keys\":[".to_owned(), "EOF"),
        ("{\"keys\":[]}".to_owned(), "no keys"),
        (jwks(&[("b", b"short", Value::Null)]), "shorter than 16"),
        (key(json!({"alg": "RS256"})), "'alg' must"),
        (key(json!({"exp": "soon"})), "'exp' is not"),
        (two, "two keys"),
    ] {
        let before = server.log().matches("keys.kept").count();
        server.replace_keys(&Keys::Set(text));
        server.wait_for(words, |server| {
            server.log().matches("keys.kept").count() > before
        });
        let log = server.log();
        let last = log
            .lines()
            .rfind(|line| line.contains("keys.kept"))
            .unwrap();
        assert!(last.contains(words) || words == "EOF", "{words}: {last}");
        signs_still(&server);
    }
    let before = server.log().matches("keys.kept").count();
    server.replace_keys(&Keys::Set(set()));
    fs::set_permissions(server.key_file(), fs::Permissions::from_mode(0o604)).unwrap();
    server.wait_for("the mode", |server| {
        server.log().matches("keys.kept").count() > before
    });
    signs_still(&server);
    fs::remove_file(server.key_file()).unwrap();
    server.wait_for("the file", |server| {
        server.log().matches("keys.kept").count() > before + 1
    });
    signs_still(&server);
    // And a good one counts again.
    server.replace_keys(&Keys::Set(key(json!({"use": "default"}))));
    server.wait_for("the good file", |server| {
        let (header, _) = read(
            &token(&server.socket()),
            if is_of(server, "b") { OTHER } else { KEY },
        );
        header["kid"] == "b"
    });
}

fn is_of(server: &Server, kid: &str) -> bool {
    let token = token(&server.socket());
    let header = token.split('.').next().unwrap();
    use base64::Engine as _;
    let header = base64::prelude::BASE64_URL_SAFE_NO_PAD
        .decode(header)
        .unwrap();
    String::from_utf8(header)
        .unwrap()
        .contains(&format!("\"kid\":\"{kid}\""))
}

pub fn expired_default(peers: &Peers, kind: Kind) {
    let default = json!({"use": "default", "exp": now() - 60});
    let set = jwks(&[("a", KEY, default), ("b", OTHER, Value::Null)]);
    let mut server = peers.start(kind, &Keys::Set(set), "");
    let (header, _) = read(&token(&server.socket()), OTHER);
    assert_eq!(header["kid"], "b");
    server.wait_for("the warning", |server| {
        server
            .log()
            .contains("the default key has expired: key 'b' signs")
    });
}
