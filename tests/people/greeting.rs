//! What a new terminal shows before its shell, and where nothing is shown.

use std::time::Duration;

use tests::{Account, Done, Host, PAM, Server, Start, Terminal, User, run, run_with};

use crate::host;

const MINUTE: Duration = Duration::from_secs(60);

/// All that may be said.
const CONFIG: &str =
    "motd-files = [\"/etc/motd.people\"]\nmotd-command = \"echo queue of $USER; id -u\"\n";

fn gateway(host: &Host) -> Server {
    host.write("/etc/motd.people", "Welcome\nto the pool");
    host.gateway(CONFIG)
}

/// A login shell that leaves at once; what it showed.
fn shell(server: &Server, user: &User) -> Done {
    let mut ssh = server.ssh(user, &["-tt"]);
    run_with(&mut ssh, b"exit 7\n", MINUTE)
}

#[test]
fn a_terminal_is_greeted_in_order() {
    let Some(host) = host("greeting::a_terminal_is_greeted_in_order") else {
        return;
    };
    let server = gateway(host);
    let ann = host.user();
    let motd = format!(
        "Welcome\r\nto the pool\r\nqueue of {}\r\n{}\r\n",
        ann.name, ann.uid
    );
    let mut first = Terminal::start(&server.ssh(&ann, &["-tt"]));
    first.expect(&motd);
    first.expect("$ ");
    first.send("exit 7\r");
    assert_eq!(first.wait(), Some(7));
    let last = host.sh(&format!("last -w {} | head -1", ann.name));
    let mut second = Terminal::start(&server.ssh(&ann, &["-tt"]));
    second.expect("Last login: ");
    let year = host.sh("date +%Y").ok().to_owned();
    second.expect(&format!(" {year} from 127.0.0.1\r\n{motd}"));
    second.send("exit\r");
    assert_eq!(second.wait(), Some(0));
    assert!(last.ok().contains("127.0.0.1"), "{last:?}");
}

#[test]
fn nothing_is_said_where_nobody_reads() {
    let Some(host) = host("greeting::nothing_is_said_where_nobody_reads") else {
        return;
    };
    let server = gateway(host);
    let ann = host.user();
    assert_eq!(server.says(&ann, "echo a").ok(), "a");
    let on_terminal = run(server.ssh(&ann, &["-tt"]).arg("echo a"));
    assert_eq!(on_terminal.out, "a\r\n");
    // A shell without a terminal.
    let done = run_with(&mut server.ssh(&ann, &["-T"]), b"echo a\n", MINUTE);
    assert_eq!(done.out, "a\n");
    ann.put(".hushlogin", "");
    let hushed = shell(&server, &ann);
    assert!(
        !hushed.out.contains("Welcome") && !hushed.out.contains("Last login"),
        "{hushed:#?}"
    );
}

#[test]
fn a_bad_command_breaks_no_login() {
    let Some(host) = host("greeting::a_bad_command_breaks_no_login") else {
        return;
    };
    let ann = host.user();
    for command in [
        "exit 3",
        "/no/such/program",
        "kill -9 $$",
        "yes | head -c 1000000",
        "echo x >&2",
    ] {
        let server =
            host.gateway(format!("motd-files = []\nmotd-command = \"{command}\"\n").as_str());
        let done = shell(&server, &ann);
        assert_eq!(done.code, 7, "{command}: {done:#?}");
        assert!(done.out.len() < 200_000, "{command}");
    }
    let slow = "motd-files = []\nmotd-command = \"echo slow; sleep 98765 & sleep 98765\"\n";
    let server = host.gateway(slow);
    let done = shell(&server, &ann);
    assert_eq!(done.code, 7, "{done:#?}");
    assert!(done.out.contains("slow\r\n"), "{done:#?}");
    let left = host.sh("pgrep -f '[s]leep 98765' || true");
    assert_eq!(left.ok(), "", "killed with its group");
}

