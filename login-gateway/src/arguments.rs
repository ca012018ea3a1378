//! The command line, defined once: help, man page and completions come from here.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
    /// or SIGINT is "drain" within drain-time of the configuration; the second one ends every login.
    Serve,
    /// Print the effective configuration and every problem; exit 78 if one keeps it from serving.
    ///
    /// With --user, print what that user's login would get in place of all that, and which [[match]]
    /// block each value comes from.
    Check(Check),
    /// Show who is logged in, tell them something, end their logins.
    Sessions(Sessions),
    /// Show whether the running gateway takes logins, and its numbers.
    Status(StatusOptions),
    /// Take no more logins, tell people on their terminals, end with the last login.
    ///
    /// New clients read why and try again, elsewhere if this is one of several nodes; the health
    /// endpoint says not ready.
    Drain(Drain),
    /// Say why a user cannot log in: gateway, directory, account, shell, rules, files of keys.
    ///
    /// Exits with 1 if something keeps them out.
    Why(Why),
    /// Show a recorded terminal as its user saw it.
    Replay(Replay),
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

/// Options of `sessions`.
#[derive(Debug, Args)]
pub struct Sessions {
    #[command(subcommand)]
    pub command: Option<SessionsCommand>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// List all connections (the default).
    List,
    /// Show words on terminals.
    Message {
        #[command(flatten)]
        who: Who,
        /// The words.
        #[arg(value_name = "TEXT")]
        text: String,
    },
    /// End connections.
    ///
    /// What a user left running in the background goes on.
    Kick {
        #[command(flatten)]
        who: Who,
        /// What the client is told.
        #[arg(
            value_name = "TEXT",
            default_value = "An administrator has ended this login"
        )]
        text: String,
    },
}

/// Whose sessions.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Who {
    /// Everybody's.
    #[arg(long)]
    pub all: bool,
    /// Those of this user.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// This one, by its name in "sessions list" and in the log.
    #[arg(long, value_name = "ID")]
    pub login: Option<String>,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusOptions {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `why`.
#[derive(Debug, Args)]
pub struct Why {
    /// The user's name.
    #[arg(value_name = "USER")]
    pub user: String,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub source: IpAddr,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The recording, asciicast version 2.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How many times faster than it was.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = factor)]
    pub speed: f64,
    /// Longest pause.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub idle: Duration,
    /// Show everything at once.
    #[arg(long)]
    pub instant: bool,
    /// Digest that the file must have, from the line recording.closed of the audit log.
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text
        .parse()
        .ok()
        .filter(|f: &f64| f.is_finite() && *f > 0.0);
    factor.ok_or_else(|| "not a number above 0".to_owned())
}

/// Options of `drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// End the logins that are left after this time, such as 30m or 2h. Left out: never.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "cancel")]
    pub within: Option<Duration>,
    /// Why, for the people on the terminals. Left out: drain-reason of the configuration.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        conflicts_with = "cancel"
    )]
    pub reason: String,
    /// Wait until the last login has ended.
    #[arg(long, conflicts_with = "cancel")]
    pub wait: bool,
    /// Take logins again.
    #[arg(long)]
    pub cancel: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    service::config::duration::parse(text)
        .ok_or_else(|| "not a duration such as \"30s\", \"5m\", \"2h\"".to_owned())
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
    /// Address and port that the client connected to, as in 192.0.2.1:22.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "user")]
    pub destination: Option<SocketAddr>,
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
