//! The servers that a case is run against: sackd of both versions, in a root folder made from the lab's
//! image, and ours on this machine. Each has the same key, slurm.conf and accounts.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The key of most cases.
pub const KEY: &[u8] = b"the key of the conformance cases, long enough\n";

/// SlurmUser where it is not root.
pub const SLURM_USER: u32 = 401;

/// Accounts that every server knows: with all fields, with an empty gecos field, with a group that has no name.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nslurm:x:401:401::/:/bin/false\n\
    alice:x:1001:100:Alice Example,,,:/home/alice:/bin/bash\nbob:x:1002:100::/home/bob:/bin/sh\n\
    carol:x:1003:4343:Carol:/home/carol:/bin/sh\n";
const GROUP: &str =
    "root:x:0:\nslurm:x:401:\nusers:x:100:\nstaff2:x:2001:alice,bob\nlab:x:2002:alice\n";

/// Whose server it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// sackd of this version.
    Theirs(&'static str),
    /// sackd-shim.
    Ours,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Theirs(version) => write!(f, "sackd {version}"),
            Self::Ours => f.write_str("sackd-shim"),
        }
    }
}

/// The keys a server starts with.
pub enum Keys<'a> {
    /// slurm.key.
    Raw(&'a [u8]),
    /// slurm.jwks.
    Set(String),
}

/// The real servers' root folders. Its containers are never run, only mounted; they go when it goes.
pub struct Peers {
    roots: Vec<(&'static str, String, PathBuf)>,
}

impl Peers {
    /// Makes a root folder of each image that has a sackd. `SACKD_IMAGE` is the name of the images without
    /// their tags, `ONLY=ours` does without them, `ONLY=theirs` without ours.
    pub fn find() -> Self {
        let mut peers = Self { roots: Vec::new() };
        if std::env::var("ONLY").is_ok_and(|only| only == "ours") {
            return peers;
        }
        let image =
            std::env::var("SACKD_IMAGE").unwrap_or("localhost/slurm-login/slurm".to_owned());
        for version in ["24.11", "26.05"] {
            let name = format!("sackconf-{version}-{}", std::process::id());
            let image = format!("{image}:{version}");
            let made = podman(&["create", "--name", &name, &image, "true"]).is_some();
            let root = podman(&["mount", &name]).map(PathBuf::from);
            match root {
                Some(root) if root.join("usr/sbin/sackd").exists() => {
                    peers.roots.push((version, name, root));
                }
                _ => {
                    println!(
                        "skipped: conformance with sackd {version}: no image '{image}' with sackd in it (tests/lab/lab up)"
                    );
                    if made {
                        podman(&["rm", &name]);
                    }
                }
            }
        }
        peers
    }

    pub fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Theirs(version) => self.roots.iter().any(|(known, ..)| *known == version),
            Kind::Ours => std::env::var("ONLY")
                .is_ok_and(|only| only == "theirs")
                .eq(&false),
        }
    }

    /// Starts a server and waits until it answers.
    pub fn start(&self, kind: Kind, keys: &Keys<'_>, auth_info: &str) -> Server {
        let mut server = match kind {
            Kind::Theirs(version) => {
                let root = self.roots.iter().find(|(known, ..)| *known == version);
                Server::theirs(kind, &root.unwrap().2, keys, auth_info)
            }
            Kind::Ours => Server::ours(keys, auth_info),
        };
        server.wait_until_it_serves();
        server
    }

    /// Starts a server that is to fetch its configuration from these controllers. It runs as SlurmUser, who
    /// is not root, and need not serve yet.
    pub fn configless(&self, kind: Kind, key: &[u8], controllers: &[SocketAddr]) -> Server {
        match kind {
            Kind::Theirs(version) => {
                let root = self.roots.iter().find(|(known, ..)| *known == version);
                Server::theirs_configless(kind, &root.unwrap().2, key, controllers)
            }
            Kind::Ours => Server::ours_configless(key, controllers),
        }
    }

    /// Starts a server with these options and variables and these files in /etc/slurm, and waits until it
    /// answers.
    pub fn invoked(
        &self,
        kind: Kind,
        files: &[(&str, &str)],
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Server {
        let mut server = match kind {
            Kind::Theirs(version) => {
                let root = self.roots.iter().find(|(known, ..)| *known == version);
                Server::theirs_invoked(kind, &root.unwrap().2, files, arguments, variables)
            }
            Kind::Ours => Server::ours_invoked(files, arguments, variables),
        };
        server.wait_until_it_serves();
        server
    }

    /// With the usual key.
    pub fn usual(&self, kind: Kind) -> Server {
        self.start(kind, &Keys::Raw(KEY), "")
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for (_, name, root) in &self.roots {
            let _ = Command::new("umount").arg(root.join("proc")).output();
            podman(&["rm", "--force", name]);
        }
    }
}

/// A running server; ended on drop.
pub struct Server {
    pub kind: Kind,
    folder: TempDir,
    /// Where its keys are.
    keys: PathBuf,
    child: Child,
}

