//! What the process that faces the network may touch: its run directory, and what libc reads to
//! find names. Not the cluster key, though it runs as the user who may read it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sys::landlock::{Give, Grant, restrict};

use crate::error::ConfigError;

/// Files and folders that libc, its resolver and NSS modules read. Of /etc, where the key lies as a
/// rule, single files.
const READ: &[&str] = &[
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/dev/null",
    "/dev/urandom",
    "/lib",
    "/lib64",
    "/proc/self",
    "/run/nscd",
    "/run/systemd/resolve",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/var/lib/sss/mc",
    "/var/run/nscd",
];

/// Files that every new account replaces; only who looks up names needs the newest.
const ACCOUNTS: &[&str] = &["/etc/group", "/etc/passwd"];

/// The sandbox, and what it was built upon.
#[derive(Debug)]
pub struct Sandbox {
    seen: Vec<(PathBuf, Option<(u64, u64)>)>,
}

impl Sandbox {
    /// Gives up every file but those above and `writable`, for the calling thread and all it
    /// starts. `names`: users' names are looked up, so their files count in [`Self::is_outdated`].
    ///
    /// # Errors
    /// [`ConfigError::System`]: the process must then end. A kernel without Landlock is only logged.
    pub fn enter(writable: &[&Path], names: bool) -> Result<Self, ConfigError> {
        let give = Give {
            reading: true,
            tcp: false,
            abstract_sockets: true,
        };
        let read = READ.iter().map(|path| Grant {
            path: Path::new(path),
            write: false,
        });
        let write = writable.iter().map(|path| Grant { path, write: true });
        let grants: Vec<_> = read.chain(write).collect();
        let counts = |path: &&&str| names || !ACCOUNTS.contains(path);
        let seen = READ.iter().filter(counts);
        let seen = seen.map(|path| (PathBuf::from(path), place(path)));
        let seen = seen.collect();
        let version = restrict(give, &grants).map_err(ConfigError::system("enter the sandbox"))?;
        if version == 0 {
            tracing::warn!(
                event = "sandbox.none",
                "this kernel has no Landlock: the key is protected by its mode alone"
            );
        } else {
            tracing::info!(event = "sandbox.entered", landlock = version);
        }
        Ok(Self { seen })
    }

    /// Whether a file was replaced since: the new one is out of reach, so the work must be started
    /// again. resolv.conf changes so on hosts with DHCP.
    pub fn is_outdated(&self) -> bool {
        let stale = |(path, was): &(PathBuf, Option<(u64, u64)>)| {
            let now = place(path);
            now.is_some() && now != *was
        };
        self.seen.iter().any(stale)
    }
}

/// Looking at a file is not reading it: Landlock lets it pass.
fn place(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs::{read, read_dir, write};
    use std::io::{Error, ErrorKind};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Landlock stays for the life of its thread, so the test gives one up for it.
    #[test]
    fn a_captured_work_cannot_read_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (run, key) = (path("run"), path("slurm.key"));
        fs::create_dir(&run).unwrap();
        write(&key, "the key").unwrap();
        std::os::unix::fs::symlink(&key, run.join("link")).unwrap();
        let inside = || {
            sys::process::no_new_privs().unwrap();
            let sandbox = Sandbox::enter(&[&run], true).unwrap();
            if restrict_is_missing() {
                println!("skipped: sandbox: this kernel has no Landlock");
                return;
            }
            let denied = |error: Error| error.kind() == ErrorKind::PermissionDenied;
            assert!(read(&key).is_err_and(denied));
            assert!(read(run.join("link")).is_err_and(denied));
            assert!(read("/etc/shadow").is_err_and(denied));
            assert!(
                read(format!(
                    "/proc/{}/environ",
                    std::os::unix::process::parent_id()
                ))
                .is_err_and(denied)
            );
            assert!(read_dir("/etc").is_err_and(denied));
            assert!(write(path("new"), "x").is_err_and(denied));
            assert!(fs::hard_link(&key, run.join("mine")).is_err());
            assert!(
                std::process::Command::new("/bin/true")
                    .status()
                    .is_err_and(denied)
            );
            // What the work needs.
            write(run.join("file"), "x").unwrap();
            assert!(read("/etc/hosts").is_ok());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(!sandbox.is_outdated());
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
        assert_eq!(read(&key).unwrap(), b"the key");
    }

    fn restrict_is_missing() -> bool {
        read("/etc/shadow").is_ok() && nix::unistd::geteuid().is_root()
    }
}
