//! User certificates of OpenSSH, PROTOCOL.certkeys. russh has checked the client's signature; the
//! authority's is checked again in a sandbox, since net is not trusted with it, and everything that
//! a certificate says is judged here.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_wire::certificate::{Certificate, CertificateQuestion};
use gateway_wire::monitor::RsaHash;
use gateway_wire::policy::{Restrictions, listed};
use gateway_wire::{Policy, address};
use login_gateway_monitor::key_list;
use login_gateway_monitor::krl::{Issued, Subject};

use super::candidate::{Candidate, Factor};
use super::{Attempt, Authentication, Evidence, key_policy, revocation};
use crate::key::{self, Found, Place};
use crate::key_command::Shown;
use crate::{child, trusted_file};

/// Largest certificate, in bytes; one of RSA with 16,384 bits and many names needs about 10 KiB.
const MAX_CERTIFICATE: usize = 32 * 1024;

impl Authentication<'_> {
    /// The client has signed with the key of this certificate.
    pub(super) fn certificate_verified(
        &mut self,
        candidate: &mut Candidate,
        bytes: &[u8],
        rsa: Option<RsaHash>,
    ) -> io::Result<Attempt> {
        let Some(certificate) = self.read_certificate(bytes)? else {
            let reason = "not a certificate that its authority has signed";
            return Ok(Attempt::refused(reason, Evidence::default()));
        };
        let mut evidence = Evidence {
            key: Some(key::fingerprint(&certificate.key)),
            certificate: Some(certificate.key_id.clone()),
            serial: Some(certificate.serial),
            authority: Some(key::fingerprint(&certificate.authority)),
            found: None,
        };
        // Everything is looked for before anything is refused: no step tells whose name is known.
        let trusted = self.trusted(candidate, bytes, &certificate)?;
        let judged = self.judge_certificate(candidate, &certificate, rsa, trusted);
        Ok(match judged {
            Ok(found) => {
                evidence.found = Some(found.place.name());
                let encoded = STANDARD.encode(bytes);
                Attempt::Passed(Box::new(Factor {
                    line: format!("publickey {} {encoded}", certificate.name),
                    evidence,
                    key: Some(certificate.key),
                    restrictions: found.restrictions,
                    pam: None,
                }))
            }
            Err(reason) => Attempt::refused(reason, evidence),
        })
    }

    fn judge_certificate(
        &self,
        candidate: &Candidate,
        certificate: &Certificate,
        rsa: Option<RsaHash>,
        trusted: Option<Found>,
    ) -> Result<Found, String> {
        candidate.may_log_in()?;
        let found = trusted.ok_or("no trusted authority signed it for this user")?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|e| e.to_string())?;
        let policy = &candidate.policy;
        let said = judge(
            policy,
            certificate,
            rsa,
            now.as_secs(),
            self.endpoints.source.ip(),
        )?;
        revocation::check(
            &policy.revoked_keys,
            &Subject {
                key: &certificate.key,
                certificate: Some(Issued {
                    serial: certificate.serial,
                    key_id: certificate.key_id.as_bytes(),
                    authority: &certificate.authority,
                }),
            },
        )?;
        if candidate.has_used(&certificate.key) {
            return Err("the key has been used already".into());
        }
        let restrictions = found.restrictions.and(said).map_err(|e| e.to_string())?;
        Ok(Found {
            restrictions,
            ..found
        })
    }

    /// Where the authority is trusted with one of the certificate's names for this user: the files
    /// of the policy, or a line of the user's own.
    fn trusted(
        &self,
        candidate: &Candidate,
        bytes: &[u8],
        certificate: &Certificate,
    ) -> io::Result<Option<Found>> {
        let authorities = authorities(&candidate.policy.trusted_user_ca_keys);
        let listed = authorities.contains(&certificate.authority);
        let user = candidate.canonical_name();
        let named = |name: &String| {
            let name = expand(name, user.as_str());
            certificate.principals.contains(&name)
        };
        if listed && candidate.policy.principals.iter().any(named) {
            return Ok(Some(Found {
                place: Place::Authority,
                restrictions: Restrictions::default(),
            }));
        }
        let shown = Shown {
            key: &certificate.key,
            certificate: Some((bytes, certificate)),
            endpoints: self.endpoints,
        };
        let search = key::find(self.settings, candidate, &self.nobody, &shown, listed)?;
        let by_file = search
            .principal
            .filter(|_| listed)
            .map(|restrictions| Found {
                place: Place::Authority,
                restrictions,
            });
        Ok(by_file.or(search.found))
    }

    /// Has the bytes, which are a stranger's, read by a process without rights.
    fn read_certificate(&self, bytes: &[u8]) -> io::Result<Option<Certificate>> {
        if bytes.len() > MAX_CERTIFICATE {
            return Ok(None);
        }
        let program = service::sibling("login-gateway-net")?;
        let question = CertificateQuestion {
            user: self.settings.user.clone(),
            empty_root: self.settings.empty_root.clone(),
            certificate: bytes.to_vec(),
        };
        child::ask::<Option<Certificate>>(&program, "read-certificate", None, &question, None)
            .map(Option::flatten)
    }
}

