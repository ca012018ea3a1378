//! The TOML form: `[[users]]` and `[[groups]]`. Names are the keys, so each is there once.

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;
use service::config::{ConfigError, parse};
use toml::{Spanned, value::Datetime};

use super::People;
use crate::{
    config::PeopleFile,
    marks::{Marks, generalized_time},
    password_hash::Hash,
    replica::{Group, User},
    ssh_key,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    users: Vec<Spanned<Person>>,
    #[serde(default)]
    groups: Vec<Spanned<Team>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Person {
    name: String,
    uid: u32,
    gid: u32,
    #[serde(default)]
    full_name: String,
    home: Option<String>,
    shell: Option<String>,
    #[serde(default)]
    ssh_keys: Vec<String>,
    password_hash: Option<Hash>,
    #[serde(default)]
    disabled: bool,
    starts: Option<Moment>,
    expires: Option<Moment>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    services: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Team {
    name: String,
    gid: u32,
    /// Users.
    #[serde(default)]
    members: Vec<String>,
    /// Groups, whose members are members of this one.
    #[serde(default)]
    member_groups: Vec<String>,
}

/// Seconds since 1970 of a TOML date (its beginning in UTC) or of a date and time with its offset.
#[derive(Deserialize)]
#[serde(try_from = "Datetime")]
struct Moment(i64);

impl TryFrom<Datetime> for Moment {
    type Error = &'static str;

    fn try_from(value: Datetime) -> Result<Self, Self::Error> {
        let wrong = "expected a date, or a date and time with its offset from UTC";
        let date = value.date.ok_or(wrong)?;
        let (time, minutes) = match (value.time, value.offset) {
            (None, None) => ("000000".to_owned(), 0),
            (Some(time), Some(offset)) => {
                let minutes = match offset {
                    toml::value::Offset::Z => 0,
                    toml::value::Offset::Custom { minutes } => minutes,
                };
                let second = time.second.unwrap_or_default();
                (
                    format!("{:02}{:02}{second:02}", time.hour, time.minute),
                    minutes,
                )
            }
            _ => return Err(wrong),
        };
        let text = format!("{:04}{:02}{:02}{time}Z", date.year, date.month, date.day);
        let utc = generalized_time(&text).ok_or(wrong)?;
        Ok(Self(utc - i64::from(minutes) * 60))
    }
}

/// Reads the form.
pub fn read(file: &PeopleFile, bytes: &[u8]) -> Result<People, ConfigError> {
    let list: List = parse(&file.path, bytes)?;
    let at = |offset, message: String| ConfigError::at(&file.path, bytes, offset, &message);
    let twice = |offset, what: &str| Err(at(offset, format!("{what} is there twice")));
    let mut people = People::empty();
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for person in list.users {
        let offset = person.span().start;
        let person = person.into_inner();
        if !names.insert(person.name.clone()) {
            return twice(offset, &format!("user '{}'", person.name));
        }
        if !ids.insert(person.uid) {
            return twice(offset, &format!("uid {}", person.uid));
        }
        let name = person.name.clone();
        let (user, hash) = person.user(file);
        if let Some(hash) = hash {
            people.hashes.insert(name, Arc::new(hash));
        }
        people.replica.set_user(&user.dn, &user);
    }
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for team in list.groups {
        let offset = team.span().start;
        let team = team.into_inner();
        if !names.insert(team.name.clone()) {
            return twice(offset, &format!("group '{}'", team.name));
        }
        if !ids.insert(team.gid) {
            return twice(offset, &format!("gid {}", team.gid));
        }
        let users = team.members.iter().map(|name| user_key(name));
        let groups = team.member_groups.iter().map(|name| group_key(name));
        let group = Group {
            gid: Some(team.gid),
            members: users.chain(groups).collect(),
            name: team.name.clone(),
        };
        people.replica.set_group(&group_key(&team.name), &group);
    }
    people.note_strangers();
    Ok(people)
}

impl Person {
    fn user(self, file: &PeopleFile) -> (User, Option<Hash>) {
        let stored: Vec<Vec<u8>> = self.ssh_keys.into_iter().map(String::into_bytes).collect();
        let (keys, refused_keys) = ssh_key::keys(&stored);
        let home = || file.home_template.replace("%u", &self.name);
        let user = User {
            dn: user_key(&self.name),
            uid: self.uid,
            gid: self.gid,
            gecos: self.full_name,
            home: self.home.unwrap_or_else(home),
            shell: self.shell.unwrap_or_else(|| file.default_shell.clone()),
            keys,
            refused_keys,
            marks: Marks {
                disabled: self.disabled,
                start: self.starts.map(|moment| moment.0),
                end: self.expires.map(|moment| moment.0),
                ..Marks::default()
            },
            hosts: self.hosts,
            services: self.services,
            name: self.name,
        };
        (user, self.password_hash)
    }
}

fn user_key(name: &str) -> String {
    format!("uid={name}")
}

fn group_key(name: &str) -> String {
    format!("cn={name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<People, String> {
        let file = PeopleFile {
            path: "people.toml".into(),
            home_template: "/home/%u".into(),
            default_shell: "/bin/bash".into(),
        };
        super::read(&file, text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_of_the_documentation() {
        let people = read(include_str!("../../people.example.toml")).unwrap();
        let alice = people.replica.user("uid=alice").unwrap();
        assert_eq!((alice.uid, alice.home.as_str()), (10_001, "/home/alice"));
        assert_eq!((alice.keys.len(), alice.refused_keys), (1, 0));
        assert!(people.hashes.contains_key("alice"));
        let bob = people.replica.user("uid=bob").unwrap();
        assert_eq!(bob.marks.end, Some(1_801_353_600));
        assert!(people.replica.user("uid=carol").unwrap().marks.disabled);
        assert_eq!(
            people.replica.group("cn=science").unwrap().members,
            ["cn=physics".into(), "uid=carol".into()].into()
        );
        assert!(people.replica.unusable.is_empty());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let check = |text: &str, expected: &str| {
            let error = read(text).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        };
        let alice = "[[users]]\nname = \"alice\"\nuid = 1\ngid = 1\n";
        check(
            &format!("{alice}colour = 1\n"),
            "people.toml:5:1: unknown field",
        );
        check(
            &format!("{alice}{alice}"),
            "people.toml:5:1: user 'alice' is there twice",
        );
        let bob = alice.replace("alice", "bob");
        check(
            &format!("{alice}{bob}"),
            "people.toml:5:1: uid 1 is there twice",
        );
        check(
            &format!("{alice}password-hash = \"secret\"\n"),
            "people.toml:5:17: expected a password",
        );
        check(
            &format!("{alice}expires = 10:00:00\n"),
            "people.toml:5:11: expected a date",
        );
        check(
            &format!("{alice}expires = 2027-01-31T10:00:00\n"),
            ":5:11: expected a date",
        );
        check(&format!("{alice}expires = \"soon\"\n"), ":5:11:");
        check("[[users]]\nname = \"alice\"\nuid = -1\ngid = 1\n", ":3:7:");
        check("[[users]]\nname = \"alice\"\n", ":1:1: missing field `uid`");
        check(
            "[[groups]]\nname = \"g\"\ngid = 1\n[[groups]]\nname = \"g\"\ngid = 2\n",
            ":4:1: group 'g'",
        );
        check("[[people]]\n", ":1:3: unknown field `people`");
    }

    #[test]
    fn moments() {
        let alice = "[[users]]\nname = \"alice\"\nuid = 1\ngid = 1\nexpires = ";
        let check = |text: &str, expected| {
            let people = read(&format!("{alice}{text}\n")).unwrap();
            assert_eq!(
                people.replica.user("uid=alice").unwrap().marks.end,
                Some(expected),
                "{text}"
            );
        };
        check("1970-01-02", 86_400);
        check("1970-01-02T00:00:00Z", 86_400);
        check("1970-01-02T01:00:00+01:00", 86_400);
        check("1970-01-01 22:30:00-01:30", 86_400);
    }

    #[test]
    fn a_member_that_nobody_is_is_told() {
        let people = read("[[groups]]\nname = \"g\"\ngid = 1\nmembers = [\"bob\"]\n").unwrap();
        let told: Vec<&String> = people.replica.unusable.keys().collect();
        assert_eq!(told, ["cn=g: uid=bob"]);
    }
}
