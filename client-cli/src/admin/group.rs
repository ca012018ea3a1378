//! The commands about groups: add, show, list, del. Who joins and leaves does not live here.

use ldap3::dn_escape;
use serde_json::json;

use crate::account::{Group, User};
use crate::error::AdminError;
use crate::holders::{Holder, holders};
use crate::membership::{Member, named_by, placeholder, real_members};
use crate::name::NewName;
use crate::plan::{self, Step};
use crate::session::{OnFailure, Outcome, Session, shown};
use crate::settings::{Schema, Settings};

/// Where a new group stands.
pub fn dn(settings: &Settings, name: &str) -> String {
    format!("cn={},{}", dn_escape(name), settings.group_base)
}

/// The step that makes a user's own group: the primary number says who is in it, so the user is
/// written down only where the class demands a member.
pub fn own_entry(session: &Session<'_>, gid: u32, user: Member<'_>) -> Step {
    let users = if session.offers.needs_member() {
        &[user][..]
    } else {
        &[]
    };
    entry(session, user.0, gid, users)
}

/// The step that makes a group with these members.
fn entry(session: &Session<'_>, name: &str, gid: u32, users: &[Member<'_>]) -> Step {
    let settings = session.settings;
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
    match settings.schema {
        Schema::Rfc2307bis if session.offers.needs_member() && users.is_empty() => {
            attributes.push(("member", vec![bytes(placeholder(settings))]));
        }
        _ if users.is_empty() => {}
        Schema::Rfc2307bis => {
            attributes.push(("member", users.iter().map(|(_, dn)| bytes(dn)).collect()));
        }
        Schema::Rfc2307 => {
            attributes.push((
                "memberUid",
                users.iter().map(|(name, _)| bytes(name)).collect(),
            ));
        }
    }
    Step::Add {
        dn: dn(settings, name),
        attributes,
    }
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
    let there = holders(&mut session.directory, settings, &session.local, &[gid]).await?;
    let is_other = |holder: &Holder| !holder.is_user && !holder.by.eq_ignore_ascii_case(ours);
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
