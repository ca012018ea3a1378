//! What an entry says: from attributes to users and groups.
//!
//! An entry that lacks what it must have is reported; nothing is guessed.

use super::search::Entry;
use crate::{
    config::Schema,
    dn,
    marks::{Lock, Marks, generalized_time},
    replica::{Group, User},
    ssh_key,
};

/// Attributes read of a user.
pub const USER: &[&str] = &[
    "uid",
    "uidNumber",
    "gidNumber",
    "cn",
    "gecos",
    "homeDirectory",
    "loginShell",
    "sshPublicKey",
    "shadowExpire",
    "pwdAccountLockedTime",
    "nsAccountLock",
    "pwdStartTime",
    "pwdEndTime",
    "host",
    "authorizedService",
];

/// Attributes read of a group, without its members.
pub const GROUP_HEAD: &[&str] = &["cn", "gidNumber"];

/// A user by normal DN, or why the entry is none.
pub fn user(entry: &Entry) -> Result<(String, User), &'static str> {
    let dn = dn::normal(&entry.dn).ok_or("its dn cannot be read")?;
    let name = own_name(entry, "uid").ok_or("it has no uid, or several and none in its dn")?;
    let gecos = entry
        .text("gecos")
        .or_else(|| entry.text("cn"))
        .unwrap_or_default();
    let (keys, refused_keys) = ssh_key::keys(entry.all("sshpublickey"));
    let day = |name| entry.text(name).and_then(|text| text.trim().parse().ok());
    // A time that is there and cannot be read must not open what it was to close.
    let time = |name, otherwise| {
        entry
            .text(name)
            .map(|text| generalized_time(text).unwrap_or(otherwise))
    };
    let texts = |name| {
        let values = entry.all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value).trim().to_owned())
            .collect()
    };
    let user = User {
        dn: entry.dn.clone(),
        name,
        uid: number(entry, "uidnumber").ok_or("its uidNumber is missing or not a number")?,
        gid: number(entry, "gidnumber").ok_or("its gidNumber is missing or not a number")?,
        gecos: gecos.to_owned(),
        home: entry
            .text("homedirectory")
            .ok_or("it has no homeDirectory")?
            .to_owned(),
        shell: entry.text("loginshell").unwrap_or_default().to_owned(),
        keys,
        refused_keys,
        marks: Marks {
            expire_day: day("shadowexpire"),
            lock: entry.text("pwdaccountlockedtime").map(Lock::parse),
            disabled: entry
                .text("nsaccountlock")
                .is_some_and(|text| text.eq_ignore_ascii_case("true")),
            start: time("pwdstarttime", i64::MAX),
            end: time("pwdendtime", 0),
        },
        hosts: texts("host"),
        services: texts("authorizedservice"),
    };
    Ok((dn, user))
}

/// A group by normal DN, with the members in the attribute `member`, or why the entry is none. One
/// without a number only connects others.
pub fn group(entry: &Entry, schema: Schema, member: &str) -> Result<(String, Group), &'static str> {
    let dn = dn::normal(&entry.dn).ok_or("its dn cannot be read")?;
    let name = own_name(entry, "cn").ok_or("it has no cn, or several and none in its dn")?;
    let gid = match entry.all("gidnumber") {
        [] => None,
        _ => Some(number(entry, "gidnumber").ok_or("its gidNumber is not a number")?),
    };
    let values = entry.all(&member.to_ascii_lowercase()).iter();
    let texts = values.filter_map(|value| std::str::from_utf8(value).ok());
    let members = match schema {
        Schema::Rfc2307 => texts.map(str::to_owned).collect(),
        Schema::Rfc2307bis => texts.filter_map(dn::normal).collect(),
    };
    Ok((dn, Group { name, gid, members }))
}

/// The only value of the naming attribute, or among several the one in the DN.
fn own_name(entry: &Entry, kind: &str) -> Option<String> {
    match entry.all(kind) {
        [] => None,
        [_] => entry.text(kind).map(str::to_owned),
        several => dn::first_value(&entry.dn, kind)
            .filter(|name| several.iter().any(|value| value == name.as_bytes())),
    }
}

fn number(entry: &Entry, kind: &str) -> Option<u32> {
    entry.text(kind)?.trim().parse().ok()
}
