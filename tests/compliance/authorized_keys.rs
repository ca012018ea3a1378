//! `authorized_keys`: what its options give and take away, and files that do not count.

use std::os::unix::fs::PermissionsExt;

use tests::{Done, Server, User, free_port};

use crate::both::{Config, PLAIN, case, host};
use crate::peers::echo;

const ALL: Config = Config {
    theirs: "PermitUserEnvironment yes\nX11Forwarding yes\n",
    ours: "permit-user-environment = [\"*\"]\n",
    ..PLAIN
};
const FORCED: Config = Config {
    theirs: "ForceCommand echo forced: $SSH_ORIGINAL_COMMAND\n",
    ours: "force-command = \"echo forced: $SSH_ORIGINAL_COMMAND\"\n",
    ..PLAIN
};
const NO_TTY: Config = Config {
    theirs: "PermitTTY no\n",
    ours: "permit-tty = false\n",
    ..PLAIN
};

/// Gives the user's key these options.
fn with(user: &User, options: &str) {
    user.put(
        ".ssh/authorized_keys",
        format!("{options} {}", user.public_key()),
    );
}

fn says(server: &Server, user: &User, arguments: &[&str]) -> Done {
    tests::run(server.ssh(user, &[]).args(arguments))
}

fn through(server: &Server, user: &User, to: &str) -> Done {
    tests::run_with(
        &mut server.ssh(user, &["-o", "LogLevel=INFO", "-W", to]),
        b"word",
        tests::SOON,
    )
}

case!(command, |server| {
    let ann = host().user();
    with(
        &ann,
        r#"command="echo \"only this\": $SSH_ORIGINAL_COMMAND; exit 3""#,
    );
    let done = says(server, &ann, &["rm -rf x"]);
    assert_eq!((done.code, done.out.as_str()), (3, "only this: rm -rf x\n"));
    let done = server.feed(&ann, "", b"echo no\n");
    assert_eq!((done.code, done.out.as_str()), (3, "only this:\n"));
    let done = tests::run(server.ssh(&ann, &["-s"]).arg("sftp"));
    assert!(done.out.starts_with("only this:"), "{done:#?}");
});

