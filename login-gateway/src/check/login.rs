//! `check --user`: what one login would get, and where each value comes from; `sshd -T -C` of ours.

use std::ffi::CString;
use std::fmt::Write as _;
use std::path::Path;

use gateway_wire::Settings;
use gateway_wire::policy::Who;
use nix::unistd::{Group, User, getgrouplist};
use service::{Exit, Failure};
use toml::{Table, Value};

use super::scopes::CRITERIA;
use crate::arguments::Check;
use crate::config;
use crate::pages::print;

/// Prints the policy of the login that `options` describe.
pub fn run(path: &Path, name: &str, options: &Check) -> Result<(), Failure> {
    let settings = config::load_naming_all(path).map_err(|problems| {
        let text: Vec<String> = problems.iter().map(|p| service::exit::chain(p)).collect();
        Failure::new(Exit::Config, text.join("\n"))
    })?;
    let groups = if options.group.is_empty() {
        groups_of(name)
    } else {
        options.group.clone()
    };
    let who = Who {
        user: name,
        groups: &groups,
        source: options.source,
        destination: options.destination,
    };
    print(text(&settings, &who)?.as_bytes())
}

/// As a configuration file whose comments say which block a value comes from.
fn text(settings: &Settings, who: &Who<'_>) -> Result<String, Failure> {
    let mut text = format!("# {} from {}", who.user, who.source);
    if !who.groups.is_empty() {
        let _ = write!(text, ", of {}", who.groups.join(", "));
    }
    text.push('\n');
    let fitting = settings.fitting(who);
    let blocks: Vec<(usize, Table)> = fitting
        .into_iter()
        .filter_map(|at| Some((at, Table::try_from(settings.r#match.get(at)?).ok()?)))
        .collect();
    for (key, value) in Table::try_from(settings.policy(who))? {
        let from = blocks.iter().find(|(_, keys)| keys.contains_key(&key));
        let _ = match from {
            Some((at, _)) => writeln!(text, "{key} = {value} # match block {}", at + 1),
            None => writeln!(text, "{key} = {value}"),
        };
    }
    Ok(text)
}

/// Names of the groups that the system knows the user in.
fn groups_of(name: &str) -> Vec<String> {
    let user = User::from_name(name).ok().flatten();
    let Some((user, text)) = user.zip(CString::new(name).ok()) else {
        return Vec::new();
    };
    let groups = getgrouplist(&text, user.gid).unwrap_or_default();
    let named = groups
        .into_iter()
        .filter_map(|gid| Group::from_gid(gid).ok().flatten());
    named.map(|group| group.name).collect()
}

/// The whole configuration without the criteria that a block does not have.
pub fn effective(settings: &Settings) -> Result<String, toml::ser::Error> {
    let mut all = Table::try_from(settings.completed())?;
    if let Some(Value::Array(blocks)) = all.get_mut("match") {
        for block in blocks.iter_mut().filter_map(Value::as_table_mut) {
            block.retain(|key, value| {
                !CRITERIA.contains(&key) || value.as_array().is_none_or(|list| !list.is_empty())
            });
        }
        if blocks.is_empty() {
            all.remove("match");
        }
    }
    toml::to_string(&all)
}
