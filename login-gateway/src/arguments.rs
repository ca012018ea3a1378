//! The command line, defined once: help, man page and completions come from here.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use service::Exit;
use service::log::LogArgs;

/// The configuration file unless another one is named.
const DEFAULT_CONFIG: &str = "/etc/login-gateway/login-gateway.toml";

/// Serves SSH logins, one small process per connection and privilege.
#[derive(Debug, Parser)]
#[command(name = "login-gateway", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Configuration file; see login-gateway.toml(5).
    ///
    /// Left out: /etc/login-gateway/login-gateway.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
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
    ///
    /// With --user, print what that user's login would get in place of all that, and which [[match]]
    /// block each value comes from.
    Check(Check),
    /// Make the host keys that the configuration names and that are not there.
    ///
    /// The kind is in the name: a file with rsa or ecdsa in it holds such a key, any other an
    /// Ed25519 key. Files that exist are left as they are.
    GenerateHostKeys,
    /// Serve one connection on standard input and output, then exit.
    ///
    /// They may be one TCP or Unix socket (systemd with Accept=yes, inetd) or two pipes
    /// (ProxyCommand). As root everybody may log in whom the configuration lets in; as anybody else
    /// only that user may, without PAM, and without --config with the keys in ~/.ssh.
    Inetd(Inetd),
    /// Turn an sshd_config(5) into a configuration on standard output.
    ///
    /// Lines that have no equal are listed on standard error, with what to do about them. Where
    /// leaving a line out would let more people do more, those logins are refused in the result.
    ImportSshdConfig(ImportSshdConfig),
    /// Serve yourself on this machine: no root, no directory, no Slurm.
    Dev(Dev),
    /// Print a configuration file with every key, its meaning and its default.
    ExampleConfig,
    /// Print a manual page: 8 for this program, 5 for its configuration file.
    Man {
        /// Section.
        #[arg(value_parser = ["8", "5"], default_value = "8")]
        section: String,
    },
    /// Print completions for a shell.
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

/// Options of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The user who would log in; the account need not exist.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The client's address.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1",
        requires = "user"
    )]
    pub source: IpAddr,
    /// A group of the user's, once for each; left out: those that the system knows.
    #[arg(long, value_name = "GROUP", requires = "user")]
    pub group: Vec<String>,
}

/// Options of `import-sshd-config`.
#[derive(Debug, Args)]
pub struct ImportSshdConfig {
    /// The file, - for standard input. What it includes without a leading / is looked for in
    /// /etc/ssh.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Exit with 1 if something was left out or closed.
    #[arg(long)]
    pub strict: bool,
    /// List the lines as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `inetd`.
#[derive(Debug, Args)]
pub struct Inetd {
    /// Append the log to this file in place of standard error.
    #[arg(short = 'E', long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

impl Arguments {
    /// The configuration file, named or not.
    pub fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))
    }
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
