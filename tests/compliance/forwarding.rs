//! Forwarding of ports and sockets, in both directions, and what policy leaves of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;

use tests::{Server, Terminal, User, free_port};

use crate::both::{Config, PLAIN, case, host};
use crate::peers::{Beside, Echoes, accepted, connected, echo, echo_unix, until};

const NONE: Config = Config {
    theirs: "AllowTcpForwarding no\nAllowStreamLocalForwarding no\n",
    ours: "tcp-forwarding = \"no\"\nstream-local-forwarding = \"no\"\n",
    ..PLAIN
};
const LOCAL: Config = Config {
    theirs: "AllowTcpForwarding local\nAllowStreamLocalForwarding local\n",
    ours: "tcp-forwarding = \"local\"\nstream-local-forwarding = \"local\"\n",
    ..PLAIN
};
const REMOTE: Config = Config {
    theirs: "AllowTcpForwarding remote\nAllowStreamLocalForwarding remote\n",
    ours: "tcp-forwarding = \"remote\"\nstream-local-forwarding = \"remote\"\n",
    ..PLAIN
};
/// Ports of nobody: what is permitted is refused by the network, not by the server.
const LISTED: Config = Config {
    theirs: "PermitOpen 127.0.0.1:* localhost:1\nPermitListen 19871 localhost:19872\n",
    ours: "permit-open = [\"127.0.0.1:*\", \"localhost:1\"]\npermit-listen = [\"19871\", \"localhost:19872\"]\n",
    ..PLAIN
};
const GATEWAY: Config = Config {
    theirs: "GatewayPorts yes\n",
    ours: "gateway-ports = \"yes\"\n",
    ..PLAIN
};
const SPECIFIED: Config = Config {
    theirs: "GatewayPorts clientspecified\n",
    ours: "gateway-ports = \"client-specified\"\n",
    ..PLAIN
};

/// A client that forwards, and is there until this is dropped.
fn forwarding(server: &Server, user: &User, options: &[&str]) -> Beside {
    let mut arguments = vec!["-o", "ExitOnForwardFailure=yes"];
    arguments.extend(options);
    let mut client = Beside::start(server.ssh(user, &arguments).arg("echo in; cat"));
    assert_eq!(client.line(), "in");
    client
}

/// Whether a forwarding is refused, the login as such not.
fn refused(server: &Server, user: &User, options: &[&str]) -> bool {
    let mut arguments = vec!["-o", "ExitOnForwardFailure=yes"];
    arguments.extend(options);
    let done = tests::run(server.ssh(user, &arguments).arg("true"));
    assert_eq!(server.says(user, "true").code, 0);
    done.code == 255
}

case!(local, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(server, &ann, &["-L", &format!("{port}:{}", echo())]);
    for word in ["one", "two", "three"] {
        assert_eq!(connected(port).echoed(word.as_bytes()), word.as_bytes());
    }
});

case!(local_by_name, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(
        server,
        &ann,
        &["-L", &format!("{port}:localhost:{}", echo().port())],
    );
    assert_eq!(connected(port).echoed(b"word"), b"word");
});

case!(local_of_megabytes_in_both_directions, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(server, &ann, &["-L", &format!("{port}:{}", echo())]);
    let mut stream = connected(port);
    let mut writer = stream.try_clone().unwrap();
    let much: Vec<u8> = (0..=250).cycle().take(30_000_000).collect();
    let sent = much.clone();
    let feeder = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.end();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    feeder.join().unwrap();
    assert!(back == much, "{}", back.len());
});

case!(local_ends_one_direction_at_a_time, |server| {
    let ann = host().user();
    let port = free_port();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let _client = forwarding(server, &ann, &["-L", &format!("{port}:{there}")]);
    let mut near = connected(port);
    let mut far = accepted(&listener);
    // The near end says all it has; the far end reads it to its end, and answers after it.
    near.write_all(b"question").unwrap();
    near.end();
    let mut question = String::new();
    far.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    far.write_all(b"answer").unwrap();
    drop(far);
    let mut answer = String::new();
    near.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    // And the other way round.
    let mut near = connected(port);
    let mut far = accepted(&listener);
    far.write_all(b"first").unwrap();
    far.end();
    let mut first = String::new();
    near.read_to_string(&mut first).unwrap();
    assert_eq!(first, "first");
    near.write_all(b"late").unwrap();
    near.end();
    let mut late = String::new();
    far.read_to_string(&mut late).unwrap();
    assert_eq!(late, "late");
});

