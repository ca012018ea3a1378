//! The keys as people write them: name, type, default, meaning.

use gateway_wire::Settings;
use gateway_wire::settings::{KEYS, Key};
use toml::{Table, Value};

/// A key for people.
pub struct Described {
    /// As in the file.
    pub name: String,
    /// What kind of value.
    pub kind: &'static str,
    /// The default in TOML; `None` if there is none.
    pub default: Option<String>,
    /// What it means, in one paragraph.
    pub meaning: String,
    /// Whether it may stand in a `[[match]]` block.
    pub login: bool,
}

/// All of them, in the order of their definition.
///
/// # Errors
/// If the defaults cannot be written as TOML.
pub fn all() -> Result<Vec<Described>, toml::ser::Error> {
    let defaults = Table::try_from(Settings::default())?;
    Ok(KEYS.iter().map(|key| described(key, &defaults)).collect())
}

fn described(key: &Key, defaults: &Table) -> Described {
    let name = key.field.replace('_', "-");
    let lines: Vec<&str> = key.lines.iter().map(|line| line.trim()).collect();
    Described {
        kind: kind(key.kind),
        default: defaults.get(&name).map(Value::to_string),
        // Backquotes are for the documentation of the code.
        meaning: lines.join("\n").replace('`', ""),
        login: key.login,
        name,
    }
}

/// The kind of value behind a type.
fn kind(rust: &str) -> &'static str {
    let rust: String = rust.chars().filter(|c| !c.is_whitespace()).collect();
    match rust.as_str() {
        "bool" => "true or false",
        "u32" | "u64" | "usize" | "Option<usize>" | "Option<u32>" => "number",
        "Duration" | "Time" => "duration",
        "String" | "Option<String>" => "text",
        "CryptoPolicy" | "Forwarding" | "GatewayPorts" => "word",
        "PathBuf" | "Option<PathBuf>" => "path",
        "Vec<PathBuf>" => "list of paths",
        "Option<SocketAddr>" => "address with port",
        "Vec<SocketAddr>" => "list of addresses with port",
        "Vec<String>" | "Option<Vec<String>>" | "Vec<Way>" | "Vec<ChannelTimeout>" => {
            "list of texts"
        }
        "BTreeMap<String,String>" => "table of texts",
        "Option<Umask>" => "octal number as text",
        "ProxyProtocol" | "Option<BreakGlass>" | "EarlyDrop" | "NetBlockSize" | "Penalties" => {
            "table"
        }
        // The test below keeps this from being printed.
        _ => "value",
    }
}

/// A value for keys without a default, in TOML.
pub fn sample(name: &str) -> &'static str {
    match name {
        "health-listen" => "\"0.0.0.0:8080\"",
        "per-source-max-startups" => "20",
        "banner" => "\"/etc/issue.net\"",
        "directory-socket" => "\"/run/directoryd/control.sock\"",
        "public-key-algorithms" => "[\"ssh-ed25519*\", \"rsa-sha2-512\"]",
        "required-rsa-size" => "4096",
        "ca-signature-algorithms" => "[\"ssh-ed25519\"]",
        "umask" => "\"027\"",
        "break-glass" => {
            "{ user = \"admin\", authorized-keys = \"/etc/login-gateway/break-glass\", source = \
             [\"192.0.2.0/24\"] }"
        }
        _ => "\"\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described() {
        for key in all().unwrap() {
            assert_ne!(key.kind, "value", "{}", key.name);
            assert!(key.meaning.ends_with('.'), "{}: {}", key.name, key.meaning);
        }
    }
}
