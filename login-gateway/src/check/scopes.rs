//! Keys of a login, above all blocks and in each: files that must be there, lists that say nothing,
//! methods without anybody to ask.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use gateway_wire::Settings;
use gateway_wire::monitor::Method;
use gateway_wire::policy::{Who, fits};
use gateway_wire::settings::Match;
use nix::unistd::User;
use serde::Deserialize;
use toml::Table;

use super::Found;

/// A block, or all that stands above the blocks, as one.
struct Scope {
    /// In front of what is said: empty, or the block's number.
    place: String,
    keys: Match,
    /// Whether there is a `Match` at all.
    block: bool,
}

impl Found {
    /// All that can be wrong with keys of a login.
    pub(super) fn scopes(&mut self, settings: &Settings) {
        for scope in scopes(settings) {
            self.ways(&scope, settings);
            self.trusted(&scope);
            self.commands(&scope);
            self.targets(&scope);
            self.environment(&scope);
            if scope.block {
                self.block(&scope);
            }
        }
    }

    fn ways(&mut self, scope: &Scope, settings: &Settings) {
        let place = &scope.place;
        let Some(ways) = &scope.keys.authentication_methods else {
            return;
        };
        let elsewhere = |block: &Match| {
            let ways = block.authentication_methods.as_ref();
            ways.is_some_and(|ways| !ways.is_empty())
        };
        let blocks = !scope.block && settings.r#match.iter().any(elsewhere);
        if ways.is_empty() && !blocks {
            self.error(format!("{place}authentication-methods: no way in"));
        }
        let asks = |way: &&gateway_wire::policy::Way| way.0.iter().any(|m| *m != Method::PublicKey);
        if let Some(way) = ways.iter().find(asks)
            && settings.pam_service.is_none()
        {
            let way = String::from(way.clone());
            self.error(format!(
                "{place}authentication-methods: '{way}' needs PAM, and pam-service is empty"
            ));
        }
        for (key, on) in [
            ("touch-required", scope.keys.touch_required),
            ("verify-required", scope.keys.verify_required),
        ] {
            if on == Some(true) {
                self.warning(format!(
                    "{place}{key}: hardware keys are refused, since the SSH library hides that flag"
                ));
            }
        }
        let bits = scope.keys.required_rsa_size.flatten();
        if bits.is_some_and(|bits| bits < 2048) {
            self.warning(format!(
                "{place}required-rsa-size: keys that short can be broken"
            ));
        }
        let preset = settings.crypto_policy;
        for (key, named, known) in [
            (
                "public-key-algorithms",
                &scope.keys.public_key_algorithms,
                preset.signatures(),
            ),
            (
                "ca-signature-algorithms",
                &scope.keys.ca_signature_algorithms,
                preset.authorities(),
            ),
        ] {
            let named = named.iter().flatten().flatten();
            let pattern = |name: &'_ String| name.trim_start_matches('!').to_owned();
            for name in named.map(pattern) {
                if !known.iter().any(|known| fits(&name, known)) {
                    self.warning(format!(
                        "{place}{key}: '{name}' is nothing that is ever taken; RSA keys sign with \
                         rsa-sha2-256 and rsa-sha2-512"
                    ));
                }
            }
        }
    }

    fn trusted(&mut self, scope: &Scope) {
        let place = &scope.place;
        for (key, files) in [
            ("trusted-user-ca-keys", &scope.keys.trusted_user_ca_keys),
            ("revoked-keys", &scope.keys.revoked_keys),
        ] {
            for file in files.iter().flatten() {
                self.trusted_file(&format!("{place}{key}"), file);
            }
        }
        let named = [
            ("authorized-keys-files", &scope.keys.authorized_keys_files),
            (
                "authorized-principals-files",
                &scope.keys.authorized_principals_files,
            ),
        ];
        for (key, files) in named {
            for file in files.iter().flatten() {
                let text = file.to_string_lossy();
                if let Some(token) = unknown_token(&text) {
                    self.error(format!(
                        "{place}{key}: '{text}': '{token}' is not %u, %h or %%"
                    ));
                }
            }
        }
    }

    /// Programs that say which keys are good.
    fn commands(&mut self, scope: &Scope) {
        let keys = &scope.keys;
        for (key, words, user, known) in [
            (
                "authorized-keys-command",
                &keys.authorized_keys_command,
                &keys.authorized_keys_command_user,
                "uUhktfCD%",
            ),
            (
                "authorized-principals-command",
                &keys.authorized_principals_command,
                &keys.authorized_principals_command_user,
                "uUhktfCDisKTF%",
            ),
        ] {
            let Some((program, arguments)) = words.as_ref().and_then(|words| words.split_first())
            else {
                continue;
            };
            let key = format!("{}{key}", scope.place);
            if let Err(why) = service::trusted_program::check(Path::new(program)) {
                self.warning(format!("{key}: {why}; it is not run like that"));
            }
            for word in arguments {
                let mut rest = word.as_str();
                while let Some((_, after)) = rest.split_once('%') {
                    let token = after.chars().next();
                    if !token.is_some_and(|token| known.contains(token)) {
                        self.error(format!("{key}: '{word}': a token that is not known"));
                        break;
                    }
                    rest = after.get(1..).unwrap_or_default();
                }
            }
            match user.as_deref().unwrap_or_default() {
                "" => self.error(format!("{key}: {key}-user must say as whom it runs")),
                "root" => self.warning(format!("{key}: it runs as root; give it an account")),
                user if !matches!(User::from_name(user), Ok(Some(_))) => {
                    self.error(format!("{key}-user: user '{user}' does not exist"));
                }
                _ => {}
            }
        }
    }

