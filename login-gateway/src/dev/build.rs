//! Under `cargo run`, which builds the listener alone, builds the programs that it starts.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use service::{Exit, Failure};

use crate::programs::SIBLINGS;

/// Started by `cargo run`, which builds this program alone, builds the others.
pub fn build_siblings() -> Result<(), Failure> {
    let me = std::env::current_exe()?;
    let folder = me.parent().unwrap_or(Path::new("/"));
    let missing = || {
        SIBLINGS
            .into_iter()
            .find(|name| !folder.join(name).is_file())
    };
    match std::env::var_os("CARGO") {
        Some(cargo) if folder.join("deps").is_dir() => {
            let mut build = Command::new(cargo);
            build.arg("build");
            match folder.file_name().and_then(OsStr::to_str) {
                Some("release") => {
                    build.arg("--release");
                }
                None | Some("debug") => {}
                Some(profile) => {
                    build.args(["--profile", profile]);
                }
            }
            for name in SIBLINGS {
                build.args(["-p", name]);
            }
            if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
                build.current_dir(package);
            }
            eprintln!("login-gateway: building the programs of a login");
            if !build.status()?.success() {
                return Err(Failure::new(Exit::Software, "the build has failed"));
            }
        }
        _ => {}
    }
    match missing() {
        None => Ok(()),
        Some(name) => {
            let path = folder.join(name);
            let cause = format!("program '{}' is missing", path.display());
            Err(Failure::new(Exit::Software, cause)
                .hint("build all of them: cargo build --release --workspace"))
        }
    }
}
