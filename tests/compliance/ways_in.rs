//! Ways in: keys, passwords, prompts, several factors in a row, and who may not.

use tests::{Account, Server, Terminal, User};

use crate::both::{Config, PLAIN, case, host};

const PASSWORD: Config = Config {
    theirs: "PasswordAuthentication yes\nKbdInteractiveAuthentication no\n",
    ours: "authentication-methods = [\"publickey\", \"password\"]\n",
    ..PLAIN
};
const INTERACTIVE: Config = Config {
    theirs: "PasswordAuthentication no\nKbdInteractiveAuthentication yes\n",
    ours: "authentication-methods = [\"publickey\", \"keyboard-interactive\"]\n",
    ..PLAIN
};
/// A password and then a word by a module of its own, as a one-time password would be.
const TWO_PROMPTS: Config = Config {
    pam: Some(
        "auth required pam_unix.so nodelay\nauth required pam_exec.so expose_authtok quiet /bin/true\n\
         account required pam_unix.so\npassword required pam_unix.so sha512\nsession required pam_permit.so\n",
    ),
    ..INTERACTIVE
};
const KEY_AND_PASSWORD: Config = Config {
    theirs: "AuthenticationMethods publickey,password publickey,keyboard-interactive\nKbdInteractiveAuthentication yes\n",
    ours: "authentication-methods = [\"publickey,password\", \"publickey,keyboard-interactive\"]\n",
    ..PLAIN
};
const BY_GROUP: Config = Config {
    theirs: "PasswordAuthentication no\nKbdInteractiveAuthentication no\nDenyGroups outsiders\nMatch Group twofactor\nKbdInteractiveAuthentication yes\n\
             AuthenticationMethods publickey,keyboard-interactive\nMatch User none*\nAuthenticationMethods password\n",
    ours: "[[match]]\ngroup = [\"outsiders\"]\nallow-login = false\n[[match]]\ngroup = [\"twofactor\"]\n\
           authentication-methods = [\"publickey,keyboard-interactive\"]\n",
    ..PLAIN
};
const TWO_TRIES: Config = Config {
    theirs: "MaxAuthTries 2\n",
    ours: "max-auth-tries = 2\n",
    ..PLAIN
};
const GRACE: Config = Config {
    theirs: "LoginGraceTime 2\n",
    ours: "login-grace-time = \"2s\"\n",
    ..PLAIN
};
const LONG_KEYS: Config = Config {
    theirs: "RequiredRSASize 3072\n",
    ours: "required-rsa-size = 3072\n",
    ..PLAIN
};
const ED25519_ONLY: Config = Config {
    theirs: "PubkeyAcceptedAlgorithms ssh-ed25519\n",
    ours: "public-key-algorithms = [\"ssh-ed25519\"]\n",
    ..PLAIN
};

/// Somebody with a password.
fn somebody(groups: &[&str]) -> User {
    let name = format!("pw{}", host().user().uid);
    host().add(&Account {
        groups,
        password: Some("Open, Sesame 1"),
        ..Account::named(&name)
    })
}

/// `ssh` on a terminal, with the methods in this order.
fn typed(server: &Server, user: &User, methods: &str, command: &str) -> Terminal {
    let methods = format!("PreferredAuthentications={methods}");
    let mut ssh = server.ssh(
        user,
        &[
            "-o",
            "BatchMode=no",
            "-o",
            &methods,
            "-o",
            "NumberOfPasswordPrompts=3",
        ],
    );
    Terminal::start(ssh.arg(command))
}

fn refused(server: &Server, user: &User, options: &[&str]) -> bool {
    let done = tests::run(server.ssh(user, options).arg("echo in"));
    assert!(done.code == 255 || done.out == "in\n", "{done:#?}");
    done.code == 255
}

case!(password, PASSWORD, |server| {
    let ann = somebody(&[]);
    let mut terminal = typed(server, &ann, "password", "echo logged in");
    terminal.expect("password: ");
    terminal.send("Open, Sesame 1\r");
    terminal.expect("logged in");
    assert_eq!(terminal.wait(), Some(0));
});

case!(password_wrong_then_right, PASSWORD, |server| {
    let ann = somebody(&[]);
    let mut terminal = typed(server, &ann, "password", "echo logged in");
    for wrong in ["nonsense", ""] {
        terminal.expect("password: ");
        terminal.send(&format!("{wrong}\r"));
        terminal.expect("Permission denied, please try again.");
    }
    terminal.expect("password: ");
    terminal.send("Open, Sesame 1\r");
    terminal.expect("logged in");
    assert_eq!(terminal.wait(), Some(0));
});

case!(password_wrong_thrice, PASSWORD, |server| {
    let ann = somebody(&[]);
    let mut terminal = typed(server, &ann, "password", "echo logged in");
    for _ in 0..3 {
        terminal.expect("password: ");
        terminal.send("wrong\r");
    }
    terminal.expect("Permission denied (");
    assert_eq!(terminal.wait(), Some(255));
});