    /// The monitor takes the word of files that root alone can write, and of no others.
    pub(super) fn trusted_file(&mut self, key: &str, file: &Path) {
        let shown = file.display();
        match fs::metadata(file) {
            Err(error) => self.error(format!("{key}: '{shown}': {error}")),
            Ok(meta) if !meta.is_file() => self.error(format!("{key}: '{shown}' is no file")),
            Ok(meta) if meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() => {
                self.error(format!("{key}: '{shown}' is not root's"));
            }
            Ok(meta) if meta.mode() & 0o022 != 0 => {
                let mode = meta.mode() & 0o7777;
                self.error(format!(
                    "{key}: '{shown}' may be written by others (mode {mode:04o})"
                ));
            }
            Ok(_) => {}
        }
    }

    fn targets(&mut self, scope: &Scope) {
        let place = &scope.place;
        for (key, list, port_alone) in [
            ("permit-open", &scope.keys.permit_open, false),
            ("permit-listen", &scope.keys.permit_listen, true),
        ] {
            for target in list.iter().flatten() {
                if !is_target(target, port_alone) {
                    self.error(format!("{place}{key}: '{target}' is not \"host:port\""));
                }
            }
        }
    }

    fn environment(&mut self, scope: &Scope) {
        let place = &scope.place;
        for name in scope.keys.set_env.iter().flat_map(|vars| vars.keys()) {
            if name.is_empty() || name.contains(['=', '\0']) {
                self.error(format!("{place}set-env: '{name}' is no name of a variable"));
            }
        }
        let dangerous = ["*", "LD_*", "LD_PRELOAD"];
        for pattern in scope.keys.permit_user_environment.iter().flatten() {
            if dangerous.contains(&pattern.as_str()) {
                self.warning(format!(
                    "{place}permit-user-environment: '{pattern}' lets users past force-command"
                ));
            }
        }
    }

    fn block(&mut self, scope: &Scope) {
        let place = &scope.place;
        let keys = Table::try_from(&scope.keys).unwrap_or_default();
        if keys.keys().all(|key| CRITERIA.contains(&key.as_str())) {
            self.warning(format!("{place}it sets nothing"));
        }
        for (name, patterns) in [
            ("user", &scope.keys.user),
            ("group", &scope.keys.group),
            ("pool", &scope.keys.pool),
        ] {
            if !patterns.is_empty() && patterns.iter().all(|p| p.starts_with('!')) {
                self.warning(format!(
                    "{place}{name}: only exclusions, so nobody fits; add \"*\" for everybody else"
                ));
            }
        }
    }
}

/// Keys of a block that say for whom it holds.
pub(super) const CRITERIA: [&str; 6] = [
    "user",
    "group",
    "source",
    "destination",
    "destination-port",
    "pool",
];

fn scopes(settings: &Settings) -> Vec<Scope> {
    let top = Settings {
        r#match: Vec::new(),
        ..settings.clone()
    };
    let nobody = Who {
        user: "",
        groups: &[],
        source: std::net::Ipv4Addr::UNSPECIFIED.into(),
        destination: None,
    };
    // A policy has the keys of a block, all of them set.
    let above = Table::try_from(top.policy(&nobody)).ok();
    let above = above.and_then(|keys| Match::deserialize(keys).ok());
    let above = above.map(|keys| Scope {
        place: String::new(),
        keys,
        block: false,
    });
    let blocks = settings
        .r#match
        .iter()
        .zip(1..)
        .map(|(keys, number)| Scope {
            place: format!("match block {number}: "),
            keys: keys.clone(),
            block: true,
        });
    above.into_iter().chain(blocks).collect()
}

/// The first `%x` that is none of ours.
fn unknown_token(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let token: String = rest[at..].chars().take(2).collect();
        if !["%u", "%h", "%%"].contains(&token.as_str()) {
            return Some(token);
        }
        rest = &rest[at + 2..];
    }
    None
}

/// `host:port`, `[address]:port`, with `*` for either; `none`; and, where ports listen, a port alone.
fn is_target(text: &str, port_alone: bool) -> bool {
    let port = |text: &str| text == "*" || text.parse::<u16>().is_ok();
    if text == "none" || port_alone && port(text) {
        return true;
    }
    let Some((host, number)) = text.rsplit_once(':') else {
        return false;
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_is_right = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '[', ']']),
    };
    host_is_right && port(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_tokens() {
        for good in ["host:22", "*:*", "[::1]:80", "10.0.0.1:*", "none"] {
            assert!(is_target(good, false), "{good}");
        }
        for bad in [
            "host",
            "host:port",
            ":22",
            "::1:80",
            "[host]:22",
            "host:99999",
            "22",
        ] {
            assert!(!is_target(bad, false), "{bad}");
        }
        assert!(is_target("8080", true) && is_target("*", true));
        assert_eq!(unknown_token("/k/%u/%h/%%"), None);
        assert_eq!(unknown_token("/k/%U"), Some("%U".into()));
        assert_eq!(unknown_token("/k/%"), Some("%".into()));
        assert_eq!(unknown_token("/k/%é"), Some("%é".into()));
    }
}
