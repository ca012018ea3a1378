//! The account for the day when nothing else works.

use std::fs;

use crate::host::{Host, PAM, possible};

const KEYS: &str = "[break-glass]\nuser = \"root\"\n\
                    authorized-keys = \"FOLDER/etc/gateway/break-glass\"\n";

/// A gateway whose directory does not answer and whose PAM service refuses everybody.
fn host(source: &str) -> Host {
    let more = format!(
        "directory-socket = \"FOLDER/nowhere\"\nrevoked-keys = [\"FOLDER/etc/gateway/revoked\"]\n\
         {KEYS}source = [\"{source}\"]"
    );
    let pam =
        "auth required pam_deny.so\naccount required pam_deny.so\nsession required pam_deny.so\n";
    // A gateway does not start without the files that it names; they may go wrong later.
    let host = Host::start(&more, pam, |folder| {
        for name in ["revoked", "break-glass"] {
            fs::write(folder.join("etc/gateway").join(name), "").unwrap();
        }
    });
    fs::remove_file(host.path("etc/gateway/revoked")).unwrap();
    let line = format!("no-port-forwarding {}", host.public("alice", "id"));
    fs::write(host.path("etc/gateway/break-glass"), line).unwrap();
    host
}

#[test]
fn root_comes_in_with_its_one_key_and_loudly() {
    if !possible("break_glass::root_comes_in", &[]) {
        return;
    }
    let host = host("127.0.0.0/8");
    let wrong = host.login("root").key("home/alice/.ssh/id2").run();
    assert!(!wrong.ok, "{wrong:?}");
    host.logged("ERROR", 2);
    host.logged("break_glass.refused", 1);
    let good = host.login("root").key("home/alice/.ssh/id").run();
    assert!(good.ok && good.out == "in as root\n", "{good:?}");
    host.logged("break_glass.used", 1);
    // Nobody else's rules have changed.
    assert!(!host.login("alice").key("id").run().ok);
    fs::write(host.path("etc/gateway/break-glass"), "").unwrap();
    assert!(!host.login("root").key("home/alice/.ssh/id").run().ok);
}

#[test]
fn root_comes_in_while_the_directory_is_frozen() {
    if !possible(
        "break_glass::root_comes_in_while_the_directory_is_frozen",
        &[],
    ) {
        return;
    }
    // As a stopped process has it: connections are taken by the kernel, and nobody answers.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("frozen");
    let _frozen = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let more = format!(
        "directory-socket = \"{}\"\ndirectory-timeout = \"2s\"\n{KEYS}source = [\"127.0.0.0/8\"]",
        socket.display()
    );
    let host = Host::start(&more, PAM, |folder| {
        fs::write(folder.join("etc/gateway/break-glass"), "").unwrap();
    });
    let key = host.public("alice", "id");
    fs::write(host.path("etc/gateway/break-glass"), key).unwrap();
    let good = host.login("root").key("home/alice/.ssh/id").run();
    assert!(good.ok && good.out == "in as root\n", "{good:?}");
    host.logged("break_glass.used", 1);
    assert!(!host.log().contains("directory.failed"), "{}", host.log());
    // Local users come in as well, after the directory's time.
    let alice = host.login("alice").key("id").run();
    assert!(alice.ok, "{alice:?}");
    host.logged("directory.failed", 1);
}

#[test]
fn from_elsewhere_root_is_nobody() {
    if !possible("break_glass::from_elsewhere", &[]) {
        return;
    }
    let host = host("192.0.2.0/24");
    let refused = host.login("root").key("home/alice/.ssh/id").run();
    assert!(!refused.ok, "{refused:?}");
    host.logged("break_glass.asked_for", 1);
    host.logged("source_allowed=false", 1);
    host.logged("not a user of this service", 1);
}

#[test]
fn root_has_no_other_way_in() {
    if !possible("break_glass::root_has_no_other_way", &[]) {
        return;
    }
    let host = Host::start("", PAM, |_| {});
    let refused = host.login("root").key("home/alice/.ssh/id").run();
    assert!(!refused.ok, "{refused:?}");
}
