//! `slurm-client`: stands in the PATH under the names of Slurm's clients and becomes the real one.
//! Every argument, the environment, the descriptors and the signals are handed on untouched; Slurm's
//! protocol does not live here.
#![forbid(unsafe_code)]

mod real_client;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use real_client::{CLIENTS, DIRECTORIES};

/// The command line is wrong (sysexits.h).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    match called_as(&arguments) {
        Some(client) => {
            let refusal = real_client::become_it(client, arguments);
            eprintln!("slurm-client: {refusal}");
            eprintln!("hint: {}", refusal.hint());
            ExitCode::from(refusal.exit_code())
        }
        None => own_name(&arguments),
    }
}

/// Which client's name the program was called by: the last part of the first argument.
fn called_as(arguments: &[OsString]) -> Option<&'static str> {
    let name = Path::new(arguments.first()?).file_name()?;
    CLIENTS
        .into_iter()
        .find(|client| OsStr::new(client) == name)
}

/// Called by no client's name: says what this is.
fn own_name(arguments: &[OsString]) -> ExitCode {
    let text = match arguments.get(1).and_then(|word| word.to_str()) {
        None | Some("--help" | "-h" | "help") => help(),
        Some("--version" | "-V") => format!("slurm-client {}\n", env!("CARGO_PKG_VERSION")),
        Some("--list" | "list") => CLIENTS.map(|client| format!("{client}\n")).concat(),
        Some(_) => {
            eprintln!("slurm-client: unknown argument; it takes --help, --list and --version");
            eprintln!(
                "hint: call it through a link that has a Slurm client's name, such as sbatch"
            );
            return ExitCode::from(USAGE);
        }
    };
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn help() -> String {
    format!(
        "Usage: link it as one of {clients}, and call that.\n\
         \n\
         It becomes the first program of that name in {directories},\n\
         with the same arguments, environment, descriptors and signals.\n\
         \n\
         Options under its own name:\n\
         \x20 --list     the names it answers to, one a line\n\
         \x20 --version  its version\n\
         \x20 --help     this page\n",
        clients = CLIENTS.join(" "),
        directories = DIRECTORIES.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_name_decides() {
        let check = |argument: &[&str], expected: Option<&str>| {
            let arguments: Vec<OsString> = argument.iter().map(OsString::from).collect();
            assert_eq!(called_as(&arguments), expected, "{argument:?}");
        };
        check(&["sbatch"], Some("sbatch"));
        check(&["/usr/local/bin/sinfo", "sbatch"], Some("sinfo"));
        check(&["../../bin/srun"], Some("srun"));
        check(&["slurm-client", "sbatch"], None);
        check(&["sbatch.real"], None);
        check(&["SBATCH"], None);
        check(&["/"], None);
        check(&[""], None);
        check(&[], None);
    }
}
