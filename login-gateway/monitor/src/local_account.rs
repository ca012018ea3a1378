//! An account of the files /etc/passwd and /etc/group alone, for the day when name services do not
//! answer. Everybody else is looked up through NSS, in `account`.

use std::path::Path;

use gateway_wire::UserName;
use sys::identity::Identity;

use crate::account::{Account, NoAccount};
use crate::trusted_file;

/// Looks `name` up, and the names of its groups.
///
/// # Errors
/// [`NoAccount`].
pub fn find(name: &UserName) -> Result<(Account, Vec<String>), NoAccount> {
    let read = |path: &str| {
        let bytes = trusted_file::read(Path::new(path));
        let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        text.map_err(|error| NoAccount::Nss(format!("read '{path}': {error}")))
    };
    let account = read("/etc/passwd")?
        .lines()
        .find_map(|line| account(line, name))
        .ok_or(NoAccount::Unknown)?;
    // Without its further groups it is still an account.
    let text = read("/etc/group").unwrap_or_default();
    Ok(with_groups(account, &text))
}

/// A line of passwd(5), if it is this name's.
fn account(line: &str, name: &UserName) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [user, _, uid, gid, _, home, shell] = fields[..] else {
        return None;
    };
    if user != name.as_str() {
        return None;
    }
    let gid = gid.parse().ok()?;
    Some(Account {
        name: name.clone(),
        identity: Identity {
            uid: uid.parse().ok()?,
            gid,
            groups: vec![gid],
        },
        home: home.into(),
        shell: if shell.is_empty() { "/bin/sh" } else { shell }.into(),
        directory_keys: Vec::new(),
        of_directory: false,
        unavailable: false,
    })
}

/// The lines of group(5) that name the user as a member, or whose number is that of its group.
fn with_groups(mut account: Account, text: &str) -> (Account, Vec<String>) {
    let mut names = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [group, _, gid, members] = fields[..] else {
            continue;
        };
        let Ok(gid) = gid.parse::<u32>() else {
            continue;
        };
        let member = members
            .split(',')
            .any(|member| member == account.name.as_str());
        if member || gid == account.identity.gid {
            names.push(group.to_owned());
            if !account.identity.groups.contains(&gid) {
                account.identity.groups.push(gid);
            }
        }
    }
    (account, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let name = UserName::try_from("root".to_owned()).unwrap();
        for bad in [
            "",
            "root",
            "toor:x:0:0::/root:/bin/sh",
            "root:x:zero:0::/root:/bin/sh",
        ] {
            assert!(account(bad, &name).is_none(), "{bad}");
        }
        let found = account("root:x:0:0::/root:", &name).unwrap();
        assert_eq!(found.shell, Path::new("/bin/sh"));
        let text = "root:x:0:\nadm:x:4:syslog,root\ndisk:x:6:groot\nbad\nx:x:y:root\n";
        let (found, names) = with_groups(found, text);
        assert_eq!((found.identity.uid, found.identity.groups), (0, vec![0, 4]));
        assert_eq!(names, ["root", "adm"]);
    }
}
