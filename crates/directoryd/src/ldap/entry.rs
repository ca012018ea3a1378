//! What an entry says: from attributes to users and groups.
//!
//! An entry that lacks what it must have is reported; nothing is guessed.

use super::{names::Names, search::Entry};
use crate::{
    config::{self, Schema},
    dn,
    marks::{Lock, Marks, generalized_time, windows_time},
    replica::{Group, User, Uuid},
    sid::{self, Slices},
    ssh_key,
};

/// Why an entry cannot be taken at all.
const UNREADABLE: &str = "its dn cannot be read";

/// A user by normal DN, or why the entry is none.
pub fn user(entry: &Entry, names: &Names) -> Result<(String, User), String> {
    let dn = dn::normal(&entry.dn).ok_or(UNREADABLE)?;
    let name = own_name(entry, &names.user_name)?;
    let gecos = names.full_name.iter().find_map(|name| entry.text(name));
    let stored: Vec<Vec<u8>> = names
        .ssh_key
        .iter()
        .flat_map(|name| entry.all(name).to_vec())
        .collect();
    let (keys, refused_keys) = ssh_key::keys(&stored);
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
        uid: numbered(entry, &names.uid)?,
        gid: numbered(entry, &names.gid)?,
        gecos: gecos.unwrap_or_default().to_owned(),
        home: entry
            .text(&names.home)
            .ok_or_else(|| format!("it has no {}", names.home))?
            .to_owned(),
        shell: entry.text(&names.shell).unwrap_or_default().to_owned(),
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
            hours: None,
            // What cannot be read is at least not what it was before.
            password_changed: time("pwdchangedtime", i64::MAX),
            must_change: entry
                .text("pwdreset")
                .is_some_and(|text| text.eq_ignore_ascii_case("true")),
        },
        hosts: texts("host"),
        services: texts("authorizedservice"),
    };
    Ok((dn, user))
}

/// A group by normal DN, or why the entry is none. One without a number only connects others.
pub fn group(entry: &Entry, schema: Schema, names: &Names) -> Result<(String, Group), String> {
    let dn = dn::normal(&entry.dn).ok_or(UNREADABLE)?;
    let name = own_name(entry, &names.group_name)?;
    let gid = match entry.all(&names.group_gid) {
        [] => None,
        _ => Some(numbered(entry, &names.group_gid)?),
    };
    let values = entry.all(&names.member).iter();
    let texts = values.filter_map(|value| std::str::from_utf8(value).ok());
    let members = match schema {
        Schema::Rfc2307 => texts.map(str::to_owned).collect(),
        Schema::Rfc2307bis | Schema::Ad => texts.filter_map(dn::normal).collect(),
    };
    Ok((dn, Group { name, gid, members }))
}

/// A user of Active Directory by normal DN, or why the entry is none; `None` for one without a number of
/// its own, which most are in a directory of Windows, and that is no mistake. Names are in lower case there: the
/// server does not tell cases apart.
pub fn user_ad(
    entry: &Entry,
    config: &config::Ldap,
    names: &Names,
    slices: &mut Slices,
) -> Result<Option<(String, User)>, String> {
    let dn = dn::normal(&entry.dn).ok_or(UNREADABLE)?;
    let name = own_name(entry, &names.user_name)?.to_lowercase();
    let (uid, gid) = if config.id_mapping {
        let sid = sid_of(entry).ok_or("its objectSid is missing or not one")?;
        sid::split(&sid).ok_or("its objectSid is of no domain")?;
        let primary = primary_of(entry).ok_or("its primaryGroupID is missing")?;
        let id = |slices: &mut Slices, sid: &str| slices.id(sid).ok_or("no id is left for its SID");
        (id(slices, &sid)?, id(slices, &primary)?)
    } else {
        if entry.all(&names.uid).is_empty() {
            return Ok(None);
        }
        (numbered(entry, &names.uid)?, numbered(entry, &names.gid)?)
    };
    let alternative = entry.all("altsecurityidentities").iter();
    let stored: Vec<Vec<u8>> = names
        .ssh_key
        .iter()
        .flat_map(|name| entry.all(name))
        .map(Vec::as_slice)
        .chain(alternative.filter_map(|value| key_among_identities(value)))
        .map(<[u8]>::to_vec)
        .collect();
    let (keys, refused_keys) = ssh_key::keys(&stored);
    let texts = |name| {
        let values = entry.all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value).trim().to_owned())
            .collect()
    };
    let text = |name: &String| entry.text(name).filter(|text| !text.is_empty());
    let gecos = names.full_name.iter().find_map(text);
    let home = text(&names.home).map(str::to_owned);
    let user = User {
        dn: entry.dn.clone(),
        uid,
        gid,
        gecos: gecos.unwrap_or_default().to_owned(),
        home: home.unwrap_or_else(|| config.home_template.replace("%u", &name)),
        shell: text(&names.shell)
            .unwrap_or(&config.default_shell)
            .to_owned(),
        keys,
        refused_keys,
        marks: Marks {
            lock: entry
                .text("lockouttime")
                .and_then(windows_time)
                .map(Lock::Since),
            // What cannot be read must not open what it was to close.
            disabled: number(entry, "useraccountcontrol").is_none_or(|flags| flags & 2 != 0),
            end: entry.text("accountexpires").and_then(windows_time),
            hours: entry.all("logonhours").first().cloned(),
            password_changed: entry.text("pwdlastset").and_then(windows_time),
            must_change: entry
                .text("pwdlastset")
                .is_some_and(|text| text.trim() == "0"),
            ..Marks::default()
        },
        hosts: texts("host"),
        services: texts("authorizedservice"),
        name,
    };
    Ok(Some((dn, user)))
}

