//! The wrapper against real programs: in a mount namespace of its own, a system program stands under
//! a client's name, is run once directly and once through the wrapper, and must see the same.
//! Slurm's own clients behind the wrapper are the lab's part.

#![allow(clippy::unwrap_used)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

const WRAPPER: &str = env!("CARGO_BIN_EXE_slurm-client");

/// Lays out the namespace, then runs the rest of its arguments: `$1` is the program that plays the
/// real client, `$2` the client's name. In `/opt` the wrapper's link and the real client stand side
/// by side, so that only the first part of a command differs between the two runs.
const LAY_OUT: &str = r#"
program=$1 client=$2; shift 2
mount -t tmpfs none /opt
mkdir -p /opt/slurm/bin /opt/wrapped
ln -s "$WRAPPER" /opt/wrapped/"$client"
[ "$program" = none ] || cp -L "$program" /opt/slurm/bin/"$client"
if [ -e /usr/bin/"$client" ]; then
    if [ "$program" = none ]; then mount --bind "$WRAPPER" /usr/bin/"$client"
    else mount --bind /opt/slurm/bin/"$client" /usr/bin/"$client"; fi
fi
unset WRAPPER
"#;

/// The command that makes a namespace here, or nothing where the kernel allows none.
fn namespace(test: &str) -> Option<Command> {
    for flags in ["--mount", "--map-root-user"] {
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["--mount", flags]);
            command
        };
        let tried = unshare()
            .args(["mount", "-t", "tmpfs", "none", "/opt"])
            .output();
        if tried.is_ok_and(|output| output.status.success()) {
            return Some(unshare());
        }
    }
    println!("skipped: {test}: no mount namespace can be made here");
    None
}

/// One way of calling a client.
struct Call {
    /// The program that plays the real client.
    program: &'static str,
    client: &'static str,
    arguments: Vec<OsString>,
    /// Shell text before the client's path, such as `exec 0<&-;` or `env --ignore-signal=PIPE`.
    before: &'static str,
}

impl Call {
    fn command(&self, mut unshare: Command, through: &str) -> Command {
        let script = format!(
            "set -eu\n{LAY_OUT}\n{} /opt/{through}/{} \"$@\"",
            self.before, self.client
        );
        unshare.args(["sh", "-c", &script, "sh", self.program, self.client]);
        unshare
            .args(&self.arguments)
            .env("WRAPPER", WRAPPER)
            .stdin(Stdio::null());
        unshare
    }

    fn run(&self, unshare: Command, through: &str) -> Output {
        self.command(unshare, through).output().unwrap()
    }

    /// Runs it both ways; the two must agree but for the path in the first argument.
    fn agrees(&self, test: &str) -> Option<Output> {
        let directly = self.run(namespace(test)?, "slurm/bin");
        let wrapped = self.run(namespace(test)?, "wrapped");
        let neutral = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace("/opt/slurm/bin/", "/opt/wrapped/")
        };
        assert_eq!(
            neutral(&directly.stderr),
            neutral(&wrapped.stderr),
            "{test}"
        );
        assert_eq!(
            neutral(&directly.stdout),
            neutral(&wrapped.stdout),
            "{test}"
        );
        assert_eq!(directly.status, wrapped.status, "{test}");
        Some(wrapped)
    }
}

fn words(list: &[&[u8]]) -> Vec<OsString> {
    list.iter()
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect()
}

#[test]
fn arguments_arrive_byte_for_byte() {
    let odd = words(&[
        b"--",
        b"/proc/self/cmdline",
        b"--wrap=echo \"$HOME\" `id`; :",
        b"",
        b"\xff\xfe\x80",
        b"two words",
        b"line\nfeed",
        b"--",
        b"-N1",
        b"\xc3\xa4\x01\x7f",
    ]);
    let call = Call {
        program: "/bin/cat",
        client: "sbatch",
        arguments: odd.clone(),
        before: "exec",
    };
    let Some(output) = call.agrees("arguments_arrive_byte_for_byte") else {
        return;
    };
    let mut expected = b"/opt/wrapped/sbatch\0".to_vec();
    for word in &odd {
        expected.extend_from_slice(word.as_bytes());
        expected.push(0);
    }
    assert_eq!(output.stdout, expected);
}

#[test]
fn the_environment_arrives_byte_for_byte() {
    let call = Call {
        program: "/bin/cat",
        client: "sinfo",
        arguments: words(&[b"/proc/self/environ"]),
        before: r#"exec env -i "SLURM_CONF=/run/slurm/conf/slurm.conf" "ODD=$(printf '\377 \n x')" "="  "#,
    };
    let Some(output) = call.agrees("the_environment_arrives_byte_for_byte") else {
        return;
    };
    assert_eq!(
        output.stdout,
        b"SLURM_CONF=/run/slurm/conf/slurm.conf\0ODD=\xff \n x\0=\0"
    );
}

/// The lines of /proc/self/status that say which signals are blocked and ignored.
fn signals(status: &[u8]) -> (u64, u64) {
    let text = String::from_utf8_lossy(status);
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    (field("SigBlk:"), field("SigIgn:"))
}

