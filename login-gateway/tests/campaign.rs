//! What goes wrong in operation, one fault after the other, and what it costs: only what docs/gateway.md
//! ("When something breaks") says.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::crowd::{self, Balancer, Worker};
use support::{Gateway, possible, until};

/// Somebody at work in a terminal, logged in with these options.
fn somebody(gateway: &Gateway, options: &[&str]) -> Worker {
    Worker::start(gateway.client(&[&["-tt"], options].concat()))
}

/// Runs a script as root in the gateway's mount namespace.
fn inside(gateway: &Gateway, script: &str) {
    let done = Command::new("nsenter")
        .args([
            "-m",
            "-t",
            &gateway.child.id().to_string(),
            "sh",
            "-ec",
            script,
        ])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

fn try_login(gateway: &Gateway, options: &[&str], command: &str) -> Output {
    let mut ssh = gateway.client(options);
    ssh.arg(command).stdin(Stdio::null()).output().unwrap()
}

/// Children of a process.
fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// The process of a login that runs this program, below its monitor.
fn process_of(monitor: i32, program: &str) -> i32 {
    let is = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|comm| program.starts_with(comm.trim_end()))
    };
    children(monitor).into_iter().find(is).unwrap()
}

#[test]
fn twenty_people_and_five_thousand_strangers_behind_a_balancer() {
    if !possible("twenty_people_and_five_thousand_strangers_behind_a_balancer") {
        return;
    }
    if Command::new("haproxy").arg("-v").output().is_err() {
        println!(
            "skipped: twenty_people_and_five_thousand_strangers_behind_a_balancer: haproxy is not installed"
        );
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).unwrap();
    let gateway = Gateway::start(
        "max-startups = 100\nper-source-max-startups = 10\n\
         proxy-protocol = { from = [\"127.0.0.1/32\"], required = true }",
    );
    let balancer = Balancer::start(
        gateway.folder.path(),
        &format!("127.0.0.1:{}", gateway.port),
    );
    let port = format!("Port={}", balancer.port);
    let from = |n: u8| format!("127.0.7.{n}");
    let mut people: Vec<Worker> = (1..=20)
        .map(|n| somebody(&gateway, &["-o", &port, "-b", &from(n)]))
        .collect();
    let mut held = Vec::new();
    let mut more = 0;
    for round in 0..25_u8 {
        // Seven sources; a penalty or the limit keeps most of it at the door.
        held.extend(crowd::two_hundred_strangers(&balancer));
        people.iter_mut().for_each(Worker::works);
        if round % 5 == 0 {
            let output = try_login(
                &gateway,
                &["-o", &port, "-b", &from(round + 100)],
                "echo in",
            );
            assert_eq!(output.stdout, b"in\n", "{output:?}");
            more += 1;
        }
    }
    assert_eq!((held.len(), more), (5000, 5));
    let away = |reason: &str| gateway.metric(&format!("turned_away_total{{reason=\"{reason}\"}}"));
    let turned_away = away("per-source-max-startups") + away("penalty");
    assert!(turned_away > 4000, "{turned_away}");
    people.iter_mut().for_each(Worker::works);
    assert_eq!(gateway.metric("logins "), 20);
    // Each by the address that the balancer told.
    let (listed, code) = gateway.command(&["sessions", "list", "--json"]);
    assert_eq!(code, Some(0), "{listed}");
    for n in 1..=20 {
        assert!(
            listed.contains(&format!("\"{}:", from(n)))
                || listed.contains(&format!("\"{}\"", from(n))),
            "{listed}"
        );
    }
    drop(held);
    until("the strangers are gone", || {
        gateway.metric("startups ") == 0
    });
    people.iter_mut().for_each(Worker::works);
}

#[test]
fn a_killed_process_costs_its_login_alone() {
    if !possible("a_killed_process_costs_its_login_alone") {
        return;
    }
    let gateway = Gateway::start("");
    let mut bystander = somebody(&gateway, &[]);
    let known = gateway.children("login-gateway-monitor: carol");
    for (n, program) in ["login-gateway-session", "login-gateway-net"]
        .into_iter()
        .enumerate()
    {
        let mut victim = somebody(&gateway, &[]);
        victim.works();
        let monitors = gateway.children("login-gateway-monitor: carol");
        let monitor = *monitors.iter().find(|pid| !known.contains(pid)).unwrap();
        kill(Pid::from_raw(process_of(monitor, program)), Signal::SIGKILL).unwrap();
        until("its client has heard it", || {
            victim.child.try_wait().unwrap().is_some()
        });
        until("its processes are gone", || {
            gateway.children("login-gateway-monitor: carol") == known
        });
        gateway.logged("session.closed", n + 1);
        // Of a user, who could have done that, it is no crash.
        until("it is counted as what it was", || {
            gateway.metric("login_failures_total{reason=\"crash\"}") == n as u64
        });
        until("it is not counted as a login", || {
            gateway.metric("logins ") == 1
        });
        bystander.works();
        assert_eq!(gateway.says("echo in"), "in\n");
        until("that one has left", || gateway.metric("logins ") == 1);
        gateway.logged("session.closed", n + 2);
    }
}

