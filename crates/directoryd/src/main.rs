//! `directoryd`: replicates users and groups from LDAP and serves them to every program's own libc.
//!
//! This file is the table of contents: arguments, config, start of the threads, end. It needs no root and
//! no capability.
#![forbid(unsafe_code)]

mod access;
mod authenticate;
mod checked_file;
mod command;
mod config;
mod content;
mod control;
mod core;
mod dn;
mod domain;
mod explain;
mod generation;
mod id_map;
mod jobs;
mod key;
mod ldap;
mod limits;
mod local;
mod map_files;
mod marks;
mod name;
mod nscd;
mod numbers;
mod offline;
mod pages;
mod password_hash;
mod people;
mod persist;
mod reload;
mod replica;
mod sid;
mod ssh_key;
mod sssd_conf;
mod sync;
mod view;
mod wanted;
mod watch;
mod watched;

use std::{
    collections::HashMap,
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64, mpsc},
    thread,
};

use clap::{Parser, Subcommand, ValueEnum};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use service::{Exit, Failure, log::LogArgs};

use crate::{
    config::{Config, Schema, Source},
    core::Core,
    domain::{Held, Share},
    id_map::IdMap,
    local::Local,
    password_hash::Hashes,
    reload::Closing,
    replica::Replica,
    view::Rules,
};

