//! The configuration file as typed values, checked once. How the server is reached with them does
//! not live here.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use ldap_link::Server;

use crate::error::AdminError;

/// Where a site's configuration lies.
pub const SITE_FILE: &str = "/etc/login-admin/login-admin.toml";

/// How users and groups are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schema {
    /// Groups are `posixGroup` with `memberUid` names (RFC 2307).
    Rfc2307,
    /// Groups have `member` DNs (draft-howard-rfc2307bis).
    Rfc2307bis,
}

/// The configuration, with defaults filled in.
#[derive(Debug)]
pub struct Settings {
    /// `ldap://`, `ldaps://` or `ldapi://`, as written.
    pub uri: String,
    /// Where that leads; none only in settings that are refused.
    pub server: Option<Server>,
    /// Upgrade an `ldap://` connection before anything is sent; never go on without.
    pub start_tls: bool,
    /// Trusted certificates instead of the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Who makes the changes.
    pub bind_dn: String,
    /// Where that password lies; without it it is asked for.
    pub bind_password_file: Option<PathBuf>,
    /// Users are looked for and made below this DN.
    pub user_base: String,
    /// Groups are looked for and made below this DN.
    pub group_base: String,
    /// How they are written down.
    pub schema: Schema,
    /// Home directory, `{user}` standing for the name.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// DN of the entry that holds the next free number.
    pub id_counter: String,
    /// Numbers that are given out.
    pub id_range: RangeInclusive<u32>,
    /// Limit of each single operation.
    pub timeout: Duration,
    /// directoryd's control socket, asked to look again after a change.
    pub directory_socket: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    uri: String,
    start_tls: Option<bool>,
    ca_file: Option<PathBuf>,
    bind_dn: String,
    bind_password_file: Option<PathBuf>,
    base: String,
    user_base: Option<String>,
    group_base: Option<String>,
    schema: Option<Schema>,
    home: Option<String>,
    shell: Option<String>,
    id_counter: Option<String>,
    id_range: Option<[u32; 2]>,
    #[serde(default, with = "optional_duration")]
    timeout: Option<Duration>,
    directory_socket: Option<PathBuf>,
}

mod optional_duration {
    use serde::Deserializer;
    use std::time::Duration;

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        service::config::duration::deserialize(from).map(Some)
    }
}

/// The file to read: the one asked for, else the administrator's own, else the site's.
pub fn file(asked: Option<&Path>) -> PathBuf {
    let own = || {
        let path = PathBuf::from(std::env::var_os("HOME")?).join(".config/login-admin.toml");
        path.is_file().then_some(path)
    };
    asked
        .map(Path::to_owned)
        .or_else(own)
        .unwrap_or_else(|| SITE_FILE.into())
}

impl Settings {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`AdminError::Config`] where it is no such file, [`AdminError::Settings`] with every value
    /// that cannot be.
    pub fn load(path: &Path) -> Result<Self, AdminError> {
        let written: Written = service::config::load(path).map_err(AdminError::Config)?;
        let (settings, problems) = Self::check(written);
        if problems.is_empty() {
            Ok(settings)
        } else {
            Err(AdminError::Settings {
                path: path.into(),
                problems,
            })
        }
    }

    /// Whether the connection is to be under TLS.
    pub fn tls(&self) -> bool {
        self.start_tls || self.uri.starts_with("ldaps://")
    }

    /// Whether the password would travel over a network in the clear.
    pub fn is_exposed(&self) -> bool {
        let local = |host: &str| {
            host == "localhost"
                || host
                    .parse::<IpAddr>()
                    .is_ok_and(|number| number.is_loopback())
        };
        let host = self.server.as_ref().and_then(Server::host);
        !self.tls() && host.is_some_and(|host| !local(host))
    }

    fn check(written: Written) -> (Self, Vec<String>) {
        let range = written.id_range.unwrap_or([2000, 59_999]);
        let settings = Self {
            start_tls: written
                .start_tls
                .unwrap_or(written.uri.starts_with("ldap://")),
            server: Server::parse(&written.uri).ok(),
            uri: written.uri,
            ca_file: written.ca_file,
            bind_dn: written.bind_dn,
            bind_password_file: written.bind_password_file,
            user_base: written.user_base.unwrap_or_else(|| written.base.clone()),
            group_base: written.group_base.unwrap_or_else(|| written.base.clone()),
            schema: written.schema.unwrap_or(Schema::Rfc2307bis),
            home: written.home.unwrap_or_else(|| "/home/{user}".into()),
            shell: written.shell.unwrap_or_else(|| "/bin/bash".into()),
            id_counter: written
                .id_counter
                .unwrap_or_else(|| format!("cn=ids,{}", written.base)),
            id_range: range[0]..=range[1],
            timeout: written.timeout.unwrap_or(Duration::from_secs(10)),
            directory_socket: written.directory_socket,
        };
        let problems = settings.problems();
        (settings, problems)
    }

    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |fine: bool, problem: &str| {
            if !fine {
                found.push(problem.to_owned());
            }
        };
        check(
            self.server.is_some(),
            "'uri' is not ldap://HOST[:PORT], ldaps://HOST[:PORT] or ldapi://PATH with %2F for '/'",
        );
        check(
            !self.start_tls || self.uri.starts_with("ldap://"),
            "'start-tls' goes with an ldap:// uri only",
        );
        check(self.bind_dn.contains('='), "'bind-dn' is not a DN");
        for (key, dn) in [
            ("base' or 'user-base", &self.user_base),
            ("base' or 'group-base", &self.group_base),
            ("id-counter", &self.id_counter),
        ] {
            check(dn.contains('='), &format!("'{key}' is not a DN"));
        }
        check(
            self.home.starts_with('/') && self.home.contains("{user}") && is_plain(&self.home),
            "'home' is not an absolute path with {user} in it",
        );
        check(
            self.shell.starts_with('/') && is_plain(&self.shell),
            "'shell' is not an absolute path",
        );
        check(
            self.id_range.start() <= self.id_range.end(),
            "'id-range' ends before it begins",
        );
        check(
            crate::ids::forbidden(*self.id_range.start()).is_none()
                && crate::ids::forbidden(*self.id_range.end()).is_none()
                && !(self.id_range.contains(&61_184) || self.id_range.contains(&65_534)),
            "'id-range' meets numbers of the system (below 1000, 61184 to 65535)",
        );
        check(
            (Duration::from_millis(100)..=Duration::from_secs(300)).contains(&self.timeout),
            "'timeout' is not between 100ms and 5m",
        );
        found
    }
}

