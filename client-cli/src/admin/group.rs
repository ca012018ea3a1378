//! The commands about groups and their members, and the steps by which users join and leave, which
//! the commands about users take too.

use ldap3::dn_escape;
use serde_json::json;

use crate::account::{Group, User};
use crate::error::AdminError;
use crate::ids;
use crate::name::NewName;
use crate::plan::{self, Change, Kind, Step};
use crate::session::{OnFailure, Outcome, Session, shown};
use crate::settings::{Schema, Settings};

/// A user's name and DN.
pub type Member<'a> = (&'a str, &'a str);

/// Where a new group stands.
pub fn dn(settings: &Settings, name: &str) -> String {
    format!("cn={},{}", dn_escape(name), settings.group_base)
}

/// A `groupOfNames` must have a member; an empty one has this, who is no user.
fn placeholder(settings: &Settings) -> &str {
    &settings.bind_dn
}

/// The `member` DNs without the placeholder.
pub fn real_members<'a>(settings: &'a Settings, group: &'a Group) -> impl Iterator<Item = &'a str> {
    let is_real = |dn: &&str| !dn.eq_ignore_ascii_case(placeholder(settings));
    group.member_dns.iter().map(String::as_str).filter(is_real)
}

/// The step that makes a group. `users` are written down as members, or, for a user's own group,
/// only where the class demands a member: there the primary number says it.
pub fn entry(session: &Session<'_>, name: &str, gid: u32, users: &[Member<'_>]) -> Step {
    let settings = session.settings;
    let own_group = users.len() == 1 && users[0].0 == name;
    let bytes = |value: &str| value.as_bytes().to_vec();
    let mut attributes = vec![
        (
            "objectClass",
            session
                .offers
                .group
                .iter()
                .copied()
                .chain(["posixGroup"])
                .map(bytes)
                .collect(),
        ),
        ("cn", vec![bytes(name)]),
        ("gidNumber", vec![bytes(&gid.to_string())]),
    ];
    let names = || {
        users
            .iter()
            .map(|(name, _)| bytes(name))
            .collect::<Vec<_>>()
    };
    let dns = || users.iter().map(|(_, dn)| bytes(dn)).collect::<Vec<_>>();
    match settings.schema {
        Schema::Rfc2307bis if session.offers.needs_member() && users.is_empty() => {
            attributes.push(("member", vec![bytes(placeholder(settings))]));
        }
        Schema::Rfc2307bis if session.offers.needs_member() => attributes.push(("member", dns())),
        _ if users.is_empty() || own_group => {}
        Schema::Rfc2307bis => attributes.push(("member", dns())),
        Schema::Rfc2307 => attributes.push(("memberUid", names())),
    }
    Step::Add {
        dn: dn(settings, name),
        attributes,
    }
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

/// Names of users whose primary group has this number, and whether there are more: a server may list
/// no more than some hundreds.
///
/// # Errors
/// That of the search.
pub async fn primary_users(
    session: &mut Session<'_>,
    gid: u32,
) -> Result<(Vec<String>, bool), AdminError> {
    const ENOUGH: i32 = 10_000;
    let filter = format!("(&(objectClass=posixAccount)(gidNumber={gid}))");
    let base = &session.settings.user_base;
    let (found, more) = session
        .directory
        .search_some(base, &filter, &["uid"], ENOUGH)
        .await?;
    let names = found.iter().filter_map(|entry| entry.text("uid"));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    Ok((names, more))
}

/// Adds a group.
///
/// # Errors
/// [`AdminError`]; where a step fails, those before it are undone.
pub async fn add(
    session: &mut Session<'_>,
    name: &NewName,
    gid: Option<u32>,
    members: &[String],
) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    session.local.refuse_name(name.as_str())?;
    if let Some(there) = Group::find(&mut session.directory, settings, name.as_str()).await? {
        let difference = match gid {
            Some(gid) if gid != there.gid => format!(": gid is '{}', asked for '{gid}'", there.gid),
            _ => format!(" (gid {})", there.gid),
        };
        return Err(AdminError::Exists {
            kind: "group",
            name: name.to_string(),
            difference,
        });
    }
    let mut users = Vec::new();
    for member in members {
        users.push(User::get(&mut session.directory, settings, member).await?);
    }
    let users: Vec<Member<'_>> = users
        .iter()
        .map(|user| (user.name.as_str(), user.dn.as_str()))
        .collect();
    let given = match gid {
        Some(gid) => gid,
        None => session.take_id().await?,
    };
    let ours = dn(settings, name.as_str());
    refuse_taken(session, given, &ours).await?;
    let steps = [entry(session, name.as_str(), given, &users)];
    if let Some(planned) = session.carry_out(&steps, OnFailure::Undo).await? {
        return Ok(planned);
    }
    if let Err(taken) = refuse_taken(session, given, &ours).await {
        return Err(plan::take_back(&mut session.directory, &steps, None, taken).await);
    }
    let names: Vec<&str> = users.iter().map(|(name, _)| *name).collect();
    let json =
        json!({ "group": { "name": name.as_str(), "gid": given, "dn": ours, "members": names } });
    Ok(Outcome::changed(
        format!("group '{name}' added: gid {given}\n"),
        json,
    ))
}

