//! `login-gateway generate-host-keys`: what a host needs once. net makes the keys; it alone knows
//! their format.

use std::path::Path;
use std::process::Command;

use service::{Exit, Failure};

use crate::config;

/// Makes every key of `host-keys` that is not there.
pub fn generate(config: &Path) -> Result<(), Failure> {
    let settings = config::load_naming_all(config).map_err(|problems| {
        let text: Vec<String> = problems.iter().map(|p| service::exit::chain(p)).collect();
        Failure::new(Exit::Config, text.join("\n"))
    })?;
    let net = service::sibling("login-gateway-net")?;
    for key in &settings.host_keys {
        if key.exists() {
            continue;
        }
        let kind = kind(key);
        let mut make = Command::new(&net);
        make.arg("generate-host-key").arg(key).arg(kind);
        if !make.status()?.success() {
            let cause = format!("no host key could be made at '{}'", key.display());
            return Err(Failure::new(Exit::Failure, cause));
        }
        eprintln!("login-gateway: made {kind} host key '{}'", key.display());
    }
    Ok(())
}

/// By the name, as ssh-keygen names them: `ssh_host_rsa_key`.
fn kind(path: &Path) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let named = |kind: &&str| name.contains(*kind);
    ["rsa", "ecdsa"]
        .into_iter()
        .find(named)
        .unwrap_or("ed25519")
}
