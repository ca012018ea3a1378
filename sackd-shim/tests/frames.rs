//! The SACK socket of a real signer: good requests however they arrive, bad ones, slow ones.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod running;

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use running::{KEY, Shim, claims, keys, now, rest, wait_for};
use slurm_auth::{Claims, Context, message_hash, sign};
use slurm_wire::ProtocolVersion;
use slurm_wire::sack::{ANYBODY, Request, parse_token_reply};

const CONF: &str = "ClusterName=Lab\nAuthType=auth/slurm\n";

fn create(version: u16, ruid: u32, payload: &[u8]) -> Vec<u8> {
    let version = ProtocolVersion(version);
    Request::Create {
        version,
        ruid,
        payload: payload.to_vec(),
    }
    .encode()
}

fn token(reply: &[u8]) -> String {
    parse_token_reply(reply).unwrap().expect("a token")
}

#[test]
fn a_token_says_who_the_kernel_says() {
    let shim = Shim::start(CONF, "");
    let hash = message_hash::k12(1008, &[]);
    for (version, ruid, payload) in [
        (0x2a00, ANYBODY, &[][..]),
        (0x2d00, 0, &hash[..]),
        (0, 7, &[1, 3, 0xf0]),
        (0xffff, 1, &[9]),
    ] {
        let reply = shim.say(&create(version, ruid, payload));
        let token = token(&reply);
        let reader = slurm_auth::Verifier {
            uid: ruid,
            now: now(),
        };
        let claims = slurm_auth::verify(&token, &keys(KEY), reader).unwrap();
        assert_eq!(claims.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(claims.gid, nix::unistd::getegid().as_raw());
        assert_eq!((claims.ruid, claims.ver), (ruid, i64::from(version)));
        assert_eq!(claims.payload, payload);
        assert_eq!(
            (claims.cluster.as_deref(), claims.context),
            (Some("lab"), Context::Sack)
        );
        assert_eq!(claims.exp - claims.iat, 60);
        assert!(!claims.host.is_empty() && !claims.host.contains('.'));
        assert_eq!(claims.id, None);
    }
    wait_for("a line for each", || {
        shim.log().matches("event=\"token.made\"").count() == 4
    });
    assert!(!shim.log().contains("eyJ"), "a token stands in the log");
}

#[test]
fn requests_may_arrive_in_any_way() {
    let shim = Shim::start(CONF, "");
    let request = create(0x2a00, ANYBODY, &[5; 33]);
    let mut slow = UnixStream::connect(shim.socket()).unwrap();
    for byte in &request {
        slow.write_all(&[*byte]).unwrap();
    }
    claims(&token(&rest(slow)), KEY);
    let mut half = UnixStream::connect(shim.socket()).unwrap();
    half.write_all(&request).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    claims(&token(&rest(half)), KEY);
    let twice = [&request[..], &request[..], b"and more"].concat();
    let reply = shim.say(&twice);
    let one = token(&reply);
    assert_eq!(reply.len(), one.len() + 5, "one request, one answer");
    let mut no_length = request.clone();
    no_length[2..6].fill(0);
    claims(&token(&shim.say(&no_length)), KEY);
}

#[test]
fn every_split_is_answered_and_every_truncation_is_not() {
    let shim = Shim::start(CONF, "[limits]\nsystem-requests-per-second = 0");
    let verify = Request::Verify {
        version: ProtocolVersion::V24_11,
        token: shim.token(ANYBODY, b"").unwrap(),
    };
    for (request, answer) in [
        (create(0x2a00, ANYBODY, &[5; 33]), None),
        (verify.encode(), Some([0; 4])),
    ] {
        for at in 1..request.len() {
            let mut split = UnixStream::connect(shim.socket()).unwrap();
            split.write_all(&request[..at]).unwrap();
            // The signer has seen the first part before the second is sent.
            let mut cut = UnixStream::connect(shim.socket()).unwrap();
            cut.write_all(&request[..at]).unwrap();
            cut.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(cut), b"", "cut at {at}");
            split.write_all(&request[at..]).unwrap();
            let reply = rest(split);
            match answer {
                Some(verdict) => assert_eq!(reply, verdict, "split at {at}"),
                None => drop(claims(&token(&reply), KEY)),
            }
        }
    }
}