/// Whether passwd(5) can hold it: no `:`, no control characters.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || c == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "uri = 'ldap://h'\nbind-dn = 'cn=a'\nbase = 'dc=x'\n";

    fn said(text: &str) -> String {
        match service::config::parse::<Written>(Path::new("f"), text.as_bytes()) {
            Ok(written) => Settings::check(written).1.join("; "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_shipped_example_is_good() {
        assert_eq!(said(include_str!("../../login-admin.example.toml")), "");
    }

    #[test]
    fn the_pages_example_is_good() {
        let page = include_str!("../../../docs/login-admin.md");
        let example = page
            .split("```toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        assert_eq!(said(example), "");
    }

    #[test]
    fn defaults_fail_closed() {
        let written = service::config::parse(Path::new("f"), SMALL.as_bytes()).unwrap();
        let (settings, problems) = Settings::check(written);
        assert_eq!(problems, Vec::<String>::new());
        assert!(settings.start_tls);
        assert_eq!(settings.id_counter, "cn=ids,dc=x");
    }

    #[test]
    fn what_cannot_be_is_said() {
        let check = |line: &str, expected: &str| {
            let said = said(&format!("{SMALL}{line}\n"));
            assert!(said.contains(expected), "{line}: {said}");
        };
        check("colour = 1", "f:4:1: unknown field `colour`");
        check("start-tls = 'yes'", "f:4:13: invalid type");
        check("schema = 'ad'", "unknown variant `ad`");
        check("timeout = '1 fortnight'", "is not a duration");
        check("timeout = '1ms'", "'timeout'");
        check("home = '/home'", "'home'");
        check("home = 'home/{user}'", "'home'");
        check("shell = 'bash'", "'shell'");
        check("shell = '/bin/ba:sh'", "'shell'");
        check("id-range = [3000, 2000]", "ends before");
        check("id-range = [500, 2000]", "numbers of the system");
        check("id-range = [2000, 70000]", "numbers of the system");
        check("id-range = [2000]", "invalid length");
        check("id-counter = 'ids'", "'id-counter' is not a DN");
    }

    #[test]
    fn uris() {
        let check = |uri: &str, fine: bool| {
            let said = said(&SMALL.replace("ldap://h", uri));
            assert_eq!(said.is_empty(), fine, "{uri}: {said}");
        };
        check("ldap://ldap.example.org:3890/", true);
        check("ldaps://ldap.example.org", true);
        check("ldapi://%2Frun%2Fslapd%2Fldapi", true);
        check("ldap://", false);
        check("http://h", false);
        check("ldap://user@h", false);
        check("ldap://h/dc=x", false);
        check("ldap://[::1", false);
        check("ldap://[::1]x", false);
        check("ldap://h:99999", false);
        check("ldap://h:", false);
        check("ldapi://relative", false);
    }

    #[test]
    fn a_password_in_the_clear_is_noticed() {
        let check = |uri: &str, start_tls: bool, expected: bool| {
            let text = SMALL.replace("ldap://h", uri) + &format!("start-tls = {start_tls}\n");
            let written = service::config::parse(Path::new("f"), text.as_bytes()).unwrap();
            assert_eq!(Settings::check(written).0.is_exposed(), expected, "{uri}");
        };
        check("ldap://ldap.example.org", false, true);
        check("ldap://10.0.0.1:3890", false, true);
        check("ldap://ldap.example.org", true, false);
        check("ldaps://ldap.example.org", false, false);
        check("ldap://127.0.0.1:3890", false, false);
        check("ldap://[::1]", false, false);
        check("ldap://localhost", false, false);
        check("ldapi://%2Frun%2Fldapi", false, false);
    }
}
