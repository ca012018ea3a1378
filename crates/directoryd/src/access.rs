//! Who of the directory may log in here: by name, group, host and service. The same for every method.
//!
//! Denials count before permissions. Whether the account itself is locked is [`crate::marks`]' matter.

use crate::{config::Access, replica::User};

/// What the rules say, with the rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// True if nothing stands against the user.
    pub may: bool,
    /// Which rule, in words.
    pub why: String,
}

/// Judges a user who is in `groups`.
pub fn judge(access: &Access, user: &User, groups: &[&str]) -> Judgement {
    let denied = |why| Judgement { may: false, why };
    if access.deny_users.contains(&user.name) {
        return denied("deny-users names the user".to_owned());
    }
    let of = |list: &[String]| {
        list.iter()
            .find(|name| groups.contains(&name.as_str()))
            .cloned()
    };
    if let Some(group) = of(&access.deny_groups) {
        return denied(format!("deny-groups names '{group}'"));
    }
    for (key, attribute, wanted, values) in [
        ("host", "host", &access.host, &user.hosts),
        (
            "service",
            "authorizedService",
            &access.service,
            &user.services,
        ),
    ] {
        if let Some(wanted) = wanted
            && let Err(why) = listed(wanted, values)
        {
            return denied(format!(
                "{key} is '{wanted}' and the entry's {attribute} {why}"
            ));
        }
    }
    if access.allow_users.is_empty() && access.allow_groups.is_empty() {
        return Judgement {
            may: true,
            why: "no rule stands against the user".to_owned(),
        };
    }
    if access.allow_users.contains(&user.name) {
        return Judgement {
            may: true,
            why: "allow-users names the user".to_owned(),
        };
    }
    match of(&access.allow_groups) {
        Some(group) => Judgement {
            may: true,
            why: format!("allow-groups names '{group}'"),
        },
        None => denied("the user is in no group of allow-groups and not in allow-users".to_owned()),
    }
}

/// Whether values such as `login1`, `*` and `!login2` let `wanted` in.
fn listed(wanted: &str, values: &[String]) -> Result<(), &'static str> {
    let is = |value: &str| value.eq_ignore_ascii_case(wanted);
    if values
        .iter()
        .filter_map(|value| value.strip_prefix('!'))
        .any(|value| is(value) || value == "*")
    {
        return Err("denies it");
    }
    if values.iter().any(|value| value == "*" || is(value)) {
        Ok(())
    } else {
        Err("does not name it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(hosts: &[&str], services: &[&str]) -> User {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        User {
            name: "bob".into(),
            hosts: owned(hosts),
            services: owned(services),
            ..User::default()
        }
    }

    #[test]
    fn rules() {
        let list = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let check = |allow: &str, deny: &str, groups: &[&str], may: bool| {
            let access = Access {
                allow_groups: list(allow),
                deny_groups: list(deny),
                ..Access::default()
            };
            let judgement = judge(&access, &user(&[], &[]), groups);
            assert_eq!(
                judgement.may, may,
                "{allow:?} {deny:?} {groups:?} {judgement:?}"
            );
        };
        check("", "", &[], true);
        check("a b", "", &["b"], true);
        check("a b", "", &["c"], false);
        check("a", "c", &["a", "c"], false);
        check("", "c", &["a"], true);
        let by_name = |allow: &str, deny: &str| Access {
            allow_users: list(allow),
            deny_users: list(deny),
            ..Access::default()
        };
        assert!(judge(&by_name("bob", ""), &user(&[], &[]), &[]).may);
        assert!(!judge(&by_name("carol", ""), &user(&[], &[]), &[]).may);
        assert!(!judge(&by_name("bob", "bob"), &user(&[], &[]), &[]).may);
    }

    #[test]
    fn hosts_and_services() {
        let access = Access {
            host: Some("pool".into()),
            service: Some("sshd".into()),
            ..Access::default()
        };
        let check = |hosts: &[&str], services: &[&str], may: bool| {
            let judgement = judge(&access, &user(hosts, services), &[]);
            assert_eq!(judgement.may, may, "{hosts:?} {services:?} {judgement:?}");
        };
        check(&["POOL"], &["sshd"], true);
        check(&["*"], &["*"], true);
        check(&[], &["sshd"], false);
        check(&["pool"], &[], false);
        check(&["other"], &["sshd"], false);
        check(&["*", "!pool"], &["sshd"], false);
        check(&["pool", "!*"], &["sshd"], false);
    }
}
