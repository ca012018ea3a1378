//! The command line. There is no file of its own: the signer, or whoever starts it, says all.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use service::Exit;
use service::config::duration;
use service::log::LogArgs;

/// Keeps Slurm's configuration in a run directory: fetched from the controllers, pushed by them.
#[derive(Debug, Parser)]
#[command(name = "sackd-shim-config", version)]
pub struct Options {
    /// Controllers, in the order they are asked: HOST, HOST:PORT or [V6ADDRESS]:PORT
    pub servers: Vec<String>,

    /// Folder with the signer's sack.socket; the configuration goes to conf/ in it
    #[arg(long, value_name = "DIR", default_value = "/run/slurm")]
    pub run_dir: PathBuf,

    /// Take only a configuration of this cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,

    /// Find the controllers by DNS: SRV records of _slurmctld._tcp in the resolver's domains
    #[arg(long, conflicts_with = "servers")]
    pub srv: bool,

    /// Fetch nothing: slurm.conf is kept by somebody else
    #[arg(long, conflicts_with_all = ["servers", "srv"])]
    pub no_fetch: bool,

    /// SlurmUser, whose pushes are taken [default: the user this runs as]
    #[arg(long, value_name = "UID")]
    pub slurm_user: Option<u32>,

    /// Folder where the last good configuration outlives the run directory
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Hand the signer's metrics on at this TCP address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,

    /// Give users bearer tokens for slurmrestd that live at most so long
    #[arg(long, value_name = "DURATION", value_parser = duration_of)]
    pub rest_lifetime: Option<Duration>,

    /// TCP port for pushes [default: SlurmdPort]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// Do not register for pushes
    #[arg(long)]
    pub disable_reconfig: bool,

    /// How often to ask again
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = interval)]
    pub refresh_interval: Duration,

    /// Do the work itself, which the keeper starts again when it ends
    #[arg(long, hide = true)]
    pub work: bool,

    /// End with the process of this number, which must be our parent; the first one counts
    #[arg(long, hide = true, value_name = "PID")]
    pub parent: Vec<u32>,

    #[command(flatten)]
    pub log: LogArgs,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else it does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pings controllers with tokens read from standard input; without any, those that DNS names
    #[command(hide = true)]
    Ping {
        /// Controllers.
        servers: Vec<String>,
    },
}

impl Options {
    /// Parses the command line; help and version exit with 0, anything wrong with 64.
    pub fn from_command_line() -> Result<Self, ExitCode> {
        let parsed = Self::try_parse().and_then(|options| {
            let named = !options.servers.is_empty() || options.srv || options.no_fetch;
            if !named && options.command.is_none() {
                let kind = clap::error::ErrorKind::MissingRequiredArgument;
                return Err(clap::Error::raw(kind, "name at least one controller\n"));
            }
            Ok(options)
        });
        parsed.map_err(|error| {
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(Exit::Usage as u8)
            } else {
                ExitCode::SUCCESS
            }
        })
    }
}

fn duration_of(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| format!("'{text}' is not a duration such as \"30m\""))
}

fn interval(text: &str) -> Result<Duration, String> {
    duration::parse(text)
        .filter(|interval| *interval >= Duration::from_secs(10))
        .ok_or_else(|| format!("'{text}' is not a duration of 10 s or more, such as \"5m\""))
}
