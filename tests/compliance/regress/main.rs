//! OpenSSH's own regress suite (Debian's openssh-tests) aimed at us: its scripts run as an ordinary
//! user of a private host, each in a network and process namespace of its own, with the shim `sshd` in
//! the place of sshd(8). `expected.rs` says which pass, and which checks of the others fail and why;
//! the run fails where reality differs.
//!
//! Arguments are names of scripts; none: all that say something about us.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod expected;

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tests::{Host, User, possible};

use expected::{EXPECTED, Expected};

/// Where Debian has it.
const SUITE: &str = "/usr/lib/openssh/regress";
/// Longest time of one script.
const LIMIT: Duration = Duration::from_secs(900);
/// Scripts at one time, each in a copy of the suite.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    for (needed, package) in [
        (SUITE, "openssh-tests"),
        ("/usr/bin/sudo", "sudo"),
        ("/sbin/ip", "iproute2"),
    ] {
        if !Path::new(needed).exists() {
            println!("skipped: OpenSSH's regress suite needs the package {package}");
            return ExitCode::SUCCESS;
        }
    }
    if !possible("OpenSSH's regress suite") {
        return ExitCode::SUCCESS;
    }
    let strange: Vec<_> = arguments
        .iter()
        .filter(|a| !EXPECTED.iter().any(|(name, _)| name == a))
        .collect();
    if !strange.is_empty() {
        println!("no script of that name is known: {strange:?}");
        return ExitCode::FAILURE;
    }
    let named = |name: &str| arguments.is_empty() || arguments.iter().any(|a| a == name);
    let mut queue: VecDeque<_> = EXPECTED.iter().filter(|(name, _)| named(name)).collect();
    queue.retain(|(name, _)| {
        let there = Path::new(SUITE).join(format!("{name}.sh")).exists();
        if !there {
            println!("skipped: {name}: this version of the suite has no such script");
        }
        there
    });
    if queue.is_empty() {
        return ExitCode::SUCCESS;
    }
    let host = Host::start();
    host.write(
        "/etc/sudoers.d/regress",
        "ALL ALL=(ALL) NOPASSWD: ALL\nDefaults !env_reset\n",
    );
    // sudo says so on standard error if it does not know its own host.
    host.sh("echo 127.0.0.1 localhost $(hostname) >/etc/hosts")
        .ok();
    // An ordinary user may not be able to look into the folders of the sources.
    host.sh(&format!(
        "mkdir /run/programs && cd {} && cp login-gateway login-gateway-accept login-gateway-monitor login-gateway-net \
         login-gateway-session sftp-server {shims}/sshd {shims}/ssh /run/programs/ && chmod -R a+rX /run/programs",
        tests::programs().display(),
        shims = tests::repo().join("tests/compliance/regress").display(),
    ))
    .ok();
    let queue = Mutex::new(queue);
    let outcome = Mutex::new((0, Vec::new()));
    std::thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let (host, queue, outcome) = (&host, &queue, &outcome);
            scope.spawn(move || {
                let place = Place::new(host, number);
                loop {
                    let Some((name, expected)) = queue.lock().unwrap().pop_front() else {
                        break;
                    };
                    let begun = Instant::now();
                    let verdict = judge(expected, place.run(host, name));
                    let seconds = begun.elapsed().as_secs();
                    let mut outcome = outcome.lock().unwrap();
                    match verdict {
                        Ok(said) => {
                            println!("test {name} ... {said} ({seconds} s)");
                            outcome.0 += 1;
                        }
                        Err(said) => {
                            println!("test {name} ... FAILED ({seconds} s)\n{said}");
                            outcome.1.push(*name);
                        }
                    }
                }
            });
        }
    });
    let (passed, failed) = outcome.into_inner().unwrap();
    for name in &failed {
        println!("failed: {name}");
    }
    println!("test result: {passed} passed; {} failed;", failed.len());
    if failed.is_empty() && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What a script did.
enum Ran {
    /// It came to its end and said "ok".
    Well,
    /// It came to its end; the checks that failed, and all that was said.
    Failed(Vec<String>, String),
    /// It could not run, or not to its end.
    Broken(String),
}

