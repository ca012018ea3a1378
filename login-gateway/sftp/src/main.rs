//! `sftp-server`: the program. What it does with its input is in the library.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, User};
use service::{Exit, Failure};
use sftp_server::arguments::Arguments;
use sftp_server::input::Input;
use sftp_server::output::Output;
use sftp_server::paths::Paths;
use sftp_server::record::Recorder;
use sftp_server::request::TABLE;
use sftp_server::server::Server;
use sftp_server::stream::Stream;
use sys::landlock::{self, Give, Grant};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let usage = ExitCode::from(Exit::Usage as u8);
            return if error.use_stderr() {
                usage
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    service::run("sftp-server", || {
        if arguments.wants_page() {
            return man();
        }
        if arguments.query.is_some() {
            return print(
                TABLE
                    .iter()
                    .map(|entry| format!("{}\n", entry.name))
                    .collect(),
            );
        }
        serve(&arguments)
    })
}

fn serve(arguments: &Arguments) -> Result<(), Failure> {
    service::log::init(&service::log::LogArgs {
        log_format: arguments.log_format,
        log_level: arguments.level.ours().parse()?,
    });
    // A file that grows above RLIMIT_FSIZE is an answer to one request, not the end of all.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block()?;
    // Access to files must not become access to this process through /proc.
    let _ = sys::process::no_dump();
    if let Some(mask) = arguments.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    let paths = paths(arguments)?;
    restrict(arguments);
    let record = arguments.record.map(sys::fds::take_inherited).transpose()?;
    let input = Input::of(Stream::of(std::io::stdin())?);
    let output = Output::to(Stream::of(std::io::stdout())?);
    let record = record.map(Recorder::new);
    Server::new(arguments.policy(), paths, output, who(), record).serve(input)
}

fn paths(arguments: &Arguments) -> Result<Paths, Failure> {
    use std::os::unix::ffi::OsStrExt;
    let start = arguments.start_folder();
    if let Some(root) = &arguments.root {
        let start = start.as_ref().map_or(&b"/"[..], |s| s.as_bytes());
        return Paths::confined(root, start).map_err(|error| {
            let start = start.escape_ascii();
            let text = format!("enter root '{}' at '{start}': {error}", root.display());
            Failure::new(Exit::Failure, text)
                .hint("both must be folders, /proc mounted, and the kernel 5.6 or newer")
        });
    }
    if let Some(start) = start
        && let Err(error) = nix::unistd::chdir(start.as_os_str())
    {
        // As in OpenSSH: better somewhere than nowhere.
        tracing::error!(event = "sftp.start", folder = %start.display(), %error);
    }
    Ok(Paths::whole()?)
}

/// Has the kernel hold what `--root` and `-R` say a second time, where it has Landlock. Outside the
/// root, only what names of users and the time zone are read from stays readable.
fn restrict(arguments: &Arguments) {
    const SYSTEM: [&str; 7] = [
        "/etc",
        "/usr",
        "/lib",
        "/lib64",
        "/run",
        "/var/lib/sss",
        "/var/run",
    ];
    let root = arguments.root.as_deref();
    if root.is_none() && !arguments.read_only {
        return;
    }
    let system = SYSTEM.iter().map(|path| Grant {
        path: path.as_ref(),
        write: false,
    });
    let grants: Vec<_> = root
        .map(|path| Grant {
            path,
            write: !arguments.read_only,
        })
        .into_iter()
        .chain(system)
        .collect();
    let give = Give {
        reading: root.is_some(),
        tcp: false,
        abstract_sockets: false,
    };
    let done = sys::process::no_new_privs().and_then(|()| landlock::restrict(give, &grants));
    match done {
        Ok(version) => tracing::debug!(event = "sftp.landlock", version),
        Err(error) => tracing::warn!(event = "sftp.landlock", %error),
    }
}

/// The user's name, and the client's address as the SSH server has written it.
fn who() -> (String, String) {
    let uid = Uid::current();
    let user = User::from_uid(uid).ok().flatten();
    let client = std::env::var("SSH_CONNECTION").unwrap_or_default();
    let client = client.split(' ').next().filter(|c| !c.is_empty());
    (
        user.map_or_else(|| uid.to_string(), |user| user.name),
        client.unwrap_or("UNKNOWN").to_owned(),
    )
}

fn man() -> Result<(), Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .section("8")
        .render(&mut page)?;
    print(page.into_iter().map(char::from).collect())
}

/// A reader that has seen enough is no failure.
fn print(text: String) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
