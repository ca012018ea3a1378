//! Finds the real client and becomes it. Where to look is fixed here: a user's environment must not
//! choose the program that stands behind a name.

use std::ffi::{CString, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The clients this program stands in for.
pub const CLIENTS: [&str; 8] = [
    "sbatch", "srun", "salloc", "squeue", "scancel", "sinfo", "sacct", "scontrol",
];

/// Where the real ones are looked for, in this order: the distribution's packages, then the two
/// usual places of a Slurm built by hand.
pub const DIRECTORIES: [&str; 3] = ["/usr/bin", "/usr/local/slurm/bin", "/opt/slurm/bin"];

/// Why the real client did not start.
#[derive(Debug)]
pub enum Refusal {
    /// It is in none of [`DIRECTORIES`].
    Missing(&'static str),
    /// It is there and cannot be run.
    Unrunnable(PathBuf, io::Error),
}

impl Refusal {
    /// The code that a shell gives in the same case.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Missing(_) => 127,
            Self::Unrunnable(..) => 126,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing(_) => "install the cluster's Slurm clients (Debian: slurm-client) here",
            Self::Unrunnable(..) => "look at its mode, its architecture and its first line",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(client) => {
                write!(
                    f,
                    "the real '{client}' is not in {}",
                    DIRECTORIES.join(", ")
                )
            }
            Self::Unrunnable(path, error) => write!(f, "run '{}': {error}", path.display()),
        }
    }
}

/// Becomes the real `client`; comes back only with the reason why not.
///
/// The first argument stays as it was typed, since the clients print it before their messages.
pub fn become_it(client: &'static str, arguments: Vec<OsString>) -> Refusal {
    let own = fs::metadata("/proc/self/exe").ok();
    let Some(path) = DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(client))
        .find(|path| is_another_program(path, own.as_ref()))
    else {
        return Refusal::Missing(client);
    };
    let arguments: Result<Vec<CString>, _> = arguments
        .into_iter()
        .map(|a| CString::new(a.into_vec()))
        .collect();
    match (CString::new(path.as_os_str().as_bytes()), arguments) {
        (Ok(program), Ok(arguments)) => {
            Refusal::Unrunnable(path, sys::inherit::exec(&program, &arguments))
        }
        // Cannot be: what execve(2) once took as strings holds no NUL.
        _ => Refusal::Unrunnable(path, io::ErrorKind::InvalidInput.into()),
    }
}

/// Whether there is a program at `path` other than this one, be it a link to it or a copy of it:
/// two copies that found each other would hand over for ever.
fn is_another_program(path: &Path, own: Option<&Metadata>) -> bool {
    let Ok(there) = fs::metadata(path) else {
        return false;
    };
    let Some(own) = own else {
        return there.is_file();
    };
    let same_file = there.dev() == own.dev() && there.ino() == own.ino();
    let same_bytes = || {
        there.len() == own.len()
            && matches!((fs::read(path), fs::read("/proc/self/exe")), (Ok(a), Ok(b)) if a == b)
    };
    there.is_file() && !same_file && !same_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_itself_and_a_copy_of_itself_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let own_path = std::env::current_exe().unwrap();
        std::os::unix::fs::symlink(&own_path, at("link")).unwrap();
        fs::copy(&own_path, at("copy")).unwrap();
        fs::write(at("other"), "#!/bin/sh\n").unwrap();
        fs::create_dir(at("folder")).unwrap();
        let own = fs::metadata(own_path).unwrap();
        for (name, expected) in [
            ("link", false),
            ("copy", false),
            ("other", true),
            ("folder", false),
            ("missing", false),
        ] {
            assert_eq!(
                is_another_program(&at(name), Some(&own)),
                expected,
                "{name}"
            );
        }
    }
}
