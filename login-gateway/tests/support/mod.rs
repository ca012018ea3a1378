//! A whole gateway on loopback: the real programs, the real `ssh`, a user who exists only in a mount
//! namespace of the gateway's own. Nothing of the host is changed.
#![allow(clippy::unwrap_used, dead_code)]

pub mod crowd;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for what must happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
/// The user who logs in.
const USER: &str = "carol";

/// A running gateway.
pub struct Gateway {
    pub child: Child,
    pub folder: tempfile::TempDir,
    pub port: u16,
    pub health: u16,
}

/// Whether this machine can run these tests; says why not.
pub fn possible(test: &str) -> bool {
    let has = |program: &str| Path::new("/usr/bin").join(program).exists();
    let missing = ["ssh", "ssh-keygen", "unshare"]
        .into_iter()
        .find(|p| !has(p));
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: {test} needs root");
    } else if let Some(program) = missing {
        println!("skipped: {test} needs {program}");
    } else {
        return true;
    }
    false
}

/// The folder of the programs. `cargo test` of one package builds no other's, so they are built.
pub fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let listener = PathBuf::from(env!("CARGO_BIN_EXE_login-gateway"));
        let folder = listener.parent().unwrap().to_owned();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "sftp-server"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        for part in ["accept", "monitor", "net", "session"] {
            build.args(["-p", &format!("login-gateway-{part}")]);
        }
        // What cargo says to a test, build scripts take for a change of theirs: all of russh would be built anew.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                build.env_remove(name);
            }
        }
        assert!(build.status().unwrap().success());
        folder
    })
}

/// Waits for a condition.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().unwrap().success());
}

/// Mounts the user of [`world`] over the host's, in a namespace of its own.
pub const MOUNT: &str = "mount --bind passwd /etc/passwd && mount --bind group /etc/group && \
                         mount --bind pam.d /etc/pam.d && ";

/// A folder with all that a gateway needs: a user and their home, host key, PAM service.
pub fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let at = |name: &str| path.join(name).display().to_string();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["empty", "home", "home/.ssh", "pam.d"] {
        fs::create_dir(at(name)).unwrap();
    }
    for key in ["host", "home/.ssh/id_ed25519"] {
        run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)],
        );
    }
    fs::copy(
        at("home/.ssh/id_ed25519.pub"),
        at("home/.ssh/authorized_keys"),
    )
    .unwrap();
    run("chown", &["-R", "1501:1501", &at("home")]);
    let pam = ["auth", "account", "session"]
        .map(|group| format!("{group} required pam_permit.so\n"))
        .concat();
    fs::write(at("pam.d/login-gateway"), pam).unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let user = format!("{USER}:x:1501:1501::{}:/bin/sh\n", at("home"));
    fs::write(at("passwd"), passwd + &user).unwrap();
    let group = fs::read_to_string("/etc/group").unwrap();
    fs::write(at("group"), group + &format!("{USER}:x:1501:\n")).unwrap();
    folder
}

/// The configuration of a gateway in this world.
pub fn configuration(world: &Path, more: &str) -> String {
    let at = |name: &str| world.join(name).display().to_string();
    let host_keys = if more.contains("host-keys") {
        String::new()
    } else {
        format!("host-keys = [\"{}\"]\n", at("host"))
    };
    format!(
        "listen = [\"127.0.0.1:0\"]\nhealth-listen = \"127.0.0.1:0\"\nuser = \"nobody\"\n\
         {host_keys}empty-root = \"{empty}\"\nmake-home = false\n\
         control-socket = \"{control}\"\n{more}\n",
        empty = at("empty"),
        control = at("control.sock"),
    )
}

impl Gateway {
    /// Starts one; `more` goes into its configuration.
    pub fn start(more: &str) -> Self {
        Self::start_program(&programs().join("login-gateway"), more)
    }