/// A group of Active Directory by normal DN, or why the entry is none; builtin groups have no number
/// and connect others. Spaces in names become `_`: names with spaces are none elsewhere.
pub fn group_ad(
    entry: &Entry,
    config: &config::Ldap,
    names: &Names,
    slices: &mut Slices,
) -> Result<(String, Group), String> {
    let dn = dn::normal(&entry.dn).ok_or(UNREADABLE)?;
    let name = own_name(entry, &names.group_name)?
        .to_lowercase()
        .replace(' ', "_");
    let gid = match config.id_mapping {
        true => sid_of(entry).and_then(|sid| slices.id(&sid)),
        false => number(entry, &names.group_gid),
    };
    let values = entry.all(&names.member).iter();
    let texts = values.filter_map(|value| std::str::from_utf8(value).ok());
    let members = texts.filter_map(dn::normal).collect();
    Ok((dn, Group { name, gid, members }))
}

/// The UUID of an entry, in Active Directory its `objectGUID`.
pub fn uuid_of(entry: &Entry) -> Option<Uuid> {
    if let [guid] = entry.all("objectguid") {
        return guid.as_slice().try_into().ok();
    }
    let text = entry.text("entryuuid")?;
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let digits = std::str::from_utf8(&digits).ok()?;
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(u128::from_str_radix(digits, 16).ok()?.to_be_bytes())
}

/// The SID of an entry.
pub fn sid_of(entry: &Entry) -> Option<String> {
    sid::text(entry.all("objectsid").first()?)
}

/// The SID of a user's primary group in Active Directory.
pub fn primary_of(entry: &Entry) -> Option<String> {
    let sid = sid_of(entry)?;
    let (domain, _) = sid::split(&sid)?;
    Some(format!("{domain}-{}", number(entry, "primarygroupid")?))
}

/// Among certificates and principals there may be keys, as sssd takes them: as they are, or behind
/// `SSHKey:`.
fn key_among_identities(value: &[u8]) -> Option<&[u8]> {
    let key = value.strip_prefix(b"SSHKey:").unwrap_or(value);
    ["ssh-", "ecdsa-", "sk-"]
        .iter()
        .any(|start| key.starts_with(start.as_bytes()))
        .then_some(key)
}

/// The only value of the naming attribute, or among several the one in the DN.
fn own_name(entry: &Entry, kind: &str) -> Result<String, String> {
    let name = match entry.all(kind) {
        [] => None,
        [_] => entry.text(kind).map(str::to_owned),
        several => dn::first_value(&entry.dn, kind)
            .filter(|name| several.iter().any(|value| value == name.as_bytes())),
    };
    name.ok_or_else(|| format!("it has no {kind}, or several and none in its dn"))
}

fn numbered(entry: &Entry, kind: &str) -> Result<u32, String> {
    number(entry, kind).ok_or_else(|| format!("its {kind} is missing or not a number"))
}

fn number(entry: &Entry, kind: &str) -> Option<u32> {
    entry.text(kind)?.trim().parse().ok()
}
