//! `login-gateway dev`: serves whoever starts it, on this machine, with the keys they have. No root,
//! no PAM, no directory, no Slurm; settings are made here and not read from a file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gateway_wire::Settings;
use service::{Exit, Failure};

use crate::arguments::{Arguments, Dev};
use crate::gateway::Gateway;
use crate::pages::print;
use crate::programs::{Programs, SIBLINGS};
use crate::reexec::Reload;

/// Where distributions have it.
const SFTP_SERVERS: [&str; 4] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
];
/// Key files that `ssh` offers without being told to.
const DEFAULT_KEYS: [&str; 4] = ["id_rsa", "id_ecdsa", "id_ed25519", "id_ed25519_sk"];

/// Serves until Ctrl-C.
pub fn run(options: &Dev, arguments: &Arguments) -> Result<(), Failure> {
    service::log::init(&arguments.log);
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?
        .ok_or_else(|| Failure::new(Exit::Failure, "you have no entry in the user database"))?;
    let ssh_folder = user.dir.join(".ssh");
    let keys = authorized_keys(&ssh_folder);
    if keys.is_empty() {
        let cause = format!("no key in '{}' to log in with", ssh_folder.display());
        return Err(Failure::new(Exit::Config, cause).hint("make one: ssh-keygen -t ed25519"));
    }
    build_siblings()?;
    if user.uid.is_root() {
        tracing::warn!(
            event = "dev.root",
            "the sandbox keeps root's id; try this as a user"
        );
    }
    let programs = Programs::find(&arguments.log)?;
    let state = state_folder(&user.dir)?;
    let host_key = state.join("host_ed25519_key");
    if !host_key.exists() {
        make_host_key(&programs.net, &host_key)?;
    }
    let gateway = Gateway::start(
        settings(options.listen, &host_key, keys),
        programs,
        Reload::End,
        None,
    )
    .map_err(|failure| port_hint(failure, options.listen))?;
    let address = gateway.address().unwrap_or(options.listen);
    let known_hosts = state.join("known_hosts");
    write_known_hosts(&known_hosts, &host_key, address)?;
    let identity = identity(&ssh_folder);
    let command = ssh_command(address, &known_hosts, identity.as_deref(), &user.name);
    print(
        format!(
            "Serving {user} on {address}; Ctrl-C ends it. Log in from another terminal with\n\n    \
             {command}\n\n",
            user = user.name
        )
        .as_bytes(),
    )?;
    Ok(gateway.run()?)
}

fn settings(listen: SocketAddr, host_key: &Path, keys: Vec<PathBuf>) -> Settings {
    let sftp = SFTP_SERVERS.iter().find(|path| Path::new(path).is_file());
    let subsystems: BTreeMap<_, _> = sftp
        .map(|path| ("sftp".to_owned(), (*path).to_owned()))
        .into_iter()
        .collect();
    let mut settings = Settings {
        listen: vec![listen],
        host_keys: vec![host_key.into()],
        user: None,
        pam_service: None,
        authorized_keys_files: keys,
        make_home: false,
        subsystems,
        ..Settings::default()
    };
    // What works in this terminal works in the login.
    if let Ok(path) = std::env::var("PATH") {
        settings.path = path;
    }
    settings
}

/// `authorized_keys` and the public half of every key pair.
fn authorized_keys(ssh_folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(ssh_folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let named = path.file_name() == Some(OsStr::new("authorized_keys"))
                || path.extension() == Some(OsStr::new("pub"));
            named && fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0)
        })
        .collect();
    files.sort();
    files
}

/// A private key that `ssh` must be told about, if it would offer none by itself.
fn identity(ssh_folder: &Path) -> Option<PathBuf> {
    let offered = |name| ssh_folder.join(name).is_file();
    if DEFAULT_KEYS.into_iter().any(offered) {
        return None;
    }
    let mut pairs = authorized_keys(ssh_folder).into_iter();
    pairs.find_map(|path| Some(path.with_extension("")).filter(|p| p != &path && p.is_file()))
}

