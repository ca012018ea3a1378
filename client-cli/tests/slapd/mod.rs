//! A real slapd of a test's own, and login-admin run against it. What is tested does not live here.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

const START: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/lab/slapd/start.sh");
const ADMIN: &str = "cn=admin,dc=example,dc=org";

/// A running slapd; it ends with the value.
pub struct Slapd {
    folder: TempDir,
    /// Where it listens without TLS.
    pub port: u16,
    /// Where it listens with TLS.
    pub tls_port: u16,
    pid: String,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    /// The JSON object on standard output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Slapd {
    /// Starts the lab's directory with this schema; says and returns nothing where no slapd is
    /// installed.
    pub fn start(test: &str, schema: &str) -> Option<Self> {
        if !["slapd", "ldapsearch", "openssl"]
            .into_iter()
            .all(is_installed)
        {
            println!("skipped: {test}: slapd, ldap-utils or openssl is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // Another test may take the port in between: then slapd does not start, and we try anew.
        for _ in 0..5 {
            let (port, tls_port) = (free_port(), free_port());
            let started = Command::new(START)
                .arg(folder.path())
                .arg(port.to_string())
                .env("SLAPD_SCHEMA", schema)
                .env("SLAPD_TLS_PORT", tls_port.to_string())
                .output()
                .unwrap();
            if started.status.success() {
                let pid = fs::read_to_string(folder.path().join("slapd.pid")).unwrap();
                return Some(Self {
                    folder,
                    port,
                    tls_port,
                    pid: pid.trim().into(),
                });
            }
            eprintln!("{}", String::from_utf8_lossy(&started.stderr));
        }
        panic!("slapd did not start");
    }

    /// The same with its configuration changed by `change`, restarted on the same data.
    pub fn reconfigured(mut self, change: impl Fn(String) -> String) -> Self {
        self.stop();
        let conf = self.file("slapd.conf");
        fs::write(&conf, change(fs::read_to_string(&conf).unwrap())).unwrap();
        let uris = format!("ldap://127.0.0.1:{}", self.port);
        // Without -d it goes to the background once it listens.
        let started = Command::new("slapd")
            .env("PATH", path_with_sbin())
            .args(["-f", conf.to_str().unwrap(), "-h", &uris])
            .output()
            .unwrap();
        assert!(
            started.status.success(),
            "{}",
            String::from_utf8_lossy(&started.stderr)
        );
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            std::thread::yield_now();
        }
        let pid = self.file("slapd.pid");
        self.pid = fs::read_to_string(pid).unwrap().trim().into();
        self
    }

    /// A file of the fixture.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ends slapd; its files stay.
    pub fn stop(&self) {
        self.signal("TERM");
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            || self.file("slapd.pid").exists()
        {
            std::thread::yield_now();
        }
    }

    /// Sends slapd a signal. After `STOP` every one of its threads has stopped: the signal reaches
    /// them one by one, and one that still runs would answer.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.pid])
            .status()
            .unwrap();
        assert!(sent.success());
        let threads = std::path::PathBuf::from(format!("/proc/{}/task", self.pid.trim()));
        while name == "STOP" && !all_stopped(&threads) {
            std::thread::yield_now();
        }
    }

    /// The usual configuration of login-admin for this server.
    pub fn settings(&self, schema: &str) -> String {
        format!(
            "uri = 'ldap://127.0.0.1:{}'\nstart-tls = false\nbind-dn = '{ADMIN}'\n\
             bind-password-file = '{}'\nbase = 'dc=example,dc=org'\n\
             user-base = 'ou=people,dc=example,dc=org'\n\
             group-base = 'ou=groups,dc=example,dc=org'\nschema = '{schema}'\n",
            self.port,
            self.file("secret/admin-password").display(),
        )
    }

    /// login-admin with this configuration.
    pub fn admin(&self, settings: &str) -> Admin {
        Admin::new(settings)
    }

    /// What ldapsearch finds, as LDIF without line breaks inside values.
    pub fn ldif(&self, filter: &str) -> String {
        let found = Command::new("ldapsearch")
            .args([
                "-LLL",
                "-x",
                "-o",
                "ldif_wrap=no",
                "-b",
                "dc=example,dc=org",
                "-D",
                ADMIN,
            ])
            .args(["-H", &format!("ldap://127.0.0.1:{}", self.port), "-y"])
            .arg(self.file("secret/admin-password"))
            .arg(filter)
            .output()
            .unwrap();
        assert!(
            found.status.success(),
            "{}",
            String::from_utf8_lossy(&found.stderr)
        );
        String::from_utf8(found.stdout).unwrap()
    }

    /// Adds or changes entries by ldapmodify.
    pub fn modify(&self, ldif: &str) {
        let mut child = Command::new("ldapmodify")
            .args([
                "-x",
                "-D",
                ADMIN,
                "-H",
                &format!("ldap://127.0.0.1:{}", self.port),
                "-y",
            ])
            .arg(self.file("secret/admin-password"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(ldif.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success(), "{ldif}");
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.pid]).status();
    }
}

/// login-admin with a configuration file of its own.
pub struct Admin {
    folder: TempDir,
}

impl Admin {
    /// Writes the configuration.
    pub fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login-admin.toml");
        fs::write(&path, settings).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        Self { folder }
    }

    /// The command with its configuration, to be started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_login-admin"));
        command
            .arg("--config")
            .arg(self.folder.path().join("login-admin.toml"));
        command.args(words).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, words: &[&str]) -> Run {
        let output = self.command(words).output().unwrap();
        Run {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it; it must succeed.
    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, Some(0), "{words:?}: {run:?}");
        run
    }

    /// Runs it; it must end with this code and say these words.
    #[track_caller]
    pub fn fails(&self, words: &[&str], code: i32, said: &str) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, Some(code), "{words:?}: {run:?}");
        assert!(
            run.err.contains(said),
            "{words:?} should say {said:?}: {run:?}"
        );
        run
    }
}

fn path_with_sbin() -> String {
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}

fn is_installed(program: &str) -> bool {
    path_with_sbin()
        .split(':')
        .any(|folder| Path::new(folder).join(program).is_file())
}

fn all_stopped(threads: &std::path::Path) -> bool {
    std::fs::read_dir(threads).unwrap().all(|thread| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}
