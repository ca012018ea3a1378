//! Case 5: who somebody is, in the token (`AuthInfo=use_client_ids`).

use serde_json::{Value, json};

use crate::client::{as_user, token};
use crate::server::{KEY, Keys, Kind, Peers};
use crate::tokens::read;

pub fn accounts(peers: &Peers, kind: Kind) {
    let server = peers.start(kind, &Keys::Raw(KEY), "use_client_ids");
    let alice = json!({
        "name": "alice", "gecos": "Alice Example,,,", "dir": "/home/alice", "shell": "/bin/bash",
        "groups": {"users": 100, "staff2": 2001, "lab": 2002},
    });
    let bob = json!({
        "name": "bob", "gecos": "", "dir": "/home/bob", "shell": "/bin/sh",
        "groups": {"users": 100, "staff2": 2001},
    });
    let carol = json!({
        "name": "carol", "gecos": "Carol", "dir": "/home/carol", "shell": "/bin/sh",
        "groups": {"4343": 4343},
    });
    for (what, uid, gid, id) in [
        ("all fields", 1001, 100, &alice),
        (
            "the connection's group is not of the account",
            1001,
            7777,
            &alice,
        ),
        ("empty gecos", 1002, 100, &bob),
        ("a group without a name", 1003, 4343, &carol),
        ("no account", 5555, 100, &Value::Null),
    ] {
        let token = as_user(uid, gid, || token(&server.socket()));
        let (_, claims) = read(&token, KEY);
        assert_eq!(&claims["id"], id, "{what}");
        assert_eq!(
            (&claims["uid"], &claims["gid"]),
            (&uid.into(), &gid.into()),
            "{what}"
        );
    }
}

pub fn not_asked_for(peers: &Peers, kind: Kind) {
    let server = peers.start(kind, &Keys::Raw(KEY), "ttl=77");
    let token = as_user(1001, 100, || token(&server.socket()));
    let (_, claims) = read(&token, KEY);
    assert_eq!(claims.get("id"), None);
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        77
    );
}
