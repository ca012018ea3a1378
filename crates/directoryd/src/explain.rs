//! "Why can this user not log in": everything that is known and decided about a name, in the order in
//! which it decides. Texts for people.

use std::time::SystemTime;

use directory_client::{AccountState, Explanation, Finding, Lookup};

use crate::{
    access,
    authenticate::Passwords,
    core::{Core, SourceFacts},
    view,
};

/// Explains `name`; `fresh` if the directory server has just been asked.
pub fn explain(core: &Core, passwords: &Passwords, name: &str, fresh: bool) -> Explanation {
    let facts = core.facts(name);
    let mut out = Explanation::default();
    let mut say = |what: &str, good: bool, detail: String| {
        out.findings.push(Finding {
            what: what.to_owned(),
            good,
            detail,
        });
    };
    for source in &facts.sources {
        server(source, fresh, &mut say);
    }
    if facts.local {
        say(
            "entry",
            true,
            "a local account: the directory has no say in it".to_owned(),
        );
        out.verdict = format!("'{name}' is a local account; /etc/passwd and PAM decide");
        out.may = true;
        return out;
    }
    let found = core.account(name, fresh);
    let is_known = matches!(found, Lookup::Found(_) | Lookup::NotFound);
    let Lookup::Found(account) = found else {
        for reason in &facts.refused {
            say("entry", false, format!("refused: {reason}"));
        }
        out.verdict = if !facts.refused.is_empty() {
            format!("'{name}' is in the directory and refused here")
        } else if is_known {
            say("entry", false, "no entry of that name".to_owned());
            format!("'{name}' is no user of this directory")
        } else {
            say(
                "entry",
                false,
                match facts.on_demand {
                    true => "not known: the directory could not be asked".to_owned(),
                    false => "not known: the directory was never read".to_owned(),
                },
            );
            format!("it is not known whether '{name}' exists")
        };
        return out;
    };
    let Some((_, user)) = &facts.entry else {
        return out;
    };
    say(
        "entry",
        true,
        match &facts.sources[..] {
            [source] if !source.domain.is_empty() => format!(
                "'{}' of domain '{}', uid {}, gid {}",
                user.dn, source.domain, user.uid, user.gid
            ),
            _ => format!("'{}', uid {}, gid {}", user.dn, user.uid, user.gid),
        },
    );
    let names: Vec<&str> = account
        .groups
        .iter()
        .map(|(_, name)| name.as_str())
        .filter(|name| !name.is_empty())
        .collect();
    say("groups", true, names.join(" "));
    let shell = if user.shell.is_empty() {
        view::NO_SHELL
    } else {
        &user.shell
    };
    let (state, why) = user.marks.judged(shell, SystemTime::now(), facts.lockout);
    say("account", state == AccountState::Active, why.to_owned());
    let judgement = access::judge(&core.config.access, user, &names);
    say("rule", judgement.may, judgement.why.clone());
    for unknown in core.unknown_groups() {
        say(
            "rule",
            true,
            format!("[access] names group '{unknown}', which does not exist"),
        );
    }
    let refused = match user.refused_keys {
        0 => String::new(),
        count => format!(", {count} refused (options, weak, or no key)"),
    };
    say("keys", true, format!("{} usable{refused}", user.keys.len()));
    let (failures, most, left) = passwords.failures(name);
    let open = failures < most;
    say(
        "password",
        true,
        match open {
            true => format!("{failures} of {most} failures count"),
            false => format!(
                "not tried for {} s more: {failures} failures; keys are not concerned",
                left.as_secs()
            ),
        },
    );
    if let Some(kept) = passwords.offline() {
        say("offline", true, kept.about(name));
    }
    out.may = account.state == AccountState::Active;
    out.verdict = match account.state {
        AccountState::Active if open => format!("'{name}' may log in"),
        AccountState::Active => format!("'{name}' may log in, for now not with a password"),
        AccountState::Denied => format!("'{name}' may not log in here: {}", judgement.why),
        _ => format!("'{name}' may not log in: {why}"),
    };
    out
}

fn server(source: &SourceFacts, fresh: bool, say: &mut impl FnMut(&str, bool, String)) {
    let age = SystemTime::now()
        .duration_since(source.confirmed)
        .unwrap_or_default()
        .as_secs();
    let (uri, complete) = (&source.condition.server, source.complete);
    let of = match source.domain.as_str() {
        "" => String::new(),
        name => format!("{name}: "),
    };
    let detail = match (uri.is_empty(), fresh) {
        (false, true) => format!("'{uri}' was asked just now"),
        (false, false) if complete => format!("'{uri}' is connected; the copy is {age} s old"),
        (true, _) if complete => format!("none is connected; the copy is {age} s old"),
        (false, false) if source.partial => {
            format!("'{uri}' is connected, and asked for each; it does not list all")
        }
        (true, _) if source.partial => "none is connected that could be asked".to_owned(),
        (false, false) => format!("'{uri}' is connected; there is no copy yet"),
        (true, _) => "none is connected, and there is no copy".to_owned(),
    };
    say("server", true, of.clone() + &detail);
    if !source.condition.problem.is_empty() {
        say("server", true, of + &source.condition.problem);
    }
}
