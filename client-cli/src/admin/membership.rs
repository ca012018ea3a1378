//! Who is in a group by entry: the steps by which users join and leave, and the commands for that.
//! Primary groups are a number of the user's entry and do not live here.

use serde_json::json;

use crate::account::{Group, User};
use crate::error::AdminError;
use crate::group::primary_users;
use crate::plan::{Change, Kind, Step};
use crate::session::{OnFailure, Outcome, Session};
use crate::settings::{Schema, Settings};

/// A user's name and DN.
pub type Member<'a> = (&'a str, &'a str);

/// A `groupOfNames` must have a member; an empty one has this, who is no user.
pub fn placeholder(settings: &Settings) -> &str {
    &settings.bind_dn
}

/// The `member` DNs without the placeholder.
pub fn real_members<'a>(settings: &'a Settings, group: &'a Group) -> impl Iterator<Item = &'a str> {
    let is_real = |dn: &&str| !dn.eq_ignore_ascii_case(placeholder(settings));
    group.member_dns.iter().map(String::as_str).filter(is_real)
}

/// The step by which users join a group that they are not in.
pub fn joining(settings: &Settings, group: &Group, users: &[Member<'_>]) -> Step {
    let names: Vec<&str> = users.iter().map(|(name, _)| *name).collect();
    let dns: Vec<&str> = users.iter().map(|(_, dn)| *dn).collect();
    let mut changes = Vec::new();
    match settings.schema {
        Schema::Rfc2307 => changes.push(Change::new(Kind::Add, "memberUid", &names)),
        Schema::Rfc2307bis => {
            changes.push(Change::new(Kind::Add, "member", &dns));
            if group.needs_member && real_members(settings, group).count() < group.member_dns.len()
            {
                changes.push(Change::new(
                    Kind::Delete,
                    "member",
                    &[placeholder(settings)],
                ));
            }
        }
    }
    Step::Modify {
        dn: group.dn.clone(),
        changes,
    }
}

/// The step by which members leave a group; none where nobody of them is in it by entry.
pub fn leaving(settings: &Settings, group: &Group, users: &[Member<'_>]) -> Option<Step> {
    let names: Vec<&str> = users
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| group.member_uids.iter().any(|have| have == name))
        .collect();
    let dns: Vec<&str> = users
        .iter()
        .filter_map(|(_, dn)| {
            group
                .member_dns
                .iter()
                .find(|have| have.eq_ignore_ascii_case(dn))
        })
        .map(String::as_str)
        .collect();
    let mut changes = Vec::new();
    if !names.is_empty() {
        changes.push(Change::new(Kind::Delete, "memberUid", &names));
    }
    if !dns.is_empty() {
        if group.needs_member && dns.len() == group.member_dns.len() {
            changes.push(Change::new(Kind::Add, "member", &[placeholder(settings)]));
        }
        changes.push(Change::new(Kind::Delete, "member", &dns));
    }
    (!changes.is_empty()).then(|| Step::Modify {
        dn: group.dn.clone(),
        changes,
    })
}

/// The value of a DN's first part, where that is a plain one of this attribute.
pub fn named_by<'a>(dn: &'a str, attribute: &str) -> Option<&'a str> {
    let (first, _) = dn.split_once(',')?;
    let named = first
        .get(..attribute.len())?
        .eq_ignore_ascii_case(attribute);
    let value = first.get(attribute.len()..)?;
    (named && !value.contains(['\\', '+', '"'])).then_some(value)
}

/// Lets users join.
///
/// # Errors
/// [`AdminError`].
pub async fn add(
    session: &mut Session<'_>,
    name: &str,
    users: &[String],
) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    let group = Group::get(&mut session.directory, settings, name).await?;
    let mut new: Vec<User> = Vec::new();
    for user in users {
        let user = User::get(&mut session.directory, settings, user).await?;
        // Asked of the server, which knows every spelling of a DN.
        let groups = Group::of(&mut session.directory, settings, &user).await?;
        let is_in = groups.iter().any(|have| have.dn == group.dn);
        if !is_in && !new.iter().any(|have| have.dn == user.dn) {
            new.push(user);
        }
    }
    let names: Vec<&str> = new.iter().map(|user| user.name.as_str()).collect();
    let json = json!({ "group": group, "added": names });
    if new.is_empty() {
        return Ok(Outcome::unchanged(
            format!("unchanged: already in '{name}'\n"),
            json,
        ));
    }
    let joining_users: Vec<Member<'_>> = new
        .iter()
        .map(|user| (user.name.as_str(), user.dn.as_str()))
        .collect();
    let steps = [joining(settings, &group, &joining_users)];
    if let Some(planned) = session.carry_out(&steps, OnFailure::Stop).await? {
        return Ok(planned);
    }
    Ok(Outcome::changed(
        format!("added to '{name}': {}\n", names.join(" ")),
        json,
    ))
}

/// Lets members leave, those too whose user is gone.
///
/// # Errors
/// [`AdminError`].
pub async fn del(
    session: &mut Session<'_>,
    name: &str,
    users: &[String],
) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    let group = Group::get(&mut session.directory, settings, name).await?;
    let mut gone: Vec<(String, String)> = Vec::new();
    for user in users {
        let dn = match User::find(&mut session.directory, settings, user).await? {
            Some(user) => user.dn,
            None => {
                let same = |dn: &&String| named_by(dn, "uid=") == Some(user.as_str());
                group
                    .member_dns
                    .iter()
                    .find(same)
                    .cloned()
                    .unwrap_or_default()
            }
        };
        gone.push((user.clone(), dn));
    }
    let is_in = |(name, dn): &&(String, String)| {
        group.member_uids.contains(name)
            || group
                .member_dns
                .iter()
                .any(|have| have.eq_ignore_ascii_case(dn))
    };
    let names: Vec<&str> = gone
        .iter()
        .filter(is_in)
        .map(|(name, _)| name.as_str())
        .collect();
    let members: Vec<Member<'_>> = gone
        .iter()
        .map(|(name, dn)| (name.as_str(), dn.as_str()))
        .collect();
    let json = json!({ "group": group, "removed": names });
    let Some(step) = leaving(settings, &group, &members) else {
        return Ok(Outcome::unchanged(
            format!("unchanged: not in '{name}'\n"),
            json,
        ));
    };
    if let Some(planned) = session.carry_out(&[step], OnFailure::Stop).await? {
        return Ok(planned);
    }
    let mut outcome = Outcome::changed(
        format!("removed from '{name}': {}\n", names.join(" ")),
        json,
    );
    for user in primary_users(session, group.gid).await?.0 {
        if users.contains(&user) {
            outcome
                .warnings
                .push(format!("'{name}' is still the primary group of '{user}'"));
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_of_a_dn() {
        let check = |dn: &str, expected: Option<&str>| {
            assert_eq!(named_by(dn, "uid="), expected, "{dn}");
        };
        check("uid=bob,ou=people,dc=x", Some("bob"));
        check("UID=bob,ou=people", Some("bob"));
        check("cn=bob,ou=people", None);
        check("uid=a\\,b,ou=people", None);
        check("uid=a+cn=b,ou=people", None);
        check("uid=bob", None);
        check("ä=bob,x", None);
        check("", None);
    }
}
