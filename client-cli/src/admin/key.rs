//! The commands about the ssh keys of a user: add, list, del. What makes a key good does not live
//! here.

use serde_json::{Value, json};

use crate::account::User;
use crate::error::AdminError;
use crate::key_argument;
use crate::plan::{Change, Kind, Step};
use crate::session::{OnFailure, Outcome, Session};
use crate::ssh_key::SshKey;

/// A key in one line, as ssh-keygen -l prints it: size, fingerprint, comment, type.
pub fn key_line(key: &SshKey) -> String {
    let comment = if key.comment().is_empty() {
        "no comment"
    } else {
        key.comment()
    };
    format!(
        "{} {} {comment} ({})",
        key.bits(),
        key.fingerprint(),
        key.kind()
    )
}

/// A key for machines.
pub fn key_json(key: &SshKey) -> Value {
    json!({
        "type": key.kind(), "bits": key.bits(), "fingerprint": key.fingerprint(),
        "comment": key.comment(), "line": key.line(),
    })
}

/// Adds keys that are not there yet.
///
/// # Errors
/// [`AdminError`].
pub async fn add(
    session: &mut Session<'_>,
    user: &str,
    keys: &[SshKey],
) -> Result<Outcome, AdminError> {
    session.offers.require_ssh_keys()?;
    let user = User::get(&mut session.directory, session.settings, user).await?;
    let is_new = |key: &&SshKey| !user.keys().any(|(have, _)| have.is(key));
    let new: Vec<&SshKey> = keys.iter().filter(is_new).collect();
    let json = json!({
        "user": user.name, "added": new.iter().map(|key| key_json(key)).collect::<Vec<_>>(),
    });
    if new.is_empty() {
        let text = format!("unchanged: '{}' has these keys already\n", user.name);
        return Ok(Outcome::unchanged(text, json));
    }
    let mut changes = Vec::new();
    if !user.can_have_keys {
        changes.push(Change::new(Kind::Add, "objectClass", &["ldapPublicKey"]));
    }
    changes.push(Change {
        kind: Kind::Add,
        attribute: "sshPublicKey",
        values: new.iter().map(|key| key.line().into_bytes()).collect(),
    });
    let steps = [Step::Modify {
        dn: user.dn.clone(),
        changes,
    }];
    if let Some(planned) = session.carry_out(&steps, OnFailure::Stop).await? {
        return Ok(planned);
    }
    let text = new
        .iter()
        .map(|key| format!("key added: {}\n", key_line(key)))
        .collect();
    Ok(Outcome::changed(text, json))
}

/// Lists the keys, one a line.
///
/// # Errors
/// [`AdminError`].
pub async fn list(session: &mut Session<'_>, user: &str) -> Result<Outcome, AdminError> {
    let user = User::get(&mut session.directory, session.settings, user).await?;
    let keys: Vec<SshKey> = user.keys().map(|(key, _)| key).collect();
    let text = keys
        .iter()
        .map(|key| format!("{}\n", key_line(key)))
        .collect();
    let list: Vec<Value> = keys.iter().map(key_json).collect();
    let mut outcome = Outcome::found(text, json!({ "user": user.name, "keys": list }));
    for stored in &user.stored_keys {
        let text = String::from_utf8_lossy(stored);
        if let Err(error) = SshKey::parse(&text) {
            let shown: String = text.chars().take(40).collect();
            outcome
                .warnings
                .push(format!("stored value '{}': {error}", shown.escape_debug()));
        }
    }
    Ok(outcome)
}

/// Removes keys; `all` with whatever else stands where keys stand.
///
/// # Errors
/// [`AdminError`]; where one of `which` leads to no key, none is removed.
pub async fn del(
    session: &mut Session<'_>,
    user: &str,
    which: &[String],
    all: bool,
) -> Result<Outcome, AdminError> {
    let user = User::get(&mut session.directory, session.settings, user).await?;
    let mut values: Vec<Vec<u8>> = Vec::new();
    if all {
        values.clone_from(&user.stored_keys);
    }
    for word in which {
        for value in matching(&user, word)? {
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }
    let gone: Vec<SshKey> = user
        .keys()
        .filter(|(_, stored)| values.iter().any(|v| v == stored))
        .map(|(key, _)| key)
        .collect();
    let json = json!({
        "user": user.name, "removed": gone.iter().map(key_json).collect::<Vec<_>>(),
    });
    if values.is_empty() {
        let text = format!("unchanged: '{}' has no keys\n", user.name);
        return Ok(Outcome::unchanged(text, json));
    }
    let change = Change {
        kind: Kind::Delete,
        attribute: "sshPublicKey",
        values,
    };
    let steps = [Step::modify(&user.dn, change)];
    if let Some(planned) = session.carry_out(&steps, OnFailure::Stop).await? {
        return Ok(planned);
    }
    let text = gone
        .iter()
        .map(|key| format!("key removed: {}\n", key_line(key)))
        .collect();
    Ok(Outcome::changed(text, json))
}

/// The stored values that a fingerprint, a comment, a line or a file leads to.
fn matching(user: &User, word: &str) -> Result<Vec<Vec<u8>>, AdminError> {
    let stored = |fits: &dyn Fn(&SshKey) -> bool| -> Vec<Vec<u8>> {
        user.keys()
            .filter(|(key, _)| fits(key))
            .map(|(_, value)| value.to_vec())
            .collect()
    };
    let nothing = || {
        let hint = format!("\"key list {}\" prints the fingerprints", user.name);
        AdminError::Stopped(format!("'{}' has no key '{word}'", user.name), Some(hint))
    };
    if word.starts_with("SHA256:") {
        let found = stored(&|key| key.fingerprint() == word);
        return if found.is_empty() {
            Err(nothing())
        } else {
            Ok(found)
        };
    }
    let by_comment = stored(&|key| key.comment() == word);
    match by_comment.len() {
        0 => {}
        1 => return Ok(by_comment),
        count => {
            return Err(AdminError::Stopped(
                format!("{count} keys of '{}' have the comment '{word}'", user.name),
                Some("name the one by its fingerprint".into()),
            ));
        }
    }
    let keys = key_argument::read(word).map_err(|error| match error {
        key_argument::KeyArgumentError::Read { .. } => nothing(),
        error => AdminError::Key(error),
    })?;
    let found = stored(&|key| keys.iter().any(|wanted| wanted.is(key)));
    if found.is_empty() {
        Err(nothing())
    } else {
        Ok(found)
    }
}
