//! Forwarded ports and sockets with OpenSSH's client: bytes both ways, half-closed connections, what
//! refusals say, and what the policy forbids.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use support::{Gateway, SOON, possible, until};

/// Answers each connection with its bytes upside down, once they have ended.
fn mirror(streams: impl Iterator<Item = impl Read + Write> + Send + 'static) {
    thread::spawn(move || {
        for mut stream in streams {
            let mut bytes = Vec::new();
            if stream.read_to_end(&mut bytes).is_ok() {
                bytes.reverse();
                let _ = stream.write_all(&bytes);
            }
        }
    });
}

fn tcp_mirror() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    mirror(std::iter::from_fn(move || Some(listener.accept().ok()?.0)));
    port
}

/// Says `bytes` on the stream, ends, and hears the rest.
fn said(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let all = bytes.to_owned();
    let sent = thread::spawn(move || {
        writer.write_all(&all).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    sent.join().unwrap();
    back
}

/// `ssh -W` with these bytes on its standard input.
fn through(gateway: &Gateway, target: &str, bytes: &[u8]) -> Output {
    let mut ssh = gateway
        .client(&["-o", "LogLevel=INFO", "-W", target])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A refused forward reads nothing.
    let _ = ssh.stdin.take().unwrap().write_all(bytes);
    ssh.wait_with_output().unwrap()
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A client that stays; killed when dropped.
struct Stays(Child);

impl Drop for Stays {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `ssh -N` with these options.
fn stays(gateway: &Gateway, options: &[&str]) -> Stays {
    let mut ssh = gateway.client(&["-N", "-o", "ExitOnForwardFailure=yes"]);
    Stays(ssh.args(options).stderr(Stdio::piped()).spawn().unwrap())
}

/// A port that nobody has now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A port that is taken on both loopback addresses.
fn both_families() -> ([TcpListener; 2], u16) {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind(("::1", port)) {
            return ([first, second], port);
        }
    }
}

fn connects(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn local_ports() {
    if !possible("local_ports") {
        return;
    }
    let gateway = Gateway::start("");
    let port = tcp_mirror();
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut upside_down = big.clone();
    upside_down.reverse();

    // The end of one direction leaves the other open.
    let output = through(&gateway, &format!("127.0.0.1:{port}"), &big);
    assert_eq!(output.stdout, upside_down, "{}", error_of(&output));
    // A name; the first of its addresses need not answer.
    let output = through(&gateway, &format!("localhost:{port}"), b"abc");
    assert_eq!(output.stdout, b"cba", "{}", error_of(&output));

    let local = free_port();
    let _ssh = stays(&gateway, &["-L", &format!("{local}:127.0.0.1:{port}")]);
    until("the client listens", || connects(local));
    let many: Vec<_> = (0..20)
        .map(|_| {
            let big = big.clone();
            thread::spawn(move || said(TcpStream::connect(("127.0.0.1", local)).unwrap(), &big))
        })
        .collect();
    for back in many {
        assert!(back.join().unwrap() == upside_down);
    }

    // SOCKS, as VS Code Remote has it.
    let local = free_port();
    let _ssh = stays(&gateway, &["-D", &local.to_string()]);
    until("the client listens", || connects(local));
    let mut stream = TcpStream::connect(("127.0.0.1", local)).unwrap();
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, 9];
    request.extend(b"localhost");
    request.extend(port.to_be_bytes());
    stream.write_all(&request).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!((answer[0], answer[1], answer[3]), (5, 0, 0));
    assert_eq!(said(stream, b"socks"), b"skcos");
}

#[test]
fn refusals_say_why() {
    if !possible("refusals_say_why") {
        return;
    }
    let gateway = Gateway::start("permit-open = [\"localhost:*\", \"127.0.0.1:7\"]");
    let port = tcp_mirror();
    let target = format!("127.0.0.1:{port}");
    for (target, reason) in [
        (&*target, "administratively prohibited"),
        ("[::1]:7", "administratively prohibited"),
        ("127.0.0.1:7", "connect failed"),
    ] {
        let output = through(&gateway, target, b"");
        let error = error_of(&output);
        assert!(
            output.status.code() == Some(255) && error.contains(reason),
            "{target}: {error}"
        );
    }
    let output = through(&gateway, &format!("localhost:{port}"), b"abc");
    assert_eq!(output.stdout, b"cba", "{}", error_of(&output));
    gateway.logged(
        &format!("forwarding to '127.0.0.1' port {port} is not permitted"),
        1,
    );

    let gateway = Gateway::start("tcp-forwarding = \"remote\"\nstream-local-forwarding = \"no\"");
    let output = through(&gateway, &format!("localhost:{port}"), b"");
    assert!(error_of(&output).contains("administratively prohibited"));
    let here = gateway.folder.path().join("here");
    let _ssh = stays(
        &gateway,
        &["-L", &format!("{}:/run/some.socket", here.display())],
    );
    until("the client listens", || here.exists());
    let mut stream = UnixStream::connect(&here).unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    gateway.logged("forwarding to '/run/some.socket' is not permitted", 1);
}

#[test]
fn remote_ports() {
    if !possible("remote_ports") {
        return;
    }
    let gateway = Gateway::start("permit-listen = [\"localhost:*\"]");
    let port = tcp_mirror();
    // A free port, which the client learns.
    let mut ssh = stays(&gateway, &["-R", &format!("0:127.0.0.1:{port}"), "-v"]);
    let mut lines = BufReader::new(ssh.0.stderr.take().unwrap()).lines();
    let allocated: u16 = lines
        .find_map(|line| {
            let line = line.unwrap();
            let rest = line.strip_prefix("Allocated port ")?;
            rest.split(' ').next()?.parse().ok()
        })
        .unwrap();
    thread::spawn(move || lines.count());
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut upside_down = big.clone();
    upside_down.reverse();
    for address in ["127.0.0.1", "::1"] {
        let stream = TcpStream::connect((address, allocated)).unwrap();
        assert!(said(stream, &big) == upside_down, "{address}");
    }
    // Not on other addresses, whatever the client wants.
    assert!(TcpStream::connect(("127.0.0.2", allocated)).is_err());
    drop(ssh);
    until("the port is free again", || !connects(allocated));

    // What another has, a port of root's, what the policy does not name.
    let (taken, port) = both_families();
    let unprivileged = fs::read("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let privileged = (unprivileged != b"0\n").then(|| "1".to_owned());
    let elsewhere = format!("*:{}", free_port());
    for remote in [Some(port.to_string()), privileged, Some(elsewhere)] {
        let Some(remote) = remote else { continue };
        let forward = format!("{remote}:127.0.0.1:{port}");
        let mut ssh = stays(&gateway, &["-R", &forward]);
        until("the client gives up", || {
            ssh.0.try_wait().unwrap().is_some()
        });
        assert_eq!(ssh.0.wait().unwrap().code(), Some(255), "{forward}");
    }
    drop(taken);
}

#[test]
fn sockets_in_the_file_system() {
    if !possible("sockets_in_the_file_system") {
        return;
    }
    let gateway = Gateway::start("");
    let ours = tempfile::tempdir().unwrap();
    let here = ours.path().join("here");
    let home = gateway.folder.path().join("home");
    let there = home.join("there");

    // ssh -L: the gateway's user connects.
    let listener = UnixListener::bind(&there).unwrap();
    fs::set_permissions(&there, PermissionsExt::from_mode(0o777)).unwrap();
    mirror(std::iter::from_fn(move || Some(listener.accept().ok()?.0)));
    let forward = format!("{}:{}", here.display(), there.display());
    let ssh = stays(&gateway, &["-L", &forward]);
    until("the client listens", || UnixStream::connect(&here).is_ok());
    let mut stream = UnixStream::connect(&here).unwrap();
    stream.write_all(b"unix").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "xinu");
    drop(ssh);
    fs::remove_file(&there).unwrap();
    fs::remove_file(&here).unwrap();

    // ssh -R: the socket is the user's alone, and goes with the login.
    let listener = UnixListener::bind(&here).unwrap();
    mirror(std::iter::from_fn(move || Some(listener.accept().ok()?.0)));
    let forward = format!("{}:{}", there.display(), here.display());
    let ssh = stays(&gateway, &["-R", &forward]);
    until("the gateway listens", || there.exists());
    let found = fs::metadata(&there).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&there).unwrap();
    stream.write_all(b"remote").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "etomer");
    // What exists is not replaced.
    let mut second = stays(&gateway, &["-R", &forward]);
    until("the client gives up", || {
        second.0.try_wait().unwrap().is_some()
    });
    assert_eq!(second.0.wait().unwrap().code(), Some(255));
    assert!(UnixStream::connect(&there).is_ok());
    drop(ssh);
    until("the path is gone", || !there.exists());
}

#[test]
fn the_agent() {
    if !possible("the_agent") {
        return;
    }
    let gateway = Gateway::start("");
    let ours = tempfile::tempdir().unwrap();
    let socket = ours.path().join("agent");
    let mut agent = Command::new("ssh-agent");
    let agent = Stays(
        agent
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    until("the agent listens", || socket.exists());
    let run = |mut command: Command| {
        let output = command.env("SSH_AUTH_SOCK", &socket).output().unwrap();
        assert!(output.status.success(), "{}", error_of(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut add = Command::new("ssh-add");
    add.arg(gateway.folder.path().join("home/.ssh/id_ed25519"));
    run(add);
    let script = "ssh-add -l && stat -c '%a %U' $SSH_AUTH_SOCK $(dirname $SSH_AUTH_SOCK) && \
                  echo $SSH_AUTH_SOCK";
    let mut ssh = gateway.client(&["-A"]);
    ssh.arg(script);
    let said = run(ssh);
    assert!(said.contains("ED25519"), "{said}");
    assert!(said.contains("600 carol\n700 carol\n"), "{said}");
    let path = said.lines().last().unwrap().to_owned();
    until("nothing is left", || {
        !fs::exists(std::path::Path::new(&path).parent().unwrap()).unwrap()
    });
    assert_eq!(gateway.says("echo [$SSH_AUTH_SOCK]"), "[]\n");
    drop(agent);
}

#[test]
fn displays() {
    if !possible("displays") {
        return;
    }
    if !fs::exists("/usr/bin/xauth").unwrap() {
        println!("skipped: displays needs xauth");
        return;
    }
    let gateway = Gateway::start("");
    let ours = tempfile::tempdir().unwrap();
    // What stands for an X server: the client connects to it once the cookie was right.
    let (server, display) = (6200..6300)
        .find_map(|port| {
            let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
            Some((listener, format!("127.0.0.1:{}", port - 6000)))
        })
        .unwrap();
    let seen = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut setup = [0; 12 + 20 + 16];
        stream.read_exact(&mut setup).unwrap();
        stream.write_all(b"welcome").unwrap();
        setup
    });
    // An X program: it takes its cookie from xauth and shows it, X Window System Protocol section 8.
    let program = r#"
        echo $DISPLAY
        xauth list | head -1
        cookie=$(xauth list | head -1 | sed 's/.* //')
        port=$((6000 + $(echo $DISPLAY | sed 's/.*://; s/\..*//')))
        exec 3<>/dev/tcp/127.0.0.1/$port
        {
            printf 'l\0\13\0\0\0\22\0\20\0\0\0MIT-MAGIC-COOKIE-1\0\0'
            printf "$(echo $cookie | sed 's/../\\x&/g')"
        } >&3
        head -c 7 <&3
    "#;
    let authority = ours.path().join("authority");
    let run = |options: &[&str], command: &str| {
        let mut ssh = gateway.client(options);
        let ssh = ssh
            .arg(command)
            .env("DISPLAY", &display)
            .env("XAUTHORITY", &authority);
        ssh.stdin(Stdio::null()).output().unwrap()
    };
    let added = Command::new("xauth")
        .args(["-q", "-f", authority.to_str().unwrap(), "add", &display])
        .args(["MIT-MAGIC-COOKIE-1", "0123456789abcdef0123456789abcdef"])
        .status();
    assert!(added.unwrap().success());
    let script = format!("bash -c {}", shell_word(program));
    let output = run(&["-Y"], &script);
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(
        said.starts_with("localhost:1") && said.ends_with("welcome"),
        "{said} {}",
        error_of(&output)
    );
    assert!(
        !said.contains("0123456789abcdef"),
        "the real cookie stays with the client"
    );
    let setup = seen.join().unwrap();
    assert_eq!(
        &setup[32..],
        [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(2)
    );
    // The next login has none.
    assert_eq!(gateway.says("echo [$DISPLAY]"), "[]\n");

    let gateway = Gateway::start("x11-forwarding = false");
    let mut ssh = gateway.client(&["-Y", "-o", "LogLevel=INFO"]);
    let ssh = ssh
        .arg("echo [$DISPLAY]")
        .env("DISPLAY", &display)
        .env("XAUTHORITY", &authority);
    let output = ssh.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.stdout, b"[]\n");
    assert!(error_of(&output).contains("X11 forwarding request failed"));
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
