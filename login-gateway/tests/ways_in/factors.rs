//! Several factors in a row, and who is asked for which.

use crate::host::{ALICE, Host, PAM, possible};

#[test]
fn a_key_and_then_the_dialogue_for_some() {
    if !possible("factors::a_key_and_then_the_dialogue", &[]) {
        return;
    }
    let more = "[[match]]\ngroup = [\"staff\"]\n\
                authentication-methods = [\"publickey,keyboard-interactive\"]";
    let host = Host::start(more, PAM, |_| {});
    let carol = host.login("carol").key("id").run();
    assert!(carol.ok && carol.prompts.is_empty(), "{carol:?}");
    let alice = host.login("alice").key("id").types(&[ALICE]).run();
    assert!(alice.ok, "{alice:?}");
    assert_eq!(alice.prompts.len(), 1, "{alice:?}");
    host.logged("auth.partial", 1);
    host.logged("method=\"publickey,keyboard-interactive\"", 1);
    let wrong = host.login("alice").key("id").types(&["wrong"]).run();
    assert!(!wrong.ok, "{wrong:?}");
    // The second factor alone, or first, is not offered.
    let dialogue = host
        .login("alice")
        .methods("keyboard-interactive")
        .types(&[ALICE])
        .run();
    assert!(!dialogue.ok && dialogue.prompts.is_empty(), "{dialogue:?}");
    assert!(dialogue.err.contains("(publickey)"), "{dialogue:?}");
    let key = host.login("alice").key("id").methods("publickey").run();
    assert!(
        !key.ok && key.err.contains("(keyboard-interactive)"),
        "{key:?}"
    );
}

#[test]
fn two_keys_are_two_different_keys() {
    if !possible("factors::two_keys_are_two_different_keys", &[]) {
        return;
    }
    let more = "authentication-methods = [\"publickey,publickey\"]";
    let host = Host::start(more, PAM, |_| {});
    let one = host.login("alice").key("id").run();
    assert!(!one.ok, "{one:?}");
    let two = host.login("alice").key("id").key("id2").run();
    assert!(two.ok, "{two:?}");
    host.logged("the key has been used already", 0);
}

#[test]
fn other_ways_stay_open_and_nobody_passes_a_closed_door() {
    if !possible("factors::other_ways_stay_open", &[]) {
        return;
    }
    let more = "authentication-methods = [\"publickey,password\", \"keyboard-interactive\"]\n\
                [[match]]\nuser = [\"carol\"]\nallow-login = false";
    let host = Host::start(more, PAM, |_| {});
    let dialogue = host
        .login("alice")
        .methods("keyboard-interactive")
        .types(&[ALICE])
        .run();
    assert!(dialogue.ok, "{dialogue:?}");
    let both = host
        .login("alice")
        .key("id")
        .methods("publickey,password")
        .types(&[ALICE])
        .run();
    assert!(both.ok, "{both:?}");
    let closed = host.login("carol").key("id").methods("publickey").run();
    assert!(
        !closed.ok && closed.err.contains("publickey,keyboard-interactive"),
        "{closed:?}"
    );
    host.logged("policy does not let the user in", 1);
}
