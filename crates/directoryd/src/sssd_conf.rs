//! An `sssd.conf` as a configuration of ours, and a list of what has no equal here.
//!
//! Text in, text out: no file is read, no password copied. Meanings and defaults are those of sssd.conf(5),
//! sssd-ldap(5), sssd-ad(5) and sssd-simple(5).

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::config::Schema;

use self::needless::{NEEDLESS, NEEDLESS_NSS, NEEDLESS_PAM, NEEDLESS_SSSD};

mod needless;

/// Where the bind password is expected.
const PASSWORD_FILE: &str = "/etc/directoryd/secret/bind-password";

/// Where the secret for passwords without a server is expected.
const OFFLINE_SECRET: &str = "/etc/directoryd/secret/offline-secret";

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The configuration.
    pub toml: String,
    /// What it lacks, or has otherwise, one line each.
    pub notes: Vec<String>,
}

/// Why nothing could be made of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A line that is neither a section nor `key = value`.
    #[error("line {0} is neither a section nor a setting")]
    Line(usize),
    /// No domain to read from.
    #[error("there is no [domain/...] that is enabled")]
    NoDomain,
    /// A domain of another kind.
    #[error("domain '{0}' has id_provider '{1}': only ldap, ad and ipa are read here")]
    Provider(String, String),
}

type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Translates the text of an `sssd.conf`.
///
/// # Errors
/// [`ImportError`].
pub fn import(text: &str) -> Result<Imported, ImportError> {
    // A byte order mark, as editors of Windows leave it.
    let sections = sections(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let listed = sections
        .get("sssd")
        .and_then(|section| section.get("domains"));
    let enabled: Vec<String> = match listed {
        Some(list) => split(list),
        None => sections
            .iter()
            .filter(|(name, section)| {
                name.starts_with("domain/")
                    && section.get("enabled").is_some_and(|value| is_true(value))
            })
            .map(|(name, _)| name["domain/".len()..].to_owned())
            .collect(),
    };
    let nothing = BTreeMap::new();
    let [pam, nss] = ["pam", "nss"].map(|name| sections.get(name).unwrap_or(&nothing));
    let mut all = All::default();
    for domain in &enabled {
        let settings = sections
            .get(&format!("domain/{domain}"))
            .ok_or(ImportError::NoDomain)?;
        let mut work = Work {
            domain: domain.clone(),
            password_file: match enabled.len() {
                1 => PASSWORD_FILE.to_owned(),
                _ => format!("{PASSWORD_FILE}.{}", domain.to_lowercase()),
            },
            settings,
            nss,
            seen: BTreeSet::new(),
            root: Table::new(),
            ldap: Table::new(),
            access: Table::new(),
            notes: Vec::new(),
        };
        match work.all(pam) {
            Ok(()) => all.domains.push(work),
            // Local accounts are served anyway, for instance.
            Err(error) if enabled.len() > 1 => all.notes.push(format!("{error}: left out")),
            Err(error) => return Err(error),
        }
    }
    for (name, settings) in &sections {
        let known = match name.as_str() {
            "sssd" => NEEDLESS_SSSD,
            "nss" => NEEDLESS_NSS,
            "pam" => NEEDLESS_PAM,
            other => {
                let domain = other.strip_prefix("domain/");
                if domain.is_none_or(|domain| domain.contains('/')) {
                    all.notes.push(format!("[{name}] is left out"));
                }
                continue;
            }
        };
        for (key, value) in settings {
            let ours = (key == "override_space" && value == "_")
                || (key.starts_with("filter_") && split(value).iter().all(|name| name == "root"));
            if !ours && !known.contains(&key.as_str()) {
                let note = format!("[{name}] {key} = {value} is left out");
                all.notes.push(note);
            }
        }
    }
    match all.domains.is_empty() {
        true => Err(ImportError::NoDomain),
        false => Ok(all.finish()),
    }
}

/// All domains, in their order.
#[derive(Default)]
struct All<'a> {
    domains: Vec<Work<'a>>,
    notes: Vec<String>,
}

