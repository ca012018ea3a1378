//! Pushes: whose are taken, and that the others change nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod scripted;

use std::io::Write;
use std::net::TcpStream;

use scripted::{
    Answer, Config, KEY, controller, free_port, good_push, keys, listener, now, push, wait_for,
};
use slurm_auth::{Claims, Context, sign};
use slurm_wire::rpc::{Credential, Message, MessageType};

const FIRST: (&str, Option<&str>) = ("slurm.conf", Some("ClusterName=lab\n#1\n"));
const SECOND: (&str, Option<&str>) = ("slurm.conf", Some("ClusterName=lab\n#2\n"));

fn started() -> (Config, u16) {
    started_with(&[])
}

fn started_with(more: &[&str]) -> (Config, u16) {
    let (listener, address) = listener();
    let _requests = controller(listener, |_| {
        Answer::files(&[FIRST, ("old.conf", Some("x"))])
    });
    let port = free_port();
    let port_text = port.to_string();
    let arguments = [&["--port", &port_text], more].concat();
    let config = Config::start(&arguments, &[address]);
    config.waits_for_log("push.listening");
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    (config, port)
}

fn with_claims(message: &Message, claims: &Claims, key: &[u8]) -> Message {
    let token = sign(claims, &keys(key)).unwrap();
    Message {
        credential: Some(Credential::Slurm(token)),
        ..message.clone()
    }
}

#[test]
fn slurm_users_push_is_taken_whole() {
    let (config, port) = started();
    let (message, claims) = good_push(&[SECOND, ("new.conf", Some("y"))]);
    push(port, &message);
    wait_for("the push", || {
        config.file("slurm.conf").as_deref() == SECOND.1
    });
    assert_eq!(config.names(), ["new.conf", "slurm.conf"]);
    // The same with a token of a SACK socket.
    let (message, _) = good_push(&[FIRST]);
    let hash = slurm_auth::message_hash::k12(message.message_type.0, &message.body).to_vec();
    let claims = Claims {
        context: Context::Sack,
        payload: hash,
        ..claims
    };
    push(port, &with_claims(&message, &claims, KEY));
    wait_for("the second push", || config.names() == ["slurm.conf"]);
}

#[test]
fn others_pushes_change_nothing() {
    let (config, port) = started();
    let (good, claims) = good_push(&[SECOND]);
    let mut refused = 0;
    let mut check = |message: &Message, words: &str| {
        push(port, message);
        refused += 1;
        wait_for(words, || {
            config.log().matches("push.refused").count() >= refused
        });
        let log = config.log();
        let last = log
            .lines()
            .rfind(|line| line.contains("push.refused"))
            .unwrap();
        assert!(last.contains(words), "{words}: {last}");
        assert_eq!(config.file("slurm.conf").as_deref(), FIRST.1);
    };
    let signed = |change: &dyn Fn(&mut Claims)| {
        let mut changed = claims.clone();
        change(&mut changed);
        with_claims(&good, &changed, KEY)
    };
    check(&signed(&|c| c.uid += 1), "not from SlurmUser");
    check(&signed(&|c| c.payload[5] ^= 1), "for another message");
    check(&signed(&|c| c.payload = vec![]), "for another message");
    check(
        &signed(&|c| c.payload = vec![1, 3, 0xee]),
        "for another message",
    );
    check(
        &signed(&|c| c.exp = now() - 5),
        "does not find its token good",
    );
    check(&signed(&|c| c.ruid += 1), "does not find its token good");
    check(
        &signed(&|c| c.context = Context::Other("launch".to_owned())),
        "does not find its token good",
    );
    check(
        &with_claims(&good, &claims, b"another key"),
        "does not find its token good",
    );
    check(
        &Message {
            credential: None,
            ..good.clone()
        },
        "it has no token",
    );
    check(
        &Message {
            message_type: MessageType::PING,
            ..good.clone()
        },
        "another kind",
    );
    let token = Credential::Munge("MUNGE:x:".to_owned());
    check(
        &Message {
            credential: Some(token),
            ..good.clone()
        },
        "it has no token",
    );
    let (evil, _) = good_push(&[SECOND, ("../evil.conf", Some("x"))]);
    push(port, &evil);
    config.waits_for_log("config.kept");
    assert_eq!(config.file("slurm.conf").as_deref(), FIRST.1);
}

