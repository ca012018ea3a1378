//! Input, output and errors of commands: apart, whole, in both directions, ended from either side.

use sha2::{Digest, Sha256};

use crate::both::{case, host};
use crate::peers::{Beside, until};

case!(output_and_errors_are_apart, |server| {
    let ann = host().user();
    let done = server.says(&ann, "echo out; echo err >&2; echo out2; echo err2 >&2");
    assert_eq!(
        (done.out.as_str(), done.err.as_str()),
        ("out\nout2\n", "err\nerr2\n")
    );
});

case!(each_byte_arrives, |server| {
    let ann = host().user();
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let done = server.feed(&ann, "sha256sum; printf '\\000\\377'", &bytes);
    let sum = Sha256::digest(&bytes);
    let sum: String = sum.iter().map(|b| format!("{b:02x}")).collect();
    assert!(done.out.starts_with(&sum), "{done:#?}");
});

case!(a_round_trip_of_megabytes, |server| {
    let ann = host().user();
    let text: String = (0..300_000).map(|n| format!("line {n}\n")).collect();
    let done = server.feed(&ann, "cat", text.as_bytes());
    assert!(
        done.code == 0 && done.out == text,
        "{} {}",
        done.code,
        done.out.len()
    );
});

case!(output_goes_on_after_the_input_has_ended, |server| {
    let ann = host().user();
    let done = server.feed(&ann, "cat >/dev/null; sleep 0.2; echo after", b"some\n");
    assert_eq!(done.ok(), "after");
});

case!(input_goes_on_after_the_output_has_ended, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &[]);
    let mut client = Beside::start(ssh.arg("echo started; exec >&- 2>&-; cat >got"));
    assert_eq!(client.line(), "started");
    client.say("late\n");
    client.end();
    until("the input", || ann.read("got") == "late\n");
});

case!(errors_after_the_output_has_ended, |server| {
    let ann = host().user();
    let done = server.says(&ann, "exec 1>&-; sleep 0.1; echo late >&2; exit 4");
    assert_eq!((done.code, done.err.as_str()), (4, "late\n"));
});

case!(no_input_is_an_end_of_input, |server| {
    let ann = host().user();
    let done = tests::run(server.ssh(&ann, &["-n"]).arg("cat; echo end"));
    assert_eq!(done.ok(), "end");
});

case!(a_command_that_reads_a_little_of_much, |server| {
    let ann = host().user();
    let much = vec![b'x'; 20_000_000];
    let done = server.feed(&ann, "head -c 10; exit 6", &much);
    assert_eq!((done.code, done.out.as_str()), (6, "xxxxxxxxxx"));
});

case!(a_command_that_closes_its_input, |server| {
    let ann = host().user();
    let much = vec![b'x'; 20_000_000];
    let done = server.feed(&ann, "exec 0<&-; sleep 0.2; echo done", &much);
    assert_eq!(done.ok(), "done");
});

case!(a_pipe_that_breaks_in_the_command, |server| {
    let ann = host().user();
    let done = server.says(&ann, "yes | head -n 2; echo ${PIPESTATUS[0]}");
    assert_eq!(done.ok(), "y\ny\n141");
});

case!(a_reader_that_leaves_ends_the_command, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &[]);
    let mut client = Beside::start(ssh.arg("yes; echo $? >ended"));
    assert_eq!(client.line(), "y");
    drop(client.output.take());
    client.end();
    until("the command's end", || ann.files.join("ended").exists());
});

case!(hundred_megabytes_each_way, |server| {
    let ann = host().user();
    let line = tests::run(
        std::process::Command::new("bash").env("SSH", format!("{} 127.0.0.1", server.ssh_line(&ann))).args([
            "-c",
            "set -e -o pipefail; head -c 100000000 /dev/zero | $SSH sha256sum; $SSH head -c 100000000 /dev/zero | sha256sum",
        ]),
    );
    let sums: Vec<&str> = line.ok().lines().collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{sums:?}");
});

case!(much_error_output_beside_much_output, |server| {
    let ann = host().user();
    let done = server.says(
        &ann,
        "(head -c 3000000 /dev/zero | tr '\\0' e >&2) & head -c 3000000 /dev/zero | tr '\\0' o; wait",
    );
    assert_eq!(
        (done.code, done.out.len(), done.err.len()),
        (0, 3_000_000, 3_000_000)
    );
});

case!(pipes_and_not_a_terminal, |server| {
    let ann = host().user();
    let done = server.says(
        &ann,
        "tty; for n in 0 1 2; do test -t $n && echo $n is; done; ls /proc/self/fd | wc -l",
    );
    assert_eq!(done.ok(), "not a tty\n4");
});