/// The keys of all files; a file that cannot be used is said loudly and has none.
fn authorities(files: &[PathBuf]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for path in files {
        let read = trusted_file::read(path).map_err(|e| e.to_string());
        match read.and_then(|text| key_list::parse(&text).map_err(|e| e.to_string())) {
            Ok(more) => keys.extend(more),
            Err(error) => {
                tracing::error!(event = "trusted_user_ca_keys.unusable", file = %path.display(), error);
            }
        }
    }
    keys
}

/// `%u` is the user, `%%` a percent sign.
fn expand(name: &str, user: &str) -> String {
    let parts: Vec<String> = name
        .split("%%")
        .map(|part| part.replace("%u", user))
        .collect();
    parts.join("%")
}

/// What the certificate itself says: whether it is good here and now, and what it takes away.
fn judge(
    policy: &Policy,
    certificate: &Certificate,
    rsa: Option<RsaHash>,
    now: u64,
    source: IpAddr,
) -> Result<Restrictions, String> {
    if !certificate.for_user {
        return Err("it is a host's certificate".into());
    }
    if !(certificate.valid_after..certificate.valid_before).contains(&now) {
        return Err("the certificate is not valid now".into());
    }
    if certificate.principals.is_empty() {
        return Err("the certificate names nobody, which would be everybody".into());
    }
    if ["ssh-rsa", "ssh-dss"].contains(&certificate.signature.as_str()) {
        return Err("its authority has signed with SHA-1".into());
    }
    let taken = policy
        .ca_signature_algorithms
        .as_deref()
        .unwrap_or_default();
    if !listed(taken, &certificate.signature) {
        let algorithm = &certificate.signature;
        return Err(format!(
            "policy takes no authority's '{algorithm}' signature"
        ));
    }
    key_policy::check(policy, &certificate.key, &certificate.name, rsa)?;
    key_policy::long_enough(policy, &certificate.authority)?;
    let has = |name: &str| {
        certificate
            .extensions
            .iter()
            .any(|(known, _)| known == name)
    };
    let mut restrictions = Restrictions {
        tty: has("permit-pty"),
        user_rc: has("permit-user-rc"),
        agent_forwarding: has("permit-agent-forwarding"),
        x11_forwarding: has("permit-X11-forwarding"),
        port_forwarding: has("permit-port-forwarding"),
        ..Restrictions::default()
    };
    for (name, value) in &certificate.critical_options {
        match name.as_str() {
            "force-command" => {
                // An empty text means "no command" from here on.
                let nothing = value.trim().is_empty();
                let command = if nothing { "true" } else { value };
                restrictions.command = Some(command.to_owned());
            }
            "source-address" => match address::contained(value, source) {
                Some(true) => {}
                Some(false) => return Err(format!("the certificate is not for '{source}'")),
                None => return Err("its source-address is not a list of networks".into()),
            },
            "verify-required" => {
                return Err("verify-required cannot be checked here".into());
            }
            name => return Err(format!("critical option '{name}' is not known")),
        }
    }
    Ok(restrictions)
}

