//! The command line, defined once: help, man page and completions come from here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use service::Exit;
use service::log::LogArgs;

/// Serves SSH logins, one small process per connection and privilege.
#[derive(Debug, Parser)]
#[command(name = "login-gateway", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Configuration file; see login-gateway.toml(5).
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/login-gateway/login-gateway.toml"
    )]
    pub config: PathBuf,
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve in the foreground (the default).
    ///
    /// SIGHUP reads the configuration again and re-executes the program; logins live on. SIGTERM
    /// or SIGINT takes no further connection and ends when the last one has ended; the second one
    /// ends at once.
    Serve,
    /// Print the effective configuration and every problem; exit 78 if one keeps it from serving.
    Check,
    /// Serve yourself on this machine: no root, no directory, no Slurm.
    Dev(Dev),
    /// Print the man page.
    #[command(hide = true)]
    Man,
    /// Print completions for a shell.
    #[command(hide = true)]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Options of `dev`.
#[derive(Debug, Args)]
pub struct Dev {
    /// Address to serve on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2222")]
    pub listen: SocketAddr,
}

/// Parses the command line; the error is the exit code after help, version or a usage message.
pub fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        let _ = error.print();
        if error.use_stderr() {
            ExitCode::from(Exit::Usage as u8)
        } else {
            ExitCode::SUCCESS
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
