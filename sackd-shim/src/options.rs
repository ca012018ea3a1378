//! The command line: ours, and every option that sackd has. What an option means together with
//! the environment and the file is decided in `config`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use service::Exit;
use service::log::LogArgs;
use tracing::level_filters::LevelFilter;

use crate::error::ShimError;

/// Serves Slurm's SACK socket on a login node, in place of sackd.
#[derive(Debug, Clone, Parser)]
#[command(name = "sackd-shim", version)]
pub struct Options {
    /// Configuration file; without one, sackd's own options and variables suffice
    /// [default: /etc/sackd-shim/sackd-shim.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Local slurm.conf to read instead of fetching one
    #[arg(short = 'f', value_name = "FILE", global = true)]
    pub slurm_conf: Option<PathBuf>,

    /// Controllers to fetch the configuration from; SLURM_CONF_SERVER goes before it
    #[arg(long, value_name = "HOST[:PORT],...", global = true)]
    pub conf_server: Option<String>,

    /// The cluster's slurm.key; SLURM_SACK_KEY goes before it
    #[arg(long, value_name = "FILE", global = true)]
    pub key_file: Option<PathBuf>,

    /// The cluster's slurm.jwks; SLURM_SACK_JWKS goes before it
    #[arg(long, value_name = "FILE", global = true)]
    pub jwks_file: Option<PathBuf>,

    /// TCP port for pushed configurations [default: SlurmdPort]
    #[arg(long, value_name = "PORT", global = true)]
    pub port: Option<u16>,

    /// Fetch the configuration without registering for pushes
    #[arg(long, global = true)]
    pub disable_reconfig: bool,

    /// Taken for sackd's sake: the program always stays in the foreground
    #[arg(short = 'D', global = true)]
    pub foreground: bool,

    /// Taken for sackd's sake: readiness is told to systemd whenever it listens
    #[arg(long, global = true)]
    pub systemd: bool,

    /// CA of the controller; refused, since TLS to slurmctld is not spoken here
    #[arg(long, value_name = "FILE", global = true)]
    pub ca_cert_file: Option<PathBuf>,

    /// More on stderr; repeat for more still
    #[arg(short = 'v', action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,

    #[command(flatten)]
    log: LogArgs,

    /// Instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else the program does.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Reads configuration and keys, makes and verifies a token, pings the controllers; prints
    /// every problem and what to do about it
    Check {
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Prints a bearer token for slurmrestd, as "scontrol token" does; for any user
    Token {
        /// How long it shall be good; the site's limit shortens it
        #[arg(long, value_name = "DURATION", value_parser = lifespan)]
        lifespan: Option<Duration>,
        /// Folder of the sockets
        #[arg(long, value_name = "DIR", default_value = "/run/slurm")]
        run_dir: PathBuf,
    },
    /// Shows what the running service counts, and how its keys and configuration are
    Status {
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Prints the manual page
    Man,
    /// Prints completions for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// sackd's variables for the level of the log, the first one counts.
const LEVELS: [&str; 2] = ["SACKD_STDERR_DEBUG", "SACKD_DEBUG"];

impl Options {
    /// Parses the command line. Help and version exit with 0, anything wrong with 64; called by
    /// sackd's name, with 1, as sackd.
    pub fn from_command_line() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            let _ = error.print();
            match (error.use_stderr(), is_sackd()) {
                (false, _) => ExitCode::SUCCESS,
                (true, false) => ExitCode::from(Exit::Usage as u8),
                (true, true) => ExitCode::from(Exit::Failure as u8),
            }
        })
    }

    /// What sackd refuses, too, and what would be dangerous to pass over.
    ///
    /// # Errors
    /// [`ShimError::Setting`].
    pub fn check(&self) -> Result<(), ShimError> {
        let refuse = |words: &str| Err(ShimError::Setting(words.to_owned()));
        if self.systemd && self.foreground {
            return refuse("--systemd and -D exclude each other");
        }
        if self.systemd && std::env::var_os("NOTIFY_SOCKET").is_none() {
            return refuse("--systemd needs NOTIFY_SOCKET: Type=notify in the unit");
        }
        if self.ca_cert_file.is_some() {
            return refuse(
                "--ca-cert-file: TLS to slurmctld (TLSType=tls/s2n, Slurm 25.05 and later) is not spoken here; \
                 a controller with TLSType=tls/none needs no such file",
            );
        }
        for name in LEVELS {
            let value = std::env::var(name).ok();
            if let Some(value) = value.filter(|value| slurm_level(value).is_none()) {
                tracing::warn!(event = "config.ignored", variable = name, value);
            }
        }
        Ok(())
    }

    /// What to log: `-v` and sackd's level variables count where `LOG_LEVEL` says nothing.
    pub fn log_args(&self) -> LogArgs {
        let mut log = self.log.clone();
        let sackd = LEVELS.iter().find_map(|name| std::env::var(name).ok());
        let level = match self.verbose {
            0 => sackd.as_deref().and_then(slurm_level),
            1 => Some("debug"),
            _ => Some("trace"),
        };
        // SLURM_DEBUG_FLAGS=SACK: what the original then tells, we tell at debug.
        let flags = std::env::var("SLURM_DEBUG_FLAGS").unwrap_or_default();
        let flagged = flags.split(',').any(|flag| {
            ["sack", "net", "auth"].contains(&flag.trim().to_ascii_lowercase().as_str())
        });
        let level = level.or(flagged.then_some("debug"));
        if let Some(level) = level.and_then(|level| level.parse().ok()) {
            log.log_level = log.log_level.max(level);
        } else if self.command.is_some() {
            // What these have to say they print themselves.
            log.log_level = log.log_level.min(LevelFilter::ERROR);
        }
        log
    }
}

/// Whether the program is called by sackd's name: then it behaves as sackd towards whoever calls it.
pub fn is_sackd() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_name().is_some_and(|name| name == "sackd"))
}

fn lifespan(text: &str) -> Result<Duration, String> {
    service::config::duration::parse(text)
        .ok_or_else(|| format!("'{text}' is not a duration such as \"30m\""))
}

/// Slurm's log levels, by name or number, as ours.
fn slurm_level(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().as_str() {
        "quiet" | "0" | "fatal" | "1" | "error" | "2" => "error",
        "info" | "3" | "verbose" | "4" => "info",
        "debug" | "5" => "debug",
        "debug2" | "debug3" | "debug4" | "debug5" => "trace",
        // A number beyond the last level is the last level.
        number => {
            number.parse::<u32>().ok()?;
            "trace"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for (text, expected) in [
            ("quiet", Some("error")),
            ("Info", Some("info")),
            ("4", Some("info")),
            ("debug", Some("debug")),
            ("9", Some("trace")),
            ("99", Some("trace")),
            ("loud", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(slurm_level(text), expected, "{text}");
        }
    }

    #[test]
    fn sackd_invocations_are_understood() {
        for line in [
            "sackd --systemd --conf-server ctl1:6817,ctl2",
            "sackd -D -vv -f /etc/slurm/slurm.conf",
            "sackd --key-file /k --jwks-file /j --port 7000 --disable-reconfig",
            "sackd-shim --config /etc/x.toml check",
        ] {
            Options::try_parse_from(line.split(' ')).expect(line);
        }
        for line in ["sackd -p 7000", "sackd --dynamic", "sackd --port 70000"] {
            Options::try_parse_from(line.split(' ')).expect_err(line);
        }
    }
}
