//! What nobody uses is closed: channels by kind, connections without channels.

use std::io::{Read, Write};

use tests::{Server, Terminal, Whose};

use crate::both::{Config, PLAIN, case, host};
use crate::channels::Shared;
use crate::peers::{Beside, connected, echo, echo_unix, until};

const CHANNELS: Config = Config {
    theirs: "ChannelTimeout session:command=3 direct-*=1\n",
    ours: "channel-timeout = [\"session:command=3s\", \"direct-*=1s\"]\n",
    ..PLAIN
};
const SHELLS: Config = Config {
    theirs: "ChannelTimeout session:shell=1 session:subsystem:sftp=1\n",
    ours: "channel-timeout = [\"session:shell=1s\", \"session:subsystem:sftp=1s\"]\n",
    ..PLAIN
};
const UNUSED: Config = Config {
    theirs: "UnusedConnectionTimeout 2\n",
    ours: "unused-connection-timeout = \"2s\"\n",
    ..PLAIN
};
const BY_USER: Config = Config {
    theirs: "Match User short*\n UnusedConnectionTimeout 2\n",
    ours: "[[match]]\nuser = [\"short*\"]\nunused-connection-timeout = \"2s\"\nchannel-timeout = [\"session:*=1s\"]\n",
    ..PLAIN
};

case!(of_a_silent_command, CHANNELS, |server| {
    let ann = host().user();
    let done = server.says(&ann, "sleep 60; exit 23");
    assert_eq!((done.code, done.out.as_str()), (255, ""), "{done:#?}");
    // Each byte begins the time anew.
    let done = server.says(
        &ann,
        "for n in 1 2 3 4 5; do sleep 1; echo $n; done; exit 23",
    );
    assert_eq!(done.code, 23, "{done:#?}");
});

case!(leaves_other_kinds_alone, SHELLS, |server| {
    let ann = host().user();
    let done = server.says(&ann, "sleep 3; exit 23");
    assert_eq!(done.code, 23, "{done:#?}");
});

case!(of_a_shell_and_a_subsystem, SHELLS, |server| {
    let ann = host().user();
    let terminal = Terminal::start(&server.ssh(&ann, &["-tt"]));
    assert_eq!(terminal.wait(), Some(255));
    let mut sftp = Beside::start(server.ssh(&ann, &["-s"]).arg("sftp"));
    assert_eq!(sftp.wait(), Some(255));
});

fn forwarded(server: &Server, target: &str) {
    let ann = host().user();
    let port = tests::free_port();
    let forward = format!("127.0.0.1:{port}:{target}");
    let _client = Beside::start(&mut server.ssh(&ann, &["-N", "-L", &forward]));
    // It carries, and when nothing is said any more it ends by itself.
    let mut stream = connected(port);
    stream.write_all(b"word").unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"word");
}

case!(of_forwarded_connections, CHANNELS, |server| {
    forwarded(server, &echo().to_string());
    let socket = host().folder().join(format!("silent.{:?}", server.whose));
    echo_unix(&socket);
    forwarded(server, &socket.display().to_string());
});

case!(of_a_connection_without_channels, UNUSED, |server| {
    let ann = host().user();
    let mut idle = Beside::start(&mut server.ssh(&ann, &["-N", "-R", "0:127.0.0.1:9"]));
    assert_eq!(idle.wait(), Some(255));
    // Not while a program runs, and then all the same.
    let shared = Shared::start(server, &ann, &[]);
    let done = tests::run(shared.ssh(&[]).arg("sleep 4; echo there"));
    assert_eq!(done.out, "there\n", "{done:#?}");
    until("the end of the connection", || {
        tests::run(&mut shared.ssh(&["-O", "check"])).code != 0
    });
});

case!(by_user, BY_USER, |server| {
    let short = host().add(&tests::Account::named(
        &format!("short{:?}", server.whose).to_lowercase(),
    ));
    // sshd 9.2 asks for ChannelTimeout before it looks at Match.
    if server.whose == Whose::Ours {
        let done = server.says(&short, "sleep 60");
        assert_eq!(done.code, 255, "{done:#?}");
    }
    let mut idle = Beside::start(&mut server.ssh(&short, &["-N"]));
    assert_eq!(idle.wait(), Some(255));
    let ann = host().user();
    let done = server.says(&ann, "sleep 3; exit 23");
    assert_eq!(done.code, 23, "{done:#?}");
});