impl All<'_> {
    fn finish(mut self) -> Imported {
        let several = self.domains.len() > 1;
        let (mut root, mut tables, mut names) = (Table::new(), Table::new(), Vec::new());
        let mut notes = Vec::new();
        if several {
            self.mind_differences();
        }
        let mut access = Table::new();
        for work in self.domains {
            let name = work.domain.to_lowercase();
            for (key, value) in work.root {
                match root.get_mut(&key) {
                    // What one leaves out another may need.
                    Some(Value::Integer(least)) => {
                        let other = value.as_integer().unwrap_or(*least);
                        *least = other.min(*least);
                    }
                    _ => drop(root.insert(key, value)),
                }
            }
            for (key, value) in work.access {
                match (access.get_mut(&key), value) {
                    (Some(Value::Array(list)), Value::Array(more)) => {
                        let more = more.into_iter().filter(|one| !list.contains(one));
                        let more: Vec<Value> = more.collect();
                        list.extend(more);
                    }
                    (_, value) => drop(access.insert(key, value)),
                }
            }
            let place = if several {
                format!("{name}: ")
            } else {
                String::new()
            };
            notes.extend(work.notes.into_iter().map(|note| place.clone() + &note));
            if several {
                let table = Table::from_iter([("ldap".to_owned(), Value::Table(work.ldap))]);
                tables.insert(name.clone(), Value::Table(table));
                names.push(Value::String(name));
            } else {
                root.insert("ldap".into(), Value::Table(work.ldap));
            }
        }
        if several {
            root.insert("domains".into(), Value::Array(names));
            root.insert("domain".into(), Value::Table(tables));
        }
        if !access.is_empty() {
            root.insert("access".into(), Value::Table(access));
        }
        notes.append(&mut self.notes);
        Imported {
            toml: root.to_string(),
            notes,
        }
    }

    /// What sssd has by domain is one for all here. Whoever was let in by having no rule is not, where others
    /// have one.
    fn mind_differences(&mut self) {
        for (theirs, ours, what) in [
            ("min_id", "minimum-id", "the least of them is taken"),
            (
                "cache_credentials",
                "offline-passwords",
                "it counts for all domains",
            ),
        ] {
            let mut values = self.domains.iter().map(|work| work.root.get(ours));
            let first = values.next().flatten();
            if values.any(|other| other != first) {
                self.notes
                    .push(format!("{theirs} is not the same in all domains: {what}"));
            }
        }
        let mut rules = self.domains.iter().map(|work| &work.access);
        let first = rules.next();
        if rules.any(|other| Some(other) != first) {
            self.notes.push(
                "access rules are not the same in all domains: here one list counts for all, so people of a \
                 domain without one have to be named in it"
                    .to_owned(),
            );
        }
    }
}

struct Work<'a> {
    domain: String,
    /// Where its bind password is expected.
    password_file: String,
    settings: &'a BTreeMap<String, String>,
    /// What holds for all domains.
    nss: &'a BTreeMap<String, String>,
    seen: BTreeSet<&'static str>,
    root: Table,
    ldap: Table,
    access: Table,
    notes: Vec<String>,
}

