//! `user add`: a new user, judged first without the directory and then with it, and written down with
//! the group of the same name and the memberships. Everything about users who are there already does
//! not live here.

use ldap3::dn_escape;
use serde_json::json;

use crate::account::{Group, User};
use crate::arguments::UserAdd;
use crate::error::AdminError;
use crate::group;
use crate::holders::{Holder, holders};
use crate::ids;
use crate::key::{key_json, key_line};
use crate::key_argument;
use crate::membership;
use crate::name::NewName;
use crate::plan::{self, Step};
use crate::session::{OnFailure, Outcome, Session};
use crate::settings::{Settings, is_plain};
use crate::ssh_key::SshKey;

/// How often a number from the counter may turn out to have been given to somebody meanwhile.
const TRIES: u32 = 5;

/// A new user, as far as that can be judged without the directory.
#[derive(Debug)]
pub struct NewUser {
    name: NewName,
    full_name: String,
    home: String,
    shell: String,
    keys: Vec<SshKey>,
    asked: UserAdd,
}

impl NewUser {
    /// Checks what was asked for and fills in the defaults.
    ///
    /// # Errors
    /// [`AdminError::Name`], [`AdminError::Key`], [`AdminError::Value`], [`AdminError::IdRange`].
    pub fn check(asked: UserAdd, settings: &Settings) -> Result<Self, AdminError> {
        let name = NewName::parse(&asked.name).map_err(|source| AdminError::Name {
            kind: "user",
            source,
        })?;
        let keys = key_argument::read_all(&asked.keys).map_err(AdminError::Key)?;
        for id in asked.uid.into_iter().chain(asked.gid) {
            ids::judge(id, settings, asked.outside_range)?;
        }
        let full_name = asked.gecos.clone().unwrap_or_default().trim().to_owned();
        let home = asked
            .home
            .clone()
            .unwrap_or(settings.home.replace("{user}", name.as_str()));
        let shell = asked.shell.clone().unwrap_or(settings.shell.clone());
        if !is_plain(&full_name) || full_name.len() > 200 {
            let why =
                "':' and control characters cannot stand in it, nor more than 200 bytes".into();
            return Err(AdminError::Value {
                option: "--gecos",
                why,
            });
        }
        for (option, path) in [("--home", &home), ("--shell", &shell)] {
            if !path.starts_with('/') || !path.is_ascii() || !is_plain(path) || path.len() > 255 {
                let why = format!("'{}' is not a plain absolute path", path.escape_debug());
                return Err(AdminError::Value { option, why });
            }
        }
        Ok(Self {
            name,
            full_name,
            home,
            shell,
            keys,
            asked,
        })
    }

    /// Where a user who is there already is other than asked for.
    fn difference(&self, there: &User, groups: &[Group]) -> String {
        let mut lines = Vec::new();
        let mut differs = |what: &str, have: String, want: Option<String>| {
            if let Some(want) = want.filter(|want| *want != have) {
                lines.push(format!("{what} is '{have}', asked for '{want}'"));
            }
        };
        differs(
            "uid",
            there.uid.to_string(),
            self.asked.uid.map(|id| id.to_string()),
        );
        differs(
            "gid",
            there.gid.to_string(),
            self.asked.gid.map(|id| id.to_string()),
        );
        differs("gecos", there.gecos.clone(), self.asked.gecos.clone());
        differs("home", there.home.clone(), self.asked.home.clone());
        differs("shell", there.shell.clone(), self.asked.shell.clone());
        for group in &self.asked.groups {
            if !groups.iter().any(|have| have.name == *group) {
                lines.push(format!("is not in group '{group}'"));
            }
        }
        for key in &self.keys {
            if !there.keys().any(|(have, _)| have.is(key)) {
                lines.push(format!("has not key {}", key.fingerprint()));
            }
        }
        if lines.is_empty() {
            " as asked for".into()
        } else {
            format!(": {}", lines.join("; "))
        }
    }

    fn entry(&self, session: &Session<'_>, uid: u32, gid: u32) -> Step {
        let text = |value: &str| vec![value.as_bytes().to_vec()];
        // RFC 4519: cn and sn must not be empty.
        let name = self.full_name.split(',').next().unwrap_or_default().trim();
        let name = if name.is_empty() {
            self.name.as_str()
        } else {
            name
        };
        let mut classes = vec![session.offers.person, "posixAccount"];
        if session.offers.ssh_keys {
            classes.push("ldapPublicKey");
        }
        let classes = classes
            .into_iter()
            .map(|class| class.as_bytes().to_vec())
            .collect();
        let mut attributes = vec![
            ("objectClass", classes),
            ("uid", text(self.name.as_str())),
            ("cn", text(name)),
        ];
        if session.offers.person == "inetOrgPerson" {
            attributes.push(("sn", text(name.rsplit(' ').next().unwrap_or(name))));
        }
        // The attribute is IA5 (RFC 2307, 3): other letters stand in cn alone, which readers fall
        // back to.
        if !self.full_name.is_empty() && self.full_name.is_ascii() {
            attributes.push(("gecos", text(&self.full_name)));
        }
        attributes.extend([
            ("uidNumber", text(&uid.to_string())),
            ("gidNumber", text(&gid.to_string())),
            ("homeDirectory", text(&self.home)),
            ("loginShell", text(&self.shell)),
        ]);
        if !self.keys.is_empty() {
            let lines = self
                .keys
                .iter()
                .map(|key| key.line().into_bytes())
                .collect();
            attributes.push(("sshPublicKey", lines));
        }
        Step::Add {
            dn: self.dn(session.settings),
            attributes,
        }
    }

