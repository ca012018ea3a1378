//! Who a name is: the directory is asked first, so that its replica is fresh for this user, then
//! NSS, which also knows local users. What the account's state forbids holds for every method.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use directory_client::{AccountState, Client, Lookup};
use gateway_wire::{Settings, UserName};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;
use sys::identity::Identity;

/// Bytes of passwd(5) that are looked at.
const MAX_PASSWD: u64 = 4 << 20;

/// An account that exists and may log in, as far as its state says.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name, as NSS spells it.
    pub name: UserName,
    /// Ids for its processes.
    pub identity: Identity,
    /// Home.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
    /// `type base64`, from the directory.
    pub directory_keys: Vec<String>,
    /// Whether the directory knows it.
    pub of_directory: bool,
    /// The directory did not answer: what it has is not known.
    pub unavailable: bool,
}

impl Account {
    /// Names of its groups; a group without a name is left out.
    pub fn group_names(&self) -> Vec<String> {
        let mut numbers = self.identity.groups.clone();
        numbers.push(self.identity.gid);
        numbers.sort_unstable();
        numbers.dedup();
        let name = |gid: u32| Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        numbers
            .into_iter()
            .filter_map(name)
            .map(|group| group.name)
            .collect()
    }
}

/// Why there is no such account; for the log only.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAccount {
    /// Nobody knows the name.
    #[error("no such user")]
    Unknown,
    /// The directory did not answer and its replica does not know.
    #[error("the directory is unavailable")]
    Unavailable,
    /// It is locked, expired or the like.
    #[error("account state: {0}")]
    State(String),
    /// Root and, in development, anybody but the one user.
    #[error("not a user of this service")]
    NotServed,
    /// NSS failed.
    #[error("look up user: {0}")]
    Nss(String),
}

/// Looks `name` up.
///
/// # Errors
/// [`NoAccount`].
pub fn find(settings: &Settings, name: &UserName) -> Result<Account, NoAccount> {
    let mut directory_keys = Vec::new();
    let mut unavailable = false;
    let mut of_directory = false;
    if let Some(socket) = &settings.directory_socket {
        match Client::new(socket).account(name.as_str(), settings.directory_timeout) {
            Ok(Lookup::Found(account)) if account.state == AccountState::Active => {
                directory_keys = account.ssh_keys;
                of_directory = true;
            }
            Ok(Lookup::Found(account)) => {
                return Err(NoAccount::State(format!("{:?}", account.state)));
            }
            Ok(Lookup::NotFound) => {}
            Ok(Lookup::Unavailable) => unavailable = true,
            Err(error) => {
                tracing::warn!(
                    event = "directory.failed",
                    error = service::exit::chain(&error)
                );
                unavailable = true;
            }
        }
    }
    // Local users are known even when the directory is not.
    let user = User::from_name(name.as_str())
        .map_err(|e| NoAccount::Nss(e.to_string()))?
        .ok_or(if unavailable {
            NoAccount::Unavailable
        } else {
            NoAccount::Unknown
        })?;
    let served = match settings.user {
        Some(_) => !user.uid.is_root(),
        None => user.uid == Uid::effective(),
    };
    if !served {
        return Err(NoAccount::NotServed);
    }
    // Whom only the copy on disk knows must be asked for while the login lives, now that nobody answered.
    if unavailable && !is_local(&user.name) {
        of_directory = true;
    }
    let text = CString::new(user.name.clone()).map_err(|e| NoAccount::Nss(e.to_string()))?;
    let groups = getgrouplist(&text, user.gid).map_err(|e| NoAccount::Nss(e.to_string()))?;
    let shell = if user.shell.as_os_str().is_empty() {
        "/bin/sh".into()
    } else {
        user.shell
    };
    Ok(Account {
        name: UserName::try_from(user.name).map_err(|e| NoAccount::Nss(e.to_string()))?,
        identity: Identity {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.iter().map(|g| g.as_raw()).collect(),
        },
        home: user.dir,
        shell,
        directory_keys,
        of_directory,
        unavailable,
    })
}

/// Whether passwd(5) has the name. A file that cannot be read has everybody: they are not asked for.
fn is_local(name: &str) -> bool {
    let Ok(file) = File::open("/etc/passwd") else {
        return true;
    };
    let mut text = String::new();
    if file.take(MAX_PASSWD).read_to_string(&mut text).is_err() {
        return true;
    }
    text.lines()
        .any(|line| line.split(':').next() == Some(name))
}

/// Why the directory would not let a user in who is logged in; `None` if it would, or does not know.
/// Its replica answers at once.
pub fn refusal(settings: &Settings, name: &UserName) -> Option<String> {
    let client = Client::new(settings.directory_socket.as_ref()?);
    match client.account(name.as_str(), Duration::ZERO) {
        Ok(Lookup::Found(account)) if account.state == AccountState::Active => None,
        Ok(Lookup::Found(account)) => Some(format!("account state: {:?}", account.state)),
        Ok(Lookup::NotFound) => Some("the directory no longer has the account".to_owned()),
        Ok(Lookup::Unavailable) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_local() {
        assert!(is_local("root"));
        assert!(!is_local("roo") && !is_local("x"));
    }
}
