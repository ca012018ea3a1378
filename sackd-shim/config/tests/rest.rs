//! Bearer tokens for slurmrestd: made by the controller, for the user whom the kernel and a SACK token
//! name, and no longer than the site allows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod scripted;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use scripted::{Answer, Config, KEY, controller, keys, listener, now, wait_for};
use slurm_auth::{Claims, Context, message_hash, sign};
use slurm_wire::ProtocolVersion;
use slurm_wire::auth_token::{AuthTokenRequest, encode_response};
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::MessageType;

/// A SACK token as the signer makes it for `sackd-shim token`.
fn sack(lifespan: u32, change: impl FnOnce(&mut Claims)) -> String {
    let body = AuthTokenRequest {
        lifespan,
        user: None,
    };
    let mut claims = Claims {
        cluster: None,
        context: Context::Sack,
        exp: now() + 60,
        gid: 0,
        host: "login".to_owned(),
        iat: now(),
        id: None,
        payload: message_hash::k12(MessageType::REQUEST_AUTH_TOKEN.0, &body.encode()).to_vec(),
        ruid: u32::MAX,
        uid: nix::unistd::geteuid().as_raw(),
        ver: 0x2a00,
    };
    change(&mut claims);
    sign(&claims, &keys(KEY)).unwrap()
}

fn ask(config: &Config, line: &str) -> String {
    let mut stream = UnixStream::connect(config.folder.path().join("rest.socket")).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn for_whom_and_for_how_long() {
    let (listener, address) = listener();
    let requests = controller(listener, |request| match request.version {
        ProtocolVersion::V24_11 if request.message_type == MessageType::REQUEST_AUTH_TOKEN => {
            Answer::Reply(
                MessageType::RESPONSE_AUTH_TOKEN,
                encode_response("b.e.arer"),
            )
        }
        _ => Answer::code(ReturnCode::AUTHENTICATION),
    });
    let arguments = ["--disable-reconfig", "--rest-lifetime", "1h"];
    let config = Config::start(&arguments, &[address]);
    config.waits_for_log("rest.listening");
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap();
    for (wanted, given) in [(0, 3600), (60, 60), (3600, 3600), (86_400, 3600)] {
        let answer = ask(&config, &format!("{wanted} {}\n", sack(wanted, |_| {})));
        assert_eq!(answer, format!("ok {given} b.e.arer\n"));
        let request = requests
            .iter()
            .find(|request| {
                request.message_type == MessageType::REQUEST_AUTH_TOKEN
                    && request.version == ProtocolVersion::V24_11
            })
            .unwrap();
        let body = AuthTokenRequest::decode(&request.body).unwrap();
        assert_eq!((body.lifespan, body.user), (given, Some(own.name.clone())));
    }
    // Nobody's but the caller's own token for this very request will do.
    let refused = |line: String, words: &str| {
        let answer = ask(&config, &line);
        assert!(
            answer.starts_with("no ") && answer.contains(words),
            "{words}: {answer}"
        );
    };
    refused(format!("61 {}\n", sack(60, |_| {})), "for another request");
    refused(
        format!("60 {}\n", sack(60, |c| c.uid += 1)),
        "for another request",
    );
    refused(
        format!("60 {}\n", sack(60, |c| c.payload = vec![])),
        "for another request",
    );
    refused(
        format!("60 {}\n", sack(60, |c| c.exp = now() - 1)),
        "not good",
    );
    refused("60\n".to_owned(), "malformed");
    refused("x y\n".to_owned(), "malformed");
    refused("60 a.b.c\n".to_owned(), "refuse the token");
    wait_for("the record", || {
        config.log().matches("rest.made").count() == 4
    });
    assert!(!config.log().contains("b.e.arer"));
}

#[test]
fn a_site_that_says_no_is_heard() {
    let (listener, address) = listener();
    let _requests = controller(listener, |_| Answer::code(ReturnCode::ACCESS_DENIED));
    let config = Config::start(&["--disable-reconfig", "--rest-lifetime", "1h"], &[address]);
    config.waits_for_log("rest.listening");
    let answer = ask(&config, &format!("0 {}\n", sack(0, |_| {})));
    assert!(answer.contains("access denied"), "{answer}");
}
