//! OpenSSH's own regress suite (Debian's openssh-tests) aimed at us: its scripts run as an ordinary
//! user of a private host, with the shim `sshd` in the place of sshd(8). `expected.rs` says which
//! pass and why the others do not; the run fails where reality differs.
//!
//! Arguments are names of scripts; none: all that are expected to say something about us.
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
const LIMIT: Duration = Duration::from_secs(300);
/// Scripts at one time, each in a copy of the suite.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    for (needed, package) in [(SUITE, "openssh-tests"), ("/usr/bin/sudo", "sudo")] {
        if !Path::new(needed).exists() {
            println!("skipped: OpenSSH's regress suite needs the package {package}");
            return ExitCode::SUCCESS;
        }
    }
    if !possible("OpenSSH's regress suite") {
        return ExitCode::SUCCESS;
    }
    let named = |name: &str| arguments.is_empty() || arguments.iter().any(|a| a == name);
    let mut queue: VecDeque<_> = EXPECTED.iter().filter(|(name, _)| named(name)).collect();
    for name in arguments
        .iter()
        .filter(|a| !EXPECTED.iter().any(|(name, _)| name == a))
    {
        println!("no script of that name is known: {name}");
        queue.clear();
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
         login-gateway-session sftp-server {} /run/programs/ && chmod -R a+rX /run/programs",
        tests::programs().display(),
        tests::repo().join("tests/compliance/regress/sshd").display(),
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
                    let passed = place.run(host, name);
                    let seconds = begun.elapsed().as_secs();
                    let mut outcome = outcome.lock().unwrap();
                    match (passed, expected) {
                        (Ok(()), Expected::Pass) => {
                            println!("test {name} ... ok ({seconds} s)");
                            outcome.0 += 1;
                        }
                        (Err(_), Expected::Fail(reason)) => {
                            println!("test {name} ... fails as it must: {reason} ({seconds} s)");
                            outcome.0 += 1;
                        }
                        (Err(said), Expected::FailAt(at, reason)) if said.contains(at) => {
                            println!("test {name} ... fails where it must: {reason} ({seconds} s)");
                            outcome.0 += 1;
                        }
                        (Ok(()), Expected::Fail(reason) | Expected::FailAt(_, reason)) => {
                            println!(
                                "test {name} ... passes now, and is listed as failing: {reason}"
                            );
                            outcome.1.push(*name);
                        }
                        (Err(said), Expected::Pass | Expected::FailAt(..)) => {
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
            ("TEST_SSH_SSH", "ssh".into()),
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

    /// Runs a script; what was said if it failed.
    fn run(&self, host: &Host, name: &str) -> Result<(), String> {
        self.user.put("regress/password", "regress password");
        let mut command: Command = host.command("setpriv");
        command.args([
            "--reuid",
            &self.user.uid.to_string(),
            "--regid",
            &self.user.uid.to_string(),
            "--init-groups",
            "--",
        ]);
        command.args([
            "sh",
            "-c",
            &format!(
                "cd {0} && exec sh {0}/test-exec.sh {0} {0}/{name}.sh </dev/null 2>&1",
                self.folder
            ),
        ]);
        command.env_clear();
        command.envs(self.environment.iter().cloned());
        let done = tests::run_with(&mut command, b"", LIMIT);
        // A script that could not run says neither "ok" nor "failed".
        if done.code == 0 && done.out.lines().any(|line| line.starts_with("ok ")) {
            return Ok(());
        }
        let mut said = format!("exit code {}\n{}", done.code, tail(&done.out, 3000));
        for log in ["failed-regress.log", "failed-ssh.log", "failed-sshd.log"] {
            let path = self.user.files.join("regress").join(log);
            if let Ok(text) = std::fs::read(&path) {
                said += &format!(
                    "--- {log}\n{}\n",
                    tail(&String::from_utf8_lossy(&text), 3000)
                );
                let _ = std::fs::remove_file(path);
            }
        }
        // What a failed script leaves running would disturb the next.
        host.sh(&format!(
            "pkill -u {}; pkill -f '/run/gateway[{}]/login-gateway'; true",
            self.user.uid,
            &self.user.name[3..]
        ))
        .ok();
        Err(said)
    }
}

fn tail(text: &str, bytes: usize) -> String {
    let start = text.len().saturating_sub(bytes);
    String::from_utf8_lossy(&text.as_bytes()[start..]).into_owned()
}