#[test]
fn dispositions_and_mask_arrive_as_they_were() {
    const PIPE: u64 = 1 << 12;
    const INT: u64 = 1 << 1;
    const USR1: u64 = 1 << 9;
    for (before, blocked, ignored) in [
        ("exec env --default-signal", 0, 0),
        ("exec env --default-signal --ignore-signal=PIPE", 0, PIPE),
        ("exec env --default-signal --ignore-signal=INT", 0, INT),
        (
            "exec env --default-signal --block-signal=USR1 --ignore-signal=PIPE",
            USR1,
            PIPE,
        ),
    ] {
        let call = Call {
            program: "/bin/cat",
            client: "squeue",
            arguments: words(&[b"/proc/self/status"]),
            before,
        };
        let test = "dispositions_and_mask_arrive_as_they_were";
        let Some(unshare) = namespace(test) else {
            return;
        };
        let output = call.run(unshare, "wrapped");
        let (block, ignore) = signals(&output.stdout);
        let mask = PIPE | INT | USR1;
        assert_eq!(
            (block & mask, ignore & mask),
            (blocked, ignored),
            "{before}"
        );
        let Some(unshare) = namespace(test) else {
            return;
        };
        assert_eq!(
            signals(&call.run(unshare, "slurm/bin").stdout),
            (block, ignore),
            "{before}"
        );
    }
}

#[test]
fn descriptors_arrive_open_or_closed_as_they_were() {
    for (before, expected) in [
        ("exec 7</dev/null; exec", "0\n1\n2\n7\n"),
        ("exec 0<&- 7</dev/null; exec", "1\n2\n7\n"),
        ("exec 2>&-; exec", "0\n1\n"),
        ("exec 0<&- 2>&-; exec", "1\n"),
    ] {
        let call = Call {
            program: "/bin/sh",
            client: "srun",
            // The shell that plays the client lists its own descriptors below 10.
            arguments: words(&[
                b"-c",
                b"for d in 0 1 2 3 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$d ] || echo $d; done",
            ]),
            before,
        };
        let Some(output) = call.agrees("descriptors_arrive_open_or_closed_as_they_were") else {
            return;
        };
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            expected,
            "{before}"
        );
    }
}

#[test]
fn the_exit_code_is_the_real_clients() {
    for code in [0, 1, 2, 126, 127, 255] {
        let call = Call {
            program: "/bin/sh",
            client: "scancel",
            arguments: vec!["-c".into(), format!("exit {code}").into()],
            before: "exec",
        };
        let Some(output) = call.agrees("the_exit_code_is_the_real_clients") else {
            return;
        };
        assert_eq!(output.status.code(), Some(code));
    }
}

#[test]
fn a_signal_reaches_the_real_client() {
    let call = Call {
        program: "/bin/sh",
        client: "salloc",
        arguments: words(&[
            b"-c",
            b"trap 'echo caught; exit 9' TERM; echo ready; read -r nothing",
        ]),
        before: "exec",
    };
    let Some(unshare) = namespace("a_signal_reaches_the_real_client") else {
        return;
    };
    let mut child = call
        .command(unshare, "wrapped")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let kill = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    assert_eq!(lines.next().unwrap().unwrap(), "caught");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn a_death_by_signal_is_the_real_clients() {
    let call = Call {
        program: "/bin/sh",
        client: "scontrol",
        arguments: words(&[b"-c", b"kill -PIPE $$; echo alive"]),
        before: "exec env --default-signal",
    };
    let Some(output) = call.agrees("a_death_by_signal_is_the_real_clients") else {
        return;
    };
    assert_eq!(output.status.signal(), Some(13));
}

#[test]
fn without_a_real_client_it_says_what_to_do() {
    let call = Call {
        program: "none",
        client: "sacct",
        arguments: Vec::new(),
        before: "exec",
    };
    let Some(unshare) = namespace("without_a_real_client_it_says_what_to_do") else {
        return;
    };
    let output = call.run(unshare, "wrapped");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(127), "{said}");
    assert!(
        said.contains("slurm-client: the real 'sacct' is not in /usr/bin"),
        "{said}"
    );
    assert!(said.contains("hint: install"), "{said}");
}

#[test]
fn a_real_client_that_cannot_run_is_named() {
    let call = Call {
        program: "/etc/passwd",
        client: "sinfo",
        arguments: Vec::new(),
        before: "chmod 755 /opt/slurm/bin/sinfo; exec",
    };
    let Some(unshare) = namespace("a_real_client_that_cannot_run_is_named") else {
        return;
    };
    let output = call.run(unshare, "wrapped");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(126), "{said}");
    assert!(said.contains("/bin/sinfo': Exec format error"), "{said}");
}

#[test]
fn under_its_own_name_it_explains_itself() {
    let run = |arguments: &[&str]| Command::new(WRAPPER).args(arguments).output().unwrap();
    let list = run(&["--list"]);
    assert_eq!(
        String::from_utf8_lossy(&list.stdout),
        "sbatch\nsrun\nsalloc\nsqueue\nscancel\nsinfo\nsacct\nscontrol\n"
    );
    assert!(String::from_utf8_lossy(&run(&[]).stdout).starts_with("Usage: "));
    assert_eq!(run(&["sbatch"]).status.code(), Some(64));
}

#[test]
fn it_carries_nothing_of_login_admin() {
    let program = std::fs::read(WRAPPER).unwrap();
    for foreign in ["ldap3", "tokio", "rustls", "clap_builder"] {
        let found = program
            .windows(foreign.len())
            .any(|w| OsStr::from_bytes(w) == foreign);
        assert!(!found, "'{foreign}' is linked into slurm-client");
    }
}