    fn dn(&self, settings: &Settings) -> String {
        format!(
            "uid={},{}",
            dn_escape(self.name.as_str()),
            settings.user_base
        )
    }
}

/// Adds a user: the entry, the group of the same name, the memberships.
///
/// # Errors
/// [`AdminError`]; where a step fails, those before it are undone.
pub async fn add(session: &mut Session<'_>, new: &NewUser) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    let name = new.name.as_str();
    session.local.refuse_name(name)?;
    if !new.keys.is_empty() {
        session.offers.require_ssh_keys()?;
    }
    if let Some(there) = User::find(&mut session.directory, settings, name).await? {
        let groups = Group::of(&mut session.directory, settings, &there).await?;
        let difference = new.difference(&there, &groups);
        return Err(AdminError::Exists {
            kind: "user",
            name: name.into(),
            difference,
        });
    }
    let primary = primary_group(session, new).await?;
    let mut groups = Vec::new();
    for group in &new.asked.groups {
        groups.push(Group::get(&mut session.directory, settings, group).await?);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let (uid, gid) = numbers(session, new, primary.as_ref()).await?;
        let dn = new.dn(settings);
        let mut steps = vec![new.entry(session, uid, gid)];
        if primary.is_none() {
            steps.push(group::own_entry(session, gid, (name, &dn)));
        }
        let member = [(name, dn.as_str())];
        steps.extend(
            groups
                .iter()
                .map(|group| membership::joining(settings, group, &member)),
        );
        if let Some(planned) = session.carry_out(&steps, OnFailure::Undo).await? {
            return Ok(planned);
        }
        // Two who chose the same number at the same moment both see it now, and both step back.
        let ours = group::dn(settings, name);
        let other = somebody_else(session, uid, gid, primary.is_none(), [&dn, &ours]).await;
        let (cause, again) = match other {
            Ok(None) => return Ok(added(new, uid, gid, &dn)),
            Ok(Some(Holder { id, by, .. })) => {
                let counted = new.asked.uid.is_none() && new.asked.gid.is_none();
                (AdminError::IdTaken { id, by }, counted && tries < TRIES)
            }
            Err(error) => (error, false),
        };
        let error = plan::take_back(&mut session.directory, &steps, None, cause).await;
        if !again || !matches!(error, AdminError::RolledBack(_)) {
            return Err(error);
        }
    }
}

fn added(new: &NewUser, uid: u32, gid: u32, dn: &str) -> Outcome {
    let mut text = format!(
        "user '{}' added: uid {uid}, gid {gid}, home {}\n",
        new.name, new.home
    );
    for key in &new.keys {
        text.push_str(&format!("key {}\n", key_line(key)));
    }
    let keys: Vec<_> = new.keys.iter().map(key_json).collect();
    let user = json!({
        "name": new.name.as_str(), "uid": uid, "gid": gid, "gecos": new.full_name,
        "home": new.home, "shell": new.shell, "dn": dn, "groups": new.asked.groups, "keys": keys,
    });
    Outcome::changed(text, json!({ "user": user }))
}

/// The existing group to be the primary one, or none where the user gets an own one.
async fn primary_group(
    session: &mut Session<'_>,
    new: &NewUser,
) -> Result<Option<Group>, AdminError> {
    let settings = session.settings;
    if let Some(name) = &new.asked.primary_group {
        return Group::get(&mut session.directory, settings, name)
            .await
            .map(Some);
    }
    if let Some(gid) = new.asked.gid {
        let filter = format!("(gidNumber={gid})");
        let (groups, _) = Group::all(&mut session.directory, settings, &filter).await?;
        if let Some(group) = groups.into_iter().next() {
            return Ok(Some(group));
        }
    }
    let name = new.name.as_str();
    match Group::find(&mut session.directory, settings, name).await? {
        Some(group) => Err(AdminError::Stopped(
            format!(
                "group '{name}' exists (gid {}), so the user cannot get an own one",
                group.gid
            ),
            Some(format!(
                "--primary-group {name} makes it the user's primary group"
            )),
        )),
        None => Ok(None),
    }
}

/// The user's numbers, checked to be free.
async fn numbers(
    session: &mut Session<'_>,
    new: &NewUser,
    primary: Option<&Group>,
) -> Result<(u32, u32), AdminError> {
    let uid = match new.asked.uid {
        Some(uid) => uid,
        None => session.take_id().await?,
    };
    let gid = primary
        .map(|group| group.gid)
        .or(new.asked.gid)
        .unwrap_or(uid);
    let settings = session.settings;
    let wanted = [uid, gid];
    let there = holders(&mut session.directory, settings, &session.local, &wanted).await?;
    let clash = there.into_iter().find(|holder| {
        if holder.is_user {
            holder.id == uid
        } else {
            holder.id == gid && primary.is_none()
        }
    });
    match clash {
        Some(Holder { id, by, .. }) => Err(AdminError::IdTaken { id, by }),
        None => Ok((uid, gid)),
    }
}

/// Anybody besides the new entries who has one of their numbers.
async fn somebody_else(
    session: &mut Session<'_>,
    uid: u32,
    gid: u32,
    own_group: bool,
    ours: [&String; 2],
) -> Result<Option<Holder>, AdminError> {
    let settings = session.settings;
    let there = holders(
        &mut session.directory,
        settings,
        &session.local,
        &[uid, gid],
    )
    .await?;
    Ok(there.into_iter().find(|holder| {
        let same = if holder.is_user {
            holder.id == uid
        } else {
            holder.id == gid && own_group
        };
        same && !ours.iter().any(|dn| dn.eq_ignore_ascii_case(&holder.by))
    }))
}