case!(local_to_nobody, |server| {
    let ann = host().user();
    let (port, nobody) = (free_port(), free_port());
    let _client = forwarding(server, &ann, &["-L", &format!("{port}:127.0.0.1:{nobody}")]);
    let mut stream = connected(port);
    let mut back = Vec::new();
    let _ = stream.read_to_end(&mut back);
    assert!(back.is_empty());
    // The connection lives on.
    let mut again = connected(port);
    let _ = again.read_to_end(&mut back);
});

case!(local_of_fifty_at_once, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(server, &ann, &["-L", &format!("{port}:{}", echo())]);
    let mut streams: Vec<TcpStream> = (0..50).map(|_| connected(port)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        stream.write_all(format!("{n:04}").as_bytes()).unwrap();
    }
    for (n, stream) in streams.iter_mut().enumerate().rev() {
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, format!("{n:04}").as_bytes());
    }
});

case!(a_forward_that_does_not_read_stops_no_other, |server| {
    let ann = host().user();
    let port = free_port();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let other = free_port();
    let (stalls, echoes) = (format!("{port}:{there}"), format!("{other}:{}", echo()));
    let mut client = forwarding(server, &ann, &["-L", &stalls, "-L", &echoes]);
    let near = connected(port);
    let far = accepted(&listener);
    near.set_nonblocking(true).unwrap();
    // Writes until nothing more is taken.
    let mut idle = 0;
    while idle < 50 {
        match (&near).write(&[0; 65536]) {
            Ok(n) => idle = usize::from(n == 0),
            Err(_) => {
                idle += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
    for _ in 0..10 {
        assert_eq!(connected(other).echoed(b"word"), b"word");
    }
    client.say("alive\n");
    assert_eq!(client.line(), "alive");
    drop(far);
});

case!(dynamic, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(server, &ann, &["-D", &port.to_string()]);
    let there = echo();
    for by_name in [false, true] {
        let mut stream = connected(port);
        stream.write_all(&[5, 1, 0]).unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [5, 0]);
        let mut request = vec![5, 1, 0];
        if by_name {
            request.extend([3, 9]);
            request.extend(b"localhost");
        } else {
            request.extend([1, 127, 0, 0, 1]);
        }
        request.extend(there.port().to_be_bytes());
        stream.write_all(&request).unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..2], [5, 0]);
        assert_eq!(stream.echoed(b"word"), b"word");
    }
});

case!(standard_input_and_output, |server| {
    let ann = host().user();
    let done = tests::run_with(
        &mut server.ssh(&ann, &["-W", &echo().to_string()]),
        b"word",
        tests::SOON,
    );
    assert_eq!(done.ok(), "word");
});

case!(jump, |server| {
    let ann = host().user();
    // ssh -J to the same server, as to a compute node behind it.
    let mut ssh = Command::new("ssh");
    ssh.args([
        "-o",
        &format!(
            "ProxyCommand={} -W 127.0.0.1:{} 127.0.0.1",
            server.ssh_line(&ann),
            server.port
        ),
    ]);
    ssh.args(server.ssh(&ann, &[]).get_args())
        .args(["cat; echo there; exit 5"]);
    let done = tests::run_with(&mut ssh, b"through\n", tests::SOON);
    assert_eq!((done.code, done.out.as_str()), (5, "through\nthere\n"));
});

case!(remote, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(server, &ann, &["-R", &format!("{port}:{}", echo())]);
    for word in ["one", "two"] {
        assert_eq!(connected(port).echoed(word.as_bytes()), word.as_bytes());
    }
});

