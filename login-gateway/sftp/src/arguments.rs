//! The command line: OpenSSH's flags with their meaning, and `--root`. Help and man page come from
//! here.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::Parser;
use nix::unistd::{Uid, User};

use crate::policy::Policy;

/// Serves files over SFTP on standard input and output, as the user who runs it.
///
/// An SSH server starts this program when a client asks for the subsystem "sftp": login-gateway by
/// its default settings, OpenSSH's sshd with "Subsystem sftp /usr/libexec/slurm-login/sftp-server".
/// The flags are those of OpenSSH's sftp-server(8). Messages go to standard error always.
#[derive(Debug, Parser)]
#[command(name = "sftp-server", version)]
pub struct Arguments {
    /// Start folder in place of the working folder. %d is the home, %u the name, %U the number of
    /// the user; ~ is the home too.
    #[arg(short = 'd', value_name = "FOLDER")]
    pub start: Option<OsString>,
    /// Let no path lead out of this folder: the client sees it as "/".
    ///
    /// Symbolic links, absolute ones too, are followed inside. Needs no privilege and works in user
    /// namespaces; needs Linux 5.6 and /proc. The start folder of -d lies inside it.
    #[arg(long, value_name = "FOLDER")]
    pub root: Option<PathBuf>,
    /// Log to standard error: what happens anyway.
    #[arg(short = 'e')]
    pub stderr: bool,
    /// Facility of syslog: taken and not used, since nothing goes to syslog.
    #[arg(short = 'f', value_name = "FACILITY")]
    pub facility: Option<String>,
    /// Least severe messages that are written: QUIET, FATAL, ERROR, INFO (every change and every
    /// file that is opened or closed), VERBOSE (every look, too), DEBUG, DEBUG1, DEBUG2 or DEBUG3.
    #[arg(
        short = 'l',
        value_name = "LEVEL",
        default_value = "ERROR",
        ignore_case = true
    )]
    pub level: Level,
    /// Requests that are refused, whatever -p says; names as of "-Q requests", with commas.
    #[arg(short = 'P', value_name = "REQUESTS", value_delimiter = ',')]
    pub denied: Vec<String>,
    /// The only requests that are done, as far as -P does not refuse them.
    #[arg(short = 'p', value_name = "REQUESTS", value_delimiter = ',')]
    pub allowed: Option<Vec<String>>,
    /// Print what the server knows, and end: "requests" is all there is to ask for.
    #[arg(short = 'Q', value_name = "WHAT", value_parser = ["requests"], ignore_case = true)]
    pub query: Option<String>,
    /// Change nothing: no file, no folder, no attribute.
    #[arg(short = 'R')]
    pub read_only: bool,
    /// Umask of new files and folders, in octal digits.
    #[arg(short = 'u', value_name = "UMASK", value_parser = umask)]
    pub umask: Option<u32>,
    /// Descriptor of a socket on which login-gateway hears what is done to files.
    #[arg(long, value_name = "DESCRIPTOR", hide = true)]
    pub record: Option<i32>,
    /// As a login shell gets it: everything behind it is ignored.
    #[arg(short = 'c', hide = true, num_args = 0.., allow_hyphen_values = true)]
    pub command: Option<Vec<OsString>>,
    /// Shape of the messages: text or json.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: service::log::LogFormat,
    /// `man` prints the manual page. Others are ignored with all behind them, as in OpenSSH: its
    /// scp hands over the name of a host.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub operands: Vec<OsString>,
}

/// OpenSSH's names of how much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "OpenSSH's names")]
#[value(rename_all = "UPPER")]
pub enum Level {
    Quiet,
    Fatal,
    Error,
    Info,
    Verbose,
    Debug,
    Debug1,
    Debug2,
    Debug3,
}

impl Level {
    /// The name that our other programs use.
    pub fn ours(self) -> &'static str {
        match self {
            Self::Quiet => "off",
            Self::Fatal | Self::Error => "error",
            Self::Info => "info",
            Self::Verbose => "debug",
            Self::Debug | Self::Debug1 | Self::Debug2 | Self::Debug3 => "trace",
        }
    }
}

fn umask(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mask| *mask <= 0o777)
        .ok_or_else(|| "not an octal number up to 777".to_owned())
}

impl Arguments {
    /// If the manual page is wanted.
    pub fn wants_page(&self) -> bool {
        self.operands == ["man"]
    }

    /// What may be done.
    pub fn policy(&self) -> Policy {
        Policy {
            read_only: self.read_only,
            allowed: self.allowed.clone(),
            denied: self.denied.clone(),
        }
    }

    /// The start folder with everything filled in.
    pub fn start_folder(&self) -> Option<OsString> {
        let start = self.start.as_ref()?.as_bytes();
        let user = User::from_uid(Uid::current()).ok().flatten();
        let home = user
            .as_ref()
            .map_or(&b"/"[..], |u| u.dir.as_os_str().as_bytes());
        let start = match start {
            b"~" => home.to_vec(),
            [b'~', b'/', rest @ ..] => [home, b"/", rest].concat(),
            other => other.to_vec(),
        };
        let mut folder = Vec::new();
        let mut left = start.iter();
        while let Some(byte) = left.next() {
            match (byte, left.clone().next()) {
                (b'%', Some(b'd')) => folder.extend_from_slice(home),
                (b'%', Some(b'u')) => {
                    folder.extend_from_slice(user.as_ref().map_or("", |u| &u.name).as_bytes());
                }
                (b'%', Some(b'U')) => folder.extend(Uid::current().to_string().into_bytes()),
                (b'%', Some(b'%')) => folder.push(b'%'),
                (other, _) => {
                    folder.push(*other);
                    continue;
                }
            }
            left.next();
        }
        Some(OsString::from_vec(folder))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_as_openssh_takes_them() {
        let parse = |line: &str| {
            let words = std::iter::once("sftp-server").chain(line.split_whitespace());
            Arguments::try_parse_from(words)
        };
        let all = parse("-eR -f AUTH -l verbose -P remove,rmdir -p open -u 027 -d /tmp").unwrap();
        assert!(all.read_only && all.level == Level::Verbose && all.umask == Some(0o027));
        assert_eq!(all.denied, ["remove", "rmdir"]);
        assert!(parse("-c ls -l /x --whatever").is_ok());
        assert!(parse("-u 8").is_err() && parse("-u 1000").is_err() && parse("-l LOUD").is_err());
        assert!(parse("-Q REQUESTS").is_ok() && parse("-Q ciphers").is_err());
        assert!(parse("man").unwrap().wants_page());
        let host = parse("-R host -x man").unwrap();
        assert!(host.read_only && !host.wants_page());
    }

    #[test]
    fn the_start_folder_is_filled_in() {
        let start = |text: &str| {
            let arguments = Arguments::try_parse_from(["sftp-server", "-d", text]).unwrap();
            arguments.start_folder().unwrap().into_string().unwrap()
        };
        let uid = Uid::current();
        assert_eq!(start("/data/%U/%%x%"), format!("/data/{uid}/%x%"));
        assert!(start("%d").starts_with('/') && start("~/x").ends_with("/x"));
    }
}
