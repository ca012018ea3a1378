//! Faults and crowds in the pod: a second gateway in the container of the first, with its rights and its
//! filter, and a configuration of the case's own.

use std::process::{Command, Output, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::{Lab, Person, SOON, lab};

use self::crowd::{Balancer, Worker, two_hundred_strangers};

#[path = "../../login-gateway/tests/support/crowd.rs"]
mod crowd;

/// Waits for a condition.
fn until(what: &str, holds: impl FnMut() -> bool) {
    lab().until(what, holds);
}

/// Folder of the second gateway in the pod.
const FOLDER: &str = "/tmp/second-gateway";

/// The second gateway; ended on drop.
struct Second {
    lab: &'static Lab,
    person: Person,
    /// The pod's address, as this machine reaches it.
    address: String,
}

impl Second {
    /// Starts it with the pod's own configuration, `more` above it.
    fn start(more: &str) -> Self {
        let lab = lab();
        let second = Self {
            lab,
            person: lab.person("alice"),
            address: lab.exec("gateway", &["hostname", "-i"]).ok().to_owned(),
        };
        second.end();
        let script = format!(
            "rm -rf {FOLDER} && mkdir -m 700 {FOLDER} && cd {FOLDER} && \
             {{ printf '%s\\n' \"$1\"; sed -e 's/:2222/:2223/;s/:8080/:8081/;/^max-startups/d;/^per-source/d;/^penalties/d' \
             /etc/login-gateway/login-gateway.toml; }} >gateway.toml && \
             {{ login-gateway --config {FOLDER}/gateway.toml >/dev/null 2>log </dev/null & }}"
        );
        let more = format!("control-socket = \"{FOLDER}/control.sock\"\n{more}");
        second.shell(&script, &more);
        lab.until("the second gateway is ready", || {
            second.log().contains("gateway.ready")
        });
        second
    }

    /// Runs a script in the container.
    fn shell(&self, script: &str, argument: &str) -> String {
        let command = ["sh", "-c", script, "sh", argument];
        self.lab.exec("gateway", &command).ok().to_owned()
    }

    fn log(&self) -> String {
        self.shell(&format!("cat {FOLDER}/log 2>/dev/null || true"), "")
    }

    /// Its process.
    fn pid(&self) -> String {
        let found = format!("pgrep -f -x 'login-gateway --config {FOLDER}/gateway.toml' || true");
        self.shell(&found, "")
    }

    fn signal(&self, signal: &str) {
        self.shell(&format!("kill -{signal} {}", self.pid()), "");
    }

    fn end(&self) {
        self.lab.until("there is no second gateway", || {
            let pid = self.pid();
            // The second of two signals ends logins as well.
            pid.is_empty() || {
                self.shell(&format!("kill -TERM {pid} || true"), "");
                false
            }
        });
    }

    /// `ssh` to this address, without the command.
    fn ssh_by(&self, address: &str, port: u16, options: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &port.to_string(), "-i"])
            .arg(&self.person.key)
            .args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"])
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "ConnectTimeout=20",
            ])
            .args(options)
            .arg(format!("{}@{address}", self.person.name))
            .env_remove("SSH_AUTH_SOCK");
        ssh
    }

    fn ssh(&self, options: &[&str]) -> Command {
        self.ssh_by(&self.address, 2223, options)
    }

    /// Somebody at work.
    fn worker(&self) -> Worker {
        Worker::start(self.ssh(&["-tt"]))
    }

    fn lets_in(&self) -> bool {
        said(self.ssh(&[]), "echo in").stdout == b"in\n"
    }

    /// The number of the first metric that begins with this.
    fn metric(&self, name: &str) -> u64 {
        let url = format!("http://{}:8081/metrics", self.address);
        let page = Command::new("curl").args(["-s", &url]).output().unwrap();
        let page = String::from_utf8(page.stdout).unwrap();
        let mut lines = page
            .lines()
            .filter_map(|l| l.strip_prefix("login_gateway_"));
        let line = lines.find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn said(mut ssh: Command, command: &str) -> Output {
    ssh.arg(command).stdin(Stdio::null()).output().unwrap()
}

impl Drop for Second {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        self.end();
    }
}

