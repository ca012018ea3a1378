//! Servers on a private host: Debian's sshd and our gateway, and the clients' side of them. What is
//! asked of both is written once, against [`Server`].

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::host::{Host, User};
use crate::lab::repo;
use crate::process::{Done, run, run_with};

/// Longest wait for what must happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Debian's sshd.
    Theirs,
    /// `login-gateway`.
    Ours,
}

/// How to start a server: its configuration, and what PAM does if not [`crate::PAM`].
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// `sshd_config`, or `login-gateway.toml`; port, host keys and log are added unless named.
    pub config: String,
    /// The text of its PAM service.
    pub pam: Option<String>,
    /// Further variables of the server's environment.
    pub environment: Vec<(String, String)>,
}

impl From<&str> for Start {
    fn from(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            ..Self::default()
        }
    }
}

/// A running server.
pub struct Server {
    child: Child,
    /// Its main process, as this machine counts.
    pub pid: u32,
    /// Whose it is.
    pub whose: Whose,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// A known_hosts file with its host key.
    pub known_hosts: PathBuf,
    log: PathBuf,
}

impl Host {
    /// Starts Debian's sshd.
    pub fn sshd(&self, start: impl Into<Start>) -> Server {
        let start = start.into();
        let port = free_port();
        let mut config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nPidFile none\nUsePAM yes\nPrintMotd no\n\
             Subsystem sftp /usr/lib/openssh/sftp-server\n"
        );
        if !start.config.contains("HostKey ") {
            let key = self.folder().join("host_ed25519");
            config.push_str(&format!("HostKey {}\n", key.display()));
        }
        // In sshd_config the first value counts, so the test's own stand first.
        config.insert_str(0, &before_match(&start.config).0);
        config.push_str(before_match(&start.config).1);
        self.serve(Whose::Theirs, &start, port, &config, |file, log| {
            let mut arguments = vec!["/usr/sbin/sshd".into(), "-D".into(), "-E".into()];
            arguments.extend([log.into(), "-f".into(), file.into()]);
            arguments
        })
    }

    /// Starts our gateway. `user`, `empty-root`, `host-keys` and `listen` are set unless the
    /// configuration names them.
    pub fn gateway(&self, start: impl Into<Start>) -> Server {
        let start = start.into();
        let port = free_port();
        let mut config = String::new();
        let (top, _) = before_table(&start.config);
        for (key, value) in [
            ("listen", format!("[\"127.0.0.1:{port}\"]")),
            ("user", "\"gateway\"".into()),
            ("empty-root", "\"/run/empty\"".into()),
            (
                "host-keys",
                format!("[\"{}\"]", self.folder().join("host_ed25519").display()),
            ),
            ("make-home", "false".into()),
        ] {
            let named = |line: &str| {
                line.strip_prefix(key)
                    .is_some_and(|rest| rest.trim_start().starts_with('='))
            };
            if !top.lines().any(named) {
                config.push_str(&format!("{key} = {value}\n"));
            }
        }
        config.push_str(&start.config);
        let program = programs().join("login-gateway");
        self.serve(Whose::Ours, &start, port, &config, |file, _| {
            vec![program.into(), "--config".into(), file.into()]
        })
    }

    fn serve(
        &self,
        whose: Whose,
        start: &Start,
        port: u16,
        config: &str,
        arguments: impl FnOnce(&Path, &Path) -> Vec<std::ffi::OsString>,
    ) -> Server {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let at = |name: &str| self.folder().join(format!("{number}.{name}"));
        let (file, log) = (at("config"), at("log"));
        fs::write(&file, config).expect("write");
        let pam = at("pam");
        fs::write(&pam, start.pam.as_deref().unwrap_or(crate::PAM)).expect("write");
        let mut command = self.command("unshare");
        // The PAM stack is this server's alone, and sshd knows one service name only.
        command.args(["--mount", "sh", "-c"]).arg(
            "mount --bind \"$0\" /etc/pam.d/sshd && mount --bind \"$0\" /etc/pam.d/login-gateway && exec \"$@\"",
        );
        command.arg(&pam).args(arguments(&file, &log));
        command.envs(start.environment.iter().cloned());
        let said = fs::File::options().create(true).append(true).open(&log);
        let said = said.expect("open the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("dup"))
            .stderr(said)
            .spawn()
            .expect("start a server");
        let known_hosts = at("known_hosts");
        let mut known = String::new();
        for kind in ["ed25519", "ecdsa", "rsa"] {
            let key = fs::read_to_string(self.folder().join(format!("host_{kind}.pub")));
            known += &format!("[127.0.0.1]:{port} {}", key.expect("read"));
        }
        fs::write(&known_hosts, known).expect("write");
        let mut server = Server {
            child,
            pid: 0,
            whose,
            port,
            known_hosts,
            log,
        };
        // None if it has ended already, which `ready` tells.
        server.pid = crate::host::child_of(server.child.id()).unwrap_or(0);
        server.ready();
        server
    }
}