impl Work<'_> {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn take(&mut self, key: &'static str) -> Option<String> {
        self.seen.insert(key);
        let value = self.settings.get(key)?;
        (!value.is_empty()).then(|| value.clone())
    }

    /// A setting of the domain, or of `[nss]` for all of them.
    fn take_of_all(&mut self, key: &'static str) -> Option<String> {
        let of_all = self.nss.get(key).filter(|value| !value.is_empty());
        self.take(key).or_else(|| of_all.cloned())
    }

    fn all(&mut self, pam: &BTreeMap<String, String>) -> Result<(), ImportError> {
        let provider = self.take("id_provider").unwrap_or_default();
        let schema = self.take("ldap_schema").unwrap_or_default().to_lowercase();
        let ours = match (provider.as_str(), schema.as_str()) {
            ("ad", _) | ("ldap", "ad") => Schema::Ad,
            ("ldap", "rfc2307bis") => Schema::Rfc2307bis,
            ("ldap", "ipa") | ("ipa", _) => {
                self.note("an IPA directory is read as rfc2307bis; its host rules (HBAC) and overrides are left out");
                Schema::Rfc2307bis
            }
            ("ldap", "" | "rfc2307") => Schema::Rfc2307,
            _ => return Err(ImportError::Provider(self.domain.clone(), provider)),
        };
        let name = match ours {
            Schema::Rfc2307 => "rfc2307",
            Schema::Rfc2307bis => "rfc2307bis",
            Schema::Ad => "ad",
        };
        self.ldap.insert("schema".into(), name.into());
        self.servers(&provider);
        self.bases(&provider, ours);
        self.binding();
        self.tls(&provider);
        self.ids(ours, &provider);
        self.looks(ours);
        self.differences(ours);
        self.rules(ours, &provider);
        self.offline(pam);
        self.rest();
        Ok(())
    }

    fn servers(&mut self, provider: &str) {
        let mut tiers = [Vec::new(), Vec::new()];
        for (tier, key) in [
            (0, "ldap_uri"),
            (1, "ldap_backup_uri"),
            (0, "ad_server"),
            (1, "ad_backup_server"),
            (0, "ipa_server"),
            (1, "ipa_backup_server"),
        ] {
            for server in self.take(key).map(|list| split(&list)).unwrap_or_default() {
                let uris: &mut Vec<String> = &mut tiers[tier];
                if server == "_srv_" {
                    let named = ["dns_discovery_domain", "ad_domain", "ipa_domain"];
                    let named = named.iter().find_map(|key| self.settings.get(*key));
                    let domain = named.unwrap_or(&self.domain).to_lowercase();
                    self.seen.insert("dns_discovery_domain");
                    // DNS has no _ldaps; ldap:// is with StartTLS here.
                    uris.push(format!("ldap+srv://{domain}"));
                } else if server.contains("://") {
                    uris.push(server);
                } else {
                    uris.push(format!("ldaps://{server}"));
                }
            }
        }
        let [mut uris, backup] = tiers;
        if !backup.is_empty() {
            let backup = backup.into_iter().map(Value::String).collect();
            self.ldap.insert("backup-uris".into(), Value::Array(backup));
        }
        if uris.is_empty() {
            // What sssd does by itself.
            let named = ["dns_discovery_domain", "ad_domain", "ipa_domain"];
            let named = named.iter().find_map(|key| self.settings.get(*key));
            let host = named.unwrap_or(&self.domain).to_lowercase();
            self.note(format!(
                "no server is named: those that DNS has for {host} are asked; their certificates must name them"
            ));
            uris.push(format!("ldap+srv://{host}"));
        }
        if provider != "ldap" {
            self.note("servers are asked over ldaps:// with a bind account, not with Kerberos");
        }
        let uris = uris.into_iter().map(Value::String).collect();
        self.ldap.insert("uris".into(), Value::Array(uris));
    }

    fn bases(&mut self, provider: &str, schema: Schema) {
        let named = match provider {
            "ad" => self.take("ad_domain"),
            "ipa" => self.take("ipa_domain"),
            _ => None,
        };
        let from_name = |name: &str| {
            let parts = name.split('.').map(|part| format!("dc={part}"));
            parts.collect::<Vec<_>>().join(",")
        };
        let (base, for_all) = self.base("ldap_search_base").unwrap_or_else(|| {
            let suffix = from_name(&named.unwrap_or_else(|| self.domain.clone()).to_lowercase());
            // The rest of an IPA directory has everybody a second time (cn=compat).
            let place = if provider == "ipa" {
                "cn=accounts,"
            } else {
                ""
            };
            (format!("{place}{suffix}"), None)
        });
        self.ldap.insert("base".into(), base.into());
        for (theirs, ours, class, filter, preset) in [
            (
                "ldap_user_search_base",
                "user-base",
                "ldap_user_object_class",
                "user-filter",
                schema.users(),
            ),
            (
                "ldap_group_search_base",
                "group-base",
                "ldap_group_object_class",
                "group-filter",
                schema.groups(),
            ),
        ] {
            let mut narrow = for_all.clone();
            if let Some((base, own)) = self.base(theirs) {
                self.ldap.insert(ours.into(), base.into());
                narrow = own;
            }
            // In Active Directory machines are users too, and lists of mail addresses groups: the preset knows.
            let class = self.take(class).filter(|_| schema != Schema::Ad);
            let class = class.map(|class| format!("(objectClass={class})"));
            let whole = match narrow {
                Some(narrow) => format!("(&{}{narrow})", class.as_deref().unwrap_or(preset)),
                None => match class {
                    Some(class) if class != preset => class,
                    _ => continue,
                },
            };
            self.ldap.insert(filter.into(), whole.into());
        }
    }

    /// `base[?scope?[filter]]`, several in a row; a filter says who is a user at all, so it is kept.
    fn base(&mut self, key: &'static str) -> Option<(String, Option<String>)> {
        let value = self.take(key)?;
        let mut parts = value.split('?').map(str::trim);
        let base = parts.next()?.to_owned();
        let scope = parts.next().unwrap_or_default();
        let filter = parts.next().filter(|filter| !filter.is_empty());
        let is_whole = scope.is_empty() || scope.to_lowercase().starts_with("sub");
        if !is_whole || parts.next().is_some() {
            self.note(format!(
                "{key}: all below '{base}' is read; scope and further bases are left out"
            ));
        }
        let filter = filter.map(|filter| match filter.starts_with('(') {
            true => filter.to_owned(),
            false => format!("({filter})"),
        });
        Some((base, filter))
    }

    fn binding(&mut self) {
        let own = ["ldap_tls_cert", "ldap_tls_key"].map(|key| self.settings.contains_key(key));
        if own == [true; 2] && !self.settings.contains_key("ldap_default_bind_dn") {
            self.note(
                "no bind account is named: the client certificate says who we are (SASL EXTERNAL)",
            );
            return;
        }
        let dn = self.take("ldap_default_bind_dn").unwrap_or_else(|| {
            self.note("no bind account is named: bind-dn is to be filled in");
            let base = self
                .ldap
                .get("base")
                .and_then(Value::as_str)
                .unwrap_or_default();
            format!("cn=directoryd,{base}")
        });
        self.ldap.insert("bind-dn".into(), dn.into());
        self.ldap.insert(
            "bind-password-file".into(),
            self.password_file.clone().into(),
        );
        if self.take("ldap_default_authtok").is_some() {
            self.note(format!(
                "ldap_default_authtok is not copied: put the password in '{}', mode 0640",
                self.password_file
            ));
        }
        if self
            .take("ldap_default_authtok_type")
            .is_some_and(|kind| kind != "password")
        {
            self.note(
                "ldap_default_authtok_type: an obfuscated password has to be written in the clear",
            );
        }
    }

    fn tls(&mut self, provider: &str) {
        let start = self
            .take("ldap_id_use_start_tls")
            .map(|value| is_true(&value));
        let plain = self
            .ldap
            .get("uris")
            .and_then(Value::as_array)
            .is_some_and(|uris| {
                uris.iter()
                    .any(|uri| uri.as_str().is_some_and(|uri| uri.starts_with("ldap://")))
            });
        if provider == "ldap" && plain && start != Some(true) {
            self.note("ldap:// without StartTLS becomes ldap:// with StartTLS: no password is sent in the clear");
        }
        if let Some(file) = self.take("ldap_tls_cacert") {
            self.ldap.insert("ca-file".into(), file.into());
        }
        if let Some(check) = self.take("ldap_tls_reqcert")
            && !matches!(check.as_str(), "hard" | "demand")
        {
            self.note(format!(
                "ldap_tls_reqcert = {check}: certificates are always checked here"
            ));
        }
        for (theirs, ours) in [
            ("ldap_tls_cert", "client-certificate"),
            ("ldap_tls_key", "client-key"),
        ] {
            if let Some(file) = self.take(theirs) {
                self.ldap.insert(ours.into(), file.into());
            }
        }
    }

    fn ids(&mut self, schema: Schema, provider: &str) {
        let mapping = self.take("ldap_id_mapping").map(|value| is_true(&value));
        let default = provider == "ad";
        if schema == Schema::Ad {
            let mapping = mapping.unwrap_or(default);
            self.ldap.insert("id-mapping".into(), mapping.into());
        } else if mapping == Some(true) {
            self.note("ldap_id_mapping: only Active Directory has ids from SIDs");
        }
        let mut map = Table::new();
        for (theirs, ours) in [
            ("ldap_idmap_range_min", "min"),
            ("ldap_idmap_range_max", "max"),
            ("ldap_idmap_range_size", "size"),
        ] {
            if let Some(number) = self.number(theirs) {
                map.insert(ours.into(), number.into());
            }
        }
        if let Some(sid) = self.take("ldap_idmap_default_domain_sid") {
            map.insert("default-domain-sid".into(), sid.into());
        }
        if !map.is_empty() && schema == Schema::Ad {
            self.ldap.insert("id-map".into(), Value::Table(map));
        }
        if self
            .take("ldap_idmap_autorid_compat")
            .is_some_and(|value| is_true(&value))
        {
            self.note("ldap_idmap_autorid_compat: ids would differ; set id-map.default-domain-sid for the first domain");
        }
        if let Some(number) = self.number("min_id") {
            self.root.insert("minimum-id".into(), number.max(1).into());
        }
    }

    fn looks(&mut self, schema: Schema) {
        let mut attributes = Table::new();
        for (theirs, ours) in [
            ("ldap_user_name", "user-name"),
            ("ldap_user_uid_number", "uid"),
            ("ldap_user_gid_number", "gid"),
            ("ldap_user_gecos", "full-name"),
            ("ldap_user_home_directory", "home"),
            ("ldap_user_shell", "shell"),
            ("ldap_user_ssh_public_key", "ssh-key"),
            ("ldap_group_name", "group-name"),
            ("ldap_group_gid_number", "group-gid"),
            ("ldap_group_member", "member"),
        ] {
            if let Some(name) = self.take(theirs) {
                attributes.insert(ours.into(), name.into());
            }
        }
        if !attributes.is_empty() {
            self.ldap
                .insert("attributes".into(), Value::Table(attributes));
        }
        for key in ["fallback_homedir", "override_homedir"] {
            let Some(home) = self.take_of_all(key) else {
                continue;
            };
            let domain = self.settings.get("ad_domain").unwrap_or(&self.domain);
            let home = home.replace("%f", "%u@%d").replace("%d", domain);
            if schema == Schema::Ad && home.matches('%').count() == home.matches("%u").count() {
                self.ldap.insert("home-template".into(), home.into());
            } else {
                self.note(format!("{key} = {home}: homes come from the entries (in ad, from home-template with %u)"));
            }
        }
        for key in ["default_shell", "override_shell"] {
            let Some(shell) = self.take_of_all(key) else {
                continue;
            };
            if schema == Schema::Ad && key == "default_shell" {
                self.ldap.insert("default-shell".into(), shell.into());
            } else {
                self.note(format!("{key} = {shell}: shells come from the entries"));
            }
        }
    }

    /// What is another way here, whatever it is set to.
    fn differences(&mut self, schema: Schema) {
        let provider = self.take("auth_provider");
        if let Some(provider @ ("krb5" | "proxy" | "none")) = provider.as_deref() {
            self.note(format!(
                "auth_provider = {provider}: passwords are tried at the directory here, by a bind"
            ));
        }
        let is = |value: Option<String>, wanted| {
            value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
        };
        if is(self.take("use_fully_qualified_names"), "true") {
            self.note("use_fully_qualified_names: names have no domain here, alice is alice");
        }
        if is(self.take("case_sensitive"), "false") && schema != Schema::Ad {
            self.note("case_sensitive = false: names are taken as they are written, users with capitals are refused");
        }
        if let Some(policy) = self
            .take("ldap_pwd_policy")
            .filter(|policy| policy != "none")
        {
            self.note(format!(
                "ldap_pwd_policy = {policy}: the age of passwords is the directory's to judge"
            ));
        }
        for key in ["sudo_provider", "autofs_provider"] {
            if let Some(provider) = self.take(key).filter(|provider| provider != "none") {
                self.note(format!("{key} = {provider} is left out"));
            }
        }
    }

    /// The names of a rule as they are here. sssd takes them with their domain and, in Active Directory, in any case.
    fn named(&mut self, key: &str, list: &str, schema: Schema) -> Vec<Value> {
        let own = [Some(&self.domain), self.settings.get("ad_domain")];
        let own: Vec<String> = own
            .into_iter()
            .flatten()
            .map(|name| name.to_lowercase())
            .collect();
        let mut names = Vec::new();
        for name in split(list) {
            let (short, domain) = match name.split_once('@') {
                Some((short, domain)) => (short, domain.to_lowercase()),
                None => (name.as_str(), String::new()),
            };
            if !domain.is_empty() && !own.contains(&domain) || short.contains('\\') {
                self.note(format!(
                    "{key}: '{name}' is of another domain; write its short name"
                ));
            }
            if schema != Schema::Ad && short.contains(' ') {
                self.note(format!(
                    "{key}: '{name}' has a space, and such a group is refused here"
                ));
            }
            names.push(Value::String(match schema {
                Schema::Ad => short.to_lowercase().replace(' ', "_"),
                Schema::Rfc2307 | Schema::Rfc2307bis => short.to_owned(),
            }));
        }
        names
    }

    /// Passwords while no server can be asked. Unlimited tries and days have no equal here.
    fn offline(&mut self, pam: &BTreeMap<String, String>) {
        if !self
            .take("cache_credentials")
            .is_some_and(|value| is_true(&value))
        {
            return;
        }
        let mut offline = Table::new();
        offline.insert("secret-file".into(), OFFLINE_SECRET.into());
        self.note(format!(
            "cache_credentials: put 32 random bytes in '{OFFLINE_SECRET}', mode 0640 (head -c 32 /dev/urandom)"
        ));
        for (theirs, ours, unit, most) in [
            ("offline_credentials_expiration", "valid-for", "d", 90),
            ("offline_failed_login_attempts", "tries", "", u32::MAX),
            ("offline_failed_login_delay", "tries-window", "m", 90 * 1440),
        ] {
            let number = pam.get(theirs).map(|text| text.trim().parse::<u32>());
            let value = match number {
                None => continue,
                Some(Ok(number)) if (1..=most).contains(&number) => number,
                Some(_) => {
                    self.note(format!(
                        "{theirs} = {} has no equal: the default of offline-passwords.{ours} is taken",
                        pam[theirs]
                    ));
                    continue;
                }
            };
            let value = match unit {
                "" => Value::Integer(value.into()),
                unit => Value::String(format!("{value}{unit}")),
            };
            offline.insert(ours.into(), value);
        }
        self.root
            .insert("offline-passwords".into(), Value::Table(offline));
    }

    fn rules(&mut self, schema: Schema, id_provider: &str) {
        let provider = self
            .take("access_provider")
            .unwrap_or_else(|| "permit".to_owned());
        let simple = [
            ("simple_allow_users", "allow-users"),
            ("simple_allow_groups", "allow-groups"),
            ("simple_deny_users", "deny-users"),
            ("simple_deny_groups", "deny-groups"),
        ];
        let ad = provider == "ad";
        for (theirs, ours) in simple {
            let list = self.take(theirs).unwrap_or_default();
            if provider == "simple" && !list.is_empty() {
                let names = self.named(theirs, &list, schema);
                self.access.insert(ours.into(), Value::Array(names));
            }
        }
        let gpo = self.take("ad_gpo_access_control");
        if ad && id_provider == "ad" && gpo.is_none_or(|gpo| gpo != "disabled") {
            self.note("group policies (ad_gpo_access_control) are not read: who they keep out belongs in [access]");
        }
        let order = self.take("ldap_access_order").map(|list| split(&list));
        let filter = self
            .take("ldap_access_filter")
            .or(self.take("ad_access_filter"));
        match provider.as_str() {
            "permit" | "simple" => {}
            "deny" => {
                self.access
                    .insert("allow-users".into(), Value::Array(vec!["_".into()]));
                self.note("access_provider = deny: only a user '_' is let in, whom nobody is");
            }
            "ldap" => {
                for rule in order.unwrap_or_else(|| vec!["filter".to_owned()]) {
                    match rule.as_str() {
                        "host" => {
                            self.access.insert("host".into(), "login".into());
                            self.note("ldap_access_order host: access.host is a name for all pods; 'login' is a guess");
                        }
                        "authorized_service" => {
                            self.access.insert("service".into(), "sshd".into());
                        }
                        "expire" | "lockout" | "ppolicy" => {}
                        "filter" if filter.is_some() => self.closed("ldap_access_filter"),
                        "filter" => self.closed("access_provider = ldap without a filter"),
                        other => self.note(format!("ldap_access_order: '{other}' is left out")),
                    }
                }
            }
            _ if ad && filter.is_none() => {}
            _ if ad => self.closed("ad_access_filter"),
            other => self.closed(&format!("access_provider = {other}")),
        }
    }

    /// A rule that cannot be carried over must not open the door.
    fn closed(&mut self, what: &str) {
        self.access
            .entry("allow-groups")
            .or_insert_with(|| Value::Array(vec!["to-be-named".into()]));
        self.note(format!(
            "{what} has no equal: nobody is let in until access.allow-groups names a real group"
        ));
    }

    fn number(&mut self, key: &'static str) -> Option<i64> {
        let text = self.take(key)?;
        match text.trim().parse::<u32>() {
            Ok(number) => Some(number.into()),
            Err(_) => {
                self.note(format!("{key} = {text} is not a number"));
                None
            }
        }
    }

    fn rest(&mut self) {
        let unknown: Vec<String> = self
            .settings
            .iter()
            .filter(|(key, _)| {
                !self.seen.contains(key.as_str())
                    && !NEEDLESS.contains(&key.as_str())
                    && !key.starts_with("krb5_")
                    && !key.starts_with("dyndns_")
            })
            .map(|(key, value)| format!("{key} = {value} is left out"))
            .collect();
        self.notes.extend(unknown);
    }
}