case!(remote_of_megabytes, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(server, &ann, &["-R", &format!("{port}:{}", echo())]);
    let mut stream = connected(port);
    let mut writer = stream.try_clone().unwrap();
    let feeder = std::thread::spawn(move || {
        writer.write_all(&vec![b'x'; 20_000_000]).unwrap();
        writer.end();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    feeder.join().unwrap();
    assert_eq!(back.len(), 20_000_000);
});

case!(remote_on_any_port, |server| {
    let ann = host().user();
    let ssh = server.ssh(&ann, &["-R", &format!("0:{}", echo())]);
    // The port is told on standard error at the level of info.
    let line: Vec<String> = ssh
        .get_args()
        .map(|a| format!("'{}'", a.to_string_lossy()))
        .collect();
    let line = line.join(" ").replace("LogLevel=ERROR", "LogLevel=INFO");
    let mut client = Beside::start(
        Command::new("bash").args(["-c", &format!("exec ssh {line} 'echo in; cat' 2>&1")]),
    );
    let told = client.line();
    let port = told
        .split_whitespace()
        .nth(2)
        .and_then(|word| word.parse().ok());
    let port: u16 = port.unwrap_or_else(|| panic!("{told}"));
    assert_eq!(connected(port).echoed(b"word"), b"word");
});

case!(remote_listens_on_loopback_alone, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(server, &ann, &["-R", &format!("*:{port}:{}", echo())]);
    connected(port);
    let listening = listening(port);
    assert!(
        listening
            .iter()
            .all(|a| a.starts_with("127.0.0.1:") || a.starts_with("[::1]:")),
        "{listening:?}"
    );
});

case!(remote_on_all_addresses, GATEWAY, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(
        server,
        &ann,
        &["-R", &format!("localhost:{port}:{}", echo())],
    );
    connected(port);
    let listening = listening(port);
    assert!(
        listening
            .iter()
            .any(|a| a.starts_with("0.0.0.0:") || a.starts_with("*:")),
        "{listening:?}"
    );
});

case!(remote_where_the_client_says, SPECIFIED, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(
        server,
        &ann,
        &["-R", &format!("127.0.0.2:{port}:{}", echo())],
    );
    let mut stream = TcpStream::connect(("127.0.0.2", port)).unwrap();
    assert_eq!(stream.echoed(b"word"), b"word");
    assert_eq!(listening(port), [format!("127.0.0.2:{port}")]);
});

fn listening(port: u16) -> Vec<String> {
    let done = tests::run(Command::new("ss").args(["-Htln", &format!("sport = :{port}")]));
    done.ok()
        .lines()
        .map(|line| line.split_whitespace().nth(3).unwrap().to_owned())
        .collect()
}

case!(remote_on_a_port_that_is_taken, |server| {
    let ann = host().user();
    let taken = echo().port();
    let _both = std::net::TcpListener::bind(("::1", taken)).unwrap();
    assert!(refused(
        server,
        &ann,
        &["-R", &format!("{taken}:127.0.0.1:1")]
    ));
});

case!(remote_on_a_port_of_the_system, |server| {
    let ann = host().user();
    assert!(refused(server, &ann, &["-R", "907:127.0.0.1:1"]));
});