impl Server {
    /// Waits until it greets.
    fn ready(&mut self) {
        let end = Instant::now() + SOON;
        loop {
            let greeted = TcpStream::connect(("127.0.0.1", self.port)).is_ok_and(|mut stream| {
                let mut start = [0; 4];
                let _ = stream.set_read_timeout(Some(SOON));
                let greeted = stream.read_exact(&mut start).is_ok() && &start == b"SSH-";
                let _ = stream.write_all(b"SSH-2.0-ready\r\n");
                greeted
            });
            if greeted {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the server ended: {status}\n{}", self.log());
            }
            assert!(Instant::now() < end, "no server\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until its log has this text.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn logged(&self, text: &str) {
        let end = Instant::now() + SOON;
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "not logged: {text}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Options of OpenSSH's clients for a login as this user, without port and destination.
    pub fn options(&self, user: &User) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        for option in [
            "IdentitiesOnly=yes".to_owned(),
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "LogLevel=ERROR".to_owned(),
            "ConnectTimeout=20".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            // The client's default costs it 100 ms a login.
            "KexAlgorithms=curve25519-sha256".to_owned(),
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            format!("IdentityFile={}", user.key.display()),
            format!("User={}", user.name),
            format!("Port={}", self.port),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }

    /// `ssh` up to the destination, with these arguments before it.
    pub fn ssh(&self, user: &User, arguments: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(arguments)
            .args(self.options(user))
            .arg("127.0.0.1")
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("DISPLAY");
        command
    }

    /// Another of OpenSSH's clients (`scp`, `sftp`) with these arguments after the options; the
    /// destination is `127.0.0.1`.
    pub fn client(&self, program: &str, user: &User, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(self.options(user))
            .args(arguments)
            .env_remove("SSH_AUTH_SOCK");
        command
    }

    /// An `ssh` command line in one word, for `rsync -e` and `GIT_SSH_COMMAND`.
    pub fn ssh_line(&self, user: &User) -> String {
        format!("ssh {}", self.options(user).join(" "))
    }

    /// Runs a command line as this user.
    #[track_caller]
    pub fn says(&self, user: &User, command: &str) -> Done {
        run(self.ssh(user, &[]).arg(command))
    }

    /// As [`Server::says`], with an input.
    #[track_caller]
    pub fn feed(&self, user: &User, command: &str, input: &[u8]) -> Done {
        run_with(
            self.ssh(user, &[]).arg(command),
            input,
            Duration::from_secs(60),
        )
    }

    /// Runs a script as root among the mounts that it sees.
    pub fn among_its_mounts(&self, script: &str) -> Done {
        let pid = self.pid.to_string();
        run(Command::new("nsenter").args(["--mount", "--target", &pid, "sh", "-c", script]))
    }

    /// Sends its main process a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        // To process 0 it would be for everybody here.
        if self.pid == 0 {
            return;
        }
        let pid = nix::unistd::Pid::from_raw(self.pid.cast_signed());
        let _ = nix::sys::signal::kill(pid, signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Logins that are still there end with the host.
        for _ in 0..2 {
            self.signal(nix::sys::signal::Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(20));
        }
        self.signal(nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- log of {:?}\n{}", self.whose, self.log());
        }
    }
}

/// The folder of our programs: `LOGIN_GATEWAY_PROGRAMS`, or those of this build, brought up to date
/// once.
pub fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("LOGIN_GATEWAY_PROGRAMS") {
            return folder.into();
        }
        let me = std::env::current_exe().expect("this program");
        let folder = me.parent().and_then(Path::parent).expect("target/debug");
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut build = Command::new(cargo);
            build
                .args(["build", "--quiet", "--locked"])
                .current_dir(repo());
            // What cargo says to a test, build scripts take for a change of theirs: all of russh would be built anew.
            for (name, _) in std::env::vars_os() {
                let text = name.to_string_lossy();
                if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                    build.env_remove(name);
                }
            }
            if folder.ends_with("release") {
                build.arg("--release");
            }
            build.args(["-p", "login-gateway", "-p", "sackd-shim"]);
            for part in fs::read_dir(repo().join("login-gateway")).expect("read") {
                let part = part.expect("read").path();
                if let (true, Some(name)) = (part.join("src/main.rs").exists(), package(&part)) {
                    build.args(["-p", &name]);
                }
            }
            if !build.status().expect("run cargo").success() {
                // No test that asks for a server can go on.
                eprintln!("the programs do not build");
                std::process::exit(101);
            }
        }
        folder.to_owned()
    })
}

/// The name in a folder's Cargo.toml.
fn package(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("name = "))?;
    Some(name.trim_matches('"').to_owned())
}

/// A port nobody listens on, outside of the range that the kernel gives to clients.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = u16::try_from(std::process::id() % 100).unwrap_or(0) * 100;
    loop {
        let port = 20_000 + (base + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What stands before the first `Match` block, and the rest.
fn before_match(config: &str) -> (String, &str) {
    let at = config
        .lines()
        .scan(0, |at, line| {
            let start = *at;
            *at += line.len() + 1;
            Some((start, line))
        })
        .find(|(_, line)| line.trim_start().to_ascii_lowercase().starts_with("match "))
        .map_or(config.len(), |(at, _)| at);
    let mut top = config[..at].to_owned();
    if !top.is_empty() && !top.ends_with('\n') {
        top.push('\n');
    }
    (top, &config[at..])
}

/// What stands before the first `[table]`, and the rest.
fn before_table(config: &str) -> (&str, &str) {
    if config.starts_with('[') {
        return ("", config);
    }
    config
        .find("\n[")
        .map_or((config, ""), |at| config.split_at(at + 1))
}
