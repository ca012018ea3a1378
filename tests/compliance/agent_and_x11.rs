//! Forwarding of the client's agent and of X11.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use tests::{Server, Terminal, User};

use crate::both::{Config, PLAIN, case, host};
use crate::peers::{Beside, accepted, until};

const NEITHER: Config = Config {
    theirs: "AllowAgentForwarding no\nX11Forwarding no\n",
    ours: "agent-forwarding = false\nx11-forwarding = false\n",
    ..PLAIN
};
const X11: Config = Config {
    theirs: "X11Forwarding yes\n",
    ours: "x11-forwarding = true\n",
    ..PLAIN
};

/// An agent with the user's key; the path of its socket.
fn agent(server: &Server, user: &User) -> (Beside, String) {
    let path = host()
        .folder()
        .join(format!("{}-{:?}-agent", user.name, server.whose))
        .display()
        .to_string();
    let mut agent = Beside::start(Command::new("ssh-agent").args(["-D", "-a", &path]));
    agent.line();
    tests::run(
        Command::new("ssh-add")
            .arg("-q")
            .arg(&user.key)
            .env("SSH_AUTH_SOCK", &path),
    )
    .ok();
    (agent, path)
}

case!(the_agent, |server| {
    let ann = host().user();
    let (_agent, path) = agent(server, &ann);
    let key = ann.public_key();
    let word = key.split(' ').nth(1).unwrap();
    let done = tests::run(server.ssh(&ann, &["-A"]).arg("ssh-add -L; ssh-add -L; stat -c '%U %a' $SSH_AUTH_SOCK $(dirname $SSH_AUTH_SOCK); echo $SSH_AUTH_SOCK").env("SSH_AUTH_SOCK", &path));
    assert_eq!(done.ok().matches(word).count(), 2, "{done:#?}");
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(
        lines[2].starts_with(&ann.name) && lines[3] == format!("{} 700", ann.name),
        "{lines:?}"
    );
    // It leaves nothing.
    let socket = host().path(lines[4]);
    until("the end of the socket", || {
        !socket.exists() && !socket.parent().unwrap().exists()
    });
});

case!(the_agent_logs_in_elsewhere, |server| {
    let ann = host().user();
    let (_agent, path) = agent(server, &ann);
    let next = format!(
        "ssh -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o LogLevel=ERROR -p {} {}@127.0.0.1 echo there",
        server.port, ann.name
    );
    let done = tests::run(
        server
            .ssh(&ann, &["-A"])
            .arg(next)
            .env("SSH_AUTH_SOCK", &path),
    );
    assert_eq!(done.ok(), "there");
});

case!(no_agent_unless_asked_for, |server| {
    let ann = host().user();
    let (_agent, path) = agent(server, &ann);
    let done = tests::run(
        server
            .ssh(&ann, &[])
            .arg("echo =$SSH_AUTH_SOCK")
            .env("SSH_AUTH_SOCK", &path),
    );
    assert_eq!(done.ok(), "=");
});

case!(no_agent_where_it_is_not_allowed, NEITHER, |server| {
    let ann = host().user();
    let (_agent, path) = agent(server, &ann);
    let done = tests::run(
        server
            .ssh(&ann, &["-A"])
            .arg("echo =$SSH_AUTH_SOCK")
            .env("SSH_AUTH_SOCK", &path),
    );
    assert_eq!(done.ok(), "=");
});

/// A display of ours: what it is told first, and what it answers.
struct Display {
    number: u16,
    listener: TcpListener,
}

impl Display {
    fn open() -> Self {
        for number in 60..1000 {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", 6000 + number)) {
                return Self { number, listener };
            }
        }
        panic!("no display");
    }

    /// `ssh -Y` to this display, whose cookie the client's xauth knows.
    fn ssh(&self, server: &Server, user: &User, option: &str) -> Command {
        let home = host()
            .folder()
            .join(format!("{}-{:?}-x", user.name, server.whose));
        std::fs::create_dir_all(&home).unwrap();
        let display = format!("127.0.0.1:{}", self.number);
        let file = home.join("Xauthority");
        let cookie = "00112233445566778899aabbccddeeff";
        tests::run(Command::new("xauth").arg("-f").arg(&file).args([
            "-q",
            "add",
            &display,
            "MIT-MAGIC-COOKIE-1",
            cookie,
        ]))
        .ok();
        let mut ssh = server.ssh(user, &[option]);
        ssh.env("DISPLAY", display).env("XAUTHORITY", file);
        ssh
    }
}