    /// Starts this program, with its siblings beside it.
    pub fn start_program(program: &Path, more: &str) -> Self {
        let folder = world();
        let mut gateway = Self {
            // Replaced below; a child is needed to make one.
            child: Command::new("true").spawn().unwrap(),
            folder,
            port: 0,
            health: 0,
        };
        gateway.child.wait().unwrap();
        gateway.configure(more);
        let script = format!("{MOUNT} exec \"$0\" --config \"$PWD/gateway.toml\"");
        gateway.child = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .arg(program)
            .current_dir(gateway.folder.path())
            .env_remove("LOG_FORMAT")
            .stderr(fs::File::create(gateway.folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        gateway.logged("gateway.ready", 1);
        let log = gateway.log();
        let mut ports = log
            .lines()
            .filter(|l| l.contains("gateway.listening"))
            .map(|l| l.rsplit(':').next().unwrap().parse().unwrap());
        gateway.port = ports.next().unwrap();
        gateway.health = ports.next().unwrap();
        gateway
    }

    /// Writes its configuration.
    pub fn configure(&self, more: &str) {
        let text = configuration(self.folder.path(), more);
        fs::write(self.folder.path().join("gateway.toml"), text).unwrap();
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until the log has this many lines with this text.
    pub fn logged(&self, text: &str, times: usize) {
        let end = Instant::now() + SOON;
        while self.log().lines().filter(|l| l.contains(text)).count() < times {
            assert!(Instant::now() < end, "not logged: {text}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Its children whose program has this name.
    pub fn children(&self, program: &str) -> Vec<i32> {
        let me = self.child.id();
        let list = format!("/proc/{me}/task/{me}/children");
        let pids = fs::read_to_string(list).unwrap();
        pids.split_whitespace()
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.starts_with(program.as_bytes())
            })
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    /// The exit code, once it has ended.
    pub fn exit_code(&mut self) -> Option<i32> {
        let end = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "goes on\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// An `ssh` with this command.
    pub fn ssh(&self, command: &str) -> Command {
        let mut ssh = self.client(&[]);
        ssh.arg(command);
        ssh
    }

    /// An `ssh` with these options and no command.
    pub fn client(&self, options: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        // The first value of an option counts.
        ssh.args(options)
            .args(["-p", &self.port.to_string(), "-F", "none", "-i"])
            .arg(self.folder.path().join("home/.ssh/id_ed25519"))
            .args(["-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"])
            .args(["-o", "ConnectTimeout=20", "-o", "SendEnv=COLOUR"])
            .arg(format!("{USER}@127.0.0.1"));
        ssh
    }

    /// Runs a command and returns what it printed.
    pub fn says(&self, command: &str) -> String {
        let output = self.ssh(command).stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Somebody who is logged in and stays.
    pub fn stays(&self) -> Echo {
        let mut child = self
            .ssh("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut echo = Echo {
            child,
            input: Some(input),
            output,
        };
        echo.lives();
        echo
    }

    /// The numbers of the health endpoint by name, and whether it is ready.
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.page("/metrics").unwrap();
        let line = page.lines().find(|l| {
            l.strip_prefix("login_gateway_")
                .is_some_and(|l| l.starts_with(name))
        });
        line.unwrap()
            .split(' ')
            .next_back()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// What `login-gateway ARGUMENTS` says about this gateway, and its exit code.
    pub fn command(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = Command::new(programs().join("login-gateway"))
            .args(arguments)
            .arg("--config")
            .arg(self.folder.path().join("gateway.toml"))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status.code())
    }

    /// A page of the health endpoint, with its headers; `None` if nobody answers.
    pub fn page(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health)).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        Some(page)
    }

    pub fn status(&self, path: &str) -> String {
        let page = self.page(path).unwrap_or_default();
        page.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    pub fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(stream)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The second one ends it, and two may arrive as one.
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(50));
        }
        if std::thread::panicking() {
            println!("{}", self.log());
        }
    }
}

/// A login whose command is `cat`.
pub struct Echo {
    pub child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Echo {
    /// Says something and hears it back.
    pub fn lives(&mut self) {
        let line = format!("{:?}\n", Instant::now());
        self.input
            .as_mut()
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
        let mut back = vec![0; line.len()];
        self.output.read_exact(&mut back).unwrap();
        assert_eq!(back, line.as_bytes());
    }

    /// Logs out.
    pub fn leave(mut self) {
        self.input = None;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
