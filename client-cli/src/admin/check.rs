//! `check` and `init`: whether everything that the other commands need is there, and the one entry
//! that login-admin makes for itself.

use serde_json::json;

use crate::error::AdminError;
use crate::session::{OnFailure, Outcome, Session};

/// Looks at the bases and the counter and says what is lacking, all of it.
///
/// # Errors
/// [`AdminError`] only where the connection fails; what is lacking comes as warnings.
pub async fn check(session: &mut Session<'_>) -> Result<Outcome, AdminError> {
    let settings = session.settings;
    let offers = &session.offers;
    let mut fine = vec![
        format!(
            "connected to '{}'{}",
            settings.uri,
            if settings.start_tls {
                " with StartTLS"
            } else {
                ""
            }
        ),
        format!("bound as '{}'", settings.bind_dn),
        format!(
            "users are '{}', groups '{}'",
            offers.person,
            offers.group.unwrap_or("posixGroup")
        ),
        format!(
            "ids are taken by {}",
            if offers.increment {
                "increment and post-read"
            } else {
                "compare and set"
            }
        ),
    ];
    let mut lacking = Vec::new();
    if !offers.ssh_keys {
        lacking.push(
            "the server has no object class 'ldapPublicKey': keys cannot be stored".to_owned(),
        );
    }
    for (key, base) in [
        ("user-base", &settings.user_base),
        ("group-base", &settings.group_base),
    ] {
        match session.directory.read(base, &["objectClass"]).await? {
            Some(_) => fine.push(format!("{key} '{base}' is there")),
            None => lacking.push(format!("{key} '{base}' is not there or may not be read")),
        }
    }
    match session.counter().peek(&mut session.directory).await {
        Ok(next) => fine.push(format!("next id is {next}")),
        Err(error @ (AdminError::Counter { .. } | AdminError::IdsUsedUp { .. })) => {
            lacking.push(error.to_string());
        }
        Err(error) => return Err(error),
    }
    let text = fine.iter().map(|line| format!("{line}\n")).collect();
    let json = json!({ "fine": fine, "problems": lacking });
    let mut outcome = Outcome::found(text, json);
    outcome.warnings = lacking;
    Ok(outcome)
}

/// Makes the counter where it is not there.
///
/// # Errors
/// [`AdminError`].
pub async fn init(session: &mut Session<'_>) -> Result<Outcome, AdminError> {
    let counter = session.counter();
    let dn = session.settings.id_counter.clone();
    let json = json!({ "id-counter": dn });
    let Some(step) = counter.creation(&mut session.directory).await? else {
        return Ok(Outcome::unchanged(
            format!("unchanged: id counter '{dn}' is there\n"),
            json,
        ));
    };
    if let Some(planned) = session.carry_out(&[step], OnFailure::Undo).await? {
        return Ok(planned);
    }
    let next = counter.peek(&mut session.directory).await?;
    Ok(Outcome::changed(
        format!("id counter '{dn}' made; next id is {next}\n"),
        json,
    ))
}
