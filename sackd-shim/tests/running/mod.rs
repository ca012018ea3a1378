//! A real `sackd-shim` in a folder of its own, and a client that speaks raw bytes to it.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use slurm_auth::{Claims, Keyring, Verifier};
use slurm_wire::ProtocolVersion;
use slurm_wire::sack::{Request, parse_token_reply};
use tempfile::TempDir;

/// The key that every test starts with.
pub const KEY: &[u8] = b"a key of the test, long enough to be safe\n";

/// A running signer; ended on drop.
pub struct Shim {
    folder: TempDir,
    child: Child,
}

impl Shim {
    /// Starts one with a local slurm.conf of this text and more lines of configuration.
    pub fn start(slurm_conf: &str, more: &str) -> Self {
        Self::start_in(slurm_conf, more, &[])
    }

    /// The same with these variables.
    pub fn start_in(slurm_conf: &str, more: &str, variables: &[(&str, &str)]) -> Self {
        let folder = folder(slurm_conf, more);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command(folder.path())
            .envs(variables.iter().copied())
            .stderr(log)
            .spawn()
            .unwrap();
        let shim = Self { folder, child };
        wait_for("the socket", || UnixStream::connect(shim.socket()).is_ok());
        shim
    }

    /// Starts one whose log nobody reads, until [`Self::read_to_end`].
    pub fn start_unread(slurm_conf: &str, more: &str) -> Self {
        let folder = folder(slurm_conf, more);
        fs::write(folder.path().join("log"), "").unwrap();
        let child = command(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let shim = Self { folder, child };
        wait_for("the socket", || UnixStream::connect(shim.socket()).is_ok());
        shim
    }

    /// The whole log of [`Self::start_unread`]; the signer must be about to end.
    pub fn read_to_end(&mut self) -> String {
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        log
    }

    /// Started by another program, such as `unshare`, which has this one as its only child.
    pub fn start_within(wrapper: &[&str], slurm_conf: &str, more: &str) -> Self {
        let folder = folder(slurm_conf, more);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg(env!("CARGO_BIN_EXE_sackd-shim"))
            .arg("--config")
            .arg(folder.path().join("config.toml"))
            .stderr(log)
            .spawn()
            .unwrap();
        let shim = Self { folder, child };
        wait_for("the socket", || UnixStream::connect(shim.socket()).is_ok());
        shim
    }

    /// Runs as this uid, which is not SlurmUser; needs root.
    pub fn start_as(uid: u32, slurm_conf: &str, more: &str, slurm_user: &str) -> Self {
        let folder = folder(slurm_conf, more);
        let own = |name: &str| {
            std::os::unix::fs::chown(folder.path().join(name), Some(uid), Some(uid)).unwrap();
        };
        own("run");
        own("slurm.key");
        let text = fs::read_to_string(folder.path().join("config.toml")).unwrap();
        let text = text.replace(
            "slurm-user = \"0\"",
            &format!("slurm-user = \"{slurm_user}\""),
        );
        put(&folder.path().join("config.toml"), text.as_bytes(), 0o644);
        // The program may lie where this user cannot reach it.
        let program = folder.path().join("sackd-shim");
        fs::copy(env!("CARGO_BIN_EXE_sackd-shim"), &program).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .env_clear()
            .arg("--config")
            .arg(folder.path().join("config.toml"))
            .uid(uid)
            .gid(uid)
            .stderr(log)
            .spawn()
            .unwrap();
        let shim = Self { folder, child };
        wait_for("the socket", || UnixStream::connect(shim.socket()).is_ok());
        shim
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/sack.socket")
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Writes the configuration file anew, with other lines.
    pub fn reconfigure(&self, more: &str) {
        let text = config_text(self.folder.path(), more);
        self.replace("config.toml", text.as_bytes(), 0o644);
    }

    /// Asks `status.socket`.
    pub fn http(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.path("run/status.socket")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        String::from_utf8(rest(stream)).unwrap()
    }

    /// Runs `sackd-shim` with the same configuration and these arguments.
    pub fn run(&self, arguments: &[&str]) -> Output {
        command(self.folder.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Puts a file in place as a rotation does: a new one, renamed.
    pub fn replace(&self, name: &str, content: &[u8], mode: u32) {
        put(&self.path(name), content, mode);
    }

    /// Everything the signer says to these bytes until it closes.
    pub fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(bytes).unwrap();
        rest(stream)
    }

    pub fn token(&self, ruid: u32, payload: &[u8]) -> Option<String> {
        let payload = payload.to_vec();
        let request = Request::Create {
            version: ProtocolVersion::V24_11,
            ruid,
            payload,
        };
        parse_token_reply(&self.say(&request.encode())).unwrap()
    }

    pub fn verify(&self, token: &str) -> Vec<u8> {
        let token = token.to_owned();
        self.say(
            &Request::Verify {
                version: ProtocolVersion::V26_05,
                token,
            }
            .encode(),
        )
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let end = log.lines().rev().take(20).collect::<Vec<_>>();
            eprintln!("{:?}", self.child.try_wait());
            end.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a signer that is expected to end by itself.
pub fn run_to_end(slurm_conf: &str, more: &str, change: impl FnOnce(&Path)) -> Output {
    let folder = folder(slurm_conf, more);
    change(folder.path());
    command(folder.path())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

/// Runs it by sackd's name, which comes back once it serves.
pub fn run_as_sackd(
    slurm_conf: &str,
    more: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (TempDir, Output) {
    let folder = folder(slurm_conf, more);
    let errors = folder.path().join("errors");
    let mut command = command(folder.path());
    command
        .arg0("sackd")
        .args(arguments)
        .envs(variables.iter().copied())
        // A file: the background process keeps its standard error open.
        .stderr(fs::File::create(&errors).unwrap());
    let mut output = command.stdout(Stdio::piped()).output().unwrap();
    output.stderr = fs::read(errors).unwrap();
    (folder, output)
}

/// A token from the socket at this path.
pub fn token_at(socket: &Path, ruid: u32) -> Option<String> {
    let request = Request::Create {
        version: ProtocolVersion::V26_05,
        ruid,
        payload: vec![],
    };
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&request.encode()).unwrap();
    parse_token_reply(&rest(stream)).unwrap()
}

/// What `/status` says there.
pub fn status_at(socket: &Path) -> serde_json::Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\n\r\n").unwrap();
    let text = String::from_utf8(rest(stream)).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Runs `sackd-shim check`.
pub fn check(slurm_conf: &str, more: &str, change: impl FnOnce(&Path)) -> Output {
    let folder = folder(slurm_conf, more);
    change(folder.path());
    command(folder.path()).arg("check").output().unwrap()
}

/// The same with `--json`.
pub fn check_json(slurm_conf: &str, more: &str, change: impl FnOnce(&Path)) -> Output {
    let folder = folder(slurm_conf, more);
    change(folder.path());
    let mut command = command(folder.path());
    command.args(["check", "--json"]).output().unwrap()
}

/// Bytes until the end of the stream. A reset counts as an end.
pub fn rest(mut stream: UnixStream) -> Vec<u8> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("no end of stream: {error}"),
    }
}

/// Waits until something is so; a test that waits longer than this has failed.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn keys(bytes: &[u8]) -> Keyring {
    Keyring::from_slurm_key(bytes).unwrap()
}

/// The claims of a token that the key made just now.
pub fn claims(token: &str, key: &[u8]) -> Claims {
    let uid = nix::unistd::geteuid().as_raw();
    slurm_auth::verify(token, &keys(key), Verifier { uid, now: now() }).unwrap()
}

pub fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn folder(slurm_conf: &str, more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(path.join("run")).unwrap();
    put(&path.join("slurm.key"), KEY, 0o600);
    put(&path.join("slurm.conf"), slurm_conf.as_bytes(), 0o644);
    let config = config_text(path, more);
    put(&path.join("config.toml"), config.as_bytes(), 0o644);
    folder
}

fn config_text(folder: &Path, more: &str) -> String {
    let at = folder.display();
    let uid = nix::unistd::geteuid();
    let more = more.replace("@", &at.to_string());
    format!(
        "key-file = \"{at}/slurm.key\"\nrun-dir = \"{at}/run\"\nconf = \"{at}/slurm.conf\"\n\
         slurm-user = \"{uid}\"\n{more}\n"
    )
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sackd-shim"));
    command
        .env_clear()
        .arg("--config")
        .arg(folder.join("config.toml"));
    command
}

fn put(path: &Path, content: &[u8], mode: u32) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, content).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&fresh, path).unwrap();
}