#[cfg(test)]
mod tests {
    use gateway_wire::Settings;
    use gateway_wire::policy::Who;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn certificate() -> Certificate {
        let text = include_bytes!("../../testdata/keys.pub");
        let keys = key_list::parse(text).unwrap();
        Certificate {
            name: "ssh-ed25519-cert-v01@openssh.com".into(),
            key: keys[2].clone(),
            serial: 1,
            for_user: true,
            key_id: "id".into(),
            principals: vec!["alice".into()],
            valid_after: NOW - 10,
            valid_before: NOW + 10,
            critical_options: Vec::new(),
            extensions: vec![("permit-pty".into(), String::new())],
            authority: keys[0].clone(),
            signature: "ssh-ed25519".into(),
        }
    }

    fn judged(more: &str, change: impl FnOnce(&mut Certificate)) -> Result<Restrictions, String> {
        let settings: Settings = toml::from_str(more).unwrap();
        let policy = settings.policy(&Who {
            user: "alice",
            groups: &[],
            source: [192, 0, 2, 7].into(),
            destination: None,
        });
        let mut certificate = certificate();
        change(&mut certificate);
        judge(&policy, &certificate, None, NOW, [192, 0, 2, 7].into())
    }

    #[test]
    fn what_a_certificate_must_be() {
        assert!(judged("", |_| {}).is_ok());
        let refused = |change: fn(&mut Certificate)| judged("", change).unwrap_err();
        assert_eq!(
            refused(|c| c.for_user = false),
            "it is a host's certificate"
        );
        assert!(refused(|c| c.valid_after = NOW + 1).contains("not valid now"));
        assert!(refused(|c| c.valid_before = NOW).contains("not valid now"));
        assert!(judged("", |c| c.valid_after = NOW).is_ok());
        assert!(judged("", |c| (c.valid_after, c.valid_before) = (0, u64::MAX)).is_ok());
        assert!(refused(|c| c.principals.clear()).contains("everybody"));
        assert!(refused(|c| c.signature = "ssh-rsa".into()).contains("SHA-1"));
        let types = "public-key-algorithms = [\"ssh-ed25519\"]";
        assert!(judged(types, |_| {}).is_err());
        let signatures = "ca-signature-algorithms = [\"ecdsa-*\", \"rsa-sha2-512\"]";
        assert!(
            judged(signatures, |_| {})
                .unwrap_err()
                .contains("ssh-ed25519")
        );
        assert!(judged(signatures, |c| c.signature = "rsa-sha2-512".into()).is_ok());
        let types = "public-key-algorithms = [\"*-cert-v01@openssh.com\"]";
        assert!(judged(types, |_| {}).is_ok());
    }

    #[test]
    fn options_and_extensions() {
        let with = |name: &str, value: &str| {
            judged("", |c| c.critical_options.push((name.into(), value.into())))
        };
        assert_eq!(
            with("force-command", "date").unwrap().command.as_deref(),
            Some("date")
        );
        assert_eq!(
            with("force-command", "").unwrap().command.as_deref(),
            Some("true")
        );
        assert!(with("source-address", "10.0.0.0/8,192.0.2.0/24").is_ok());
        assert!(with("source-address", "10.0.0.0/8").is_err());
        assert!(with("source-address", "").is_err());
        assert!(with("verify-required", "").is_err());
        assert!(with("colour", "red").unwrap_err().contains("'colour'"));
        let none = judged("", |c| c.extensions.clear()).unwrap();
        assert!(!none.tty && !none.port_forwarding && !none.user_rc);
        let some = judged("", |_| {}).unwrap();
        assert!(some.tty && !some.x11_forwarding && !some.agent_forwarding);
    }

    #[test]
    fn names_with_percent_signs() {
        for (name, expected) in [
            ("%u", "alice"),
            ("ssh-%u", "ssh-alice"),
            ("%%u", "%u"),
            ("x", "x"),
        ] {
            assert_eq!(expand(name, "alice"), expected);
        }
    }
}
