//! A gateway with an `/etc` of its own: accounts with passwords, PAM services, keys. The host's files
//! are only covered in the gateway's mount namespace, never changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{SOON, programs};

/// Alice's password; Bob's is [`BOB`] and has to be changed.
pub const ALICE: &str = "correct horse battery";
pub const BOB: &str = "old and well known";
/// Local accounts, judged by pam_unix.
pub const PAM: &str = "auth required pam_unix.so\naccount required pam_unix.so\n\
                       password required pam_unix.so sha512 minlen=8\nsession required pam_permit.so\n";

pub struct Host {
    child: Child,
    pub folder: tempfile::TempDir,
    pub port: u16,
}

/// What a client was told.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
    /// The prompts, in their order.
    pub prompts: Vec<String>,
    pub took: Duration,
}

/// One login of OpenSSH's client.
pub struct Login<'a> {
    host: &'a Host,
    user: &'a str,
    keys: Vec<String>,
    options: Vec<String>,
    answers: Vec<&'a str>,
}

pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether these tests can run here, and with these programs or modules.
pub fn possible(test: &str, wanted: &[&str]) -> bool {
    let missing = wanted.iter().find(|path| !Path::new(path).exists());
    if let Some(path) = missing {
        println!("skipped: {test} needs {path}");
        return false;
    }
    crate::support::possible(test)
}

