//! A user's own password at the directory: asked about, or changed. Each on a connection of its own,
//! since a bind changes who everybody on that connection is.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

use directory_client::Password;
use ldap3::{
    Ldap, Mod, Scope,
    controls::{Control, RawControl},
    exop::PasswordModify,
};
use zeroize::Zeroizing;

use super::{
    LdapError, Server,
    connection::connect,
    policy::{AdReason, CONTROL, Policy, PolicyError},
    search::Search,
    session::bind_service,
};
use crate::config;

/// What a server said to a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// It is right.
    Yes(Policy),
    /// It is right, and the server lets nobody in with it until it is changed.
    OnlyToChange,
    /// It is right and too old.
    Expired,
    /// It is wrong, or the account is closed and the server does not tell which.
    No,
}

/// What a server said to a new password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It counts.
    Yes,
    /// The old one is wrong.
    WrongOld,
    /// It was not taken.
    No(String),
}

/// Offers a password to one server.
///
/// # Errors
/// [`LdapError`] if the server said neither yes nor no.
pub async fn ask(
    config: &config::Ldap,
    server: &Server,
    dn: &str,
    password: &Password,
) -> Result<Bound, LdapError> {
    let (mut ldap, _ended) = connect(config, server).await?;
    let bound = bind(&mut ldap, dn, password.expose()).await?;
    let _ = ldap.unbind().await;
    Ok(bound)
}

/// Puts a new password in the place of the old one, as the user: by RFC 3062, or in Active Directory
/// by a change of `unicodePwd`. Where that one lets nobody in before the change, the service's account
/// sends it; the old password in it is still what allows it. `open` is true while the server has been told
/// and has not answered.
///
/// # Errors
/// As for [`ask`].
pub async fn change(
    config: &config::Ldap,
    server: &Server,
    dn: &str,
    old: &Password,
    new: &Password,
    open: &AtomicBool,
) -> Result<Changed, LdapError> {
    let (mut ldap, _ended) = connect(config, server).await?;
    let bound = bind(&mut ldap, dn, old.expose()).await?;
    let windows = match bound {
        Bound::Yes(_) => is_active_directory(config, &mut ldap).await?,
        Bound::OnlyToChange => {
            bind_service(config, &mut ldap).await?;
            true
        }
        _ => false,
    };
    let changed = match bound {
        Bound::Yes(_) | Bound::OnlyToChange => {
            let before = open.swap(true, Ordering::SeqCst);
            let changed = match windows {
                true => change_unicode(&mut ldap, dn, old, new).await,
                false => change_extended(&mut ldap, dn, old, new).await,
            };
            open.store(before || changed.is_err(), Ordering::SeqCst);
            changed
        }
        Bound::Expired => Ok(Changed::No(PolicyError::Expired.words().to_owned())),
        Bound::No => Ok(Changed::WrongOld),
    };
    let _ = ldap.unbind().await;
    changed
}

/// Asks the root entry (MS-ADTS 3.1.1.3.4.3: the capability of Active Directory).
async fn is_active_directory(config: &config::Ldap, ldap: &mut Ldap) -> Result<bool, LdapError> {
    let root = Search {
        base: "",
        scope: Scope::Base,
        filter: "(objectClass=*)",
        attributes: &["supportedCapabilities"],
        most: 1,
        within: config.lookup_timeout,
    };
    let found = root.run(ldap).await?;
    Ok(found.iter().any(|entry| {
        let capabilities = entry.all("supportedcapabilities");
        capabilities
            .iter()
            .any(|oid| oid == b"1.2.840.113556.1.4.800")
    }))
}

