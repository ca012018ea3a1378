//! A host of the tests' own on this machine: a mount and process namespace with accounts, PAM, homes
//! and logs that exist nowhere else. Nothing of the machine is changed, and all that runs in it ends
//! with it. Servers are started in it by `server.rs`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{Done, run};

/// What PAM does for both servers unless a test says otherwise.
pub const PAM: &str = "\
auth required pam_unix.so nodelay
account required pam_nologin.so
account required pam_unix.so
password required pam_unix.so sha512
session required pam_unix.so
session optional pam_limits.so
";

/// Mounts what differs from the machine and then waits until its input closes. It is the first
/// process of its namespace: when it ends, all the others do.
const KEEPER: &str = r#"
set -eu
umask 022
for folder in /run /home /var/log /var/mail; do
    if [ "$folder" = /run ]; then
        mount -t tmpfs -o mode=755 none /run
        mkdir /run/etc
        cp -a /etc/. /run/etc/
        mount --bind /run/etc /etc
    elif [ -d "$folder" ]; then
        mount -t tmpfs -o mode=755 none "$folder"
    fi
done
# As systems with systemd have it; a container's may differ.
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 none /dev/pts
mount --bind /dev/pts/ptmx /dev/ptmx
mkdir -p /run/sshd /run/empty /run/lock /var/log
: >/run/utmp
: >/var/log/wtmp
: >/var/log/btmp
: >/var/log/lastlog
chmod 660 /var/log/btmp
echo ready
while read -r _; do :; done
"#;

/// A host. It ends when it is dropped, or with the process that made it.
pub struct Host {
    keeper: Child,
    /// Closing it ends the host.
    _alive: Mutex<ChildStdin>,
    /// Its first process, as this machine counts.
    pid: u32,
    /// Keys, configurations, logs; the same path inside and outside.
    folder: tempfile::TempDir,
    accounts: Mutex<()>,
    next: AtomicU32,
}

/// Somebody with an account on a [`Host`].
#[derive(Debug, Clone)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number of the user and of their own group.
    pub uid: u32,
    /// Home, as programs in the host see it.
    pub home: PathBuf,
    /// The same folder as this process reaches it.
    pub files: PathBuf,
    /// Private key; its public half is their `authorized_keys`.
    pub key: PathBuf,
}

/// What an account is made of.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// Its name.
    pub name: &'a str,
    /// Supplementary groups, made when they are not there.
    pub groups: &'a [&'a str],
    /// Login shell.
    pub shell: &'a str,
    /// Password; `None`: none that fits.
    pub password: Option<&'a str>,
}

impl<'a> Account<'a> {
    /// A plain account with bash, without a password.
    pub fn named(name: &'a str) -> Self {
        Self {
            name,
            groups: &[],
            shell: "/bin/bash",
            password: None,
        }
    }
}

/// Whether a private host can be had here; says why not.
pub fn possible(test: &str) -> bool {
    let missing = [
        "/usr/bin/ssh",
        "/usr/bin/ssh-keygen",
        "/usr/bin/unshare",
        "/usr/bin/nsenter",
    ]
    .into_iter()
    .find(|program| !Path::new(program).exists());
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: {test} needs root");
    } else if let Some(program) = missing {
        println!("skipped: {test} needs {program}");
    } else {
        return true;
    }
    false
}