impl Server {
    fn theirs(kind: Kind, root: &Path, keys: &Keys<'_>, auth_info: &str) -> Self {
        let folder = theirs_folder(root, 0);
        let etc = root.join("etc/slurm");
        fs::write(etc.join("slurm.conf"), slurm_conf(auth_info)).unwrap();
        put_keys(&etc, keys);
        let mut command = Command::new("chroot");
        command
            .arg(root)
            .args(["/usr/sbin/sackd", "-D", "-f", "/etc/slurm/slurm.conf"]);
        Self::spawn(kind, folder, etc, command)
    }

    fn theirs_configless(kind: Kind, root: &Path, key: &[u8], controllers: &[SocketAddr]) -> Self {
        let folder = theirs_folder(root, SLURM_USER);
        let etc = root.join("etc/slurm");
        let _ = fs::remove_file(etc.join("slurm.conf"));
        put_keys(&etc, &Keys::Raw(key));
        give(&etc.join("slurm.key"), SLURM_USER);
        let mut command = Command::new("chroot");
        command
            .arg(format!("--userspec={SLURM_USER}:{SLURM_USER}"))
            .arg(root)
            .args(["/usr/sbin/sackd", "-D", "--conf-server"])
            .arg(list(controllers, ","));
        Self::spawn(kind, folder, etc, command)
    }

    fn ours(keys: &Keys<'_>, auth_info: &str) -> Self {
        let folder = ours_folder();
        let path = folder.path();
        fs::write(path.join("slurm.conf"), slurm_conf(auth_info)).unwrap();
        put_keys(path, keys);
        let at = path.display();
        let key = match keys {
            Keys::Raw(_) => format!("key-file = \"{at}/slurm.key\""),
            Keys::Set(_) => format!("jwks-file = \"{at}/slurm.jwks\""),
        };
        let text = format!(
            "{key}\nrun-dir = \"{at}/run\"\nconf = \"{at}/slurm.conf\"\nslurm-user = \"0\"\n\
             limits = {{ request-timeout = \"300ms\" }}\n"
        );
        fs::write(path.join("config.toml"), text).unwrap();
        Self::spawn_ours(folder, Path::new(env!("CARGO_BIN_EXE_sackd-shim")))
    }

    fn ours_configless(key: &[u8], controllers: &[SocketAddr]) -> Self {
        let folder = ours_folder();
        let path = folder.path();
        put_keys(path, &Keys::Raw(key));
        give(&path.join("slurm.key"), SLURM_USER);
        give(&path.join("run"), SLURM_USER);
        let at = path.display();
        let text = format!(
            "key-file = \"{at}/slurm.key\"\nrun-dir = \"{at}/run\"\nslurm-user = \"{SLURM_USER}\"\n\
             conf-server = [\"{}\"]\n",
            list(controllers, "\", \"")
        );
        fs::write(path.join("config.toml"), text).unwrap();
        // Where SlurmUser can reach them.
        for name in ["sackd-shim", "sackd-shim-config"] {
            fs::copy(program(name), path.join(name)).unwrap();
        }
        let program = path.join("sackd-shim");
        Self::spawn_ours(folder, &program)
    }

    fn theirs_invoked(
        kind: Kind,
        root: &Path,
        files: &[(&str, &str)],
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let folder = theirs_folder(root, 0);
        let etc = root.join("etc/slurm");
        put_files(&etc, files);
        let mut command = Command::new("chroot");
        command.arg(root).arg("env").args(assignments(variables));
        command.args(["/usr/sbin/sackd", "-D"]).args(arguments);
        Self::spawn(kind, folder, etc, command)
    }

    /// In an /etc of its own.
    fn ours_invoked(
        files: &[(&str, &str)],
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let folder = ours_folder();
        let path = folder.path();
        fs::create_dir(path.join("slurm")).unwrap();
        put_files(&path.join("slurm"), files);
        let text = format!("run-dir = \"{}/run\"\nslurm-user = \"0\"\n", path.display());
        fs::write(path.join("config.toml"), text).unwrap();
        let mut command = Command::new("unshare");
        let script = "cp -a /etc \"$0/etc\" && rm -rf \"$0/etc/slurm\" && cp -a \"$0/slurm\" \"$0/etc/slurm\" && \
            mount --bind \"$0/etc\" /etc && exec env \"$@\"";
        command.args(["--mount", "sh", "-c", script]).arg(path);
        command.args(assignments(variables));
        command.arg(program("sackd-shim")).arg("--config");
        command.arg(path.join("config.toml")).args(arguments);
        let keys = path.to_owned();
        Self::spawn(Kind::Ours, folder, keys, command)
    }

    fn spawn_ours(folder: TempDir, program: &Path) -> Self {
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1/passwd\" /etc/passwd && mount --bind \"$1/group\" /etc/group && \
            exec \"$0\" --config \"$1/config.toml\"";
        command.args(["--mount", "sh", "-c", script]);
        command.arg(program).arg(folder.path());
        let keys = folder.path().to_owned();
        Self::spawn(Kind::Ours, folder, keys, command)
    }

