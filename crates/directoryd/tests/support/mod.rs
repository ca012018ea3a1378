//! A real slapd, a real directoryd, and programs whose libc asks that one: what the tests here share.
//!
//! Nothing of the machine's own is touched: sockets and data are in a fresh folder, and programs see
//! our folder as /run/nscd only inside a mount namespace of their own.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use directory_client::{Client, Password, Status, Verdict};
use directory_map::protocol::{Query, encode_request};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The tests' own folder with everything that runs in it.
pub struct Lab {
    pub folder: TempDir,
    pub port: u16,
    slapd: Option<Pid>,
    daemon: Option<Child>,
    pub settings: Settings,
}

/// What differs between tests.
#[derive(Clone)]
pub struct Settings {
    pub schema: &'static str,
    /// LDIF added to the directory before it starts.
    pub extra: &'static str,
    pub refresh: &'static str,
    /// What the server lets the reader list, as in slapd.conf(5).
    pub limits: &'static str,
    pub start_tls: bool,
    /// The CA file, if not the one of the lab.
    pub ca: Option<PathBuf>,
    pub uid: Option<u32>,
    pub uri: Option<String>,
    /// More lines for its `[ldap]` table.
    pub more_ldap: &'static str,
    /// More lines for the head of the configuration.
    pub more: String,
    /// What the daemon is to find as /etc/resolv.conf (root alone can arrange that).
    pub resolv_conf: Option<&'static str>,
    /// A file of people in place of a directory server: its path in the folder.
    pub people: Option<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            schema: "rfc2307bis",
            extra: "",
            refresh: "200ms",
            limits: "size.prtotal=unlimited",
            start_tls: true,
            ca: None,
            uid: None,
            uri: None,
            more_ldap: "",
            more: String::new(),
            resolv_conf: None,
            people: None,
        }
    }
}

/// True if the peer of these tests is there; says so by name if it is not.
pub fn has_peers(test: &str) -> bool {
    for (program, arguments) in [
        ("slapd", &["-VV"][..]),
        ("ldapmodify", &["-VV"]),
        ("unshare", &["-rm", "true"]),
    ] {
        let found = Command::new(program)
            .args(arguments)
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .output()
            .is_ok();
        if !found {
            println!("skipped {test}: '{program}' is not installed");
            return false;
        }
    }
    true
}

impl Lab {
    /// A folder with a free port; nothing runs yet.
    pub fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Programs of other users reach the sockets in it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["nscd", "run", "state", "slapd"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let lab = Self {
            folder,
            port,
            slapd: None,
            daemon: None,
            settings,
        };
        lab.write_config();
        lab
    }

