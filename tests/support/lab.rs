//! The running lab: its containers, its directory, and `ssh` into its login pod.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::process::{Done, run, run_with};

/// The root of the repository.
pub fn repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a parent")
        .to_owned()
}

/// The lab, which must be running (`make lab-up`, and the demo's `alice` is not needed).
pub fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let state = std::env::var_os("LAB").map_or_else(|| repo().join(".lab"), PathBuf::from);
        let port = std::env::var("LAB_SSH_PORT").unwrap_or_else(|_| "2222".into());
        let keys = tempfile::tempdir().expect("a folder for keys");
        let host_key = std::fs::read_to_string(state.join("secrets/ssh_host_ed25519_key.pub"))
            .expect("the lab's host key: start the lab with `make lab-up`");
        let known_hosts = keys.path().join("known_hosts");
        std::fs::write(&known_hosts, format!("[127.0.0.1]:{port} {host_key}")).expect("write");
        Lab {
            state,
            port,
            keys,
            known_hosts,
        }
    })
}

/// The lab's state and addresses.
pub struct Lab {
    state: PathBuf,
    /// Port of the login pod's SSH.
    pub port: String,
    keys: tempfile::TempDir,
    /// A known_hosts file with the lab's host key.
    pub known_hosts: PathBuf,
}

/// Somebody in the directory, with a key of their own.
#[derive(Clone)]
pub struct Person {
    /// Login name.
    pub name: String,
    /// Private key file.
    pub key: PathBuf,
}

impl Lab {
    /// Runs `podman ARGUMENTS CONTAINER`; the container without the lab's prefix.
    pub fn podman(&self, arguments: &[&str], container: &str) -> Done {
        let prefix = std::env::var("LAB_PREFIX").unwrap_or_else(|_| "slurm-login".into());
        let mut command = Command::new("podman");
        command.args(arguments).arg(format!("{prefix}-{container}"));
        run(command.env("CONTAINERS_CONF", self.state.join("containers.conf")))
    }

    /// Makes a key pair; the path of the private half.
    pub fn new_key(&self, name: &str) -> PathBuf {
        let path = self.keys.path().join(name);
        if !path.exists() {
            let mut command = Command::new("ssh-keygen");
            command
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(&path);
            run(&mut command).ok();
        }
        path
    }

    /// A person who is in the directory and can log in with a key from there. Made by
    /// `login-admin`, once.
    pub fn person(&self, name: &str) -> Person {
        let key = self.new_key(name);
        let person = Person {
            name: name.to_owned(),
            key,
        };
        if self.admin(&["user", "show", name]).code != 0 {
            self.admin(&["user", "add", name, "--gecos", "Test Person"])
                .ok();
        }
        let public = format!("{}.pub", person.key.display());
        self.admin(&["key", "add", name, &public]).ok();
        person
    }

    /// Runs `login-admin` as the lab's administrator.
    pub fn admin(&self, args: &[&str]) -> Done {
        let mut command = Command::new(self.state.join("programs/login-admin"));
        command
            .arg("--config")
            .arg(self.state.join("login-admin.toml"))
            .args(args);
        run(&mut command)
    }

    /// Runs a command as root in a container: gateway, sackd, directoryd, ctl, node1 or ldap.
    pub fn exec(&self, container: &str, command: &[&str]) -> Done {
        run(Command::new(repo().join("tests/lab/lab"))
            .args(["exec", container])
            .args(command))
    }

    /// The `ssh` command line up to the destination, with these options before it.
    pub fn ssh_with(&self, person: &Person, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-p", &self.port, "-o", "IdentitiesOnly=yes"])
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.known_hosts.display()))
            .arg("-i")
            .arg(&person.key)
            .args(options)
            .arg(format!("{}@127.0.0.1", person.name));
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    /// Runs a command line in the pod as this person.
    #[track_caller]
    pub fn ssh(&self, person: &Person, command: &str) -> Done {
        run(self.ssh_with(person, &[]).arg(command))
    }

    /// As [`Lab::ssh`], with an input.
    #[track_caller]
    pub fn ssh_feed(&self, person: &Person, command: &str, input: &[u8]) -> Done {
        run_with(
            self.ssh_with(person, &[]).arg(command),
            input,
            Duration::from_secs(60),
        )
    }

    /// Waits until `check` holds.
    ///
    /// # Panics
    /// If it does not within 30 s.
    #[track_caller]
    pub fn until(&self, what: &str, mut check: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !check() {
            assert!(Instant::now() < deadline, "waited for: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