    fn spawn(kind: Kind, folder: TempDir, keys: PathBuf, mut command: Command) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let child = child
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            kind,
            folder,
            keys,
            child,
        }
    }

    fn wait_until_it_serves(&mut self) {
        self.wait_for("its socket", |server| {
            assert!(server.child.try_wait().unwrap().is_none(), "it ended");
            UnixStream::connect(server.socket()).is_ok()
        });
    }

    pub fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < end, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/sack.socket")
    }

    /// A path in its run directory.
    pub fn run(&self, name: &str) -> PathBuf {
        self.folder.path().join("run").join(name)
    }

    /// A file of the configuration it has fetched.
    pub fn conf(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.run("conf").join(name)).ok()
    }

    pub fn is_theirs(&self) -> bool {
        self.kind != Kind::Ours
    }

    /// Puts other keys in place, each file in one step.
    pub fn replace_keys(&self, keys: &Keys<'_>) {
        put_keys(&self.keys, keys);
    }

    /// The file of its keys.
    pub fn key_file(&self) -> PathBuf {
        let set = self.keys.join("slurm.jwks");
        if set.exists() {
            set
        } else {
            self.keys.join("slurm.key")
        }
    }

    pub fn hang_up(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGHUP).unwrap();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// What this server says to a verify request with a token that is not good.
    pub fn no(&self) -> &'static [u8] {
        match self.kind {
            Kind::Theirs("26.05") => b"",
            _ => &[0xff; 4],
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.kind, self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.is_theirs() {
            let run = self.folder.path().join("run");
            let _ = Command::new("umount").arg(run).status();
        }
    }
}

/// A folder for a server of theirs: its log, and the run directory in its root at a short path that users
/// can reach.
fn theirs_folder(root: &Path, owner: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(path.join("run")).unwrap();
    let (etc, run) = (root.join("etc/slurm"), root.join("run/slurm"));
    let _ = fs::remove_dir_all(&run);
    for folder in [&etc, &run] {
        fs::create_dir_all(folder).unwrap();
    }
    give(&etc, 0);
    give(&run, owner);
    for name in ["slurm.key", "slurm.jwks"] {
        let _ = fs::remove_file(etc.join(name));
    }
    let bound = Command::new("mount")
        .arg("--bind")
        .args([&run, &path.join("run")])
        .status();
    assert!(bound.unwrap().success());
    // It reads what it fetches by /proc/PID/fd.
    let proc = root.join("proc");
    if !proc.join("self").exists() {
        let bound = Command::new("mount")
            .args(["--bind", "/proc"])
            .arg(proc)
            .status();
        assert!(bound.unwrap().success());
    }
    fs::write(root.join("etc/passwd"), PASSWD).unwrap();
    fs::write(root.join("etc/group"), GROUP).unwrap();
    fs::write(
        root.join("etc/nsswitch.conf"),
        "passwd: files\ngroup: files\nhosts: files\n",
    )
    .unwrap();
    folder
}

fn ours_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(path.join("run")).unwrap();
    for (name, text) in [("passwd", PASSWD), ("group", GROUP)] {
        fs::write(path.join(name), text).unwrap();
    }
    folder
}

/// A program of ours; the second one lies beside the first.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_sackd-shim")).with_file_name(name)
}

fn give(path: &Path, owner: u32) {
    std::os::unix::fs::chown(path, Some(owner), Some(owner)).unwrap();
}

fn list(controllers: &[SocketAddr], between: &str) -> String {
    let all: Vec<String> = controllers.iter().map(ToString::to_string).collect();
    all.join(between)
}

fn slurm_conf(auth_info: &str) -> String {
    let info = if auth_info.is_empty() {
        String::new()
    } else {
        format!("AuthInfo={auth_info}\n")
    };
    format!(
        "ClusterName=Lab\nSlurmctldHost=localhost\nSlurmUser=root\nAuthType=auth/slurm\n{info}NodeName=n\n"
    )
}

/// A slurm.conf of this cluster.
pub fn conf(cluster: &str) -> String {
    slurm_conf("").replace("Lab", cluster)
}

/// Files that only root reads, and no slurm.conf but one of them.
fn put_files(folder: &Path, files: &[(&str, &str)]) {
    let _ = fs::remove_file(folder.join("slurm.conf"));
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn assignments(variables: &[(&str, &str)]) -> Vec<String> {
    let assignment = |(name, value): &(&str, &str)| format!("{name}={value}");
    variables.iter().map(assignment).collect()
}

fn put_keys(folder: &Path, keys: &Keys<'_>) {
    let (name, content) = match keys {
        Keys::Raw(key) => ("slurm.key", *key),
        Keys::Set(text) => ("slurm.jwks", text.as_bytes()),
    };
    let fresh = folder.join("fresh");
    fs::write(&fresh, content).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(fresh, folder.join(name)).unwrap();
}

/// What podman prints; `None` if it is not there or fails.
fn podman(arguments: &[&str]) -> Option<String> {
    let output = Command::new("podman").args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}
