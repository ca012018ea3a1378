//! A user name that somebody wants to log in with: the account behind it, if there is one, its
//! policy, and what was passed so far. A name without an account has a policy as well, so that the
//! client cannot tell the difference.

use std::path::{Path, PathBuf};

use gateway_wire::accept::Endpoints;
use gateway_wire::monitor::Method;
use gateway_wire::policy::{Restrictions, Way, Who};
use gateway_wire::{Policy, Settings, UserName};

use super::Evidence;
use super::dialogue::Pam;
use super::ways::Ways;
use crate::account::{self, Account, NoAccount};
use crate::key::Search;
use crate::local_account;

/// See the file's head.
pub struct Candidate {
    /// As the client spells it.
    pub name: UserName,
    /// Who it is.
    pub account: Result<Account, NoAccount>,
    /// What holds for it.
    pub policy: Policy,
    /// The ways that are left.
    pub ways: Ways,
    /// A line per passed factor, for `SSH_USER_AUTH`.
    pub factors: Vec<String>,
    /// What PAM says to the user.
    pub notices: Vec<String>,
    /// PAM's transaction, of the last factor that it had part in.
    pub pam: Option<Pam>,
    /// Whether the way in is complete but for a new password.
    pub must_change: bool,
    /// The last key that was looked for, so that its signed request need not look again.
    pub searched: Option<(Vec<u8>, Search)>,
    /// The file of its keys, if it is the account for emergencies: then no other rule holds.
    pub break_glass: Option<PathBuf>,
    passed: Vec<(Method, Evidence)>,
    keys: Vec<Vec<u8>>,
    restrictions: Restrictions,
}

/// A factor that is good.
pub struct Factor {
    /// For `SSH_USER_AUTH`.
    pub line: String,
    /// For the record.
    pub evidence: Evidence,
    /// The key, which must not be another factor's.
    pub key: Option<Vec<u8>>,
    /// What it takes away.
    pub restrictions: Restrictions,
    /// Its transaction.
    pub pam: Option<Pam>,
}

/// What a login takes along from its authentication.
pub struct Granted {
    /// What it may do, the keys' restrictions included.
    pub policy: Policy,
    /// The keys' restrictions.
    pub restrictions: Restrictions,
    /// A line per factor, for `SSH_USER_AUTH`.
    pub factors: Vec<String>,
    /// What PAM said.
    pub notices: Vec<String>,
    /// PAM's transaction.
    pub pam: Option<Pam>,
    /// Whether the session is opened whatever PAM says.
    pub break_glass: bool,
}

impl Candidate {
    /// Looks the name up.
    pub fn find(settings: &Settings, name: &UserName, endpoints: Endpoints) -> Self {
        if let Some(glass) = &settings.break_glass
            && glass.user == name.as_str()
        {
            let near = glass
                .source
                .iter()
                .any(|net| net.contains(&endpoints.source.ip().to_canonical()));
            tracing::error!(
                target: "audit",
                event = "break_glass.asked_for",
                user = %name,
                source_allowed = near,
            );
            return if near {
                Self::for_emergencies(settings, name, endpoints, &glass.authorized_keys)
            } else {
                Self::new(settings, name, endpoints, Err(NoAccount::NotServed), &[])
            };
        }
        let account = account::find(settings, name);
        let by_group = settings.r#match.iter().any(|block| !block.group.is_empty());
        let groups = match &account {
            Ok(account) if by_group => account.group_names(),
            _ => Vec::new(),
        };
        Self::new(settings, name, endpoints, account, &groups)
    }

    /// The account of `break-glass`: a local one, found without name services, which may be root.
    fn for_emergencies(
        settings: &Settings,
        name: &UserName,
        endpoints: Endpoints,
        keys: &Path,
    ) -> Self {
        let (account, groups) = match local_account::find(name) {
            Ok((account, groups)) => (Ok(account), groups),
            Err(error) => (Err(error), Vec::new()),
        };
        let mut candidate = Self::new(settings, name, endpoints, account, &groups);
        let policy = &mut candidate.policy;
        policy.allow_login = true;
        policy.authentication_methods = vec![Way(vec![Method::PublicKey])];
        policy.trusted_user_ca_keys.clear();
        policy.revoked_keys.clear();
        candidate.ways = Ways::new(&policy.authentication_methods);
        candidate.break_glass = Some(keys.to_owned());
        candidate
    }

