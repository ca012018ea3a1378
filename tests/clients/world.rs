//! One gateway for all clients, somebody to log in as, and files to carry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tests::{Done, Host, Server, User};

/// What a case works with.
pub struct World {
    pub server: &'static Server,
    pub user: User,
    /// A folder of the client's.
    pub here: PathBuf,
    /// A file of a few MiB in it.
    pub file: PathBuf,
}

/// Whether a case can run: root, and these programs or modules.
pub fn possible(test: &str, needs: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    for need in needs {
        let there = if let Some(module) = need.strip_prefix("python:") {
            let mut python = Command::new(python());
            tests::run(python.args(["-c", &format!("import {module}")])).code == 0
        } else if need.starts_with('/') {
            Path::new(need).exists()
        } else {
            path.split(':')
                .any(|folder| Path::new(folder).join(need).exists())
        };
        if !there {
            println!(
                "skipped: {test} needs {}",
                need.replace("python:", "Python's ")
            );
            return false;
        }
    }
    tests::possible(test)
}

/// The Python with the libraries of the tests (`tests/lab/tools.sh clients`).
pub fn python() -> PathBuf {
    let venv = lab().join("venv-clients/bin/python");
    if venv.exists() {
        venv
    } else {
        "python3".into()
    }
}

/// The state of the lab's scripts.
pub fn lab() -> PathBuf {
    std::env::var_os("LAB").map_or_else(|| tests::repo().join(".lab"), PathBuf::from)
}

pub fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(Host::start)
}

impl World {
    pub fn new() -> Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        Self::on(&SERVER, "")
    }

    /// With the algorithms of older clients.
    pub fn compatible() -> Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        Self::on(&SERVER, "crypto-policy = \"compatible\"\n")
    }

    /// With what the gateway does when nothing is said.
    pub fn default_settings() -> Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| host().gateway(""));
        Self::on(&SERVER, "")
    }

    fn on(server: &'static OnceLock<Server>, more: &str) -> Self {
        let server = server.get_or_init(|| {
            let folder = host().folder();
            let keys: Vec<String> =
                ["ed25519", "ecdsa", "rsa"].iter().map(|kind| format!("\"{}/host_{kind}\"", folder.display())).collect();
            let config = format!(
                "host-keys = [{}]\nauthentication-methods = [\"publickey\", \"password\", \"keyboard-interactive\"]\n",
                keys.join(", ")
            ) + more;
            host().gateway(config.as_str())
        });
        let number = host().user().uid;
        let user = host().add(&tests::Account {
            password: Some("Open Sesame 1"),
            ..tests::Account::named(&format!("cli{number}"))
        });
        let here = host().folder().join(&user.name);
        fs::create_dir(&here).unwrap();
        let file = here.join("file");
        tests::run(
            Command::new("sh").args(["-c", &format!("openssl rand 5000000 >{}", file.display())]),
        )
        .ok();
        Self {
            server,
            user,
            here,
            file,
        }
    }

    /// The variables that scripts read.
    pub fn environment(&self) -> [(&'static str, String); 8] {
        [
            ("PORT", self.server.port.to_string()),
            ("USER_NAME", self.user.name.clone()),
            ("PASSWORD", "Open Sesame 1".into()),
            ("KEY", self.user.key.display().to_string()),
            ("KNOWN_HOSTS", self.server.known_hosts.display().to_string()),
            ("FILE", self.file.display().to_string()),
            ("HERE", self.here.display().to_string()),
            ("HOME", self.here.display().to_string()),
        ]
    }

    /// Runs a shell script with these variables and `$SSH`, OpenSSH's own command line.
    pub fn sh(&self, script: &str) -> Done {
        let mut bash = Command::new("bash");
        bash.args([
            "-c",
            &format!("set -eu -o pipefail; cd \"$HERE\"; {script}"),
        ]);
        bash.envs(self.environment())
            .env("SSH", self.server.ssh_line(&self.user))
            .env_remove("SSH_AUTH_SOCK");
        tests::run_with(&mut bash, b"", tests::SOON * 3)
    }

    /// What was put is there, and what came back is what was put.
    #[track_caller]
    pub fn carried(&self, there: &str, back: &str) {
        let bytes = fs::read(&self.file).unwrap();
        assert!(
            fs::read(self.user.files.join(there)).unwrap() == bytes,
            "put: {there}"
        );
        assert!(
            fs::read(self.here.join(back)).unwrap() == bytes,
            "get: {back}"
        );
    }
}