#[test]
fn twenty_people_and_five_thousand_strangers() {
    if Command::new("haproxy").arg("-v").output().is_err() {
        println!("skipped: twenty_people_and_five_thousand_strangers: haproxy is not installed");
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).unwrap();
    let second = Second::start(
        "max-startups = 100\nper-source-max-startups = 10\n\
         proxy-protocol = { from = [\"10.0.0.0/8\"], required = true }",
    );
    let folder = tempfile::tempdir().unwrap();
    let balancer = Balancer::start(folder.path(), &format!("{}:2223", second.address));
    let from = |n: u8, options: &[&str]| {
        let source = format!("127.0.7.{n}");
        let options = [&["-b", source.as_str()], options].concat();
        second.ssh_by("127.0.0.1", balancer.port, &options)
    };
    let mut people: Vec<Worker> = (1..=20).map(|n| Worker::start(from(n, &["-tt"]))).collect();
    let mut held = Vec::new();
    for round in 0..25_u8 {
        held.extend(two_hundred_strangers(&balancer));
        people.iter_mut().for_each(Worker::works);
        if round % 5 == 0 {
            let output = said(from(round + 100, &[]), "echo in");
            assert_eq!(output.stdout, b"in\n", "{output:?}");
        }
    }
    assert_eq!(held.len(), 5000);
    let away = |reason: &str| second.metric(&format!("turned_away_total{{reason=\"{reason}\"}}"));
    let turned_away = away("per-source-max-startups") + away("penalty");
    assert!(turned_away > 4000, "{turned_away}");
    assert_eq!(second.metric("logins "), 20);
    drop(held);
    second
        .lab
        .until("the strangers are gone", || second.metric("startups ") == 0);
    people.iter_mut().for_each(Worker::works);
}

#[test]
fn each_process_that_is_killed_costs_what_the_page_says() {
    let second = Second::start("penalties = { enabled = false }");
    let mut bystander = second.worker();
    let monitors = || -> Vec<String> {
        let list = format!("pgrep -P {} -f 'monitor: alice' || true", second.pid());
        let list = second.shell(&list, "");
        list.lines().map(str::to_owned).collect()
    };
    let known = monitors();
    assert_eq!(known.len(), 1);
    for program in ["login-gateway-s", "login-gateway-n", "monitor"] {
        let mut victim = second.worker();
        let monitor = monitors()
            .into_iter()
            .find(|pid| !known.contains(pid))
            .unwrap();
        let kill = match program {
            "monitor" => format!("kill -9 {monitor}"),
            child => format!("kill -9 $(pgrep -P {monitor} {child})"),
        };
        second.shell(&kill, "");
        second.lab.until("its client has heard it", || {
            victim.child.try_wait().unwrap().is_some()
        });
        second.lab.until("nothing is left of it", || {
            second.metric("logins ") == 1
                && monitors() == known
                && second
                    .shell(&format!("pgrep -P {monitor} || true"), "")
                    .is_empty()
        });
        bystander.works();
    }
    second.lab.until("both that were ours are counted", || {
        second.metric("login_failures_total{reason=\"crash\"}") == 2
    });
    second.shell(
        &format!(
            "kill -9 $(pgrep -P {} -f login-gateway-accept)",
            second.pid()
        ),
        "",
    );
    second.lab.until("another one listens", || {
        second.log().matches("gateway.ready").count() == 2
    });
    bystander.works();
    assert!(second.lets_in());
    // The first process of a container would take all with it; this one is not.
    second.signal("KILL");
    bystander.works();
}

#[test]
fn a_reload_a_broken_one_and_the_end_with_the_last_shell() {
    let second = Second::start("drain-reason = \"new kernel\"");
    let mut person = second.worker();
    let pid = second.pid();
    second.signal("HUP");
    second.lab.until("it has read it", || {
        second.log().matches("gateway.ready").count() == 2
    });
    person.works();
    second.shell(&format!("echo nonsense >>{FOLDER}/gateway.toml"), "");
    second.signal("HUP");
    second.lab.until("it has refused it", || {
        second.log().contains("reload.failed")
    });
    person.works();
    assert!(second.lets_in());
    assert_eq!(second.pid(), pid);

    second.signal("TERM");
    second
        .lab
        .until("it drains", || second.metric("draining ") == 1);
    let refused = said(second.ssh(&[]), "echo in");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("takes no more logins"), "{words}");
    assert_eq!(second.pid(), pid, "it did not wait for the last shell");
    drop(person);
    second
        .lab
        .until("it ends with the last shell", || second.pid().is_empty());
    assert!(second.log().contains("gateway.ended"));
}
