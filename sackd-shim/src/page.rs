//! The manual page and shell completions: what clap knows of the command line, and what it cannot know.

use std::io::{self, Write};

use clap::CommandFactory as _;
use service::Failure;

use crate::options::Options;

const VARIABLES: [(&str, &str); 9] = [
    (
        "SLURM_CONF_SERVER",
        "Controllers; goes before --conf-server, as with sackd.",
    ),
    (
        "SLURM_CONF",
        "A local slurm.conf, where nothing else names one.",
    ),
    (
        "SLURM_SACK_KEY, SLURM_SACK_JWKS",
        "The cluster key; they go before the options.",
    ),
    (
        "RUNTIME_DIRECTORY",
        "Folder of the sockets, below /run/; of several the first.",
    ),
    (
        "STATE_DIRECTORY",
        "Where the last good configuration outlives a reboot.",
    ),
    ("SACKD_PORT, SACKD_DISABLE_RECONFIG", "As the options."),
    (
        "SACKD_DEBUG, SACKD_STDERR_DEBUG, SLURM_DEBUG_FLAGS",
        "More in the log.",
    ),
    ("LOG_LEVEL, LOG_FORMAT", "As the options."),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "Where systemd wants to hear of readiness, reloads and life.",
    ),
];

const SIGNALS: [(&str, &str); 4] = [
    (
        "SIGHUP",
        "Read settings, key and slurm.conf again and have the configuration fetched. Whatever is bad is logged, and \
         what was good stays.",
    ),
    (
        "SIGTERM, SIGINT",
        "End. The log's last lines are written first.",
    ),
    ("SIGPROF", "Log the state."),
    ("SIGUSR2, SIGPIPE", "Ignored."),
];

const FILES: [(&str, &str); 6] = [
    (
        "/etc/sackd-shim/sackd-shim.toml",
        "The settings. All of them may be left out; unknown ones are refused.",
    ),
    (
        "/etc/slurm/slurm.jwks, /etc/slurm/slurm.key",
        "The cluster key, readable by SlurmUser and by nobody outside of the file's group. Replaced while the service \
         runs, it is taken with the next token.",
    ),
    (
        "/run/slurm/sack.socket",
        "Where Slurm's commands ask for tokens.",
    ),
    ("/run/slurm/conf/", "The configuration that was fetched."),
    (
        "/run/slurm/status.socket",
        "Numbers, for root and SlurmUser: /metrics, /status.",
    ),
    (
        "/run/slurm/rest.socket",
        "Where sackd-shim token asks, with [rest] in the settings.",
    ),
];

const EXITS: [(&str, &str); 6] = [
    ("0", "All is well."),
    (
        "1",
        "Something failed; the reason stands on standard error. Called by the name sackd: anything.",
    ),
    ("64", "The command line is wrong."),
    ("70", "A fault of this program's."),
    ("77", "It needs a right that the caller does not have."),
    (
        "78",
        "Settings or keys are wrong, or check has found a problem.",
    ),
];

/// Prints sackd-shim(8) in roff.
///
/// # Errors
/// Those of standard output.
pub fn man() -> Result<(), Failure> {
    print(&page()?)
}

/// Prints a completion script.
///
/// # Errors
/// Those of standard output.
pub fn completion(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Options::command(), "sackd-shim", &mut script);
    print(&script)
}

fn page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let mut command = Options::command();
    command.build();
    let man = clap_mangen::Man::new(command.clone()).section("8");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let subs = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help");
    let mut commands = Vec::new();
    for sub in subs {
        let about = sub.get_about().map(ToString::to_string);
        let own = |argument: &&clap::Arg| {
            !argument.is_global_set() && argument.get_id() != "help" && !argument.is_hide_set()
        };
        let mut name = sub.get_name().to_owned();
        for argument in sub.get_arguments().filter(own) {
            name += &format!(" [{argument}]");
        }
        commands.push((name, about.unwrap_or_default() + "."));
    }
    let borrowed: Vec<(&str, &str)> = commands
        .iter()
        .map(|(name, about)| (name.as_str(), about.as_str()))
        .collect();
    for (title, list) in [
        ("COMMANDS", borrowed.as_slice()),
        ("ENVIRONMENT", &VARIABLES),
        ("SIGNALS", &SIGNALS),
        ("FILES", &FILES),
        ("EXIT STATUS", &EXITS),
    ] {
        writeln!(page, ".SH \"{title}\"")?;
        for (name, meaning) in list {
            writeln!(page, ".TP\n\\fB{}\\fR\n{}", plain(name), plain(meaning))?;
        }
    }
    Ok(page)
}

/// A line that roff takes for text.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// A reader that has seen enough is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_and_command_is_on_the_page() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        let command = Options::command();
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        let words = options
            .map(|option| format!("\\-\\-{}", option.replace('-', "\\-")))
            .chain(
                command
                    .get_subcommands()
                    .map(|sub| format!("\\fB{}", sub.get_name())),
            );
        for word in words {
            assert!(page.contains(&word), "{word}\n{page}");
        }
        for section in ["ENVIRONMENT", "SIGNALS", "FILES", "EXIT STATUS"] {
            assert!(page.contains(section), "{section}");
        }
    }
}