case!(command_of_the_server, FORCED, |server| {
    let ann = host().user();
    assert_eq!(says(server, &ann, &["id"]).ok(), "forced: id");
    assert_eq!(server.feed(&ann, "", b"echo no\n").ok(), "forced:");
    with(&ann, r#"command="echo key""#);
    assert_eq!(says(server, &ann, &["id"]).ok(), "forced: id");
});

case!(restrict, |server| {
    let ann = host().user();
    with(&ann, "restrict");
    assert_eq!(says(server, &ann, &["echo fine"]).ok(), "fine");
    let done = tests::run(server.ssh(&ann, &["-tt"]).arg("tty"));
    assert!(
        done.out.contains("not a tty") || done.code == 255,
        "{done:#?}"
    );
    assert_eq!(through(server, &ann, &echo().to_string()).code, 255);
    let done = tests::run(
        server
            .ssh(
                &ann,
                &[
                    "-o",
                    "ExitOnForwardFailure=yes",
                    "-R",
                    &format!("{}:127.0.0.1:1", free_port()),
                ],
            )
            .arg("true"),
    );
    assert_eq!(done.code, 255);
    with(&ann, "restrict,port-forwarding,pty");
    assert_eq!(through(server, &ann, &echo().to_string()).ok(), "word");
    assert!(
        tests::run(server.ssh(&ann, &["-tt"]).arg("tty"))
            .ok()
            .contains("/dev/pts/")
    );
});

case!(no_pty, |server| {
    let ann = host().user();
    with(&ann, "no-pty");
    let done = tests::run(server.ssh(&ann, &["-tt"]).arg("tty"));
    assert!(!done.out.contains("/dev/pts"), "{done:#?}");
});

case!(no_terminal_by_the_server, NO_TTY, |server| {
    let ann = host().user();
    let done = tests::run(server.ssh(&ann, &["-tt"]).arg("tty"));
    assert!(!done.out.contains("/dev/pts"), "{done:#?}");
});

case!(no_port_forwarding, |server| {
    let ann = host().user();
    with(
        &ann,
        "no-port-forwarding,no-X11-forwarding,no-agent-forwarding,no-user-rc",
    );
    ann.put(".ssh/rc", "echo ran >rc.ran\n");
    assert_eq!(through(server, &ann, &echo().to_string()).code, 255);
    assert_eq!(says(server, &ann, &["echo fine"]).ok(), "fine");
    assert!(!ann.files.join("rc.ran").exists());
});

case!(from, |server| {
    let ann = host().user();
    for (from, expected) in [
        ("127.0.0.1", 0),
        ("127.0.0.0/8", 0),
        ("10.0.0.0/8", 255),
        ("127.0.0.?", 0),
        ("10.*,127.*", 0),
        ("!127.0.0.1,127.*", 255),
        ("192.0.2.1", 255),
    ] {
        with(&ann, &format!("from=\"{from}\""));
        assert_eq!(says(server, &ann, &["true"]).code, expected, "{from}");
    }
});

case!(expiry_time, |server| {
    let ann = host().user();
    for (time, expected) in [
        ("20200101", 255),
        ("20991231", 0),
        ("209912312359", 0),
        ("20991231235959", 0),
        ("202001010000", 255),
    ] {
        with(&ann, &format!("expiry-time=\"{time}\""));
        assert_eq!(says(server, &ann, &["true"]).code, expected, "{time}");
    }
});

case!(environment, ALL, |server| {
    let ann = host().user();
    with(
        &ann,
        r#"environment="ONE=1",environment="TWO=with \"quotes\" and space""#,
    );
    assert_eq!(
        says(server, &ann, &["echo \"$ONE/$TWO\""]).ok(),
        "1/with \"quotes\" and space"
    );
});

case!(environment_counts_for_nothing_by_default, |server| {
    let ann = host().user();
    with(&ann, r#"environment="ONE=1""#);
    assert_eq!(says(server, &ann, &["echo \"=$ONE\""]).ok(), "=");
});

case!(permitopen, |server| {
    let ann = host().user();
    let there = echo();
    let port = there.port();
    with(
        &ann,
        &format!("permitopen=\"127.0.0.1:{port}\",permitopen=\"localhost:*\""),
    );
    assert_eq!(through(server, &ann, &there.to_string()).ok(), "word");
    assert_eq!(
        through(server, &ann, &format!("localhost:{port}")).ok(),
        "word"
    );
    let other = through(server, &ann, &echo().to_string());
    assert!(
        other.code == 255 && other.err.contains("administratively prohibited"),
        "{other:#?}"
    );
});

case!(permitlisten, |server| {
    let ann = host().user();
    let (yes, no) = (free_port(), free_port());
    with(&ann, &format!("permitlisten=\"{yes}\""));
    let listens = |port: u16| {
        let forward = format!("{port}:127.0.0.1:1");
        tests::run(
            server
                .ssh(&ann, &["-o", "ExitOnForwardFailure=yes", "-R", &forward])
                .arg("true"),
        )
        .code
            == 0
    };
    assert!(listens(yes) && !listens(no));
});

case!(an_option_that_nobody_knows, |server| {
    let ann = host().user();
    with(&ann, "no-such-option");
    assert_eq!(says(server, &ann, &["true"]).code, 255);
});

case!(lines_that_are_no_keys, |server| {
    let ann = host().user();
    let text = format!(
        "# a comment\n\nnonsense\nssh-ed25519 AAAAnonsense\n  \t{}",
        ann.public_key()
    );
    ann.put(".ssh/authorized_keys", text);
    assert_eq!(says(server, &ann, &["true"]).code, 0);
    // The last line without its end, and lines of another system.
    ann.put(".ssh/authorized_keys", ann.public_key().trim_end());
    assert_eq!(says(server, &ann, &["true"]).code, 0);
});

case!(
    a_second_line_for_the_same_key_does_not_widen_the_first,
    |server| {
        let ann = host().user();
        let text = format!("command=\"echo first\" {0}{0}", ann.public_key());
        ann.put(".ssh/authorized_keys", text);
        assert_eq!(says(server, &ann, &["echo mine"]).ok(), "first");
    }
);

case!(files_that_others_may_write, |server| {
    let ann = host().user();
    let mode = |name: &str, mode: u32| {
        std::fs::set_permissions(ann.files.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    for (name, bad, good) in [
        (".ssh/authorized_keys", 0o622, 0o644),
        (".ssh", 0o777, 0o755),
        (".", 0o757, 0o755),
    ] {
        mode(name, bad);
        assert_eq!(says(server, &ann, &["true"]).code, 255, "{name}");
        mode(name, good);
        assert_eq!(says(server, &ann, &["true"]).code, 0, "{name}");
    }
});

case!(a_key_that_is_taken_off, |server| {
    let ann = host().user();
    assert_eq!(says(server, &ann, &["true"]).code, 0);
    ann.put(".ssh/authorized_keys", "");
    assert_eq!(says(server, &ann, &["true"]).code, 255);
});