impl Host {
    /// Starts a gateway; `more` goes into its configuration, `pam` is its PAM service. `prepare`
    /// may put more into the folder.
    pub fn start(more: &str, pam: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let at = |name: &str| path.join(name).display().to_string();
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["empty", "etc", "etc/pam.d", "home", "etc/gateway"] {
            fs::create_dir(at(name)).unwrap();
        }
        for name in [
            "nsswitch.conf",
            "ld.so.cache",
            "login.defs",
            "shells",
            "security",
            "hosts",
        ] {
            if Path::new("/etc").join(name).exists() {
                run("cp", &["-aL", &format!("/etc/{name}"), &at("etc")]);
            }
        }
        let nobody = "nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n";
        let mut passwd = format!("root:x:0:0::/root:/bin/sh\n{nobody}");
        let mut shadow = "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n".to_owned();
        let mut group = "root:x:0:\nshadow:x:42:\nnogroup:x:65534:\nstaff:x:50:alice\n".to_owned();
        for (number, user, password, changed) in [
            (1501, "alice", ALICE, 19000),
            (1502, "bob", BOB, 0),
            (1503, "carol", "*", 19000),
        ] {
            let hash = match password {
                "*" => "*".to_owned(),
                password => run("openssl", &["passwd", "-6", password])
                    .trim()
                    .to_owned(),
            };
            let home = format!("home/{user}");
            passwd += &format!("{user}:x:{number}:{number}::{}:/bin/sh\n", at(&home));
            shadow += &format!("{user}:{hash}:{changed}:0:99999:7:::\n");
            group += &format!("{user}:x:{number}:\n");
            fs::create_dir_all(at(&format!("{home}/.ssh"))).unwrap();
            for key in ["id", "id2"] {
                let key = at(&format!("{home}/.ssh/{key}"));
                run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
            }
            let keys: String = ["id", "id2"]
                .map(|key| fs::read_to_string(at(&format!("{home}/.ssh/{key}.pub"))).unwrap())
                .concat();
            fs::write(at(&format!("{home}/.ssh/authorized_keys")), keys).unwrap();
            run("chown", &["-R", &format!("{number}:{number}"), &at(&home)]);
        }
        fs::write(at("etc/passwd"), passwd).unwrap();
        fs::write(at("etc/group"), group).unwrap();
        fs::write(at("etc/shadow"), shadow).unwrap();
        fs::set_permissions(at("etc/shadow"), PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(at("etc/pam.d/login-gateway"), pam).unwrap();
        run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", &at("host")],
        );
        prepare(path);
        let config = format!(
            "listen = [\"127.0.0.1:0\"]\nuser = \"nobody\"\nhost-keys = [\"{}\"]\n\
             empty-root = \"{}\"\nmake-home = false\nlogin-records = false\n{}\n",
            at("host"),
            at("empty"),
            more.replace("FOLDER", &path.display().to_string()),
        );
        fs::write(at("gateway.toml"), config).unwrap();
        let script = "mount --make-rprivate / && mount --bind etc /etc && \
                      exec \"$0\" --config \"$PWD/gateway.toml\"";
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", script])
            .arg(programs().join("login-gateway"))
            .current_dir(path)
            .env_remove("LOG_FORMAT")
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let mut host = Self {
            child,
            folder,
            port: 0,
        };
        host.logged("gateway.ready", 1);
        let log = host.log();
        let line = log
            .lines()
            .find(|l| l.contains("gateway.listening"))
            .unwrap();
        host.port = line.rsplit(':').next().unwrap().parse().unwrap();
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Waits until the log has this many lines with this text.
    pub fn logged(&self, text: &str, times: usize) {
        let end = Instant::now() + SOON;
        while self.log().lines().filter(|l| l.contains(text)).count() < times {
            assert!(Instant::now() < end, "not logged: {text}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A file of a user's, with their ownership.
    pub fn give(&self, user: &str, name: &str, text: &str) {
        let path = self.path(&format!("home/{user}/{name}"));
        fs::write(&path, text).unwrap();
        run(
            "chown",
            &["--reference", &self.home(user), &path.display().to_string()],
        );
    }

    pub fn home(&self, user: &str) -> String {
        self.path(&format!("home/{user}")).display().to_string()
    }

    /// The public half of a user's key.
    pub fn public(&self, user: &str, key: &str) -> String {
        fs::read_to_string(self.path(&format!("home/{user}/.ssh/{key}.pub"))).unwrap()
    }

    pub fn login<'a>(&'a self, user: &'a str) -> Login<'a> {
        Login {
            host: self,
            user,
            keys: Vec::new(),
            options: Vec::new(),
            answers: Vec::new(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Two of them may arrive as one.
        for _ in 0..3 {
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", self.log());
        }
    }
}

impl<'a> Login<'a> {
    /// With this key of the user's, a path below the host's folder, or of nobody.
    pub fn key(mut self, key: &str) -> Self {
        let own = self.host.path(&format!("home/{}/.ssh/{key}", self.user));
        let path = if own.exists() {
            own
        } else {
            self.host.path(key)
        };
        self.keys.push(path.display().to_string());
        self
    }

    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// The methods that the client tries, in order.
    pub fn methods(self, methods: &str) -> Self {
        self.option(&format!("PreferredAuthentications={methods}"))
    }

    /// What is typed at the prompts, in order.
    pub fn types(mut self, answers: &[&'a str]) -> Self {
        self.answers = answers.to_vec();
        self
    }

    pub fn run(self) -> Said {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let lines: String = self.answers.iter().map(|a| format!("{a}\n")).collect();
        fs::write(at("answers"), lines).unwrap();
        let script = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\nprintf '%s\\n' \"$1\" >>prompts\n\
                      [ -s answers ] || exit 1\nhead -n 1 answers\nsed -i 1d answers\n";
        fs::write(at("askpass"), script).unwrap();
        fs::set_permissions(at("askpass"), PermissionsExt::from_mode(0o700)).unwrap();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &self.host.port.to_string()])
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "StrictHostKeyChecking=no",
            ])
            .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
            .args(["-o", "ConnectTimeout=20"])
            .env("SSH_ASKPASS", at("askpass"))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::null());
        if self.keys.is_empty() {
            ssh.args(["-o", "IdentityFile=none"]);
        }
        for key in &self.keys {
            ssh.args(["-i", key]);
        }
        for option in &self.options {
            ssh.args(["-o", option]);
        }
        let began = Instant::now();
        let output = ssh
            .args(["-l", self.user, "127.0.0.1", "echo in as $(id -un)"])
            .output()
            .unwrap();
        let prompts = fs::read_to_string(at("prompts")).unwrap_or_default();
        let err = String::from_utf8_lossy(&output.stderr);
        Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: err
                .lines()
                .filter(|line| !line.starts_with("Warning: Permanently added"))
                .map(|line| format!("{line}\n"))
                .collect(),
            prompts: prompts.lines().map(str::to_owned).collect(),
            took: began.elapsed(),
        }
    }
}