#[test]
fn slow_and_broken_pushers_hold_nobody_up() {
    let (config, port) = started();
    // Many more than are read at a time, and one that is cut off in the middle.
    let idle: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    let (good, _) = good_push(&[SECOND]);
    let frame = good.encode();
    let mut cut = TcpStream::connect(("127.0.0.1", port)).unwrap();
    cut.write_all(&frame[..frame.len() / 2]).unwrap();
    drop(cut);
    // One is enough.
    push(port, &good);
    wait_for("the push", || {
        config.file("slurm.conf").as_deref() == SECOND.1
    });
    drop(idle);
}

/// Who is not SlurmUser is not listened to for long: nobody else fills our memory.
#[test]
fn long_messages_of_strangers_are_not_read() {
    let (config, port) = started_with(&["--log-level", "debug"]);
    let long = "x".repeat(4 << 20);
    let files = [SECOND, ("long.conf", Some(long.as_str()))];
    let (good, claims) = good_push(&files);
    let stranger = Claims {
        uid: claims.uid + 1,
        ..claims.clone()
    };
    let mut unread = 0;
    for message in [
        with_claims(&good, &stranger, KEY),
        with_claims(&good, &claims, b"another key, as long as a good one"),
        Message {
            credential: None,
            ..good.clone()
        },
    ] {
        let frame = message.encode();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // The kernel's buffers hold some of it, and it need not all be sent.
        let _ = stream.write_all(&frame[..frame.len() - 1]);
        unread += 1;
        wait_for("the refusal", || {
            config.log().matches("Unwanted").count() == unread
        });
    }
    assert_eq!(config.file("slurm.conf").as_deref(), FIRST.1);
    push(port, &good);
    wait_for("the push", || config.file("long.conf").is_some());
    assert_eq!(config.log().matches("Unwanted").count(), unread);
}

/// Each forged token that reaches the signer is a line in its record: a flood of them is not asked about, and
/// the good push in the midst of it is made up for by a fetch.
#[test]
fn a_flood_of_forged_tokens_does_not_reach_the_signer() {
    let (listener, address) = listener();
    let requests = controller(listener, |_| Answer::files(&[FIRST]));
    let port = free_port();
    let config = Config::start(&["--port", &port.to_string()], &[address]);
    config.waits_for_log("push.listening");
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    let (good, claims) = good_push(&[SECOND]);
    let forged = with_claims(&good, &claims, b"another key, as long as a good one");
    requests.try_iter().for_each(drop);
    for _ in 0..100 {
        push(port, &forged);
    }
    requests
        .recv_timeout(std::time::Duration::from_secs(30))
        .unwrap();
    wait_for("the count", || config.report()["pushes_refused"] == 100);
    assert!(config.verified() < 50, "{}", config.verified());
}

/// A push does not wait for a fetch from a controller that is slow, nor does what that one says at last, which is
/// older, take its place.
#[test]
fn a_push_overtakes_a_fetch() {
    let (listener, address) = listener();
    let (asked, is_asked) = std::sync::mpsc::channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let mut n = 0;
    let _requests = controller(listener, move |_| {
        n += 1;
        if n == 2 {
            asked.send(()).unwrap();
            let _ = gate.recv();
        }
        Answer::files(&[FIRST])
    });
    let port = free_port();
    let mut config = Config::start(&["--port", &port.to_string()], &[address]);
    config.waits_for_log("push.listening");
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    wait_for("the report", || config.report()["last_fetch"].is_i64());
    config.order();
    is_asked
        .recv_timeout(std::time::Duration::from_secs(30))
        .unwrap();
    push(port, &good_push(&[SECOND]).0);
    wait_for("the push", || {
        config.file("slurm.conf").as_deref() == SECOND.1
    });
    go.send(()).unwrap();
    config.waits_for_log("fetch.overtaken");
    assert_eq!(config.file("slurm.conf").as_deref(), SECOND.1);
}
