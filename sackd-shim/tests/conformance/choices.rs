//! Options and variables of sackd: which slurm.conf and which keys count where several are named or there
//! (sections 1.2 and 1.4 of the fact sheet).

use serde_json::{Value, json};

use crate::client::token;
use crate::server::{KEY, Keys, Kind, Peers, conf};
use crate::tokens::{jwks, now, read};

const OTHER_KEY: &[u8] = b"another key of the conformance cases, as long\n";
const CONF: &str = "/etc/slurm/slurm.conf";
const OTHER: &str = "/etc/slurm/other.conf";
/// Nobody listens there.
const NOWHERE: (&str, &str) = ("SLURM_CONF_SERVER", "127.0.0.1:1");

/// A file that is there goes before SLURM_CONF_SERVER, and -f before both.
pub fn sources(peers: &Peers, kind: Kind) {
    let key = std::str::from_utf8(KEY).unwrap();
    let (first, second) = (conf("One"), conf("Two"));
    let files = [
        ("slurm.conf", &*first),
        ("other.conf", &*second),
        ("slurm.key", key),
    ];
    let variable = ("SLURM_CONF", OTHER);
    for (arguments, variables, expected) in [
        (&[][..], &[NOWHERE][..], "one"),
        (&[], &[NOWHERE, variable], "two"),
        (&["-f", CONF], &[NOWHERE, variable], "one"),
        (&["-f", OTHER], &[], "two"),
    ] {
        let server = peers.invoked(kind, &files, arguments, variables);
        let (_, claims) = read(&token(&server.socket()), KEY);
        assert_eq!(claims["cluster"], expected, "{arguments:?} {variables:?}");
    }
}

/// A slurm.jwks that is there goes before a slurm.key that is named; without one the key signs.
pub fn keys(peers: &Peers, kind: Kind) {
    let text = conf("One");
    let key = std::str::from_utf8(KEY).unwrap();
    let set = jwks(&[("set", OTHER_KEY, Value::Null)]);
    let both = [
        ("slurm.conf", &*text),
        ("slurm.key", key),
        ("slurm.jwks", &*set),
    ];
    let aside = [("slurm.conf", &*text), ("slurm.key", key), ("aside", &*set)];
    let named = ("SLURM_SACK_KEY", "/etc/slurm/slurm.key");
    let missing = ("SLURM_SACK_JWKS", "/etc/slurm/missing");
    let other = ("SLURM_SACK_JWKS", "/etc/slurm/aside");
    for (files, variables, kid) in [
        (&both[..], &[][..], json!("set")),
        (&both, &[named], json!("set")),
        (&both, &[missing], Value::Null),
        (&aside, &[], Value::Null),
        (&aside, &[missing, named], Value::Null),
        (&aside, &[other, named], json!("set")),
    ] {
        let server = peers.invoked(kind, files, &[], variables);
        let signed_by = if kid.is_null() { KEY } else { OTHER_KEY };
        let (header, _) = read(&token(&server.socket()), signed_by);
        assert_eq!(header["kid"], kid, "{variables:?}");
    }
}

/// Times in a key set may be written as programs write them that know floating point alone.
pub fn floating_times(peers: &Peers, kind: Kind) {
    let times = [
        json!(now() as f64 + 3600.5),
        json!(1.9e9),
        json!("1900000000"),
    ];
    for time in times {
        let set = jwks(&[("a", KEY, json!({"exp": time}))]);
        let server = peers.start(kind, &Keys::Set(set), "");
        let (header, _) = read(&token(&server.socket()), KEY);
        assert_eq!(header["kid"], "a", "{time}");
    }
}