#[test]
fn a_slow_command_ends_at_the_interrupt_key_or_with_the_terminal() {
    let Some(host) =
        host("greeting::a_slow_command_ends_at_the_interrupt_key_or_with_the_terminal")
    else {
        return;
    };
    // Longer than its own limit of ten seconds only if nobody stops it.
    let server = host.gateway("motd-files = []\nmotd-command = \"echo begun; sleep 87654\"\n");
    let ann = host.user();
    let sleeping = || host.sh("pgrep -cf '^sleep 87654' || true").ok() != "0";
    let mut shell = Terminal::start(&server.ssh(&ann, &["-tt"]));
    shell.expect("begun\r\n");
    shell.send("\x03");
    shell.expect("$ ");
    assert!(!sleeping());
    shell.send("exit 3\r");
    assert_eq!(shell.wait(), Some(3));
    let mut shell = Terminal::start(&server.ssh(&ann, &["-tt"]));
    shell.expect("begun\r\n");
    shell.hang_up().unwrap();
    let end = std::time::Instant::now() + tests::SOON;
    while sleeping() {
        assert!(std::time::Instant::now() < end, "it sleeps on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_slow_on_one_terminal_holds_up_no_other_channel() {
    let Some(host) = host("greeting::what_is_slow_on_one_terminal_holds_up_no_other_channel")
    else {
        return;
    };
    let server = host.gateway("motd-files = []\nmotd-command = \"echo begun; sleep 76543\"\n");
    let ann = host.user();
    let socket = format!("ControlPath={}/slow.%p", host.folder().display());
    let options = ["-o", &socket, "-o", "ControlMaster=auto"];
    let master = [&["-tt"], &options[..]].concat();
    let mut master = Terminal::start(&server.ssh(&ann, &master));
    master.expect("begun\r\n");
    assert_eq!(run(server.ssh(&ann, &options).arg("echo a")).ok(), "a");
    // The greeting was still on.
    assert_ne!(host.sh("pgrep -cf '^sleep 76543' || true").ok(), "0");
    master.send("\x03");
    master.expect("$ ");
    master.send("exit\r");
    assert_eq!(master.wait(), Some(0));
}

#[test]
fn what_pam_says_is_shown_on_terminals() {
    let Some(host) = host("greeting::what_pam_says_is_shown_on_terminals") else {
        return;
    };
    host.write("/etc/pam-says", "Maintenance on Monday\n");
    let server = host.gateway(Start {
        config: "motd-files = []\nmotd-command = \"echo command\"\n".into(),
        pam: Some(format!(
            "{PAM}session optional pam_echo.so file=/etc/pam-says\n"
        )),
        ..Start::default()
    });
    let ann = host.user();
    let mut shell = Terminal::start(&server.ssh(&ann, &["-tt"]));
    shell.expect("command\r\nMaintenance on Monday\r\n");
    shell.expect("$ ");
    shell.send("exit\r");
    assert_eq!(shell.wait(), Some(0));
    let command = server.says(&ann, "echo a");
    assert_eq!((command.ok(), command.err.as_str()), ("a", ""));
}

#[test]
fn last_login_can_be_switched_off() {
    let Some(host) = host("greeting::last_login_can_be_switched_off") else {
        return;
    };
    let server = host.gateway("print-last-log = false\n");
    let ann = host.user();
    for _ in 0..2 {
        let done = shell(&server, &ann);
        assert_eq!(done.code, 7);
        assert!(!done.out.contains("Last login"), "{done:#?}");
    }
}

#[test]
fn the_banner_comes_before_authentication() {
    let Some(host) = host("greeting::the_banner_comes_before_authentication") else {
        return;
    };
    host.write(
        "/etc/banner.people",
        "Authorised users only\nzweite Zeile: ä\n",
    );
    let server = host.gateway("banner = \"/etc/banner.people\"\n");
    let ann = host.user();
    let with_banner = |user: &User| {
        let mut ssh = server.ssh(user, &["-o", "LogLevel=INFO"]);
        run(ssh.arg("echo a"))
    };
    let done = with_banner(&ann);
    assert_eq!(done.ok(), "a");
    assert!(done.err.starts_with("Authorised users only\n"), "{done:#?}");
    assert!(done.err.contains("zweite Zeile"), "{done:#?}");
    let stranger = User {
        name: "nobody-here".into(),
        ..ann.clone()
    };
    let refused = with_banner(&stranger);
    assert_eq!(refused.code, 255);
    assert!(
        refused.err.contains("Authorised users only"),
        "{refused:#?}"
    );
    // A file that went away keeps nobody out.
    let missing = host.gateway("banner = \"/etc/no-banner\"\n");
    assert_eq!(missing.says(&ann, "echo a").ok(), "a");
    assert!(
        missing.log().contains("banner: read '/etc/no-banner'"),
        "{}",
        missing.log()
    );
}

#[test]
fn shells_that_let_nobody_in_say_so() {
    let Some(host) = host("greeting::shells_that_let_nobody_in_say_so") else {
        return;
    };
    let server = host.gateway("");
    let account = |name, shell| {
        host.add(&Account {
            shell,
            ..Account::named(name)
        })
    };
    let closed = account("closed", "/usr/sbin/nologin");
    let done = server.says(&closed, "echo a");
    assert_eq!(done.code, 1, "{done:#?}");
    assert!(done.out.contains("not available"), "{done:#?}");
    let missing = account("missing", "/bin/no-such-shell");
    for options in [&[][..], &["-tt"]] {
        let done = run(server.ssh(&missing, options).arg("echo a"));
        assert_eq!(done.code, 255, "{done:#?}");
        let said = format!("{}{}", done.out, done.err);
        assert!(
            said.contains("login shell '/bin/no-such-shell': ENOENT")
                || said.contains("login shell '/bin/no-such-shell': No such file or directory"),
            "{done:#?}"
        );
    }
    server.logged("login shell '/bin/no-such-shell'");
    let text = account("text", "/etc/passwd");
    let done = server.says(&text, "echo a");
    assert_eq!(done.code, 255, "{done:#?}");
    assert!(done.err.contains("login shell '/etc/passwd'"), "{done:#?}");
}

#[test]
fn nologin_is_shown_to_whoever_may_not_log_in() {
    if !tests::possible("greeting::nologin_is_shown_to_whoever_may_not_log_in") {
        return;
    }
    // A host of its own: the others log in.
    let host = Host::start();
    let server = host.gateway("");
    let ann = host.user();
    assert_eq!(server.says(&ann, "echo a").ok(), "a");
    host.write("/etc/nologin", "The pool is down until noon.\n");
    let refused = server.says(&ann, "echo a");
    assert_eq!((refused.code, refused.out.as_str()), (255, ""));
    assert!(
        refused.err.contains("The pool is down until noon."),
        "{refused:#?}"
    );
    // Nobody else is told.
    let stranger = User {
        key: host.keygen("stranger", &["-t", "ed25519"]),
        ..ann.clone()
    };
    let stranger = server.says(&stranger, "echo a");
    assert!(!stranger.err.contains("noon"), "{stranger:#?}");
    std::fs::remove_file(host.path("/etc/nologin")).unwrap();
    assert_eq!(server.says(&ann, "echo a").ok(), "a");
}
