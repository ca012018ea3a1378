//! The `ssh` command that logs in, and the file by which it knows the host.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use service::{Exit, Failure};

/// The host's public key under the address that the printed command uses.
pub fn write_known_hosts(path: &Path, host_key: &Path, address: SocketAddr) -> Result<(), Failure> {
    let public = host_key.with_added_extension("pub");
    let key = fs::read_to_string(&public).map_err(|error| {
        let cause = format!("read '{}': {error}", public.display());
        Failure::new(Exit::Failure, cause)
            .hint(format!("delete '{}' and start again", host_key.display()))
    })?;
    let mut file = fs::File::create(path)?;
    writeln!(
        file,
        "[{}]:{} {}",
        address.ip(),
        address.port(),
        key.trim_end()
    )?;
    Ok(())
}

/// To be pasted into a shell.
pub fn ssh_command(
    address: SocketAddr,
    known_hosts: &Path,
    identity: Option<&Path>,
    user: &str,
) -> String {
    let known_hosts = quoted(&format!("UserKnownHostsFile={}", known_hosts.display()));
    let identity = identity.map(|path| format!("-i {} ", quoted(&path.display().to_string())));
    format!(
        "ssh -p {port} -o {known_hosts} {identity}{user}@{host}",
        port = address.port(),
        identity = identity.unwrap_or_default(),
        host = address.ip(),
    )
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=@:".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted() {
        let check = |known_hosts: &str, identity: Option<&str>, expected: &str| {
            let command = ssh_command(
                "127.0.0.1:2222".parse().unwrap(),
                Path::new(known_hosts),
                identity.map(Path::new),
                "alice",
            );
            assert_eq!(command, expected);
        };
        check(
            "/home/alice/known_hosts",
            None,
            "ssh -p 2222 -o UserKnownHostsFile=/home/alice/known_hosts alice@127.0.0.1",
        );
        check(
            "/home/o'neil b/k",
            Some("/h/.ssh/work"),
            r"ssh -p 2222 -o 'UserKnownHostsFile=/home/o'\''neil b/k' -i /h/.ssh/work alice@127.0.0.1",
        );
    }
}