    fn new(
        settings: &Settings,
        name: &UserName,
        endpoints: Endpoints,
        account: Result<Account, NoAccount>,
        groups: &[String],
    ) -> Self {
        let policy = settings.policy(&Who {
            user: account
                .as_ref()
                .map_or(name, |account| &account.name)
                .as_str(),
            groups,
            source: endpoints.source.ip(),
            destination: Some(endpoints.destination),
        });
        Self {
            name: name.clone(),
            account,
            ways: Ways::new(&policy.authentication_methods),
            policy,
            factors: Vec::new(),
            notices: Vec::new(),
            pam: None,
            must_change: false,
            searched: None,
            break_glass: None,
            passed: Vec::new(),
            keys: Vec::new(),
            restrictions: Restrictions::default(),
        }
    }

    /// The account, if there is one and policy lets it in; else why not.
    pub fn may_log_in(&self) -> Result<&Account, String> {
        match &self.account {
            Ok(_) if !self.policy.allow_login => Err("policy does not let the user in".into()),
            Ok(account) => Ok(account),
            Err(why) => Err(why.to_string()),
        }
    }

    /// The name as the account has it.
    pub fn canonical_name(&self) -> &UserName {
        self.account
            .as_ref()
            .map_or(&self.name, |account| &account.name)
    }

    /// Whether the key was a factor already.
    pub fn has_used(&self, key: &[u8]) -> bool {
        self.keys.iter().any(|used| used == key)
    }

    /// Takes a factor; true if a way is complete.
    ///
    /// # Errors
    /// Why it cannot stand beside the others.
    pub fn pass(&mut self, method: Method, factor: Factor) -> Result<bool, String> {
        let restrictions = self.restrictions.clone().and(factor.restrictions);
        self.restrictions = restrictions.map_err(|e| e.to_string())?;
        self.factors.push(factor.line);
        self.passed.push((method, factor.evidence));
        self.keys.extend(factor.key);
        if factor.pam.is_some() {
            self.pam = factor.pam;
        }
        Ok(self.ways.pass(method))
    }

    /// Everything was good, and then the account was not: nothing counts any more.
    pub fn begin_anew(&mut self) {
        self.ways = Ways::new(&self.policy.authentication_methods);
        self.factors.clear();
        self.notices.clear();
        self.passed.clear();
        self.keys.clear();
        self.restrictions = Restrictions::default();
        self.pam = None;
        self.must_change = false;
    }

    /// What was passed stays; the dialogue in which PAM takes a new password comes on top.
    pub fn only_a_new_password_is_missing(&mut self) {
        self.ways = Ways::new(&[Way(vec![Method::KeyboardInteractive])]);
        self.pam = None;
        self.must_change = true;
    }

    /// The passed methods in their order.
    pub fn methods(&self) -> String {
        let names: Vec<&str> = self
            .passed
            .iter()
            .map(|(method, _)| method.name())
            .collect();
        names.join(",")
    }

    /// What the factors were passed with, several keys joined by commas.
    pub fn evidence(&self) -> Evidence {
        let mut all = Evidence::default();
        let join = |all: &mut Option<String>, one: &Option<String>| {
            if let Some(one) = one {
                *all = Some(match all.take() {
                    Some(before) => format!("{before},{one}"),
                    None => one.clone(),
                });
            }
        };
        for (_, one) in &self.passed {
            join(&mut all.key, &one.key);
            join(&mut all.certificate, &one.certificate);
            join(&mut all.authority, &one.authority);
            all.serial = all.serial.or(one.serial);
            all.found = all.found.or(one.found);
        }
        all
    }

    /// What the login takes along.
    pub fn into_granted(self) -> Granted {
        let mut policy = self.policy;
        policy.restrict(&self.restrictions);
        Granted {
            policy,
            restrictions: self.restrictions,
            factors: self.factors,
            notices: self.notices,
            pam: self.pam,
            break_glass: self.break_glass.is_some(),
        }
    }
}