/// Whether that is as expected: what to say of it.
fn judge(expected: &Expected, ran: Ran) -> Result<String, String> {
    match (ran, expected) {
        (Ran::Well, Expected::Pass) => Ok("ok".into()),
        (Ran::Well, Expected::FailAt(_, reason)) => {
            Err(format!("it passes now, and is listed as failing: {reason}"))
        }
        (Ran::Failed(checks, said), Expected::FailAt(known, reason)) => {
            let new = checks.iter().find(|c| !known.iter().any(|k| c.contains(k)));
            let gone = known
                .iter()
                .find(|k| !checks.iter().any(|c| c.contains(**k)));
            match (new, gone) {
                (Some(check), _) => Err(format!("a check that should pass: {check}\n{said}")),
                (_, Some(check)) => Err(format!("a check that is listed passes: {check}\n{said}")),
                (None, None) => Ok(format!("ok but for what we lack: {reason}")),
            }
        }
        (Ran::Failed(_, said), Expected::Pass) | (Ran::Broken(said), _) => Err(said),
    }
}

/// A user with a copy of the suite, where one script runs at a time.
struct Place {
    user: User,
    folder: String,
    environment: Vec<(String, String)>,
}

impl Place {
    fn new(host: &Host, number: usize) -> Self {
        let user = host.add(&tests::Account {
            password: Some("regress password"),
            ..tests::Account::named(&format!("rex{number}"))
        });
        let folder = format!("{}/regress", user.home.display());
        let programs = format!("/run/gateway{number}");
        host.sh(&format!(
            "cp -a {SUITE} {folder} && chown -R {0}:{0} {folder} && cp -rl /run/programs {programs}",
            user.name
        ))
        .ok();
        let port = 4242 + 10 * number;
        let environment = [
            ("HOME", user.home.display().to_string()),
            ("USER", user.name.clone()),
            ("LOGNAME", user.name.clone()),
            (
                "PATH",
                "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into(),
            ),
            ("SHELL", "/bin/bash".into()),
            ("OBJ", folder.clone()),
            ("SUDO", "sudo -E".into()),
            ("TEST_SHELL", "sh".into()),
            ("TEST_SSH_PORT", port.to_string()),
            ("TEST_SSH_SSHD", format!("{programs}/sshd")),
            ("TEST_SSH_SSH", format!("{programs}/ssh")),
            ("TEST_SSH_SFTPSERVER", format!("{programs}/sftp-server")),
            ("TEST_SSH_PLINK", "plink".into()),
            ("TEST_SSH_PUTTYGEN", "puttygen".into()),
            ("TEST_SSH_ECC", "yes".into()),
            ("TEST_SSH_UNSAFE_PERMISSIONS", "1".into()),
            ("TEST_SSH_MODULI_FILE", format!("{folder}/moduli.in")),
        ];
        Self {
            user,
            folder,
            environment: environment
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        }
    }

    /// Runs a script to its end, alone with what it starts.
    fn run(&self, host: &Host, name: &str) -> Ran {
        self.user.put("regress/password", "regress password");
        let mut command: Command = host.command("unshare");
        command.args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        command.args([
            "sh",
            "-c",
            &format!(
                "ip link set lo up; cd {0}; rm -f failed-*.log pidfile
                 setpriv --reuid {1} --regid {1} --init-groups -- sh {0}/test-exec.sh {0} {0}/{name}.sh </dev/null 2>&1",
                self.folder, self.user.uid
            ),
        ]);
        command.env_clear();
        command.envs(self.environment.iter().cloned());
        let done = tests::run_with(&mut command, b"", LIMIT);
        // One that skips itself says neither "ok" nor "failed".
        let says = |word: &str| done.out.lines().any(|line| line.starts_with(word));
        if done.code == 0 && says("ok ") {
            return Ran::Well;
        }
        let log = |kind: &str| {
            let path = self.user.files.join(format!("regress/failed-{kind}.log"));
            let text = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        };
        // Each failed check, behind what was being tried.
        let mut tried = String::new();
        let mut checks: Vec<String> = Vec::new();
        for line in log("regress").lines() {
            if let Some(what) = line.strip_prefix("trace: ") {
                what.clone_into(&mut tried);
            } else if let Some(check) = line.strip_prefix("FAIL: ") {
                let check = format!("{tried}: {check}");
                if !checks.contains(&check) {
                    checks.push(check);
                }
            }
        }
        let mut said = format!(
            "exit code {}\n{}{}\nchecks that failed:\n  {}\n",
            done.code,
            tail(&done.out, 3000),
            tail(&done.err, 1000),
            checks.join("\n  ")
        );
        for kind in ["ssh", "sshd"] {
            said += &format!("--- {kind}\n{}\n", tail(&log(kind), 3000));
        }
        if done.code == 1 && !checks.is_empty() {
            Ran::Failed(checks, said)
        } else {
            Ran::Broken(said)
        }
    }
}

fn tail(text: &str, bytes: usize) -> String {
    let start = text.len().saturating_sub(bytes);
    String::from_utf8_lossy(&text.as_bytes()[start..]).into_owned()
}
