//! Public keys: may this one be used, and was it. russh has checked the signature; everything else
//! is decided here.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_wire::crypto::certificate_name;
use gateway_wire::monitor::RsaHash;
use login_gateway_monitor::krl::Subject;

use super::candidate::{Candidate, Factor};
use super::{Attempt, Authentication, Evidence, key_policy, revocation};
use crate::key::{self, Found};
use crate::key_command::Shown;

impl Authentication<'_> {
    /// May this key log in? Asked before the client signs.
    ///
    /// For a certificate russh shows its bare key, and does not say that there is more (T11). So
    /// where a certificate of this key could be good every key is, for now; what the client then
    /// signs with is judged by what it is.
    pub(super) fn key_offered(
        &mut self,
        candidate: &mut Candidate,
        key: &[u8],
        rsa: Option<RsaHash>,
    ) -> io::Result<Attempt> {
        let judged = self.judge_key(candidate, key, rsa)?;
        let by_user = candidate
            .searched
            .as_ref()
            .is_some_and(|(_, search)| search.authority);
        let by_policy = !candidate.policy.trusted_user_ca_keys.is_empty();
        let judged = match judged {
            Err(reason) if by_user || by_policy => {
                certifiable(candidate, key, rsa).map_err(|_| reason)
            }
            judged => judged.map(|_| ()),
        };
        Ok(match judged {
            Ok(()) => Attempt::Usable,
            Err(reason) => Attempt::refused(reason, evidence(key)),
        })
    }

    /// The client has signed with it.
    pub(super) fn key_verified(
        &mut self,
        candidate: &mut Candidate,
        key: Vec<u8>,
        rsa: Option<RsaHash>,
    ) -> io::Result<Attempt> {
        Ok(match self.judge_key(candidate, &key, rsa)? {
            Ok(found) => Attempt::Passed(Box::new(Factor {
                line: line(&key),
                evidence: Evidence {
                    found: Some(found.place.name()),
                    ..evidence(&key)
                },
                key: Some(key),
                restrictions: found.restrictions,
                pam: None,
            })),
            Err(reason) => Attempt::refused(reason, evidence(&key)),
        })
    }

    /// Looks for the key, and then says why it is not good: every refusal costs the same steps.
    fn judge_key(
        &mut self,
        candidate: &mut Candidate,
        key: &[u8],
        rsa: Option<RsaHash>,
    ) -> io::Result<Result<Found, String>> {
        let known = candidate.searched.as_ref().is_some_and(|(k, _)| k == key);
        if !known {
            let search = self.search(candidate, key)?;
            candidate.searched = Some((key.to_vec(), search));
        }
        let found = candidate
            .searched
            .as_ref()
            .and_then(|(_, search)| search.found.clone());
        Ok(self.judge_found(candidate, key, rsa, found))
    }

    fn judge_found(
        &self,
        candidate: &Candidate,
        key: &[u8],
        rsa: Option<RsaHash>,
        found: Option<Found>,
    ) -> Result<Found, String> {
        let account = candidate.may_log_in()?;
        let kind = key_policy::key_type(key).ok_or("not a key")?;
        let found = found.ok_or(if account.unavailable {
            "key not authorized by files, and the directory did not answer"
        } else {
            "key not authorized"
        })?;
        key_policy::check(&candidate.policy, key, kind, rsa)?;
        not_revoked(candidate, key)?;
        if candidate.has_used(key) {
            return Err("the key has been used already".into());
        }
        Ok(found)
    }

    fn search(&self, candidate: &Candidate, key: &[u8]) -> io::Result<key::Search> {
        let shown = Shown {
            key,
            certificate: None,
            endpoints: self.endpoints,
        };
        key::find(self.settings, candidate, &self.nobody, &shown, false)
    }
}

/// Whether a certificate of this key could be good, whoever the user is.
fn certifiable(candidate: &Candidate, key: &[u8], rsa: Option<RsaHash>) -> Result<(), String> {
    let kind = key_policy::key_type(key).ok_or("not a key")?;
    key_policy::check(&candidate.policy, key, &certificate_name(kind), rsa)?;
    not_revoked(candidate, key)?;
    if candidate.has_used(key) {
        return Err("the key has been used already".into());
    }
    Ok(())
}

fn not_revoked(candidate: &Candidate, key: &[u8]) -> Result<(), String> {
    let subject = Subject {
        key,
        certificate: None,
    };
    revocation::check(&candidate.policy.revoked_keys, &subject)
}

fn evidence(key: &[u8]) -> Evidence {
    Evidence {
        key: Some(key::fingerprint(key)),
        ..Evidence::default()
    }
}

/// As OpenSSH has it in the file that `SSH_USER_AUTH` names.
fn line(key: &[u8]) -> String {
    let kind = key_policy::key_type(key).unwrap_or_default();
    format!("publickey {kind} {}", STANDARD.encode(key))
}