case!(password_of_nobody, PASSWORD, |server| {
    let mut nobody = somebody(&[]);
    nobody.name = "nobody-of-that-name".into();
    let mut terminal = typed(server, &nobody, "password", "echo logged in");
    terminal.expect("password: ");
    terminal.send("Open, Sesame 1\r");
    terminal.expect("Permission denied, please try again.");
    terminal.hang_up().unwrap();
});

case!(prompts, INTERACTIVE, |server| {
    let ann = somebody(&[]);
    let mut terminal = typed(server, &ann, "keyboard-interactive", "echo logged in");
    terminal.expect("Password: ");
    terminal.send("wrong\r");
    terminal.expect("Password: ");
    terminal.send("Open, Sesame 1\r");
    terminal.expect("logged in");
    assert_eq!(terminal.wait(), Some(0));
});

case!(prompts_of_two_modules, TWO_PROMPTS, |server| {
    let ann = somebody(&[]);
    let mut terminal = typed(server, &ann, "keyboard-interactive", "echo logged in");
    terminal.expect("Password: ");
    terminal.send("Open, Sesame 1\r");
    terminal.expect("logged in");
    assert_eq!(terminal.wait(), Some(0));
});

case!(
    an_expired_password_is_changed_at_the_prompt,
    INTERACTIVE,
    |server| {
        let ann = somebody(&[]);
        host().sh(&format!("chage -d 0 {}", ann.name)).ok();
        let mut terminal = typed(server, &ann, "keyboard-interactive", "echo logged in");
        terminal.expect("Password: ");
        terminal.send("Open, Sesame 1\r");
        terminal.expect("urrent password: ");
        terminal.send("Open, Sesame 1\r");
        terminal.expect("New password: ");
        terminal.send("Quite Another 2\r");
        terminal.expect("Retype new password: ");
        terminal.send("Quite Another 2\r");
        terminal.expect("logged in");
        assert_eq!(terminal.wait(), Some(0));
        let mut terminal = typed(server, &ann, "keyboard-interactive", "echo logged in");
        terminal.expect("Password: ");
        terminal.send("Quite Another 2\r");
        terminal.expect("logged in");
        assert_eq!(terminal.wait(), Some(0));
    }
);

case!(key_and_password, KEY_AND_PASSWORD, |server| {
    let ann = somebody(&[]);
    for methods in ["publickey,password", "publickey,keyboard-interactive"] {
        let mut terminal = typed(server, &ann, methods, "echo logged in");
        terminal.expect("assword: ");
        terminal.send("Open, Sesame 1\r");
        terminal.expect("logged in");
        assert_eq!(terminal.wait(), Some(0));
    }
    // One of them alone is not enough, nor is the second before the first.
    assert!(refused(server, &ann, &[]));
    let mut terminal = typed(server, &ann, "password", "echo logged in");
    terminal.expect("Permission denied (publickey)");
    terminal.hang_up().unwrap();
});

case!(key_alone_is_a_partial_success, KEY_AND_PASSWORD, |server| {
    let ann = somebody(&[]);
    let mut ssh = server.ssh(&ann, &["-o", "LogLevel=DEBUG1"]);
    let done = tests::run(ssh.arg("true"));
    assert_eq!(done.code, 255);
    let text = done.err.replace('\r', "");
    assert!(
        text.contains("partial success") && text.contains("(password,keyboard-interactive)"),
        "{text}"
    );
});

case!(by_group, BY_GROUP, |server| {
    let plain = somebody(&[]);
    assert!(!refused(server, &plain, &[]));
    let ann = somebody(&["twofactor"]);
    assert!(refused(server, &ann, &[]));
    let mut terminal = typed(
        server,
        &ann,
        "publickey,keyboard-interactive",
        "echo logged in",
    );
    terminal.expect("assword: ");
    terminal.send("Open, Sesame 1\r");
    terminal.expect("logged in");
    assert_eq!(terminal.wait(), Some(0));
    assert!(refused(server, &somebody(&["outsiders"]), &[]));
});

case!(methods_that_are_offered, PASSWORD, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-o", "PreferredAuthentications=none"]);
    let done = tests::run(ssh.arg("true"));
    assert!(
        done.err.contains("Permission denied (publickey,password)"),
        "{done:#?}"
    );
});

case!(an_account_that_has_expired, |server| {
    let ann = host().user();
    assert!(!refused(server, &ann, &[]));
    host().sh(&format!("chage -E 1 {}", ann.name)).ok();
    assert!(refused(server, &ann, &[]));
});