case!(remote_ends_with_the_connection, |server| {
    let ann = host().user();
    let port = free_port();
    let mut client = forwarding(server, &ann, &["-R", &format!("{port}:{}", echo())]);
    connected(port);
    client.kill();
    until("the end of the listener", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
});

case!(remote_cancelled, |server| {
    let ann = host().user();
    let port = free_port();
    let shared = crate::channels::Shared::start(server, &ann, &[]);
    let forward = format!("{port}:{}", echo());
    tests::run(&mut shared.ssh(&["-O", "forward", "-R", &forward])).ok();
    assert_eq!(connected(port).echoed(b"word"), b"word");
    tests::run(&mut shared.ssh(&["-O", "cancel", "-R", &forward])).ok();
    until("the end of the listener", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    assert_eq!(tests::run(shared.ssh(&[]).arg("echo on")).ok(), "on");
});

case!(remote_dynamic, |server| {
    let ann = host().user();
    let port = free_port();
    let _client = forwarding(server, &ann, &["-R", &port.to_string()]);
    let mut stream = connected(port);
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [5, 0]);
});

case!(unix_local, |server| {
    let ann = host().user();
    let (there, here) = (
        sockets(server, &ann, "there"),
        sockets(server, &ann, "here"),
    );
    echo_unix(&there);
    let _client = forwarding(
        server,
        &ann,
        &["-L", &format!("{}:{}", here.display(), there.display())],
    );
    assert_eq!(UnixStream::connect(&here).unwrap().echoed(b"word"), b"word");
});

case!(unix_local_that_the_user_may_not_open, |server| {
    use std::os::unix::fs::PermissionsExt;
    let ann = host().user();
    let (there, port) = (sockets(server, &ann, "there"), free_port());
    echo_unix(&there);
    std::fs::set_permissions(&there, PermissionsExt::from_mode(0o600)).unwrap();
    let _client = forwarding(
        server,
        &ann,
        &["-L", &format!("{port}:{}", there.display())],
    );
    let mut back = Vec::new();
    let _ = connected(port).read_to_end(&mut back);
    assert!(back.is_empty());
});

case!(unix_remote, |server| {
    let ann = host().user();
    let here = sockets(server, &ann, "here");
    echo_unix(&here);
    let there = ann.home.join("sock");
    let client = forwarding(
        server,
        &ann,
        &["-R", &format!("{}:{}", there.display(), here.display())],
    );
    let inside = ann.files.join("sock");
    assert_eq!(
        UnixStream::connect(&inside).unwrap().echoed(b"word"),
        b"word"
    );
    let shown = server.says(&ann, "stat -c '%U %a' sock");
    assert_eq!(shown.ok(), format!("{} 600", ann.name));
    drop(client);
});

case!(unix_remote_over_a_socket_that_is_left, |server| {
    let ann = host().user();
    let here = sockets(server, &ann, "here");
    echo_unix(&here);
    ann.put("sock", "");
    let there = format!("{}:{}", ann.home.join("sock").display(), here.display());
    assert!(refused(server, &ann, &["-R", &there]));
});

fn sockets(server: &Server, user: &User, name: &str) -> std::path::PathBuf {
    host()
        .folder()
        .join(format!("{}-{:?}-{name}", user.name, server.whose))
}

case!(none_is_allowed, NONE, |server| {
    let ann = host().user();
    let (port, there) = (free_port(), echo());
    assert!(refused(server, &ann, &["-R", &format!("{port}:{there}")]));
    assert!(refused(
        server,
        &ann,
        &["-R", &format!("/tmp/{}:{there}", ann.name)]
    ));
    let done = tests::run_with(
        &mut server.ssh(&ann, &["-o", "LogLevel=INFO", "-W", &there.to_string()]),
        b"word",
        tests::SOON,
    );
    assert!(done.code == 255 && done.out.is_empty(), "{done:#?}");
    assert!(
        done.err.contains("administratively prohibited"),
        "{done:#?}"
    );
});

case!(local_alone_is_allowed, LOCAL, |server| {
    let ann = host().user();
    let there = echo();
    assert!(refused(
        server,
        &ann,
        &["-R", &format!("{}:{there}", free_port())]
    ));
    let done = tests::run_with(
        &mut server.ssh(&ann, &["-W", &there.to_string()]),
        b"word",
        tests::SOON,
    );
    assert_eq!(done.ok(), "word");
});

case!(remote_alone_is_allowed, REMOTE, |server| {
    let ann = host().user();
    let (port, there) = (free_port(), echo());
    let done = tests::run_with(
        &mut server.ssh(&ann, &["-W", &there.to_string()]),
        b"word",
        tests::SOON,
    );
    assert_eq!(done.code, 255);
    let _client = forwarding(server, &ann, &["-R", &format!("{port}:{there}")]);
    assert_eq!(connected(port).echoed(b"word"), b"word");
});

case!(what_is_listed, LISTED, |server| {
    let ann = host().user();
    let there = echo();
    let through = |to: &str| {
        tests::run_with(
            &mut server.ssh(&ann, &["-o", "LogLevel=INFO", "-W", to]),
            b"word",
            tests::SOON,
        )
    };
    assert_eq!(through(&there.to_string()).ok(), "word");
    let by_name = through(&format!("localhost:{}", there.port()));
    assert!(
        by_name.err.contains("administratively prohibited"),
        "{by_name:#?}"
    );
    let nobody = through("localhost:1");
    assert!(nobody.err.contains("connect failed"), "{nobody:#?}");
    assert!(!refused(server, &ann, &["-R", "19871:127.0.0.1:1"]));
    assert!(!refused(
        server,
        &ann,
        &["-R", "localhost:19872:127.0.0.1:1"]
    ));
    assert!(refused(server, &ann, &["-R", "19873:127.0.0.1:1"]));
});

case!(a_terminal_beside_forwards, |server| {
    let ann = host().user();
    let port = free_port();
    let mut terminal =
        Terminal::start(&server.ssh(&ann, &["-tt", "-L", &format!("{port}:{}", echo())]));
    terminal.send("echo up' 'now\r");
    terminal.expect("up now");
    assert_eq!(connected(port).echoed(b"word"), b"word");
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
});