/// Where the system gives fewer descriptors than our limits count on, silent connections make way as well.
#[test]
fn too_few_descriptors_hold_nobody_up() {
    let few = ["prlimit", "--nofile=48:48"];
    let conf = format!("{CONF}AuthInfo=use_client_ids\n");
    let shim = Shim::start_within(&few, &conf, "[limits]\nrequest-timeout = \"60s\"");
    let idle: Vec<UnixStream> = (0..100)
        .map(|_| UnixStream::connect(shim.socket()).unwrap())
        .collect();
    for _ in 0..3 {
        let made = claims(&shim.token(ANYBODY, b"").expect("a token"), KEY);
        assert!(made.id.is_some(), "look-ups find descriptors as well");
    }
    drop(idle);
}

#[test]
fn garbage_closes_and_others_go_on() {
    let shim = Shim::start(CONF, "[limits]\nrequest-timeout = \"300ms\"");
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 5000],
        &[0; 64],
        b"\x2a\x00\x00\x00\x00\x10\x00\x00\xfa\x03\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\x2a\x00\x00\x00\x00\x10\x00\x00\xfa\x01\xff\xff\xff\xff\x7f\xff\xff\xff",
        b"\x2a\x00\x00\x00\x00\x0c\x00\x00\xfa\x02\x00\x00\x00\x00",
    ] {
        assert_eq!(shim.say(garbage), b"", "{garbage:?}");
    }
    // These wait for bytes that never come, until their time is over.
    for unfinished in [&b""[..], b"\x2a", &create(0x2a00, 0, b"")[..17]] {
        assert_eq!(shim.say(unfinished), b"");
    }
    // A length beyond the body waits in vain as well.
    let mut long = create(0x2a00, ANYBODY, b"");
    long[5] += 1;
    assert_eq!(shim.say(&long), b"");
    claims(&shim.token(ANYBODY, b"").unwrap(), KEY);
    wait_for("a client that leaves at once", || {
        drop(UnixStream::connect(shim.socket()).unwrap());
        shim.token(ANYBODY, b"").is_some()
    });
}

#[test]
fn verdicts() {
    let shim = Shim::start(CONF, "");
    let uid = nix::unistd::geteuid().as_raw();
    let good = Claims {
        cluster: None,
        context: Context::Auth,
        exp: now() + 60,
        gid: 0,
        host: "ctl".to_owned(),
        iat: now(),
        id: None,
        payload: vec![],
        ruid: uid,
        uid: 401,
        ver: 0x2a00,
    };
    let check = |claims: Claims, key: &[u8], expected: bool| {
        let token = sign(&claims, &keys(key)).unwrap();
        let verdict = if expected { [0; 4] } else { [0xff; 4] };
        assert_eq!(shim.verify(&token), verdict, "{claims:?}");
        // No memory of tokens: the protocol has no replay cache.
        assert_eq!(shim.verify(&token), verdict, "{claims:?}");
    };
    check(good.clone(), KEY, true);
    check(
        Claims {
            ruid: ANYBODY,
            context: Context::Sack,
            ..good.clone()
        },
        KEY,
        true,
    );
    check(
        Claims {
            ruid: uid + 1,
            ..good.clone()
        },
        KEY,
        false,
    );
    check(
        Claims {
            exp: now() - 1,
            ..good.clone()
        },
        KEY,
        false,
    );
    check(
        Claims {
            host: String::new(),
            ..good.clone()
        },
        KEY,
        false,
    );
    check(good.clone(), b"another key of the test", false);
    for context in ["launch", "net", "sbcast"] {
        let context = Context::Other(context.to_owned());
        check(
            Claims {
                context,
                ..good.clone()
            },
            KEY,
            false,
        );
    }
    for junk in ["", ".", "a.b.c", "not a token"] {
        assert_eq!(shim.verify(junk), [0xff; 4], "{junk}");
    }
    let own = shim.token(ANYBODY, b"").unwrap();
    assert_eq!(shim.verify(&own), [0; 4]);
}