/// The first bytes of an X11 client, with the cookie from xauth, and the answer it gets.
const CLIENT: &str = r#"python3 - <<'X'
import os, socket, subprocess, struct
display = os.environ["DISPLAY"]
cookie = bytes.fromhex(subprocess.check_output(["xauth", "list", display]).split()[-1].decode())
number = int(display.split(":")[1].split(".")[0])
s = socket.create_connection(("localhost", 6000 + number))
name = b"MIT-MAGIC-COOKIE-1"
s.sendall(struct.pack("<BxHHHHxx", 0x6c, 11, 0, len(name), len(cookie)) + name + b"\0\0" + cookie + b"request")
print("answer", s.recv(7, socket.MSG_WAITALL).decode())
X"#;

case!(x11, X11, |server| {
    let ann = host().user();
    let display = Display::open();
    let listener = display.listener.try_clone().unwrap();
    let serving = std::thread::spawn(move || {
        let mut stream = accepted(&listener);
        let mut asked = Vec::new();
        while !asked.ends_with(b"request") {
            let mut part = [0; 512];
            let n = stream.read(&mut part).unwrap();
            assert!(n > 0, "{asked:?}");
            asked.extend(&part[..n]);
        }
        stream.write_all(b"welcome").unwrap();
        asked
    });
    let done = tests::run(display.ssh(server, &ann, "-Y").arg(CLIENT));
    assert_eq!(done.ok(), "answer welcome");
    let asked = serving.join().unwrap();
    // The client has put the display's own cookie in the place of the one that was made up.
    let cookie: Vec<u8> = (0..16).map(|n| n * 0x11).collect();
    assert!(
        asked.windows(16).any(|w| w == cookie) && asked.ends_with(b"request"),
        "{asked:?}"
    );
});

case!(x11_variables_and_what_is_left, X11, |server| {
    let ann = host().user();
    let display = Display::open();
    let done = tests::run(
        display
            .ssh(server, &ann, "-Y")
            .arg("echo $DISPLAY; xauth list | wc -l"),
    );
    assert!(
        done.ok().starts_with("localhost:1") && done.ok().ends_with(".0\n1"),
        "{done:#?}"
    );
    let listening =
        || tests::run(Command::new("ss").args(["-Htln", "sport >= :6010 and sport <= :6059"])).out;
    until("no display is left", || listening().is_empty());
});

case!(x11_on_a_terminal, X11, |server| {
    let ann = host().user();
    let display = Display::open();
    let mut ssh = display.ssh(server, &ann, "-Y");
    let line: Vec<String> = ssh
        .get_args()
        .map(|a| format!("'{}'", a.to_string_lossy()))
        .collect();
    let environment: Vec<String> = ["DISPLAY", "XAUTHORITY"]
        .iter()
        .map(|name| {
            let value = ssh.get_envs().find(|(n, _)| n == name).unwrap().1.unwrap();
            format!("{name}={}", value.to_string_lossy())
        })
        .collect();
    ssh = Command::new("bash");
    ssh.args([
        "-c",
        &format!("{} ssh -tt {}", environment.join(" "), line.join(" ")),
    ]);
    let mut terminal = Terminal::start(&ssh);
    terminal.send("echo d'is'play $DISPLAY\r");
    terminal.expect("display localhost:1");
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
});

case!(no_x11_unless_asked_for, X11, |server| {
    let ann = host().user();
    assert_eq!(server.says(&ann, "echo =$DISPLAY").ok(), "=");
});

case!(no_x11_where_it_is_not_allowed, NEITHER, |server| {
    let ann = host().user();
    let display = Display::open();
    let done = tests::run(display.ssh(server, &ann, "-Y").arg("echo =$DISPLAY"));
    assert_eq!(done.ok(), "=");
});

case!(two_displays_at_once, X11, |server| {
    let ann = host().user();
    let display = Display::open();
    let mut first = Beside::start(display.ssh(server, &ann, "-Y").arg("echo $DISPLAY; cat"));
    let mut second = Beside::start(display.ssh(server, &ann, "-Y").arg("echo $DISPLAY; cat"));
    let (one, two) = (first.line(), second.line());
    assert!(
        one != two && one.starts_with("localhost:") && two.starts_with("localhost:"),
        "{one} {two}"
    );
});
