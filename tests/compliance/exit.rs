//! How commands and shells end: exit codes, signals, what is left behind.

use crate::both::{case, host};
use crate::peers::{Beside, until};

case!(codes, |server| {
    let ann = host().user();
    for code in [0, 1, 2, 42, 127, 128, 254, 255] {
        let done = server.says(&ann, &format!("exit {code}"));
        assert_eq!(done.code, code, "{done:#?}");
    }
});

case!(of_a_program_that_is_not_there, |server| {
    let ann = host().user();
    assert_eq!(server.says(&ann, "no-such-program").code, 127);
    assert_eq!(server.says(&ann, "/etc/passwd").code, 126);
});

case!(after_its_outputs_are_closed, |server| {
    let ann = host().user();
    let done = server.says(&ann, "exec >/dev/null 2>&1 </dev/null; sleep 1; exit 44");
    assert_eq!(done.code, 44, "{done:#?}");
    // EOF need not wait for a status where the client still has something to say.
    let mut ssh = server.ssh(&ann, &[]);
    ssh.arg("exec >&- 2>&-; read line; echo $line > heard; exit 3");
    ssh.stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut ssh = ssh.spawn().unwrap();
    let mut out = Vec::new();
    std::io::Read::read_to_end(ssh.stdout.as_mut().unwrap(), &mut out).unwrap();
    std::io::Write::write_all(ssh.stdin.as_mut().unwrap(), b"word\n").unwrap();
    assert_eq!(ssh.wait().unwrap().code(), Some(3));
    assert_eq!(ann.read("heard"), "word\n");
});

// Clients that share a connection close a channel themselves when both sides have ended.
case!(after_both_ends_on_a_shared_connection, |server| {
    let ann = host().user();
    let log = host()
        .folder()
        .join(format!("{}.{:?}.log", ann.name, server.whose));
    let log = log.display().to_string();
    let shared =
        crate::channels::Shared::start(server, &ann, &["-o", "LogLevel=DEBUG2", "-E", &log]);
    let ends = || {
        std::fs::read_to_string(&log)
            .unwrap()
            .matches("rcvd eof")
            .count()
    };
    for others in [false, true] {
        let cat = others.then(|| {
            let mut cat = Beside::start(shared.ssh(&[]).arg("echo here; exec cat"));
            assert_eq!(cat.line(), "here");
            cat
        });
        let mut ssh = shared.ssh(&[]);
        ssh.arg(
            "exec >&- 2>&-; cat >heard; mv heard ended; until [ -e go ]; do sleep 0.01; done; rm go ended; exit 7",
        );
        ssh.stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let before = ends();
        let mut ssh = ssh.spawn().unwrap();
        until("the end of its outputs", || ends() > before);
        let mut input = ssh.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"word\n").unwrap();
        drop(input);
        until("the end of its input", || ann.files.join("ended").exists());
        assert_eq!(ann.read("ended"), "word\n");
        ann.put("go", "");
        assert_eq!(ssh.wait().unwrap().code(), Some(7), "others: {others}");
        if let Some(mut cat) = cat {
            cat.say("still here\n");
            assert_eq!(cat.line(), "still here");
        }
    }
});

case!(of_a_shell_on_its_input, |server| {
    let ann = host().user();
    let done = server.feed(&ann, "", b"echo hello\nexit 7\n");
    assert_eq!((done.code, done.out.as_str()), (7, "hello\n"));
});

// The kernel starts no such program, and nothing else of the connection suffers.
case!(of_a_command_that_is_too_long, |server| {
    let ann = host().user();
    let shared = crate::channels::Shared::start(server, &ann, &[]);
    let mut cat = Beside::start(shared.ssh(&[]).arg("echo here; exec cat"));
    assert_eq!(cat.line(), "here");
    let words = "x".repeat(100_000);
    let done = tests::run(shared.ssh(&[]).args([":", &words, &words]));
    assert!(
        [1, 255].contains(&done.code) && !done.err.is_empty(),
        "{done:#?}"
    );
    cat.say("still here\n");
    assert_eq!(cat.line(), "still here");
});

case!(of_a_subsystem, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-s"]);
    assert_eq!(tests::run(ssh.arg("sftp")).code, 0);
    let done = tests::run(server.ssh(&ann, &["-s"]).arg("no-such-subsystem"));
    assert_eq!(done.code, 255, "{done:#?}");
});

case!(by_a_signal, |server| {
    let ann = host().user();
    for name in ["TERM", "KILL", "SEGV", "HUP"] {
        let mut ssh = server.ssh(&ann, &["-o", "LogLevel=DEBUG1"]);
        let done = tests::run(ssh.arg(format!("kill -{name} $$")));
        assert_eq!(done.code, 255, "{name}: {done:#?}");
        assert!(done.err.contains("rtype exit-signal"), "{name}: {done:#?}");
    }
});

case!(after_all_output, |server| {
    let ann = host().user();
    let done = server.says(&ann, "head -c 5000000 /dev/zero | tr '\\0' x; exit 9");
    assert_eq!((done.code, done.out.len()), (9, 5_000_000));
});

case!(with_a_program_left_behind, |server| {
    let ann = host().user();
    let done = server.says(
        &ann,
        "sleep 600 >/dev/null 2>&1 </dev/null & echo $!; exit 3",
    );
    assert_eq!(done.code, 3, "{done:#?}");
    // It lives on, as after any logout.
    host().sh(&format!("kill {}", done.out.trim())).ok();
});

case!(waits_for_output_of_a_program_left_behind, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &[]);
    let mut ssh = Beside::start(ssh.arg("exec 3<&0; (read x <&3; echo late) & exit 5"));
    ssh.say("go\n");
    assert_eq!(ssh.line(), "late");
    assert_eq!(ssh.end(), Some(5));
});

case!(of_a_client_that_is_lost_ends_the_command, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &[]);
    let mut client = Beside::start(ssh.arg("echo $$; exec cat"));
    let pid = client.line();
    client.kill();
    until("the end of the command", || {
        host().sh(&format!("kill -0 {pid}")).code != 0
    });
});
