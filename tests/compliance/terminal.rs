//! Terminals: modes, window, job control, what a lost client leaves.

use tests::Terminal;

use crate::both::{case, host, same};
use crate::peers::until;

/// A prompt that is known.
fn shell(server: &tests::Server, ann: &tests::User) -> Terminal {
    ann.put(
        ".bashrc",
        "PS1='ready> '\nbind 'set enable-bracketed-paste off' 2>/dev/null\n",
    );
    ann.put(".bash_profile", ". ~/.bashrc\n");
    let mut terminal = Terminal::start(&server.ssh(ann, &["-tt"]));
    terminal.expect("ready> ");
    terminal
}

case!(modes_are_those_of_the_client, |server| {
    let ann = host().user();
    // Driven by a terminal whose own modes differ from the default in a few places.
    let ssh = server.ssh(&ann, &["-tt"]);
    let line: Vec<String> = ssh
        .get_args()
        .map(|a| format!("'{}'", a.to_string_lossy()))
        .collect();
    let mut local = std::process::Command::new("bash");
    local.args([
        "-c",
        &format!(
            "stty -ixon erase ^H intr ^X quit ^Y -echoctl iutf8 ixany -parenb cs8 ispeed 9600 ospeed 9600; \
             ssh {} 'stty -a; echo over'",
            line.join(" ")
        ),
    ]);
    let mut terminal = Terminal::start(&local);
    let shown = terminal.until_seen("over");
    assert!(
        shown.contains("intr = ^X") && shown.contains("quit = ^Y"),
        "{shown}"
    );
    assert!(
        shown.contains("-ixon") && shown.contains("ixany"),
        "{shown}"
    );
    same(server, "stty -a", shown);
});

case!(its_type_and_size, |server| {
    let ann = host().user();
    let mut terminal = shell(server, &ann);
    terminal.send("echo =$TERM=; stty size\r");
    terminal.expect("=xterm-256color=\r\n24 80\r\n");
    terminal.resize(50, 132);
    terminal.send("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.1; done; echo got' 'it\r");
    terminal.expect("got it");
    terminal.send("exit 3\r");
    assert_eq!(terminal.wait(), Some(3));
});

case!(a_resize_is_told_to_the_program, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-tt"]);
    ssh.arg("trap 'echo window; stty size' WINCH; echo set up; while :; do sleep 0.1; done");
    let mut terminal = Terminal::start(&ssh);
    terminal.expect("set up");
    terminal.resize(33, 99);
    terminal.expect("window\r\n33 99");
    terminal.hang_up().unwrap();
});

case!(job_control, |server| {
    let ann = host().user();
    let mut terminal = shell(server, &ann);
    terminal.send("echo go' 'on; cat\r");
    terminal.expect("go on");
    terminal.send("said\r");
    terminal.expect("said\r\nsaid\r\n");
    terminal.send("\x1a");
    terminal.expect("Stopped");
    terminal.expect("ready> ");
    terminal.send("jobs; fg\r");
    // Both name the program; what is typed before the second would be echoed in between.
    terminal.expect("Stopped");
    terminal.expect("cat\r\n");
    terminal.expect("cat\r\n");
    terminal.send("again\r");
    terminal.expect("again\r\nagain\r\n");
    terminal.send("\x03");
    terminal.expect("ready> ");
    terminal.send("echo $?\r");
    terminal.expect("130");
    // An end of file that comes before the shell reads its next line is lost in the terminal's change of mode.
    terminal.expect("ready> ");
    terminal.send("\x04");
    assert_eq!(terminal.wait(), Some(0));
});

case!(a_command_on_a_terminal, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-tt"]);
    ssh.arg("test -t 0 && test -t 1 && test -t 2 && echo all; exit 4");
    let done = tests::run(&mut ssh);
    assert!(done.code == 4 && done.out == "all\r\n", "{done:#?}");
});

case!(belongs_to_the_user, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-tt"]);
    ssh.arg("stat -c '%U %G %a' $(tty); [ $SSH_TTY = $(tty) ] && echo same; ps -o tty= -p $$ | tr -d 0-9; ls -l /proc/self/fd | grep -c pts");
    let done = tests::run(&mut ssh);
    let text = done.ok().replace(&ann.name, "ann");
    assert!(text.starts_with("ann tty 6"), "{text}");
    same(server, "terminal", text);
});

case!(a_lost_client_leaves_nothing, |server| {
    let ann = host().user();
    let mut terminal = shell(server, &ann);
    terminal.send("sleep 1001\r");
    let mine = || {
        host()
            .sh(&format!("pgrep -u {} -x -c 'bash|sleep'", ann.uid))
            .out
    };
    until("the shell and its program", || mine().trim() == "2");
    terminal.hang_up().unwrap();
    until("the end of the shell and its program", || {
        mine().trim() == "0"
    });
});

case!(a_killed_client_leaves_nothing, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-tt"]);
    let mut client = crate::peers::Beside::start(ssh.arg("echo $$; sleep 1002; echo not"));
    client.line();
    client.kill();
    until("the end of the shell and its program", || {
        host()
            .sh(&format!("pgrep -u {} -x -c 'bash|sleep'", ann.uid))
            .out
            .trim()
            == "0"
    });
});

case!(no_terminal_is_left_after_many, |server| {
    let ann = host().user();
    let count = || std::fs::read_dir(host().path("/dev/pts")).unwrap().count();
    let before = count();
    for _ in 0..5 {
        tests::run(server.ssh(&ann, &["-tt"]).arg("true")).ok();
    }
    // Other cases have terminals too; a leak of five of ours would stay.
    until("closed terminals", || count() < before + 5);
});

case!(a_shell_is_a_login_shell, |server| {
    let ann = host().user();
    ann.put(".bash_profile", "echo profile' 'read\n");
    let mut terminal = Terminal::start(&server.ssh(&ann, &["-tt"]));
    terminal.expect("profile read");
    terminal.send("echo =$0=; shopt login_shell\r");
    terminal.expect("=-bash=");
    terminal.expect("login_shell    \ton");
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
});

case!(session_and_foreground_group, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-tt"]);
    ssh.arg("set -- $(ps -o pid=,sid=,pgid=,tpgid= -p $$); [ $1 = $2 ] && [ $1 = $3 ] && [ $1 = $4 ] && echo leader");
    assert_eq!(tests::run(&mut ssh).ok(), "leader");
});

case!(a_break_disturbs_nothing, |server| {
    let ann = host().user();
    let mut terminal = shell(server, &ann);
    terminal.send("\r~B");
    terminal.send("echo goes' 'on\r");
    terminal.expect("goes on");
    terminal.hang_up().unwrap();
});
