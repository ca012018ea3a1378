//! The LDIF form (RFC 2849): entries as `ldapsearch` and `slapcat` print them, with the meaning that they
//! have in a directory. Changes and values by URL are no entries.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use service::config::ConfigError;

use super::{People, ldif_text::records};
use crate::{
    config::{Attributes, PeopleFile, Schema},
    ldap::{Entry, entry, names::Names},
    password_hash::Hash,
    replica::Group,
};

/// Classes of groups, in lower case.
const GROUPS: [&str; 4] = [
    "posixgroup",
    "groupofnames",
    "groupofmembers",
    "groupofuniquenames",
];

/// Reads the form.
pub fn read(file: &PeopleFile, bytes: &[u8]) -> Result<People, ConfigError> {
    let mut people = People::empty();
    // Groups, with the users that they list by name.
    let mut groups: BTreeMap<String, (Group, BTreeSet<String>)> = BTreeMap::new();
    let mut users: HashMap<String, String> = HashMap::new();
    let names_with = |schema, member: &str| {
        let set = Attributes {
            member: Some(member.to_owned()),
            ..Attributes::default()
        };
        Names::of(schema, &set)
    };
    let names = names_with(Schema::Rfc2307bis, "member");
    let unique = names_with(Schema::Rfc2307bis, "uniqueMember");
    let plain = names_with(Schema::Rfc2307, "memberUid");
    for record in records(bytes) {
        let record = record
            .map_err(|(offset, message)| ConfigError::at(&file.path, bytes, offset, message))?;
        let entry = Entry::of(record.dn, record.values);
        let classes = entry.all("objectclass").to_vec();
        let is = |class: &str| {
            let class = class.as_bytes();
            classes
                .iter()
                .any(|value| value.eq_ignore_ascii_case(class))
        };
        let twice =
            || ConfigError::at(&file.path, bytes, record.offset, "the entry is there twice");
        let dn = entry.dn.clone();
        if is("posixAccount") {
            match entry::user(&entry, &names) {
                Ok((key, mut user)) => {
                    if user.shell.is_empty() {
                        user.shell = file.default_shell.clone();
                    }
                    if let Some(hash) = password(&entry, &user.name) {
                        people.hashes.insert(user.name.clone(), Arc::new(hash));
                    }
                    if people.replica.user(&key).is_some() {
                        return Err(twice());
                    }
                    people.replica.set_user(&key, &user);
                    users.insert(user.name, key);
                }
                Err(why) => drop(people.replica.unusable.insert(dn.clone(), why)),
            }
        }
        if GROUPS.iter().any(|class| is(class)) {
            match entry::group(&entry, Schema::Rfc2307bis, &names) {
                Ok((key, mut group)) => {
                    let more = entry::group(&entry, Schema::Rfc2307bis, &unique);
                    group
                        .members
                        .extend(more.into_iter().flat_map(|(_, group)| group.members));
                    let names = entry::group(&entry, Schema::Rfc2307, &plain);
                    let names = names.into_iter().flat_map(|(_, group)| group.members);
                    if groups.insert(key, (group, names.collect())).is_some() {
                        return Err(twice());
                    }
                }
                Err(why) => drop(people.replica.unusable.insert(dn, why)),
            }
        }
    }
    for (key, (mut group, names)) in groups {
        let members = names.into_iter().map(|name| match users.get(&name) {
            Some(key) => key.clone(),
            None => format!("uid={name}"),
        });
        group.members.extend(members);
        people.replica.set_group(&key, &group);
    }
    people.note_strangers();
    Ok(people)
}

/// The first value that can be checked. A directory's other kinds are no reason to refuse its people.
fn password(entry: &Entry, user: &str) -> Option<Hash> {
    let values = entry.all("userpassword");
    let texts = values
        .iter()
        .filter_map(|value| String::from_utf8(value.clone()).ok());
    let hash = texts.filter_map(|text| Hash::parse(text).ok()).next();
    if hash.is_none() && !values.is_empty() {
        tracing::warn!(
            event = "password_hash.unknown",
            user,
            hint = "only {CRYPT} with $6$ or $5$, {ARGON2} and {SSHA} are checked here",
        );
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};

    fn read(text: &[u8]) -> Result<People, String> {
        let file = PeopleFile {
            path: "people.ldif".into(),
            home_template: "/home/%u".into(),
            default_shell: "/bin/bash".into(),
        };
        super::read(&file, text).map_err(|error| error.to_string())
    }

    const ALICE: &str = "dn: uid=alice,dc=example\nobjectClass: posixAccount\nuid: alice\n\
        uidNumber: 2001\ngidNumber: 2001\ncn: Al\n ice\nhomeDirectory: /home/alice\n";

    #[test]
    fn entries_are_what_they_are_in_a_directory() {
        let text = format!(
            "version: 1\r\n\n# a comment\n  that goes on\n{ALICE}\
             userPassword:: {}\nshadowExpire: 1\n\n\n\
             dn: cn=a,dc=example\nobjectclass: groupOfNames\nobjectClass: posixGroup\ncn: a\n\
             gidNumber: 2002\nmember: UID=Alice, dc=example\nmemberUid: alice\nmemberUid: zoe\n\n\
             dn: ou=people,dc=example\nobjectClass: organizationalUnit\nou: people\n\n\
             dn: uid=poor,dc=example\nobjectClass: posixAccount\nuid: poor",
            STANDARD.encode("{SSHA}1G904nLkTkGWjKNnQuB/hpWXC/hzYWx0c2FsdA=="),
        );
        let people = read(text.as_bytes()).unwrap();
        let alice = people.replica.user("uid=alice,dc=example").unwrap();
        assert_eq!(
            (alice.gecos.as_str(), &*alice.shell),
            ("Alice", "/bin/bash")
        );
        assert_eq!(alice.marks.expire_day, Some(1));
        assert!(people.hashes.contains_key("alice"));
        let group = people.replica.group("cn=a,dc=example").unwrap();
        let expected = ["uid=alice,dc=example", "uid=zoe"].map(str::to_owned);
        assert_eq!(group.members, expected.into());
        let refused: Vec<&String> = people.replica.unusable.keys().collect();
        assert_eq!(refused, ["cn=a,dc=example: uid=zoe", "uid=poor,dc=example"]);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let check = |text: &str, expected: &str| {
            let error = read(text.as_bytes()).err().unwrap_or_default();
            assert!(error.starts_with(expected), "{text}: {error}");
        };
        check(
            &format!("{ALICE}\n{ALICE}"),
            "people.ldif:10:1: the entry is there twice",
        );
        check(
            &format!("{ALICE}cn\n"),
            "people.ldif:9:1: expected 'name: value'",
        );
        check(
            &format!("{ALICE}cn:: ?\n"),
            "people.ldif:9:1: the value is not base64",
        );
        check(
            &format!("{ALICE}cn:< file:///etc/shadow\n"),
            "people.ldif:9:1: values by URL",
        );
        check(&format!("{ALICE}{ALICE}"), "people.ldif:9:1: a second dn");
        check("uid: alice\n", "people.ldif:1:1: expected 'dn:'");
        check(
            "dn: uid=x\nchangetype: delete\n",
            "people.ldif:2:1: a change is no entry",
        );
        check("dn:: /w==\n", "people.ldif:1:1: the dn is not UTF-8");
    }
}
