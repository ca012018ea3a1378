//! Which servers there are, in the order in which they are asked: those of `uris`, then those of
//! `backup-uris`; either may name a domain whose servers DNS knows.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ldap_link::{Server, UriError};

use super::dns;
use crate::config;

/// How long DNS's answer is good for.
const FRESH: Duration = Duration::from_secs(30);

/// One of the configured URIs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Server(Server),
    /// `ldap+srv://domain`: the servers that DNS has for the domain.
    Service {
        domain: String,
        ldaps: bool,
    },
}

/// The servers of a configuration.
#[derive(Debug)]
pub struct Servers {
    tiers: [Vec<Place>; 2],
    /// What DNS last said about a service, and when.
    known: Mutex<HashMap<String, (Instant, Vec<Server>)>>,
}

/// Why a URI is of no use.
///
/// # Errors
/// [`UriError`].
pub fn check(uri: &str) -> Result<(), UriError> {
    place(uri).map(drop)
}

fn place(uri: &str) -> Result<Place, UriError> {
    let service = |scheme: &str| {
        let front = uri.get(..scheme.len())?;
        front
            .eq_ignore_ascii_case(scheme)
            .then(|| &uri[scheme.len()..])
    };
    let (domain, ldaps) = match (service("ldap+srv://"), service("ldaps+srv://")) {
        (Some(domain), _) => (domain, false),
        (_, Some(domain)) => (domain, true),
        (None, None) => return Server::parse(uri).map(Place::Server),
    };
    let domain = domain.trim_end_matches(['/', '.']).to_ascii_lowercase();
    // A domain is what a host's name may be.
    let as_host = Server::parse(&format!("ldap://{domain}"))?;
    match as_host.host() {
        Some(host) if host == domain && host.parse::<std::net::IpAddr>().is_err() => {
            Ok(Place::Service { domain, ldaps })
        }
        _ => Err(UriError::Shape),
    }
}

impl Servers {
    /// The servers of a configuration without problems.
    pub fn of(config: &config::Ldap) -> Self {
        let tier = |uris: &[String]| uris.iter().filter_map(|uri| place(uri).ok()).collect();
        Self {
            tiers: [tier(&config.uris), tier(&config.backup_uris)],
            known: Mutex::default(),
        }
    }

    /// Those that would get passwords in the clear without StartTLS, for a warning.
    pub fn plain(&self) -> impl Iterator<Item = String> {
        self.tiers.iter().flatten().filter_map(|place| match place {
            Place::Server(server) => server.is_plain().then(|| server.uri.clone()),
            Place::Service { domain, ldaps } => (!ldaps).then(|| format!("ldap+srv://{domain}")),
        })
    }

    /// The servers to ask first (0), or when none of those answers (1).
    pub async fn tier(&self, tier: usize) -> Vec<Server> {
        let mut servers = Vec::new();
        for place in self.tiers.get(tier).into_iter().flatten() {
            match place {
                Place::Server(server) => servers.push(server.clone()),
                Place::Service { domain, ldaps } => {
                    servers.extend(self.service(domain, *ldaps).await);
                }
            }
        }
        servers
    }

    /// What DNS says, or said before it fell silent.
    async fn service(&self, domain: &str, ldaps: bool) -> Vec<Server> {
        let (kind, scheme) = if ldaps {
            ("_ldaps", "ldaps")
        } else {
            ("_ldap", "ldap")
        };
        let service = format!("{kind}._tcp.{domain}");
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known().get(&service).cloned();
        if let Some((time, servers)) = &before
            && time.elapsed() < FRESH
        {
            return servers.clone();
        }
        let places = match dns::places(&service).await {
            Ok(places) => places,
            Err(error) => {
                tracing::warn!(event = "dns.silent", service, %error);
                return before.map(|(_, servers)| servers).unwrap_or_default();
            }
        };
        if places.is_empty() {
            tracing::warn!(event = "dns.no_service", service);
        }
        let mut servers = Vec::new();
        for place in places {
            let target = place.target.to_ascii_lowercase();
            // Whoever answers in DNS's place must not lead the password to a host of their own, for which
            // some authority has certified them.
            if target != domain && !target.ends_with(&format!(".{domain}")) {
                tracing::error!(event = "dns.foreign_server", service, target);
                continue;
            }
            servers.extend(Server::parse(&format!(
                "{scheme}://{target}:{}",
                place.port
            )));
        }
        known().insert(service, (Instant::now(), servers.clone()));
        servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services() {
        let check = |uri: &str, expected: Option<(&str, bool)>| {
            let found = match place(uri) {
                Ok(Place::Service { domain, ldaps }) => Some((domain, ldaps)),
                _ => None,
            };
            let expected = expected.map(|(domain, ldaps)| (domain.to_owned(), ldaps));
            assert_eq!(found, expected, "{uri}");
        };
        check("ldap+srv://example.org", Some(("example.org", false)));
        check("LDAPS+SRV://Example.org./", Some(("example.org", true)));
        check("ldap+srv://example.org:389", None);
        check("ldap+srv://10.0.0.1", None);
        check("ldap+srv://", None);
        check("ldap://example.org", None);
        assert!(super::check("ldap://example.org").is_ok());
        assert!(super::check("http+srv://example.org").is_err());
    }
}