/// Started by `cargo run`, which builds this program alone, builds the others.
fn build_siblings() -> Result<(), Failure> {
    let me = std::env::current_exe()?;
    let folder = me.parent().unwrap_or(Path::new("/"));
    let missing = || {
        SIBLINGS
            .into_iter()
            .find(|name| !folder.join(name).is_file())
    };
    match std::env::var_os("CARGO") {
        Some(cargo) if folder.join("deps").is_dir() => {
            let mut build = Command::new(cargo);
            build.arg("build");
            match folder.file_name().and_then(OsStr::to_str) {
                Some("release") => {
                    build.arg("--release");
                }
                None | Some("debug") => {}
                Some(profile) => {
                    build.args(["--profile", profile]);
                }
            }
            for name in SIBLINGS {
                build.args(["-p", name]);
            }
            if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
                build.current_dir(package);
            }
            eprintln!("login-gateway: building the programs of a login");
            if !build.status()?.success() {
                return Err(Failure::new(Exit::Software, "the build has failed"));
            }
        }
        _ => {}
    }
    match missing() {
        None => Ok(()),
        Some(name) => {
            let path = folder.join(name);
            let cause = format!("program '{}' is missing", path.display());
            Err(Failure::new(Exit::Software, cause)
                .hint("build all of them: cargo build --release --workspace"))
        }
    }
}

/// `$XDG_STATE_HOME/login-gateway`, for the user alone.
fn state_folder(home: &Path) -> Result<PathBuf, Failure> {
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let base = base.filter(|path| path.is_absolute());
    let folder = base
        .unwrap_or_else(|| home.join(".local/state"))
        .join("login-gateway");
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder);
    made.map_err(|error| {
        let cause = format!("make folder '{}': {error}", folder.display());
        Failure::new(Exit::Failure, cause)
    })?;
    Ok(folder)
}

fn make_host_key(net: &Path, path: &Path) -> Result<(), Failure> {
    let mut command = Command::new(net);
    command
        .arg("generate-host-key")
        .arg(path)
        .stdout(Stdio::null());
    if command.status()?.success() {
        return Ok(());
    }
    let cause = format!("no host key could be made at '{}'", path.display());
    Err(Failure::new(Exit::Failure, cause))
}

/// The host's public key under the address that the printed command uses.
fn write_known_hosts(path: &Path, host_key: &Path, address: SocketAddr) -> Result<(), Failure> {
    let public = host_key.with_added_extension("pub");
    let key = fs::read_to_string(&public).map_err(|error| {
        let cause = format!("read '{}': {error}", public.display());
        Failure::new(Exit::Failure, cause)
            .hint(format!("delete '{}' and start again", host_key.display()))
    })?;
    let mut file = fs::File::create(path)?;
    writeln!(
        file,
        "[{}]:{} {}",
        address.ip(),
        address.port(),
        key.trim_end()
    )?;
    Ok(())
}

fn ssh_command(
    address: SocketAddr,
    known_hosts: &Path,
    identity: Option<&Path>,
    user: &str,
) -> String {
    let known_hosts = quoted(&format!("UserKnownHostsFile={}", known_hosts.display()));
    let identity = identity.map(|path| format!("-i {} ", quoted(&path.display().to_string())));
    format!(
        "ssh -p {port} -o {known_hosts} {identity}{user}@{host}",
        port = address.port(),
        identity = identity.unwrap_or_default(),
        host = address.ip(),
    )
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=@:".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn port_hint(failure: Failure, address: SocketAddr) -> Failure {
    failure.hint(format!(
        "if another program has the port, take a free one: login-gateway dev --listen {}",
        SocketAddr::new(address.ip(), 0)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted() {
        let check = |known_hosts: &str, identity: Option<&str>, expected: &str| {
            let command = ssh_command(
                "127.0.0.1:2222".parse().unwrap(),
                Path::new(known_hosts),
                identity.map(Path::new),
                "alice",
            );
            assert_eq!(command, expected);
        };
        check(
            "/home/alice/known_hosts",
            None,
            "ssh -p 2222 -o UserKnownHostsFile=/home/alice/known_hosts alice@127.0.0.1",
        );
        check(
            "/home/o'neil b/k",
            Some("/h/.ssh/work"),
            r"ssh -p 2222 -o 'UserKnownHostsFile=/home/o'\''neil b/k' -i /h/.ssh/work alice@127.0.0.1",
        );
    }

    #[test]
    fn which_keys_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(authorized_keys(path).is_empty() && authorized_keys(&path.join("no")).is_empty());
        for (name, text) in [
            ("authorized_keys", ""),
            ("work.pub", "ssh-ed25519 A"),
            ("work", "private"),
            ("config", "Host x"),
        ] {
            fs::write(path.join(name), text).unwrap();
        }
        assert_eq!(authorized_keys(path), [path.join("work.pub")]);
        assert_eq!(identity(path), Some(path.join("work")));
        fs::write(path.join("id_ed25519"), "private").unwrap();
        assert_eq!(identity(path), None);
    }
}