#[test]
fn a_killed_supervisor_leaves_logins_to_themselves() {
    if !possible("a_killed_supervisor_leaves_logins_to_themselves") {
        return;
    }
    let mut gateway = Gateway::start("");
    let mut worker = somebody(&gateway, &[]);
    gateway.signal(Signal::SIGKILL);
    gateway.child.wait().unwrap();
    worker.works();
    // Nobody listens any more: a new one can, where a pod's container or a service would start it.
    until("the port is free", || {
        TcpListener::bind(("127.0.0.1", gateway.port)).is_ok()
    });
    worker.works();
}

#[test]
fn a_full_disk_keeps_nobody_out() {
    if !possible("a_full_disk_keeps_nobody_out") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let recordings = folder.path().display().to_string();
    let gateway = Gateway::start(&format!(
        "recordings = \"{recordings}\"\n[[match]]\nsource = [\"127.0.0.9/32\"]\nrecord-terminals = true"
    ));
    // Login records, the home and the recordings each on a disk of 64 KiB.
    let home = gateway.folder.path().join("home");
    inside(
        &gateway,
        &format!(
            "cp -a {home} {home}.kept; for d in /var/log /run {home} {recordings}; do mount -t tmpfs -o size=64k,mode=755 none $d; done; \
             cp -a {home}.kept/. {home}/; chmod 700 {recordings}; : >/run/utmp; : >/var/log/wtmp; \
             for d in /var/log /run {home}; do dd if=/dev/zero of=$d/fill bs=4k 2>/dev/null || true; done; \
             chown -R 1501:1501 {home}",
            home = home.display()
        ),
    );
    let mut worker = somebody(&gateway, &[]);
    worker.works();
    let output = try_login(&gateway, &[], "echo x >new && cat new || echo full");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "full\n",
        "{output:?}"
    );
    // A recording that cannot go on ends its terminal: what is not on the record is not done.
    let output = try_login(
        &gateway,
        &["-tt", "-b", "127.0.0.9"],
        "echo begun; i=0; while [ $i -lt 100000 ]; do echo a line of the recording $i; i=$((i + 1)); done; echo not recorded",
    );
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.starts_with("begun"), "{output:?}");
    assert!(!shown.contains("not recorded"));
    assert_ne!(output.status.code(), Some(0));
    gateway.logged("recording", 1);
    worker.works();
    // The next one has no room to begin: there is a file, but no room in it, and nothing is done at all.
    // Others do not need it.
    let done = tempfile::tempdir().unwrap();
    fs::set_permissions(done.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let traces = || fs::read_dir(done.path()).unwrap().count();
    let work = format!("mkdir {}/$$; echo begun", done.path().display());
    for _ in 0..5 {
        let output = try_login(&gateway, &["-tt", "-b", "127.0.0.9"], &work);
        assert!(
            !String::from_utf8_lossy(&output.stdout).contains("begun"),
            "{output:?}"
        );
    }
    assert_eq!(traces(), 0);
    gateway.says(&work);
    assert_eq!(traces(), 1);
    assert_eq!(gateway.says("echo in"), "in\n");
    inside(&gateway, &format!("rm {recordings}/*"));
    let output = try_login(&gateway, &["-tt", "-b", "127.0.0.9"], "echo begun");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("begun"),
        "{output:?}"
    );
    worker.works();
}