async fn refuse_taken(session: &mut Session<'_>, gid: u32, ours: &str) -> Result<(), AdminError> {
    let settings = session.settings;
    let there = ids::holders(&mut session.directory, settings, &session.local, &[gid]).await?;
    let is_other = |holder: &ids::Holder| !holder.is_user && !holder.by.eq_ignore_ascii_case(ours);
    match there.into_iter().find(is_other) {
        Some(holder) => Err(AdminError::IdTaken {
            id: gid,
            by: holder.by,
        }),
        None => Ok(()),
    }
}

/// Shows a group with its members.
///
/// # Errors
/// [`AdminError`].
pub async fn show(session: &mut Session<'_>, name: &str) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    let group = Group::get(&mut session.directory, settings, name).await?;
    let mut members = group.member_uids.clone();
    let (mut nested, mut unknown) = (Vec::new(), Vec::new());
    for dn in real_members(settings, &group) {
        match named_by(dn, "uid=") {
            Some(name) => members.push(name.to_owned()),
            None => match session
                .directory
                .read(dn, &["uid", "cn", "objectClass"])
                .await?
            {
                Some(entry) if entry.is_a("posixGroup") => {
                    nested.extend(entry.text("cn").map(str::to_owned));
                }
                Some(entry) if entry.text("uid").is_some() => {
                    members.extend(entry.text("uid").map(str::to_owned));
                }
                _ => unknown.push(dn.to_owned()),
            },
        }
    }
    let (primary, more) = primary_users(session, group.gid).await?;
    members.sort();
    members.dedup();
    nested.sort();
    let mut text = format!(
        "group: {}\ngid: {}\nmembers: {}\n",
        shown(&group.name),
        group.gid,
        shown(&members.join(" "))
    );
    for (what, list) in [("groups in it", &nested), ("primary group of", &primary)] {
        if !list.is_empty() {
            text.push_str(&format!("{what}: {}\n", shown(&list.join(" "))));
        }
    }
    text.push_str(&format!("dn: {}\n", shown(&group.dn)));
    let mut json = json!(group);
    json["members"] = json!(members);
    json["member-groups"] = json!(nested);
    json["primary-of"] = json!(primary);
    let mut outcome = Outcome::found(text, json);
    if more {
        outcome.warnings.push(format!(
            "it is the primary group of more than {}",
            primary.len()
        ));
    }
    outcome.warnings.extend(
        unknown
            .iter()
            .map(|dn| format!("member '{dn}' leads nowhere")),
    );
    Ok(outcome)
}

/// The value of a DN's first part, where that is a plain one of this attribute.
fn named_by<'a>(dn: &'a str, attribute: &str) -> Option<&'a str> {
    let (first, _) = dn.split_once(',')?;
    let named = first
        .get(..attribute.len())?
        .eq_ignore_ascii_case(attribute);
    let value = first.get(attribute.len()..)?;
    (named && !value.contains(['\\', '+', '"'])).then_some(value)
}

/// Lists all groups.
///
/// # Errors
/// [`AdminError`].
pub async fn list(session: &mut Session<'_>) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    let (groups, odd) = Group::all(&mut session.directory, settings, "").await?;
    let width = groups
        .iter()
        .map(|group| group.name.len())
        .max()
        .unwrap_or(0);
    let count = |group: &Group| group.member_uids.len() + real_members(settings, group).count();
    let line = |group: &Group| {
        format!(
            "{:width$}  {:>5}  {} members\n",
            shown(&group.name),
            group.gid,
            count(group)
        )
    };
    let text = groups.iter().map(line).collect();
    let object = |group: &Group| {
        let mut json = json!(group);
        json["member-count"] = json!(count(group));
        json
    };
    let objects: Vec<_> = groups.iter().map(object).collect();
    let mut outcome = Outcome::found(text, json!({ "groups": objects }));
    outcome.warnings.extend(odd.iter().map(ToString::to_string));
    Ok(outcome)
}

/// Removes a group that is nobody's primary one.
///
/// # Errors
/// [`AdminError`].
pub async fn del(session: &mut Session<'_>, name: &str) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    let group = Group::get(&mut session.directory, settings, name).await?;
    let (users, unlisted) = primary_users(session, group.gid).await?;
    if let Some(first) = users.first() {
        let (more, least) = (users.len() - 1, if unlisted { "more than " } else { "" });
        let and = if more > 0 {
            format!(" and {least}{more} others")
        } else {
            String::new()
        };
        return Err(AdminError::Stopped(
            format!("group '{name}' is the primary group of '{first}'{and}"),
            Some("\"user del\" removes a user's own group together with the user".into()),
        ));
    }
    let mut steps = Vec::new();
    steps.extend(
        session
            .counter()
            .retire(&mut session.directory, group.gid)
            .await?,
    );
    steps.push(Step::Delete {
        dn: group.dn.clone(),
    });
    if let Some(planned) = session.carry_out(&steps, OnFailure::Stop).await? {
        return Ok(planned);
    }
    Ok(Outcome::changed(
        format!("group '{name}' deleted\n"),
        json!({ "deleted": group }),
    ))
}

/// Lets users join.
///
/// # Errors
/// [`AdminError`].
pub async fn member_add(
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
pub async fn member_del(
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