/// Replicates users and groups from LDAP and serves them to every program's own libc.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration.
    #[arg(long, global = true, default_value = "/etc/directoryd/directoryd.toml")]
    config: PathBuf,
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Print the effective configuration and every problem with it; start nothing.
    Check {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print how the running daemon is; exit with 0 if it holds the whole directory and users resolve.
    Status {
        /// Exit with 0 if it answers at all, whatever it holds: for a liveness probe.
        #[arg(long)]
        alive: bool,
        /// Of several domains, exit with 0 if this one is held and users resolve.
        #[arg(long, conflicts_with = "alive")]
        domain: Option<String>,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print what the running daemon knows of a user, refreshed from the directory server.
    Account {
        /// Login name.
        name: String,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Say why a user may or may not log in; exit with 0 if the user may.
    Explain {
        /// Login name.
        name: String,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print what libc sees of a user, a group or a user's groups, and the entry it comes from.
    Getent {
        /// What to look in.
        database: Database,
        /// Name, or number.
        key: String,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print an sssd.conf as a configuration of directoryd, and on standard error what has no equal.
    ImportSssdConf {
        /// The file, - for standard input.
        file: PathBuf,
        /// Exit with 1 if there is something to say.
        #[arg(long)]
        strict: bool,
    },
    /// Replicate everything now.
    Refresh,
    /// Drop the passwords that are kept for when no server answers, and replicate everything now.
    Flush {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration file with every key and its meaning.
    ExampleConfig,
    /// Print the manual page.
    Man,
    /// Print completions for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Database {
    Passwd,
    Group,
    Initgroups,
}

impl From<Database> for directory_client::Database {
    fn from(database: Database) -> Self {
        match database {
            Database::Passwd => Self::Passwd,
            Database::Group => Self::Group,
            Database::Initgroups => Self::Initgroups,
        }
    }
}

/// What is large in memory, in bytes: the lists that a generation is made from come and go.
const LARGE: i32 = 512 << 10;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() {
                Exit::Usage as u8
            } else {
                0
            });
        }
    };
    service::run("directoryd", || {
        service::log::init(&arguments.log);
        let config = || Config::load(&arguments.config);
        let client = || config().map(|config| directory_client::Client::new(config.control_socket));
        match &arguments.command {
            None => serve(&arguments.config, config()?),
            Some(Command::Check { json }) => command::check(config(), *json),
            Some(Command::Status {
                alive,
                domain,
                json,
            }) => command::status(&client()?, *alive, domain.as_deref(), *json),
            Some(Command::Account { name, json }) => command::account(&client()?, name, *json),
            Some(Command::Explain { name, json }) => command::explain(&client()?, name, *json),
            Some(Command::Getent {
                database,
                key,
                json,
            }) => command::getent(&client()?, (*database).into(), key, *json),
            Some(Command::ImportSssdConf { file, strict }) => {
                command::import_sssd_conf(file, *strict)
            }
            Some(Command::Refresh) => command::refresh(&client()?),
            Some(Command::Flush { json }) => command::flush(&client()?, *json),
            Some(Command::ExampleConfig) => command::print(pages::EXAMPLE.as_bytes()),
            Some(Command::Man) => command::print(pages::manual()?),
            Some(Command::Completion { shell }) => command::print(pages::completion(*shell)),
        }
    })
}

fn serve(path: &Path, config: Config) -> Result<(), Failure> {
    let mut sockets = reload::left();
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(Failure::new(Exit::Config, problems.join("; "))
            .hint("\"directoryd check\" lists them one by one"));
    }
    // Nobody reads the bind password out of our memory.
    sys::process::no_dump()?;
    sys::process::no_new_privs()?;
    outlive_the_ldap_library();
    sys::process::return_blocks_from(LARGE);
    // Before there are threads, so that all of them leave signals to this one.
    let signals = sys::signals::Signals::of(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;

    let domains = config
        .sources()
        .map_err(|why| Failure::new(Exit::Config, why.join("; ")))?;
    let local = Local::read(&config.passwd_file, &config.group_file)?;
    let store = |domain: &config::Domain| {
        persist::Store::new(&config.state_dir, &domain.name, domain.fingerprint())
    };
    let stores: Arc<[persist::Store]> = domains.iter().map(store).collect();
    let held: Vec<Held> = domains
        .iter()
        .zip(&*stores)
        .map(|(domain, store)| hold(domain, store))
        .collect();
    let replicated = held.iter().filter(|held| held.complete);
    tracing::info!(
        event = "start",
        version = env!("CARGO_PKG_VERSION"),
        local_users = local.users.len(),
        replicated_users = replicated
            .map(|held| held.replica.user_count())
            .sum::<usize>(),
    );
    let rules = Rules {
        minimum_id: config.minimum_id,
        schema: match &domains[..] {
            [one] => one.schema(),
            // Several are made into one with members by DN.
            _ => Schema::Rfc2307bis,
        },
        ids: IdMap::of_this_process(),
    };
    let (save, save_bell) = mpsc::sync_channel(1);
    let core = Arc::new(Core::new(config, rules, local, held, save)?);

    let (mut handles, mut ways) = (Vec::new(), Vec::new());
    for (at, domain) in domains.into_iter().enumerate() {
        let share = Share::new(core.clone(), at);
        let (handle, way) = match domain.source {
            Source::Ldap(ldap) => {
                let servers = Arc::new(ldap::Servers::of(&ldap));
                let handle = sync::start(share.clone(), ldap.clone(), servers.clone())?;
                let asker = authenticate::Asker::start(share, ldap, servers)?;
                (handle, authenticate::Way::Servers(asker))
            }
            Source::File(file) => {
                let hashes = Arc::new(Hashes::default());
                let handle = people::keep(share, file, hashes.clone())?;
                (handle, authenticate::Way::File(hashes))
            }
        };
        handles.push((domain.name, handle));
        ways.push(way);
    }
    let sync = jobs::Domains::new(core.clone(), handles);
    let passwords = authenticate::Passwords::new(core.clone(), sync.clone(), ways)?;
    let (reload, reload_bell) = mpsc::sync_channel(1);
    let turns = Arc::new(AtomicU64::new(0));
    if let Some(listen) = &core.config.metrics_listen {
        watched::start(listen, core.clone()).map_err(|error| {
            let place = String::from(listen.clone());
            Failure::new(Exit::Failure, format!("listen on '{place}': {error}"))
        })?;
    }
    let listener = listen(&core.config.nscd_socket, &mut sockets)?;
    let control = listen(&core.config.control_socket, &mut sockets)?;
    // Others are of a configuration before.
    drop(sockets);
    let kept = [
        (
            core.config.nscd_socket.clone(),
            listener.try_clone()?.into(),
        ),
        (
            core.config.control_socket.clone(),
            control.try_clone()?.into(),
        ),
    ];
    let closing = [Arc::new(Closing::new()?), Arc::new(Closing::new()?)];
    let [nscd_closing, control_closing] = closing.clone();
    let nscd = nscd::Server::new(
        listener,
        core.clone(),
        sync.clone(),
        turns.clone(),
        nscd_closing,
        reload,
    )?;
    let shared = core.clone();
    spawn("local-files", move || {
        watch::local_files(&shared, &reload_bell)
    })?;
    let nscd = spawn("nscd", move || nscd.run())?;
    let (shared, handle) = (core.clone(), sync.clone());
    let control = spawn("control-accept", move || {
        control::run(&control, &shared, &handle, &passwords, &control_closing);
    })?;
    let (shared, disk) = (core.clone(), stores.clone());
    spawn("replica", move || core::keep(&shared, &disk, &save_bell))?;
    let shared = core.clone();
    spawn("watchdog", move || watch::watchdog(&shared, &turns))?;
    service::ready();

    loop {
        match next_signal(&signals)? {
            Some(Signal::SIGHUP) => match reload::changed(path, &core.config) {
                Ok(Some(config)) => {
                    tracing::info!(event = "reload");
                    service::ready::reloading();
                    core::save(&core, &stores, true);
                    closing[1].wait_for(&control);
                    closing[0].wait_for(&nscd);
                    if reload::reads_the_same(&config, &core.config) {
                        core.present.end();
                    }
                    let error = reload::again(&kept);
                    return Err(Failure::new(Exit::Failure, format!("start again: {error}")));
                }
                Ok(None) => sync.refresh_soon(),
                Err(problem) => {
                    tracing::error!(
                        event = "reload.refused",
                        problem,
                        hint =
                            "what was read before goes on; \"directoryd check\" lists the problems",
                    );
                    sync.refresh_soon();
                }
            },
            Some(_) => break,
            None => {}
        }
    }
    service::ready::stopping();
    // The maps in running programs live on for a while, which bridges a restart.
    core::save(&core, &stores, true);
    tracing::info!(event = "stop");
    Ok(())
}

/// A domain with what an earlier run has left of it.
fn hold(domain: &config::Domain, store: &persist::Store) -> Held {
    let replica = store.load().unwrap_or_else(|error| {
        tracing::warn!(
            event = "replica.not_loaded",
            error = service::exit::chain(&error)
        );
        None
    });
    Held {
        name: domain.name.clone(),
        schema: domain.schema(),
        lockout: domain.lockout_duration(),
        complete: replica.as_ref().is_some_and(|replica| !replica.partial),
        replica: replica.unwrap_or_else(Replica::empty),
        checked: HashMap::new(),
        unsaved: false,
        unserved: false,
    }
}

/// Open to all: libc runs as everybody, and the control socket asks the kernel who is there. One of `left` goes on.
fn listen(path: &Path, left: &mut Vec<(PathBuf, UnixListener)>) -> Result<UnixListener, Failure> {
    if let Some(at) = left.iter().position(|(there, _)| there == path) {
        return Ok(left.swap_remove(at).1);
    }
    sys::listen::unix_stream(path, 0o666).map_err(|source| {
        let exit = match source.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Failure,
        };
        let folder = path.parent().unwrap_or(path).display().to_string();
        Failure::new(exit, format!("listen on '{}': {source}", path.display())).hint(format!(
            "directoryd's user must be able to write in '{folder}'"
        ))
    })
}

fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(work)
}

fn next_signal(signals: &sys::signals::Signals) -> std::io::Result<Option<Signal>> {
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => signals.next(),
        Err(errno) => Err(errno.into()),
    }
}

/// The LDAP library panics on some malformed replies. On its thread that costs the connection, not
/// the daemon; anywhere else a panic ends us.
fn outlive_the_ldap_library() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some(sync::THREAD) {
            tracing::error!(event = "ldap.panic", %info);
        } else {
            abort(info);
        }
    }));
}