    /// A lab in which everything runs and the replica is complete.
    pub fn running(settings: Settings) -> Self {
        let mut lab = Self::new(settings);
        lab.start_slapd();
        lab.start_daemon();
        lab.until(|status| status.complete);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write_config(&self) {
        let path = |name: &str| self.path(name).display().to_string();
        let uri = self
            .settings
            .uri
            .clone()
            .unwrap_or(format!("ldap://127.0.0.1:{}", self.port));
        let ca = self
            .settings
            .ca
            .clone()
            .unwrap_or(self.path("slapd/tls/ca.pem"));
        let tls = match self.settings.start_tls {
            true => format!("start-tls = true\nca-file = \"{}\"", ca.display()),
            false => "start-tls = false".to_owned(),
        };
        let head = format!(
            "nscd-socket = \"{}\"\ncontrol-socket = \"{}\"\nstate-dir = \"{}\"\n{}\n",
            path("nscd/socket"),
            path("run/control.sock"),
            path("state"),
            self.settings.more,
        );
        let ldap = format!(
            "[ldap]\nuris = [\"{uri}\"]\n{tls}\nbind-dn = \"cn=reader,dc=example,dc=org\"\n\
             bind-password-file = \"{}\"\nschema = \"{}\"\nbase = \"dc=example,dc=org\"\n\
             user-base = \"ou=people,dc=example,dc=org\"\n\
             group-base = \"ou=groups,dc=example,dc=org\"\nrefresh-interval = \"{}\"\n\
             lookup-timeout = \"1s\"\n{}\n",
            path("password"),
            self.settings.schema,
            self.settings.refresh,
            self.settings.more_ldap,
        );
        let source = match self.settings.people {
            Some(people) => format!("[file]\npath = \"{}\"\n", path(people)),
            None => ldap,
        };
        fs::write(self.path("directoryd.toml"), head + &source).unwrap();
        fs::set_permissions(
            self.path("directoryd.toml"),
            fs::Permissions::from_mode(0o644),
        )
        .unwrap();
    }

    pub fn start_slapd(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/lab/slapd/start.sh");
        fs::write(self.path("extra.ldif"), self.settings.extra).unwrap();
        let output = Command::new(script)
            .args([
                self.path("slapd").as_os_str(),
                self.port.to_string().as_ref(),
            ])
            .env("SLAPD_SCHEMA", self.settings.schema)
            .env("SLAPD_LIMITS", self.settings.limits)
            .env("SLAPD_EXTRA", self.path("extra.ldif"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let pid = fs::read_to_string(self.path("slapd/slapd.pid")).unwrap();
        self.slapd = Some(Pid::from_raw(pid.trim().parse().unwrap()));
        fs::copy(
            self.path("slapd/secret/reader-password"),
            self.path("password"),
        )
        .unwrap();
        fs::set_permissions(self.path("password"), fs::Permissions::from_mode(0o640)).unwrap();
        if let Some(uid) = self.settings.uid {
            std::os::unix::fs::chown(self.path("password"), Some(0), Some(uid)).unwrap();
        }
    }

    /// Takes on a slapd that a test started itself in our folder.
    pub fn adopt_slapd(&mut self) {
        let pid = fs::read_to_string(self.path("slapd/slapd.pid")).unwrap();
        self.slapd = Some(Pid::from_raw(pid.trim().parse().unwrap()));
    }

    pub fn signal_slapd(&self, signal: Signal) {
        let pid = self.slapd.unwrap();
        kill(pid, signal).unwrap();
        // A thread that runs on another processor at that moment may go on for a little.
        while signal == Signal::SIGSTOP && !is_stopped(pid) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn stop_slapd(&mut self) {
        let Some(pid) = self.slapd.take() else { return };
        let _ = kill(pid, Signal::SIGCONT);
        let _ = kill(pid, Signal::SIGTERM);
        let start = Instant::now();
        while Path::new(&format!("/proc/{pid}/fd/0")).exists() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn start_daemon(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_directoryd"));
        if self.settings.uid.is_some() {
            // The build folder may be closed to that user.
            fs::copy(&program, self.path("directoryd")).unwrap();
            program = self.path("directoryd");
        }
        let mut command = Command::new(&program);
        if let Some(text) = self.settings.resolv_conf {
            fs::write(self.path("resolv.conf"), text).unwrap();
            let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
            command = Command::new("unshare");
            command
                .args(["-m", "sh", "-c", script, "sh"])
                .arg(self.path("resolv.conf"))
                .arg(&program);
        }
        command
            .arg("--config")
            .arg(self.path("directoryd.toml"))
            .stderr(log)
            .stdin(Stdio::null());
        if let Some(uid) = self.settings.uid {
            for name in ["nscd", "run", "state"] {
                std::os::unix::fs::chown(self.path(name), Some(uid), Some(uid)).unwrap();
            }
            command.uid(uid).gid(uid);
        }
        self.daemon = Some(command.spawn().unwrap());
        wait("the daemon listens", || {
            self.client().status().is_ok().then_some(())
        });
    }

    pub fn stop_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
        assert!(daemon.wait().unwrap().success(), "{}", self.log());
    }

    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Ends the daemon as a crash would.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Fails if the daemon has ended.
    pub fn assert_alive(&mut self) {
        let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", self.log());
    }

    pub fn client(&self) -> Client {
        Client::new(self.path("run/control.sock")).with_timeout(Duration::from_secs(3))
    }

    /// Waits until the daemon is as wanted.
    pub fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let client = self.client();
        wait("the daemon's state", || {
            client.status().ok().filter(&wanted)
        })
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A program whose libc asks our daemon.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs tmpfs /run && mkdir /run/nscd && \
                      mount --bind \"$1\" /run/nscd && shift && exec \"$@\"";
        let flag = if nix::unistd::geteuid().is_root() {
            "-m"
        } else {
            "-rm"
        };
        command
            .args([flag, "sh", "-c", script, "sh"])
            .arg(self.path("nscd"))
            .arg(program);
        command
    }

    /// What `program arguments` prints, without the line's end, and whether it succeeded.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> (String, bool) {
        let output: Output = self.program(program).args(arguments).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "",
            "{program} {arguments:?}"
        );
        (
            String::from_utf8(output.stdout)
                .unwrap()
                .trim_end()
                .to_owned(),
            output.status.success(),
        )
    }

    /// What `getent database key` prints; empty if there is no such entry.
    pub fn getent(&self, database: &str, key: &str) -> String {
        let (text, found) = self.ask("getent", &[database, key]);
        assert_eq!(found, !text.is_empty());
        text
    }

    /// The numbers of a user's groups as `id -G` has them, sorted.
    pub fn groups(&self, user: &str) -> Vec<u32> {
        let output = self.program("id").args(["-G", user]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut gids: Vec<u32> = text
            .split_whitespace()
            .map(|gid| gid.parse().unwrap())
            .collect();
        gids.sort();
        gids
    }

    /// Changes the directory as its admin.
    pub fn modify(&self, ldif: &str) {
        let mut command = Command::new("ldapmodify")
            .args(["-x", "-H", &format!("ldap://127.0.0.1:{}", self.port)])
            .args(["-D", "cn=admin,dc=example,dc=org", "-y"])
            .arg(self.path("slapd/secret/admin-password"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        command
            .stdin
            .take()
            .unwrap()
            .write_all(ldif.as_bytes())
            .unwrap();
        assert!(command.wait().unwrap().success(), "{ldif}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        self.stop_slapd();
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// What a command of the program under test ends with, and what it says on its two outputs.
pub fn run(lab: &Lab, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_directoryd"))
        .arg("--config")
        .arg(lab.path("directoryd.toml"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

pub fn password(text: &str) -> Password {
    Password::new(text.into()).unwrap()
}

/// The password that all people of the lab have.
pub fn persons(lab: &Lab) -> String {
    fs::read_to_string(lab.path("slapd/secret/person-password")).unwrap()
}

/// Tries a password, from nowhere in particular.
pub fn attempt(lab: &Lab, user: &str, text: &str) -> Verdict {
    lab.client().authenticate(user, password(text), "").unwrap()
}

/// That one is good, and nothing is to be said about it.
pub fn accepted() -> Verdict {
    Verdict::Accepted {
        must_change: false,
        notices: vec![],
    }
}

/// A look-up as libc makes it, over the socket in this folder; it is answered later.
pub fn ask(folder: &Path, query: Query, key: &str) -> UnixStream {
    let mut stream = UnixStream::connect(folder.join("nscd/socket")).unwrap();
    let request = encode_request(i32::from(query.number()), key.as_bytes());
    stream.write_all(&request).unwrap();
    stream
}

/// 1 for a record, 0 for "there is none", -1 for "not served here".
pub fn answer(mut stream: UnixStream) -> i32 {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    i32::from_ne_bytes(bytes[4..8].try_into().unwrap())
}

/// Both in one.
pub fn found(folder: &Path, query: Query, key: &str) -> i32 {
    answer(ask(folder, query, key))
}

/// Waits for `found` to find something.
pub fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether all threads of a process stand still.
fn is_stopped(pid: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.contains("\nState:\tT")
    })
}
