//! Who is logged in, as the machine's records have it; loginuid; groups.

use tests::{Account, Terminal};

use crate::both::{case, host};
use crate::peers::{Beside, until};

case!(groups, |server| {
    let number = host().user().uid;
    let ann = host().add(&Account {
        groups: &["blue", "green"],
        ..Account::named(&format!("grp{number}"))
    });
    let done = server.says(&ann, "id -Gn; id -gn");
    assert_eq!(done.ok(), format!("{0} blue green\n{0}", ann.name));
});

case!(who_shows_a_terminal, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-tt"]);
    let mut client = Beside::start(ssh.arg("tty; cat >/dev/null"));
    let tty = client.line().replace("/dev/", "");
    let who = || host().sh("who").out;
    let line = who()
        .lines()
        .find(|l| l.starts_with(&ann.name))
        .map(ToOwned::to_owned);
    let line = line.unwrap_or_else(|| panic!("{}", who()));
    assert!(
        line.contains(&tty) && line.ends_with("(127.0.0.1)"),
        "{line}"
    );
    client.kill();
    until("nobody is there", || !who().contains(&ann.name));
    let last = || host().sh(&format!("last -w {}", ann.name)).out;
    until("the end in wtmp", || !last().contains("still"));
    let last = last();
    assert!(last.contains(&tty) && last.contains("127.0.0.1"), "{last}");
});

case!(a_command_without_a_terminal_is_not_in_who, |server| {
    let ann = host().user();
    let mut client = Beside::start(server.ssh(&ann, &[]).arg("echo in; cat"));
    client.line();
    assert!(!host().sh("who").out.contains(&ann.name));
});

case!(last_login_is_recorded, |server| {
    let ann = host().user();
    let mut terminal = Terminal::start(&server.ssh(&ann, &["-tt"]));
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
    let last = host().sh(&format!("lastlog -u {}", ann.name)).out;
    assert!(
        last.contains("127.0.0.1") && last.contains("pts/"),
        "{last}"
    );
});

case!(processes_show_whose_they_are, |server| {
    let ann = host().user();
    let mut client = Beside::start(server.ssh(&ann, &[]).arg("echo in; cat"));
    client.line();
    let shown = host().sh("ps -eo args").out;
    assert!(shown.contains(&format!("{} [priv]", ann.name)), "{shown}");
});
