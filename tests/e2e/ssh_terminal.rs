//! Shells on a terminal, driven as a person would.

use tests::{Terminal, lab};

fn shell(options: &[&str]) -> Terminal {
    let lab = lab();
    let alice = lab.person("alice");
    let mut terminal = Terminal::start(&lab.ssh_with(&alice, options));
    // The echo of what is typed must not be taken for what it prints.
    terminal.send("PS1='ready''$ '\r");
    terminal.expect("ready$ ");
    terminal
}

#[test]
fn size_term_and_owner() {
    let mut t = shell(&[]);
    t.send("stty size; echo $TERM; stat -c %U $(tty); echo $SSH_TTY; tty\r");
    t.expect("24 80");
    t.expect("xterm-256color");
    t.expect("alice");
    t.expect("/dev/pts/");
    t.expect("/dev/pts/");
    t.expect("ready$ ");
    // A window change reaches the program in the foreground (T19).
    t.send(
        "trap 'echo winch' WINCH; echo w''aiting; while ! read -t 0.2 x; do :; done; stty size\r",
    );
    t.expect("waiting");
    t.resize(43, 132);
    t.expect("winch");
    t.send("x\r");
    t.expect("43 132");
    t.send("exit 5\r");
    assert_eq!(t.wait(), Some(5));
}

#[test]
fn job_control() {
    let mut t = shell(&[]);
    // What it prints tells that it is in the foreground.
    let sleeper = "sh -c 'echo st''arted; exec sleep 1000'";
    t.send(&format!("{sleeper}\r"));
    t.expect("started");
    t.send("\x1a");
    t.expect("Stopped");
    t.send("jobs -l; kill %1; wait; echo ended $?\r");
    t.expect("ended");
    t.expect("ready$ ");
    t.send(&format!("{sleeper}\r"));
    t.expect("started");
    t.send("\x03");
    t.expect("ready$ ");
    t.send("echo after $?\r");
    t.expect("after 130");
    t.send("echo go' 'on; cat\r");
    t.expect("go on");
    t.send("x\r\x04");
    t.expect("ready$ ");
    // The end of input ends the shell.
    t.send("\x04");
    assert_eq!(t.wait(), Some(0));
}

#[test]
fn full_screen_programs() {
    let mut t = shell(&[]);
    t.send("rm -f note; vi note\r");
    t.expect("note");
    t.send("ihello from vi\x1b:wq\r");
    t.expect("ready$ ");
    t.send("cat note\r");
    t.expect("hello from vi");
    t.send("top\r");
    t.expect("load average");
    t.send("q");
    t.expect("ready$ ");
    t.send("exit\r");
    assert_eq!(t.wait(), Some(0));
}

#[test]
fn a_command_on_a_terminal_and_a_terminal_without_a_shell() {
    let lab = lab();
    let alice = lab.person("alice");
    let mut ssh = lab.ssh_with(&alice, &["-tt"]);
    ssh.arg("test -t 0 && test -t 1 && test -t 2 && echo all; (sleep 1000 &) ; exit 9");
    let mut t = Terminal::start(&ssh);
    t.expect("all");
    // A background process that keeps the terminal does not keep the connection.
    assert_eq!(t.wait(), Some(9));
}

#[test]
fn a_closed_window_hangs_up() {
    let lab = lab();
    let mut t = shell(&[]);
    t.send("trap 'touch ~/hung-up; exit' HUP; rm -f ~/hung-up; echo w''aiting; while :; do sleep 0.1; done\r");
    t.expect("waiting");
    t.hang_up().unwrap();
    let alice = lab.person("alice");
    lab.until("the shell was told", || {
        lab.ssh(&alice, "rm hung-up").code == 0
    });
}

#[test]
fn a_shell_whose_line_drops_is_gone_back_to() {
    let lab = lab();
    let kept = lab.person("kept");
    let mut first = Terminal::start(&lab.ssh_with(&kept, &[]));
    first.send("PS1='ready''$ '\r");
    first.expect("ready$ ");
    first.send("here=the' same'; echo $SLURM_LOGIN_ID:$$:\r");
    first.expect("ready$ ");
    first.send("echo ab''c$here\r");
    first.expect("abcthe same");
    first.hang_up().unwrap();
    // Until the line is known to have dropped there is nothing to be offered.
    lab.until("the shell is detached", || {
        let log = lab.podman(&["logs"], "pod-0-gateway");
        let log = log.out + &log.err;
        log.lines()
            .any(|line| line.contains("session.detached") && line.contains("kept"))
    });
    let mut second = Terminal::start(&lab.ssh_with(&kept, &[]));
    second.expect("Shells of yours that are still there:");
    second.send("\r");
    // What it showed last comes first.
    second.expect("abcthe same");
    second.send("echo still' '$here\r");
    second.expect("still the same");
    second.send("sinfo -h -o %P; exit 3\r");
    second.expect("exit");
    assert_eq!(second.wait(), Some(3));
}