impl Host {
    /// Starts one.
    ///
    /// # Panics
    /// If this machine does not let it; ask [`possible`] first.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", KEEPER])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare");
        let alive = keeper.stdin.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("read");
        assert_eq!(line, "ready\n", "the private host did not start");
        let pid = child_of(keeper.id()).expect("its first process");
        let host = Self {
            keeper,
            _alive: Mutex::new(alive),
            pid,
            folder,
            accounts: Mutex::new(()),
            next: AtomicU32::new(20_001),
        };
        host.write(
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
        );
        host.write("/etc/profile", "PATH=${PATH:-/usr/bin:/bin}\n");
        for file in [
            "/etc/bash.bashrc",
            "/etc/environment",
            "/etc/motd",
            "/etc/default/locale",
        ] {
            host.write(file, "");
        }
        for service in ["sshd", "login-gateway"] {
            host.write(format!("/etc/pam.d/{service}"), PAM);
        }
        // The accounts of the servers themselves, whatever the machine has.
        for (name, uid) in [("sshd", 20_000), ("gateway", 19_999)] {
            let passwd = fs::read_to_string(host.path("/etc/passwd")).expect("read");
            if !passwd
                .lines()
                .any(|line| line.starts_with(&format!("{name}:")))
            {
                host.append(
                    "/etc/passwd",
                    &format!("{name}:x:{uid}:{uid}::/run/empty:/usr/sbin/nologin\n"),
                );
                host.append("/etc/group", &format!("{name}:x:{uid}:\n"));
                host.append("/etc/shadow", &format!("{name}:!:19000::::::\n"));
            }
        }
        for kind in ["ed25519", "ecdsa", "rsa"] {
            host.keygen(&format!("host_{kind}"), &["-t", kind]);
        }
        host
    }

    /// Where a file of the host is for this process.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        PathBuf::from(format!("/proc/{}/root", self.pid))
            .join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// The folder of keys, configurations and logs: the same path inside and outside.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the host, owned by root, mode 0644; missing folders are made.
    pub fn write(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(path, content).expect("write a file of the host");
    }

    /// A program that runs in the host as root, with an environment of its own.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--pid", "--target", &self.pid.to_string(), "--"])
            .arg(program)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .current_dir("/");
        command
    }

    /// Runs a shell script in the host as root.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Done {
        run(self.command("bash").args(["-c", script]))
    }

    /// A new key pair in the host's folder, made with these options of ssh-keygen; the path of the
    /// private half.
    pub fn keygen(&self, name: &str, options: &[&str]) -> PathBuf {
        let path = self.folder().join(name);
        run(Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", name])
            .args(options)
            .arg("-f")
            .arg(&path))
        .ok();
        path
    }

    /// Makes an account, with a home, a key and an `authorized_keys`.
    pub fn add(&self, account: &Account<'_>) -> User {
        let uid = self.next.fetch_add(1, Ordering::Relaxed);
        let name = account.name.to_owned();
        let home = PathBuf::from(format!("/home/{name}"));
        let hash = account.password.map_or("*".to_owned(), hashed);
        {
            let _one_at_a_time = self.accounts.lock();
            let line = format!(
                "{name}:x:{uid}:{uid}::{}:{}\n",
                home.display(),
                account.shell
            );
            self.append("/etc/passwd", &line);
            self.append(
                "/etc/shadow",
                &format!("{name}:{hash}:19000:0:99999:7:::\n"),
            );
            self.append("/etc/group", &format!("{name}:x:{uid}:\n"));
            for group in account.groups {
                self.join(&name, group);
            }
        }
        let files = self.path(&home);
        let key = self.keygen(&format!("{name}.key"), &["-t", "ed25519"]);
        let user = User {
            name,
            uid,
            home,
            files,
            key,
        };
        fs::create_dir(&user.files).expect("make a home");
        user.own(".", 0o700);
        user.put(".ssh/authorized_keys", user.public_key());
        user
    }

    /// An account with a name nobody else has, for one test alone.
    pub fn user(&self) -> User {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.add(&Account::named(&format!("ann{number}")))
    }

    fn join(&self, name: &str, group: &str) {
        let path = self.path("/etc/group");
        let text = fs::read_to_string(&path).expect("read");
        let mut found = false;
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            if line.starts_with(&format!("{group}:")) {
                found = true;
                let comma = if line.ends_with(':') { "" } else { "," };
                lines.push(format!("{line}{comma}{name}"));
            } else {
                lines.push(line.to_owned());
            }
        }
        if !found {
            let gid = self.next.fetch_add(1, Ordering::Relaxed);
            lines.push(format!("{group}:x:{gid}:{name}"));
        }
        replace(&path, &(lines.join("\n") + "\n"));
    }

    fn append(&self, file: &str, line: &str) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        replace(&path, &(text + line));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // --kill-child: the namespace ends with unshare.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl User {
    /// Their public key, as a line of `authorized_keys`.
    pub fn public_key(&self) -> String {
        fs::read_to_string(format!("{}.pub", self.key.display())).expect("read a public key")
    }

    /// Writes a file of theirs below the home, mode 0600, in folders of mode 0700.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.files.join(name);
        let mut folders: Vec<&Path> = Path::new(name).ancestors().skip(1).collect();
        folders.reverse();
        for folder in folders.into_iter().filter(|f| !f.as_os_str().is_empty()) {
            if !self.files.join(folder).is_dir() {
                fs::create_dir(self.files.join(folder)).expect("make a folder");
                self.own(folder, 0o700);
            }
        }
        fs::write(path, content).expect("write a user's file");
        self.own(name, 0o600);
    }

    /// Reads a file of theirs below the home.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.files.join(name)).expect("read a user's file");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn own(&self, name: impl AsRef<Path>, mode: u32) {
        let path = self.files.join(name);
        chown(&path, Some(self.uid), Some(self.uid)).expect("chown");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
    }
}

/// The first child of a process, waited for.
pub(crate) fn child_of(pid: u32) -> Option<u32> {
    for _ in 0..1000 {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        if let Some(child) = list.split_whitespace().next() {
            return child.parse().ok();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    None
}

/// Programs that read the file meanwhile see it old or new, never half.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("write");
    if let Ok(old) = fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        fs::set_permissions(&new, old.permissions()).expect("chmod");
        chown(&new, Some(old.uid()), Some(old.gid())).expect("chown");
    }
    fs::rename(&new, path).expect("rename");
}

fn hashed(password: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["passwd", "-6", "-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start openssl");
    let mut stdin = child.stdin.take().expect("a pipe");
    writeln!(stdin, "{password}").expect("write");
    drop(stdin);
    let output = child.wait_with_output().expect("wait");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