/// A gateway that is started with a limit, in the words of the shell's `ulimit`.
fn limited(limit: &str, more: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("wrapper");
    let program = support::programs().join("login-gateway");
    let script = format!(
        "#!/bin/bash\nulimit {limit}\nexec {} \"$@\"\n",
        program.display()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    Gateway::start_program(&wrapper, more)
}

#[test]
fn without_descriptors_people_wait_and_nobody_is_lost() {
    if !possible("without_descriptors_people_wait_and_nobody_is_lost") {
        return;
    }
    let gateway = limited(
        "-n 48",
        "warm = 1\nmax-startups = 1000\nper-source-max-startups = 1000",
    );
    let mut worker = somebody(&gateway, &[]);
    for _ in 0..2 {
        let held: Vec<_> = (0..200).map(|_| gateway.connect().unwrap()).collect();
        worker.works();
        drop(held);
        until("there is room again", || {
            try_login(&gateway, &["-o", "ConnectTimeout=3"], "echo in").stdout == b"in\n"
        });
        worker.works();
    }
}

/// Who reads the gateway's log, and can be made to stop.
struct LogReader(Pid);

impl LogReader {
    fn stop(&self) {
        kill(self.0, Signal::SIGSTOP).unwrap();
        until("it has stopped", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
            stat.contains(") T ")
        });
    }

    fn go_on(&self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// A gateway whose log goes through a pipe of 4 KiB.
fn logging_through_a_pipe() -> (Gateway, LogReader) {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("wrapper");
    let program = support::programs().join("login-gateway");
    let script = format!(
        "#!/bin/sh\nmkfifo pipe\ncat pipe >log & echo $! >reader\nexec {} \"$@\" 2>pipe\n",
        program.display()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    let gateway = Gateway::start_program(&wrapper, "");
    let at = |name: &str| gateway.folder.path().join(name);
    let pipe = fs::File::options().write(true).open(at("pipe")).unwrap();
    fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let pid = fs::read_to_string(at("reader")).unwrap();
    let reader = LogReader(Pid::from_raw(pid.trim().parse().unwrap()));
    (gateway, reader)
}

#[test]
fn while_nobody_reads_the_log_nobody_comes_in_unrecorded() {
    if !possible("while_nobody_reads_the_log_nobody_comes_in_unrecorded") {
        return;
    }
    let (gateway, reader) = logging_through_a_pipe();
    let mut worker = somebody(&gateway, &[]);
    assert_eq!(gateway.status("/readyz"), "200");
    reader.stop();
    let mut knocked = 0;
    until("the pipe is full and the balancer is told", || {
        // Each of these has lines in the log; more of them than so many would be refused together.
        knocked += usize::from(knocked < 50 && gateway.connect().is_ok());
        gateway.status("/readyz") == "503"
    });
    worker.works();
    let output = try_login(&gateway, &["-o", "ConnectTimeout=2"], "echo in");
    assert_eq!(output.stdout, b"", "{output:?}");
    assert_eq!(gateway.status("/healthz"), "200");
    worker.works();
    reader.go_on();
    until("it takes logins again", || {
        gateway.status("/readyz") == "200"
    });
    assert_eq!(gateway.says("echo in"), "in\n");
    worker.works();
    // Every line is there: of those who knocked, of the worker, of both who tried.
    gateway.logged("event=\"connection.opened\"", knocked + 3);
}

#[test]
fn a_user_without_processes_left_hears_it() {
    if !possible("a_user_without_processes_left_hears_it") {
        return;
    }
    let gateway = Gateway::start("");
    let at = |name: &str| gateway.folder.path().join(name);
    fs::write(at("limits.conf"), "carol hard nproc 1\n").unwrap();
    let mut pam = fs::read_to_string(at("pam.d/login-gateway")).unwrap();
    pam += &format!(
        "session required pam_limits.so conf={}\n",
        at("limits.conf").display()
    );
    fs::write(at("pam.d/login-gateway"), pam).unwrap();
    for options in [&[][..], &["-tt"]] {
        let output = try_login(&gateway, options, "echo in");
        assert_ne!(output.status.code(), Some(0));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            // Of the session, or of the shell: by how many processes she has already.
            said.contains("no more processes can be started"),
            "{said}"
        );
    }
}

#[test]
fn a_client_that_hangs_is_ended_and_others_go_on() {
    if !possible("a_client_that_hangs_is_ended_and_others_go_on") {
        return;
    }
    let gateway = Gateway::start("keepalive-interval = \"1s\"\nkeepalive-count-max = 2");
    let mut worker = somebody(&gateway, &[]);
    let mut frozen = somebody(&gateway, &[]);
    kill(Pid::from_raw(frozen.child.id() as i32), Signal::SIGSTOP).unwrap();
    until("it is given up", || gateway.metric("logins ") == 1);
    worker.works();
    kill(Pid::from_raw(frozen.child.id() as i32), Signal::SIGCONT).unwrap();
    until("its client sees the end", || {
        frozen.child.try_wait().unwrap().is_some()
    });
    worker.works();
}

#[test]
fn a_silent_directory_is_named_as_the_reason() {
    if !possible("a_silent_directory_is_named_as_the_reason") {
        return;
    }
    // It takes connections and never answers.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let silent = UnixListener::bind(&path).unwrap();
    let gateway = Gateway::start(&format!(
        "directory-socket = \"{}\"\ndirectory-timeout = \"300ms\"",
        path.display()
    ));
    // Keys of files are good for those whom this machine knows.
    assert_eq!(gateway.says("echo in"), "in\n");
    gateway.logged("did not answer in time", 1);
    let keys = gateway.folder.path().join("home/.ssh/authorized_keys");
    fs::write(keys, "").unwrap();
    let output = try_login(&gateway, &[], "echo in");
    assert_eq!(output.status.code(), Some(255));
    gateway.logged(
        "key not authorized by files, and the directory did not answer",
        1,
    );
    drop(silent);
}