async fn bind(ldap: &mut Ldap, dn: &str, password: &str) -> Result<Bound, LdapError> {
    let action = || format!("bind as '{dn}'");
    ldap.with_controls(request_policy());
    let result = ldap.simple_bind(dn, password).await;
    let result = result.map_err(|source| LdapError::Library {
        action: action(),
        source: Box::new(source),
    })?;
    let policy = policy_of(&result.ctrls);
    match (result.rc, policy.error) {
        (0, Some(PolicyError::Expired)) => Ok(Bound::Expired),
        (0, _) => Ok(Bound::Yes(policy)),
        // slapd looks at the age only after the password was right.
        (49, Some(PolicyError::Expired)) => Ok(Bound::Expired),
        (49, Some(PolicyError::MustChange)) => Ok(Bound::OnlyToChange),
        (49, _) => Ok(match AdReason::of(&result.text) {
            Some(AdReason::MustChange) => Bound::OnlyToChange,
            _ => Bound::No,
        }),
        // No such object, no password in the entry, not willing for this one, not in this way: the
        // user has no password here.
        (16 | 32 | 34 | 48 | 50 | 53, _) => Ok(Bound::No),
        (code, _) => Err(LdapError::Refused {
            action: action(),
            code,
            text: result.text,
        }),
    }
}

async fn change_extended(
    ldap: &mut Ldap,
    dn: &str,
    old: &Password,
    new: &Password,
) -> Result<Changed, LdapError> {
    let request = PasswordModify {
        user_id: Some(dn),
        old_pass: Some(old.expose()),
        new_pass: Some(new.expose()),
    };
    ldap.with_controls(request_policy());
    let result = ldap
        .extended(request)
        .await
        .map_err(|source| LdapError::Library {
            action: format!("change the password of '{dn}'"),
            source: Box::new(source),
        })?
        .1;
    Ok(match (result.rc, policy_of(&result.ctrls).error) {
        (0, _) => Changed::Yes,
        (_, Some(error)) => Changed::No(error.words().to_owned()),
        (code, None) => Changed::No(not_taken(code, &result.text)),
    })
}

async fn change_unicode(
    ldap: &mut Ldap,
    dn: &str,
    old: &Password,
    new: &Password,
) -> Result<Changed, LdapError> {
    let (old, new) = (quoted(old), quoted(new));
    let attribute = b"unicodePwd".as_slice();
    let changes = vec![
        Mod::Delete(attribute, HashSet::from([old.as_slice()])),
        Mod::Add(attribute, HashSet::from([new.as_slice()])),
    ];
    let result = ldap
        .modify(dn, changes)
        .await
        .map_err(|source| LdapError::Library {
            action: format!("change the password of '{dn}'"),
            source: Box::new(source),
        })?;
    Ok(match result.rc {
        0 => Changed::Yes,
        // ERROR_INVALID_PASSWORD, at the head of the text.
        19 | 49 if result.text.starts_with("00000056") => Changed::WrongOld,
        code => Changed::No(not_taken(code, &result.text)),
    })
}

/// Active Directory's form: in quotes, UTF-16 little-endian (MS-ADTS 3.1.1.3.1.5.1).
fn quoted(password: &Password) -> Zeroizing<Vec<u8>> {
    let units = ["\"", password.expose(), "\""]
        .into_iter()
        .flat_map(str::encode_utf16);
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 * password.expose().len() + 4));
    units.for_each(|unit| bytes.extend_from_slice(&unit.to_le_bytes()));
    bytes
}

fn not_taken(code: u32, text: &str) -> String {
    match code {
        19 => "The new password is not good enough for the directory's rules.".to_owned(),
        50 | 53 => "The password may not be changed.".to_owned(),
        _ => format!("The directory did not take the new password ({code}: {text})."),
    }
}

fn request_policy() -> RawControl {
    RawControl {
        ctype: CONTROL.to_owned(),
        crit: false,
        val: None,
    }
}

fn policy_of(controls: &[Control]) -> Policy {
    controls
        .iter()
        .find(|Control(_, raw)| raw.ctype == CONTROL)
        .and_then(|Control(_, raw)| raw.val.as_deref())
        .map(Policy::parse)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_active_directory() {
        let password = Password::new("aß".into()).unwrap();
        assert_eq!(*quoted(&password), b"\"\0a\0\xdf\0\"\0");
    }
}
