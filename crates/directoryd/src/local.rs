//! `/etc/passwd` and `/etc/group`, parsed here: this daemon is what libc asks, so it must not ask libc.
//!
//! Lines that are not entries are passed over, as libc does; passwords never leave this file.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use directory_map::record::{Group, Passwd};

/// Largest file read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Local users and groups in the order of their files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Local {
    /// Users.
    pub users: Vec<Passwd>,
    /// Groups.
    pub groups: Vec<Group>,
}

/// Why a local file could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("read '{path}'", path = path.display())]
pub struct LocalError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What tells one version of a file from the next; the file is what links lead to. `None`: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(Option<[i128; 7]>);

impl Local {
    /// Reads both files.
    ///
    /// # Errors
    /// [`LocalError`] if one is missing, unreadable or larger than 16 MiB.
    pub fn read(passwd: &Path, group: &Path) -> Result<Self, LocalError> {
        Ok(Self {
            users: text(passwd)?.lines().filter_map(user).collect(),
            groups: text(group)?.lines().filter_map(self::group).collect(),
        })
    }
}

impl Stamp {
    /// The present stamp.
    pub fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|meta| {
            [
                meta.dev().into(),
                meta.ino().into(),
                meta.size().into(),
                meta.mtime().into(),
                meta.mtime_nsec().into(),
                // Rights may have changed, which decides whether it can be read.
                meta.ctime().into(),
                meta.ctime_nsec().into(),
            ]
        }))
    }
}

fn text(path: &Path) -> Result<String, LocalError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_FILE + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "larger than 16 MiB",
            ));
        }
        // A stray byte in somebody's full name must not cost everybody their account.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(|source| LocalError {
        path: path.into(),
        source,
    })
}

fn user(line: &str) -> Option<Passwd> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, password, uid, gid, gecos, home, shell] = fields[..] else {
        return None;
    };
    is_entry(name).then_some(())?;
    Some(Passwd {
        name: name.to_owned(),
        password: without_hash(password),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        gecos: gecos.to_owned(),
        home: home.to_owned(),
        shell: shell.to_owned(),
    })
}

fn group(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, password, gid, members] = fields[..] else {
        return None;
    };
    is_entry(name).then_some(())?;
    Some(Group {
        name: name.to_owned(),
        password: without_hash(password),
        gid: gid.parse().ok()?,
        members: members
            .split(',')
            .map(str::trim)
            .filter(|member| !member.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

/// Comments and the `+`/`-` lines of NIS are no entries.
fn is_entry(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['#', '+', '-'])
}

/// Maps are readable for everybody, so a hash that still stands in the file is not passed on.
fn without_hash(password: &str) -> String {
    if password.len() <= 1 { password } else { "x" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_libc_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let (passwd, group) = (folder.path().join("passwd"), folder.path().join("group"));
        let text = b"root:x:0:0:root:/root:/bin/bash\n# note\n+::::::\n\nshort:x:1\n\
            old:$1$ab$cd:5:5::/:\nodd:*:6:6:\xff:/:/bin/sh\nbad:x:-7:7::/:/bin/sh\n";
        fs::write(&passwd, text).unwrap();
        fs::write(&group, "root:x:0:\nadm:*:4:root, bob,\n+\n").unwrap();
        let before = Stamp::of(&group);
        let local = Local::read(&passwd, &group).unwrap();
        let users: Vec<_> = local
            .users
            .iter()
            .map(|u| (u.name.as_str(), u.password.as_str(), u.uid))
            .collect();
        assert_eq!(users, [("root", "x", 0), ("old", "x", 5), ("odd", "*", 6)]);
        assert_eq!(local.users[2].gecos, "\u{fffd}");
        let groups: Vec<_> = local
            .groups
            .iter()
            .map(|g| (g.name.as_str(), g.gid, g.members.join("|")))
            .collect();
        assert_eq!(
            groups,
            [("root", 0, String::new()), ("adm", 4, "root|bob".into())]
        );
        assert_eq!(Stamp::of(&group), before);
        fs::write(&group, "root:x:0:\n").unwrap();
        assert_ne!(Stamp::of(&group), before);
        fs::remove_file(&group).unwrap();
        assert!(
            Local::read(&passwd, &group)
                .unwrap_err()
                .to_string()
                .contains("group")
        );
    }
}
