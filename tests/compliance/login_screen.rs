//! What people see: the banner before, the message and the last login after, and nothing that
//! disturbs programs.

use tests::Terminal;

use crate::both::{Config, PLAIN, case, host};

const BANNER: Config = Config {
    theirs: "Banner /etc/issue.net\n",
    ours: "banner = \"/etc/issue.net\"\n",
    ..PLAIN
};
const LONG_BANNER: Config = Config {
    theirs: "Banner /etc/issue.long\n",
    ours: "banner = \"/etc/issue.long\"\n",
    ..PLAIN
};
const SCREEN: Config = Config {
    theirs: "PrintMotd yes\nPrintLastLog yes\n",
    ours: "motd-files = [\"/etc/motd\"]\nprint-last-log = true\n",
    ..PLAIN
};
const QUIET: Config = Config {
    theirs: "PrintMotd no\nPrintLastLog no\n",
    ours: "motd-files = []\nprint-last-log = false\n",
    ..PLAIN
};

fn files() {
    host().write(
        "/etc/issue.net",
        "Authorised use only \u{e9}.\nSecond line.\n",
    );
    host().write("/etc/motd", "Message of the day.\n");
}

case!(banner, BANNER, |server| {
    files();
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-o", "LogLevel=INFO"]);
    let done = tests::run(ssh.arg("echo out"));
    assert_eq!((done.code, done.out.as_str()), (0, "out\n"));
    assert!(
        done.err
            .replace('\r', "")
            .starts_with("Authorised use only \u{e9}.\nSecond line.\n"),
        "{done:#?}"
    );
});

case!(banner_of_sshds_size, LONG_BANNER, |server| {
    let text: String = (0..2000).map(|n| format!("{n:048} \n")).collect();
    assert_eq!(text.len(), 100_000);
    host().write("/etc/issue.long", &text);
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-o", "LogLevel=INFO"]);
    let done = tests::run(ssh.arg("echo out"));
    assert_eq!((done.code, done.out.as_str()), (0, "out\n"));
    let shown = done.err.replace('\r', "");
    assert!(shown.starts_with(&text), "{} bytes", shown.len());
});

case!(message_and_last_login, SCREEN, |server| {
    files();
    let ann = host().user();
    for time in 0..2 {
        let mut terminal = Terminal::start(&server.ssh(&ann, &["-tt"]));
        if time > 0 {
            terminal.expect("Last login: ");
            terminal.expect(" from 127.0.0.1");
        }
        terminal.expect("Message of the day.\r\n");
        terminal.send("exit\r");
        assert_eq!(terminal.wait(), Some(0));
    }
});

case!(nothing_before_a_command, SCREEN, |server| {
    files();
    let ann = host().user();
    let done = server.says(&ann, "echo only");
    assert_eq!((done.out.as_str(), done.err.as_str()), ("only\n", ""));
    let done = tests::run(server.ssh(&ann, &["-tt"]).arg("echo only"));
    assert_eq!(done.out, "only\r\n");
    let done = server.feed(&ann, "", b"echo only\n");
    assert_eq!(done.out, "only\n");
});

case!(hushlogin, SCREEN, |server| {
    files();
    let ann = host().user();
    ann.put(".hushlogin", "");
    ann.put(".bash_profile", "echo begun\n");
    for _ in 0..2 {
        let mut terminal = Terminal::start(&server.ssh(&ann, &["-tt"]));
        let before = terminal.until_seen("begun");
        assert_eq!(before, "");
        terminal.send("exit\r");
        assert_eq!(terminal.wait(), Some(0));
    }
});

case!(neither_where_they_are_off, QUIET, |server| {
    files();
    let ann = host().user();
    ann.put(".bash_profile", "echo begun\n");
    for _ in 0..2 {
        let mut terminal = Terminal::start(&server.ssh(&ann, &["-tt"]));
        let before = terminal.until_seen("begun");
        assert_eq!(before, "");
        terminal.send("exit\r");
        assert_eq!(terminal.wait(), Some(0));
    }
});
