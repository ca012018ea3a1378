//! `login-gateway dev`: serves whoever starts it, on this machine, with the keys they have. No root,
//! no PAM, no directory, no Slurm; settings are made here and not read from a file.

mod build;
mod command;
mod keys;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gateway_wire::Settings;
use nix::unistd::User;
use service::{Exit, Failure};

use self::build::build_siblings;
use self::command::{ssh_command, write_known_hosts};
use self::keys::{authorized_keys, identity};
use crate::arguments::{Arguments, Dev};
use crate::gateway::Gateway;
use crate::pages::print;
use crate::programs::Programs;
use crate::reexec::Reload;

/// Serves until Ctrl-C.
pub fn run(options: &Dev, arguments: &Arguments) -> Result<(), Failure> {
    service::log::init(&arguments.log);
    if let Some(file) = &arguments.config {
        let file = file.display();
        let cause = format!("dev makes its own settings and does not read '{file}'");
        return Err(Failure::new(Exit::Usage, cause).hint(format!(
            "serve with the file: login-gateway --config {file}"
        )));
    }
    let user = invoker()?;
    let ssh_folder = user.dir.join(".ssh");
    if authorized_keys(&ssh_folder).is_empty() {
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
    let settings = Settings {
        listen: vec![options.listen],
        ..own_settings(&programs)?
    };
    let (state, host_key) = state_of(&user)?;
    let gateway = Gateway::start(settings, programs, Reload::End, None)
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

/// Settings under which whoever has started this program, and nobody else, may log in with the
/// keys in `~/.ssh`; the host key is made the first time.
pub fn own_settings(programs: &Programs) -> Result<Settings, Failure> {
    let user = invoker()?;
    let (_, host_key) = state_of(&user)?;
    if !host_key.exists() {
        make_host_key(&programs.net, &host_key)?;
    }
    let sftp = service::sibling("sftp-server")?;
    let subsystems = [("sftp".to_owned(), sftp.to_string_lossy().into_owned())].into();
    let mut settings = Settings {
        host_keys: vec![host_key],
        user: None,
        pam_service: None,
        control_socket: None,
        authorized_keys_files: authorized_keys(&user.dir.join(".ssh")),
        make_home: false,
        login_records: false,
        subsystems,
        ..Settings::default()
    };
    // What works in this terminal works in the login.
    if let Ok(path) = std::env::var("PATH") {
        settings.path = path;
    }
    Ok(settings)
}

fn invoker() -> Result<User, Failure> {
    User::from_uid(nix::unistd::geteuid())?
        .ok_or_else(|| Failure::new(Exit::Failure, "you have no entry in the user database"))
}

/// The state folder and the host key in it.
fn state_of(user: &User) -> Result<(PathBuf, PathBuf), Failure> {
    let state = state_folder(&user.dir)?;
    let host_key = state.join("host_ed25519_key");
    Ok((state, host_key))
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

fn port_hint(failure: Failure, address: SocketAddr) -> Failure {
    failure.hint(format!(
        "if another program has the port, take a free one: login-gateway dev --listen {}",
        SocketAddr::new(address.ip(), 0)
    ))
}