case!(a_locked_password_does_not_lock_the_key, |server| {
    let ann = somebody(&[]);
    host().sh(&format!("passwd -q -l {}", ann.name)).ok();
    assert!(!refused(server, &ann, &[]));
});

case!(a_shell_that_is_not_there, |server| {
    let name = format!("sh{}", host().user().uid);
    let ann = host().add(&Account {
        shell: "/bin/no-such-shell",
        ..Account::named(&name)
    });
    assert!(tests::run(server.ssh(&ann, &[]).arg("echo in")).code != 0);
});

case!(a_shell_that_says_no, |server| {
    let name = format!("no{}", host().user().uid);
    let ann = host().add(&Account {
        shell: "/usr/sbin/nologin",
        ..Account::named(&name)
    });
    let done = tests::run(server.ssh(&ann, &[]).arg("echo in"));
    assert_eq!(
        (done.code, done.out.as_str()),
        (1, "This account is currently not available.\n")
    );
});

case!(another_shell, |server| {
    let name = format!("da{}", host().user().uid);
    let ann = host().add(&Account {
        shell: "/bin/dash",
        ..Account::named(&name)
    });
    assert_eq!(server.says(&ann, "echo $0 $SHELL").ok(), "dash /bin/dash");
});

case!(nobody_while_nologin_is_there, |server| {
    // On a host of its own: it would shut out all other cases.
    let host = tests::Host::start();
    let own = match server.whose {
        tests::Whose::Theirs => host.sshd(""),
        tests::Whose::Ours => host.gateway(""),
    };
    let ann = host.user();
    host.write("/etc/nologin", "Maintenance until noon.\n");
    assert!(refused(&own, &ann, &[]));
    std::fs::remove_file(host.path("/etc/nologin")).unwrap();
    assert!(!refused(&own, &ann, &[]));
});

case!(keys_that_are_tried_before_the_right_one, |server| {
    let ann = host().user();
    let done = tests::run(after_others(server, &ann).arg("echo in"));
    assert_eq!(done.ok(), "in");
});

case!(too_many_keys, TWO_TRIES, |server| {
    let ann = host().user();
    let done = tests::run(after_others(server, &ann).arg("echo in"));
    assert_eq!(done.code, 255, "{done:#?}");
    assert!(!refused(server, &ann, &[]));
});

/// `ssh` that offers three other keys first.
fn after_others(server: &Server, user: &User) -> std::process::Command {
    let mut options = Vec::new();
    for n in 0..3 {
        let name = format!("{}.{:?}.{n}", user.name, server.whose);
        let key = host().keygen(&name, &["-t", "ed25519"]);
        options.extend(["-o".to_owned(), format!("IdentityFile={}", key.display())]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    server.ssh(user, &options)
}

case!(kinds_of_keys, |server| {
    let ann = host().user();
    let mut keys = String::new();
    let mut paths = Vec::new();
    for (kind, bits) in [
        ("ed25519", "256"),
        ("ecdsa", "256"),
        ("ecdsa", "384"),
        ("ecdsa", "521"),
        ("rsa", "3072"),
        ("rsa", "4096"),
    ] {
        let path = host().keygen(
            &format!("{}.{kind}{bits}", ann.name),
            &["-t", kind, "-b", bits],
        );
        keys += &std::fs::read_to_string(format!("{}.pub", path.display())).unwrap();
        paths.push(path);
    }
    ann.put(".ssh/authorized_keys", keys);
    for path in paths {
        let mut user = ann.clone();
        user.key = path;
        assert!(!refused(server, &user, &[]), "{:?}", user.key);
    }
});

case!(a_short_rsa_key, LONG_KEYS, |server| {
    let mut ann = host().user();
    ann.key = host().keygen(&format!("{}.short", ann.name), &["-t", "rsa", "-b", "2048"]);
    ann.put(".ssh/authorized_keys", ann.public_key());
    assert!(refused(server, &ann, &[]));
});

case!(kinds_of_keys_by_policy, ED25519_ONLY, |server| {
    let mut ann = host().user();
    assert!(!refused(server, &ann, &[]));
    ann.key = host().keygen(&format!("{}.ecdsa", ann.name), &["-t", "ecdsa"]);
    ann.put(".ssh/authorized_keys", ann.public_key());
    assert!(refused(server, &ann, &[]));
});

case!(root_does_not_log_in, |server| {
    let mut root = host().user();
    root.name = "root".into();
    assert!(refused(server, &root, &["-o", "User=root"]));
});

case!(a_client_that_says_nothing_is_closed, GRACE, |server| {
    use std::io::Read;
    let mut stream = crate::peers::connected(server.port);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    assert!(all.starts_with(b"SSH-2.0-"));
});

case!(a_login_lives_on_after_the_grace_time, GRACE, |server| {
    let ann = host().user();
    assert_eq!(server.says(&ann, "sleep 3; echo here").ok(), "here");
});
