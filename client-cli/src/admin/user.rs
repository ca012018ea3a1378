//! The commands about users who are there: show, list, del. Adding them, their keys and their groups
//! do not live here.

use serde_json::json;

use crate::account::{Group, User};
use crate::error::AdminError;
use crate::group;
use crate::key::{key_json, key_line};
use crate::membership;
use crate::plan::Step;
use crate::session::{OnFailure, Outcome, Session, shown};
use crate::ssh_key::SshKey;

/// Shows a user with groups and keys.
///
/// # Errors
/// [`AdminError`].
pub async fn show(session: &mut Session<'_>, name: &str) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    let user = User::get(&mut session.directory, settings, name).await?;
    let groups = Group::of(&mut session.directory, settings, &user).await?;
    let primary = format!("(gidNumber={})", user.gid);
    let (primary, _) = Group::all(&mut session.directory, settings, &primary).await?;
    let primary = primary.first().map(|group| group.name.as_str());
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    let keys: Vec<SshKey> = user.keys().map(|(key, _)| key).collect();
    let mut text = format!(
        "user: {}\nuid: {}\ngid: {} ({})\ngecos: {}\nhome: {}\nshell: {}\ngroups: {}\n",
        shown(&user.name),
        user.uid,
        user.gid,
        shown(primary.unwrap_or("no such group")),
        shown(&user.gecos),
        shown(&user.home),
        shown(&user.shell),
        shown(&names.join(" ")),
    );
    for key in &keys {
        text.push_str(&format!("key: {}\n", key_line(key)));
    }
    text.push_str(&format!("dn: {}\n", shown(&user.dn)));
    let mut json = json!(user);
    json["primary-group"] = json!(primary);
    json["groups"] = json!(names);
    json["keys"] = keys.iter().map(key_json).collect();
    let mut outcome = Outcome::found(text, json);
    let odd = user.stored_keys.len() - keys.len();
    if odd > 0 {
        outcome
            .warnings
            .push(format!("{odd} stored values of '{name}' are no keys"));
    }
    Ok(outcome)
}

/// Lists all users.
///
/// # Errors
/// [`AdminError`].
pub async fn list(session: &mut Session<'_>) -> Result<Outcome, AdminError> {
    let (users, odd) = User::all(&mut session.directory, session.settings).await?;
    let width = users.iter().map(|user| user.name.len()).max().unwrap_or(0);
    let line = |user: &User| {
        let User {
            name,
            uid,
            gid,
            home,
            shell,
            gecos,
            ..
        } = user;
        let line = format!("{name:width$}  {uid:>5}  {gid:>5}  {home}  {shell}  {gecos}");
        shown(line.trim_end()) + "\n"
    };
    let text = users.iter().map(line).collect();
    let mut outcome = Outcome::found(text, json!({ "users": users }));
    outcome.warnings.extend(odd.iter().map(ToString::to_string));
    Ok(outcome)
}

/// Removes a user: memberships first and the entry last, so that running it again goes on where it
/// stopped.
///
/// # Errors
/// [`AdminError`].
pub async fn del(session: &mut Session<'_>, name: &str) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    let user = User::get(&mut session.directory, settings, name).await?;
    let own = own_group(session, &user).await?;
    let is_own = |group: &Group| own.as_ref().is_some_and(|own| own.dn == group.dn);
    let counter = session.counter();
    let mut steps = Vec::new();
    steps.extend(counter.retire(&mut session.directory, user.uid).await?);
    if own.is_some() && user.gid != user.uid {
        steps.extend(counter.retire(&mut session.directory, user.gid).await?);
    }
    let groups = Group::of(&mut session.directory, settings, &user).await?;
    let left: Vec<&str> = groups
        .iter()
        .filter(|group| !is_own(group))
        .map(|group| group.name.as_str())
        .collect();
    for group in groups.iter().filter(|group| !is_own(group)) {
        steps.extend(membership::leaving(
            settings,
            group,
            &[(user.name.as_str(), &user.dn)],
        ));
    }
    steps.extend(own.iter().map(|group| Step::Delete {
        dn: group.dn.clone(),
    }));
    steps.push(Step::Delete {
        dn: user.dn.clone(),
    });
    if let Some(planned) = session.carry_out(&steps, OnFailure::Stop).await? {
        return Ok(planned);
    }
    let text = format!(
        "user '{name}' deleted{}; home {} is left as it is\n",
        if own.is_some() {
            " with the group of the same name"
        } else {
            ""
        },
        user.home
    );
    let json = json!({ "deleted": user, "left-groups": left, "deleted-group": own });
    Ok(Outcome::changed(text, json))
}

/// The group that was made with the user: same name, the user's primary one, and nobody else's.
async fn own_group(session: &mut Session<'_>, user: &User) -> Result<Option<Group>, AdminError> {
    let settings = session.settings;
    let group = Group::find(&mut session.directory, settings, &user.name).await?;
    let Some(group) = group.filter(|group| group.gid == user.gid) else {
        return Ok(None);
    };
    let (others, more) = group::primary_users(session, group.gid).await?;
    let alone = !more
        && others.iter().all(|other| *other == user.name)
        && group.member_uids.iter().all(|member| *member == user.name)
        && membership::real_members(settings, &group).all(|dn| dn.eq_ignore_ascii_case(&user.dn));
    Ok(alone.then_some(group))
}