fn sections(text: &str) -> Result<Sections, ImportError> {
    let mut sections = Sections::new();
    let mut section = String::new();
    let mut last: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        // A line that is indented goes on with the value above (ini_config).
        if line.starts_with([' ', '\t'])
            && let Some(key) = &last
            && let Some(value) = sections.get_mut(&section).and_then(|s| s.get_mut(key))
        {
            value.push(' ');
            value.push_str(content);
            continue;
        }
        if let Some(name) = content
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name.trim().to_owned();
            sections.entry(section.clone()).or_default();
            last = None;
            continue;
        }
        let (key, value) = content
            .split_once('=')
            .ok_or(ImportError::Line(index + 1))?;
        let key = key.trim().to_lowercase();
        last = Some(key.clone());
        let values = sections.entry(section.clone()).or_default();
        values.insert(key, value.trim().to_owned());
    }
    Ok(sections)
}

fn split(list: &str) -> Vec<String> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod usual;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(text: &str) -> (Config, String) {
        let imported = import(text).unwrap();
        let config =
            service::config::parse(std::path::Path::new("x"), imported.toml.as_bytes()).unwrap();
        (config, imported.notes.join("\n"))
    }

    #[test]
    fn a_usual_ldap_domain() {
        let (config, notes) = read(
            "[sssd]\nservices = nss, pam\ndomains = example.org\n[pam]\noffline_credentials_expiration = 2\n\
             offline_failed_login_attempts = 0\noffline_failed_login_delay = 10\n\n[domain/example.org]\n# a comment\n\
             id_provider = ldap\nldap_schema = rfc2307bis\nldap_uri = ldap://a.example.org,\n  ldap://b.example.org\n\
             ldap_backup_uri = ldaps://c\nldap_search_base = dc=example,dc=org\n\
             ldap_user_search_base = ou=people,dc=example,dc=org?onelevel?(x=y)\n\
             ldap_default_bind_dn = cn=reader,dc=example,dc=org\nldap_default_authtok = secret\n\
             ldap_id_use_start_tls = True\nldap_tls_cacert = /etc/ca.pem\nldap_tls_reqcert = never\n\
             cache_credentials = True\nmin_id = 500\nldap_group_member = uniqueMember\n\
             access_provider = simple\nsimple_allow_groups = HPC Users, admins\nldap_user_name = mail\n\
             ldap_user_object_class = person\n",
        );
        let ldap = config.ldap.as_ref().unwrap();
        assert_eq!(ldap.uris, ["ldap://a.example.org", "ldap://b.example.org"]);
        assert_eq!(ldap.backup_uris, ["ldaps://c"]);
        assert_eq!(ldap.schema, Schema::Rfc2307bis);
        assert_eq!(ldap.user_base(), "ou=people,dc=example,dc=org");
        assert_eq!(ldap.bind_dn.as_deref(), Some("cn=reader,dc=example,dc=org"));
        assert_eq!(ldap.attributes.member.as_deref(), Some("uniqueMember"));
        assert_eq!(ldap.attributes.user_name.as_deref(), Some("mail"));
        let filter = Some("(&(objectClass=person)(x=y))");
        assert_eq!(ldap.user_filter.as_deref(), filter);
        assert!(ldap.start_tls && ldap.ca_file.is_some());
        assert_eq!(config.minimum_id, 500);
        let offline = config.offline_passwords.as_ref().unwrap();
        assert_eq!(offline.valid_for.as_secs(), 2 * 86_400);
        assert_eq!((offline.tries, offline.tries_window.as_secs()), (3, 600));
        assert_eq!(config.access.allow_groups, ["HPC Users", "admins"]);
        for part in [
            "authtok",
            "reqcert",
            "cache_credentials",
            "offline_failed_login_attempts = 0",
            "ldap_user_search_base",
        ] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
        assert!(
            !notes.contains("secret\n") && !notes.contains("= secret"),
            "{notes}"
        );
    }

    #[test]
    fn an_active_directory() {
        let (config, notes) = read(
            "[sssd]\ndomains = corp.example.com\n[domain/corp.example.com]\nid_provider = ad\n\
             ad_server = dc1.corp.example.com, _srv_\nldap_idmap_range_min = 100000\n\
             fallback_homedir = /shared/%u\ndefault_shell = /bin/zsh\nad_access_filter = (memberOf=cn=x)\n\
             access_provider = ad\n",
        );
        let ldap = config.ldap.as_ref().unwrap();
        assert_eq!(ldap.schema, Schema::Ad);
        let expected = [
            "ldaps://dc1.corp.example.com",
            "ldap+srv://corp.example.com",
        ];
        assert_eq!(ldap.uris, expected);
        assert_eq!(ldap.base, "dc=corp,dc=example,dc=com");
        assert!(ldap.id_mapping);
        assert_eq!(ldap.id_map.min, 100_000);
        assert_eq!(ldap.home_template, "/shared/%u");
        assert_eq!(ldap.default_shell, "/bin/zsh");
        // What cannot be carried over does not open the door.
        assert_eq!(config.access.allow_groups, ["to-be-named"]);
        assert!(notes.contains("ad_access_filter"), "{notes}");
    }

    #[test]
    fn several_domains_in_their_order() {
        let domain = |name: &str, more: &str| {
            format!("[domain/{name}]\nid_provider = ldap\nldap_uri = ldaps://{name}\n{more}\n")
        };
        let text =
            "[sssd]\ndomains = files, B.example, a.example\n[domain/files]\nid_provider = files\n"
                .to_owned()
                + &domain(
                    "a.example",
                    "min_id = 5000\naccess_provider = simple\nsimple_allow_groups = staff\n",
                )
                + &domain(
                    "B.example",
                    "min_id = 500\ncache_credentials = true\nldap_default_authtok = x\n\
                 access_provider = simple\nsimple_allow_groups = hpc\n",
                );
        let (config, notes) = read(&text);
        assert_eq!(config.domains, ["b.example", "a.example"]);
        let domains = config.sources().unwrap();
        let crate::config::Source::Ldap(first) = &domains[0].source else {
            panic!("{:?}", domains[0]);
        };
        assert_eq!(first.uris, ["ldaps://B.example"]);
        assert_eq!(first.base, "dc=b,dc=example");
        let file = first.bind_password_file.as_ref().unwrap();
        assert!(file.ends_with("bind-password.b.example"), "{file:?}");
        assert_eq!(config.minimum_id, 500);
        assert_eq!(config.access.allow_groups, ["hpc", "staff"]);
        assert!(config.offline_passwords.is_some());
        for part in [
            "domain 'files' has id_provider 'files'",
            "b.example: ldap_default_authtok",
            "min_id is not the same",
            "access rules are not the same",
            "cache_credentials is not the same",
        ] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_so() {
        let check = |text: &str, expected: ImportError| assert_eq!(import(text), Err(expected));
        check("", ImportError::NoDomain);
        check("[sssd]\ndomains = x\n", ImportError::NoDomain);
        check("rubbish\n", ImportError::Line(1));
        check(
            "[sssd]\ndomains = x\n[domain/x]\nid_provider = proxy\n",
            ImportError::Provider("x".into(), "proxy".into()),
        );
    }
}
