//! Keys of `authorized_keys`: options, places, lengths, who may use which.

use std::fs;

use crate::host::{Host, PAM, possible, run};

#[test]
fn options_of_a_line_hold() {
    if !possible("keys::options_of_a_line_hold", &[]) {
        return;
    }
    let host = Host::start("permit-user-environment = [\"COLOUR\"]", PAM, |_| {});
    let (id, id2) = (host.public("alice", "id"), host.public("alice", "id2"));
    let says = |lines: &str| {
        host.give("alice", ".ssh/authorized_keys", lines);
        host.login("alice").key("id").run()
    };
    let refused = |lines: &str, reason: &str| {
        let said = says(lines);
        assert!(!said.ok, "{lines}: {said:?}");
        host.logged(reason, 1);
    };
    assert!(says(&format!("from=\"127.0.0.0/8,!127.0.0.9\" {id}")).ok);
    refused(
        &format!("from=\"192.0.2.0/24\" {id}"),
        "is not for clients at",
    );
    refused(
        &format!("expiry-time=\"20200101\" {id}"),
        "expiry-time is over",
    );
    refused(&format!("colour=\"red\" {id}"), "not known");
    refused(&format!("cert-authority {id}"), "for certificates alone");
    refused(&id2, "key not authorized");
    let lines = format!("colour {id}no-pty {id}{id}");
    assert!(says(&lines).ok);
    let forced = says(&format!("command=\"echo forced\" {id}"));
    assert!(forced.ok && forced.out == "forced\n", "{forced:?}");
    // An empty command is no missing one.
    let nothing = says(&format!("command=\"\" {id}"));
    assert!(nothing.ok && nothing.out.is_empty(), "{nothing:?}");
}

#[test]
fn files_by_name_and_answers_larger_than_a_pipe() {
    if !possible("keys::files_by_name", &[]) {
        return;
    }
    let more = "authorized-keys-files = [\"FOLDER/keys/%u\", \"%h/.ssh/more%%\"]";
    let host = Host::start(more, PAM, |folder| {
        fs::create_dir(folder.join("keys")).unwrap()
    });
    // The folder of all tests may be written by everybody, so a file outside the home is not used.
    fs::write(host.path("keys/alice"), host.public("alice", "id")).unwrap();
    let outside = host.login("alice").key("id").run();
    assert!(!outside.ok, "{outside:?}");
    host.logged("others may write folder", 1);
    let many: String = (0..1000)
        .map(|n| format!("permitopen=\"{:0>80}:{}\",", n, n + 1))
        .collect();
    let line = format!("{}restrict {}", many, host.public("alice", "id2"));
    assert!(line.len() > 64 * 1024);
    host.give("alice", ".ssh/more%", &line);
    let large = host.login("alice").key("id2").run();
    assert!(large.ok, "{large:?}");
}

#[test]
fn short_keys_and_types_that_policy_does_not_take() {
    if !possible("keys::short_keys", &[]) {
        return;
    }
    let more = "public-key-algorithms = [\"*\", \"!ecdsa-*\"]\n\
                [[match]]\nuser = [\"carol\"]\nrequired-rsa-size = 2048";
    let host = Host::start(more, PAM, |_| {});
    for user in ["alice", "carol"] {
        let mut lines = String::new();
        for (name, kind, bits) in [("rsa", "rsa", "2048"), ("ecdsa", "ecdsa", "256")] {
            let path = format!("{}/.ssh/{name}", host.home(user));
            run(
                "ssh-keygen",
                &["-q", "-t", kind, "-b", bits, "-N", "", "-f", &path],
            );
            lines += &host.public(user, name);
        }
        host.give(user, ".ssh/authorized_keys", &lines);
    }
    assert!(!host.login("alice").key("rsa").run().ok);
    host.logged("RSA key of 2048 bits is too short", 1);
    assert!(host.login("carol").key("rsa").run().ok);
    assert!(!host.login("carol").key("ecdsa").run().ok);
    host.logged("policy does not take signatures by", 1);
    // SHA-1 is not taken, whatever the length (T15).
    let sha1 = host
        .login("carol")
        .key("rsa")
        .option("PubkeyAcceptedAlgorithms=ssh-rsa")
        .run();
    assert!(!sha1.ok, "{sha1:?}");
}

#[test]
fn six_wrong_keys_before_the_right_one_take_no_time() {
    if !possible("keys::six_wrong_keys", &[]) {
        return;
    }
    let host = Host::start("", PAM, |folder| {
        for n in 1..=6 {
            let path = folder.join(format!("wrong{n}")).display().to_string();
            run(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-f", &path],
            );
        }
    });
    let mut login = host.login("alice");
    for n in 1..=5 {
        login = login.key(&format!("wrong{n}"));
    }
    // russh's own delay is a second for each (T9).
    let said = login.key("id").run();
    assert!(said.ok && said.took.as_secs() < 4, "{said:?}");
    let mut login = host.login("alice");
    for n in 1..=6 {
        login = login.key(&format!("wrong{n}"));
    }
    let many = login.key("id").run();
    assert!(
        !many.ok && many.err.contains("Too many authentication"),
        "{many:?}"
    );
}
