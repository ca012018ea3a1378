//! Who is where, as Debian's tools tell: `who`, `w`, `last`, `lastlog`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tests::{Host, PAM, SOON, Server, Start, User, run};

use crate::host;

/// A shell on a terminal that stays until it is dropped.
struct Stays {
    child: Child,
    /// The terminal, `/dev/pts/N`.
    terminal: String,
}

impl Stays {
    fn start(server: &Server, user: &User) -> Self {
        let mut child = server
            .ssh(user, &["-tt"])
            .arg("stty -echo; tty; exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            terminal: line.trim().to_owned(),
        }
    }

    fn line(&self) -> &str {
        self.terminal.trim_start_matches("/dev/")
    }

    fn leave(mut self) {
        // ^D
        self.child.stdin.take().unwrap().write_all(&[4]).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that a tool prints about this user, blanks squeezed.
fn about(host: &Host, tool: &str, user: &User) -> Vec<String> {
    let done = host.sh(tool);
    done.ok()
        .lines()
        .filter(|line| line.split_whitespace().next() == Some(&user.name))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn who_loses_the_monitor_is_logged_out() {
    let Some(host) = host("records::who_loses_the_monitor_is_logged_out") else {
        return;
    };
    let server = host.gateway("");
    let (ann, bob) = (host.user(), host.user());
    let (gone, stays) = (Stays::start(&server, &ann), Stays::start(&server, &bob));
    for user in [&ann, &bob] {
        until("the entry", || about(host, "who", user).len() == 1);
    }
    host.sh(&format!(
        "pkill -KILL -f '^login-gateway-monitor: {} '",
        ann.name
    ))
    .ok();
    until("the logout", || about(host, "who", &ann).is_empty());
    assert_eq!(about(host, "who", &bob).len(), 1);
    let wtmp = host.sh("utmpdump /var/log/wtmp 2>/dev/null").out;
    let ended = |line: &&str| line.starts_with("[8]") && line.contains(gone.line());
    assert!(wtmp.lines().any(|line| ended(&line)), "{wtmp}");
    stays.leave();
}

#[test]
fn a_terminal_is_entered_and_logged_out() {
    let Some(host) = host("records::a_terminal_is_entered_and_logged_out") else {
        return;
    };
    // last(1) believes in a login whose process has the user's loginuid.
    let server = host.gateway(Start {
        pam: Some(format!("session optional pam_loginuid.so\n{PAM}")),
        ..Start::default()
    });
    let ann = host.user();
    assert_eq!(
        server.says(&ann, "cat /proc/self/loginuid").ok(),
        ann.uid.to_string()
    );
    assert!(about(host, "who", &ann).is_empty());
    let stays = Stays::start(&server, &ann);
    let line = stays.line().to_owned();
    let who = about(host, "who", &ann);
    assert_eq!(who.len(), 1, "{who:?}");
    assert!(
        who[0].starts_with(&format!("{} {line} ", ann.name)),
        "{who:?}"
    );
    assert!(who[0].ends_with("(127.0.0.1)"), "{who:?}");
    // USER TTY FROM LOGIN@ IDLE JCPU PCPU WHAT
    let w = about(host, "w -h -i", &ann);
    assert!(
        w[0].starts_with(&format!("{} {line} 127.0.0.1 ", ann.name)),
        "{w:?}"
    );
    assert!(w[0].ends_with(" cat"), "{w:?}");
    let last = about(host, "last -w -i", &ann);
    assert!(
        last[0].starts_with(&format!("{} {line} 127.0.0.1 ", ann.name)),
        "{last:?}"
    );
    assert!(last[0].ends_with("still logged in"), "{last:?}");
    let lastlog = about(host, "lastlog", &ann);
    assert!(
        lastlog[0].starts_with(&format!("{} {line} 127.0.0.1 ", ann.name)),
        "{lastlog:?}"
    );
    // A second one beside it, on a command.
    let second = Stays::start(&server, &ann);
    assert_eq!(about(host, "who", &ann).len(), 2);
    second.leave();
    until("one is left", || about(host, "who", &ann).len() == 1);
    stays.leave();
    until("nobody is left", || about(host, "who", &ann).is_empty());
    // last(1) calls what ended in this very second still running.
    until("both have an end", || {
        let last = about(host, "last -w -i", &ann);
        last.len() == 2 && last.iter().all(|line| line.contains(" - "))
    });
}

#[test]
fn a_command_on_a_terminal_finds_itself_entered() {
    let Some(host) = host("records::a_command_on_a_terminal_finds_itself_entered") else {
        return;
    };
    let server = host.gateway("");
    let ann = host.user();
    for times in 1..=5 {
        let done = run(server
            .ssh(&ann, &["-tt"])
            .arg("who | grep -c \"^$USER .*(127.0.0.1)\""));
        assert_eq!(done.ok(), "1");
        assert_eq!(about(host, "last -w", &ann).len(), times);
    }
    // Without a terminal nobody is anywhere.
    server.says(&ann, "true").ok();
    assert_eq!(about(host, "last -w", &ann).len(), 5);
}

#[test]
fn a_login_that_is_torn_down_is_logged_out() {
    let Some(host) = host("records::a_login_that_is_torn_down_is_logged_out") else {
        return;
    };
    let server = host.gateway("");
    for victim in ["login-gateway-net", "login-gateway-session: ANN"] {
        let ann = host.user();
        let stays = Stays::start(&server, &ann);
        assert_eq!(about(host, "who", &ann).len(), 1);
        let script = if victim == "login-gateway-net" {
            // The net of ann's monitor.
            format!(
                "pkill -9 -P $(pgrep -f '^login-gateway-monitor: {}') -f '^login-gateway-net'",
                ann.name
            )
        } else {
            format!("pkill -9 -f '^login-gateway-session: {}'", ann.name)
        };
        host.sh(&script).ok();
        until(victim, || about(host, "who", &ann).is_empty());
        drop(stays);
    }
}

#[test]
fn login_records_can_be_switched_off() {
    let Some(host) = host("records::login_records_can_be_switched_off") else {
        return;
    };
    let server = host.gateway("login-records = false\n");
    let ann = host.user();
    let stays = Stays::start(&server, &ann);
    assert!(about(host, "who", &ann).is_empty());
    stays.leave();
    assert!(about(host, "last -w", &ann).is_empty());
}

#[test]
fn a_failed_password_is_in_btmp() {
    let Some(host) = host("records::a_failed_password_is_in_btmp") else {
        return;
    };
    let server = host.gateway(
        "[[match]]\nuser = [\"*\"]\nauthentication-methods = [\"publickey\", \"password\"]\n",
    );
    let ann = host.user();
    let typed = |script: &str| {
        host.write("/etc/askpass.people", script);
        host.sh("chmod 755 /etc/askpass.people").ok();
        let mut ssh = host.command("ssh");
        // The first word about an option counts.
        ssh.args(["-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1"])
            .args(["-o", "PreferredAuthentications=password"])
            .args(server.options(&ann))
            .args(["127.0.0.1", "true"])
            .env("SSH_ASKPASS", "/etc/askpass.people")
            .env("SSH_ASKPASS_REQUIRE", "force");
        run(&mut ssh)
    };
    let done = typed("#!/bin/sh\necho wrong\n");
    assert_eq!(done.code, 255, "{done:#?}");
    let failed = about(host, "lastb -w -i", &ann);
    assert_eq!(failed.len(), 1, "{failed:?} {done:#?}");
    assert!(
        failed[0].starts_with(&format!("{} ssh:notty 127.0.0.1 ", ann.name)),
        "{failed:?}"
    );
    // A key that is not the right one is no failed password.
    let stranger = User {
        key: host.keygen("stranger", &["-t", "ed25519"]),
        ..ann.clone()
    };
    assert_eq!(server.says(&stranger, "true").code, 255);
    assert_eq!(about(host, "lastb -w", &ann).len(), 1);
}

#[test]
fn utmp_is_made_where_there_is_none_and_the_others_are_not() {
    let test = "records::utmp_is_made_where_there_is_none_and_the_others_are_not";
    if !tests::possible(test) {
        return;
    }
    // A host of its own: the others need their files.
    let host = Host::start();
    host.sh("mkdir /run/records; rm /run/utmp /var/log/wtmp /var/log/lastlog; ln -s /run/records/utmp /run/utmp")
        .ok();
    let server = host.gateway("");
    let ann = host.user();
    let stays = Stays::start(&server, &ann);
    assert_eq!(about(&host, "who", &ann).len(), 1);
    let made = host.sh("stat -c '%a %U %G' /run/records/utmp; ls /var/log");
    assert_eq!(made.ok(), "664 root utmp\nbtmp");
    stays.leave();
    assert!(
        !server.log().contains("login_records.failed"),
        "{}",
        server.log()
    );
}

/// A `ProxyCommand` that says, as a load balancer would, that the client is 192.0.2.7, port 40000.
fn behind_a_load_balancer(host: &Host, port: u16) -> String {
    let script = format!(
        "#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/{port}\n\
         printf '\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x11\\0\\x0c\\xc0\\0\\x02\\x07\\x0a\\0\\0\\x01\\x9c\\x40\\0\\x16' >&3\n\
         cat <&3 & exec cat >&3\n"
    );
    let path = host.folder().join(format!("load-balancer.{port}"));
    std::fs::write(&path, script).unwrap();
    format!("ProxyCommand=bash {}", path.display())
}

#[test]
fn the_clients_own_address_is_what_everybody_sees() {
    let Some(host) = host("records::the_clients_own_address_is_what_everybody_sees") else {
        return;
    };
    let server = host.gateway("[proxy-protocol]\nfrom = [\"127.0.0.0/8\"]\n");
    let ann = host.user();
    let proxy = behind_a_load_balancer(host, server.port);
    let done = run(server
        .ssh(&ann, &["-tt", "-o", &proxy])
        .arg("echo $SSH_CLIENT; echo $SSH_CONNECTION; who | grep \"^$USER \""));
    let text = done.ok().replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..2],
        ["192.0.2.7 40000 22", "192.0.2.7 40000 10.0.0.1 22"]
    );
    assert!(lines[2].ends_with("(192.0.2.7)"), "{done:#?}");
    let last = about(host, "last -w -i", &ann);
    assert!(last[0].contains(" 192.0.2.7 "), "{last:?}");
    let lastlog = about(host, "lastlog", &ann);
    assert!(lastlog[0].contains(" 192.0.2.7 "), "{lastlog:?}");
}
