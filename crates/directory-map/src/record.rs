//! One user, one group, one group list as the bytes that go over the socket; the map holds the same.
//!
//! Shapes (glibc `nscd/nscd-client.h`), all integers 32 bits, all lengths with the NUL:
//! user: version, found, name, password, uid, gid, gecos, home and shell length, then the five texts;
//! group: version, found, name and password length, gid, member count, then the members' lengths,
//! name, password and members; group list: version, found, count, then the gids.

use crate::{
    i32_at,
    protocol::{Query, VERSION},
    u32_at,
};

/// A user as libc shows it (`getpwnam(3)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passwd<T = String> {
    /// Login name.
    pub name: T,
    /// Password field: never a hash, only `x` or `*`.
    pub password: T,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Full name and the like.
    pub gecos: T,
    /// Home directory.
    pub home: T,
    /// Login shell.
    pub shell: T,
}

/// A group as libc shows it (`getgrnam(3)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<T = String> {
    /// Name.
    pub name: T,
    /// Password field.
    pub password: T,
    /// Group id.
    pub gid: u32,
    /// Names of its members.
    pub members: Vec<T>,
}

const PASSWD_HEAD: usize = 36;
const GROUP_HEAD: usize = 24;
const LIST_HEAD: usize = 12;

impl<T: AsRef<str>> Passwd<T> {
    /// The record. A NUL inside a text would end it early for libc, so texts are cut there.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        bytes
    }

    /// [`Self::encode`] behind other bytes.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        let texts = [
            &self.name,
            &self.password,
            &self.gecos,
            &self.home,
            &self.shell,
        ]
        .map(until_nul);
        let [name, password, gecos, home, shell] = texts.map(length);
        head(bytes, &[1, name, password]);
        bytes.extend_from_slice(&self.uid.to_ne_bytes());
        bytes.extend_from_slice(&self.gid.to_ne_bytes());
        for length in [gecos, home, shell] {
            bytes.extend_from_slice(&length.to_ne_bytes());
        }
        for text in texts {
            push(bytes, text);
        }
    }
}

impl Passwd {
    /// Reads a record back; `None` if it is not one, or says "not found".
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let lengths = [8, 12, 24, 28, 32].map(|offset| i32_at(bytes, offset));
        let mut texts = Texts::of(bytes, PASSWD_HEAD)?;
        Some(Self {
            name: texts.next(lengths[0]?)?,
            password: texts.next(lengths[1]?)?,
            uid: u32_at(bytes, 16)?,
            gid: u32_at(bytes, 20)?,
            gecos: texts.next(lengths[2]?)?,
            home: texts.next(lengths[3]?)?,
            shell: texts.next(lengths[4]?)?,
        })
    }
}

impl<T: AsRef<str>> Group<T> {
    /// The record; see [`Passwd::encode`].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        bytes
    }

    /// [`Self::encode`] behind other bytes.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        let (name, password) = (until_nul(&self.name), until_nul(&self.password));
        let members = || self.members.iter().map(until_nul);
        let count = i32::try_from(self.members.len()).unwrap_or(0);
        head(bytes, &[1, length(name), length(password)]);
        bytes.extend_from_slice(&self.gid.to_ne_bytes());
        bytes.extend_from_slice(&count.to_ne_bytes());
        for member in members() {
            bytes.extend_from_slice(&length(member).to_ne_bytes());
        }
        push(bytes, name);
        push(bytes, password);
        for member in members() {
            push(bytes, member);
        }
    }
}

impl Group {
    /// Only the name of a group's record, which may have many members; see [`Passwd::decode`].
    pub fn decode_name(bytes: &[u8]) -> Option<String> {
        let count = usize::try_from(i32_at(bytes, 20)?).ok()?;
        let start = GROUP_HEAD.checked_add(count.checked_mul(4)?)?;
        Texts::of(bytes, start)?.next(i32_at(bytes, 8)?)
    }

    /// Reads a record back; see [`Passwd::decode`].
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (name, password) = (i32_at(bytes, 8)?, i32_at(bytes, 12)?);
        let count = usize::try_from(i32_at(bytes, 20)?).ok()?;
        let start = GROUP_HEAD.checked_add(count.checked_mul(4)?)?;
        let mut texts = Texts::of(bytes, start)?;
        Some(Self {
            name: texts.next(name)?,
            password: texts.next(password)?,
            gid: u32_at(bytes, 16)?,
            members: (0..count)
                .map(|index| texts.next(i32_at(bytes, GROUP_HEAD + index * 4)?))
                .collect::<Option<_>>()?,
        })
    }
}

/// The record of a user's groups.
pub fn encode_groups_of_user(gids: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_groups_of_user(&mut bytes, gids);
    bytes
}

/// [`encode_groups_of_user`] behind other bytes.
pub fn append_groups_of_user(bytes: &mut Vec<u8>, gids: &[u32]) {
    head(bytes, &[1, i32::try_from(gids.len()).unwrap_or(0)]);
    for gid in gids {
        bytes.extend_from_slice(&gid.to_ne_bytes());
    }
}

/// Reads the record of a user's groups; see [`Passwd::decode`].
pub fn decode_groups_of_user(bytes: &[u8]) -> Option<Vec<u32>> {
    Texts::of(bytes, LIST_HEAD)?;
    let count = usize::try_from(i32_at(bytes, 8)?).ok()?;
    if count > bytes.len() / 4 {
        return None;
    }
    (0..count)
        .map(|index| u32_at(bytes, LIST_HEAD + index * 4))
        .collect()
}

/// The answer "there is no such entry", and with `known` false "not served here".
pub fn absent(query: Query, known: bool) -> Vec<u8> {
    let size = match query {
        Query::UserByName | Query::UserById => PASSWD_HEAD,
        Query::GroupByName | Query::GroupById => GROUP_HEAD,
        Query::GroupsOfUser => LIST_HEAD,
    };
    let mut bytes = Vec::new();
    head(&mut bytes, &[if known { 0 } else { -1 }]);
    bytes.resize(size, 0);
    // What the structures of nscd hold in this case: an empty entry with the id -1.
    match query {
        Query::UserByName | Query::UserById => bytes[16..24].fill(0xff),
        Query::GroupByName | Query::GroupById => bytes[16..20].fill(0xff),
        Query::GroupsOfUser => {}
    }
    bytes
}

fn head(bytes: &mut Vec<u8>, fields: &[i32]) {
    bytes.extend_from_slice(&VERSION.to_ne_bytes());
    for field in fields {
        bytes.extend_from_slice(&field.to_ne_bytes());
    }
}

fn until_nul(text: &impl AsRef<str>) -> &[u8] {
    text.as_ref()
        .as_bytes()
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
}

/// Length with the NUL. A text never reaches 2 GiB: sources are capped far below.
fn length(text: &[u8]) -> i32 {
    i32::try_from(text.len() + 1).unwrap_or(1)
}

fn push(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(text);
    bytes.push(0);
}

/// The texts behind the fixed part of a record.
struct Texts<'a>(&'a [u8]);

impl<'a> Texts<'a> {
    /// Checks version and found; `start` is where the texts begin.
    fn of(bytes: &'a [u8], start: usize) -> Option<Self> {
        if i32_at(bytes, 0)? != VERSION || i32_at(bytes, 4)? != 1 {
            return None;
        }
        bytes.get(start..).map(Self)
    }

    fn next(&mut self, length: i32) -> Option<String> {
        let (text, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        let (nul, text) = text.split_last()?;
        if *nul != 0 || text.contains(&0) {
            return None;
        }
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> Passwd {
        Passwd {
            name: "bob".into(),
            password: "*".into(),
            uid: 1501,
            gid: 1500,
            gecos: "Bob".into(),
            home: "/home/bob".into(),
            shell: "/bin/sh".into(),
        }
    }

    fn physics(members: &[&str]) -> Group {
        Group {
            name: "physics".into(),
            password: "*".into(),
            gid: 1510,
            members: members.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_user_has_these_bytes() {
        // Read off `struct pw_response_header` of glibc 2.36 and its string order.
        let golden = b"\x02\0\0\0\x01\0\0\0\x04\0\0\0\x02\0\0\0\xdd\x05\0\0\xdc\x05\0\0\
            \x04\0\0\0\x0a\0\0\0\x08\0\0\0bob\0*\0Bob\0/home/bob\0/bin/sh\0";
        assert_eq!(bob().encode(), golden);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_group_and_a_group_list_have_these_bytes() {
        let golden = b"\x02\0\0\0\x01\0\0\0\x08\0\0\0\x02\0\0\0\xe6\x05\0\0\x02\0\0\0\
            \x04\0\0\0\x06\0\0\0physics\0*\0bob\0carol\0";
        assert_eq!(physics(&["bob", "carol"]).encode(), golden);
        let golden = b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\xe6\x05\0\0\xe8\x05\0\0";
        assert_eq!(encode_groups_of_user(&[1510, 1512]), golden);
    }

    #[test]
    fn records_round_trip_and_no_prefix_is_taken() {
        let bytes = bob().encode();
        assert_eq!(Passwd::decode(&bytes), Some(bob()));
        assert!((0..bytes.len()).all(|end| Passwd::decode(&bytes[..end]).is_none()));
        for members in [&[][..], &["bob"], &["bob", "carol"]] {
            let bytes = physics(members).encode();
            assert_eq!(Group::decode(&bytes), Some(physics(members)));
            assert_eq!(Group::decode_name(&bytes).as_deref(), Some("physics"));
            assert!((0..bytes.len()).all(|end| Group::decode(&bytes[..end]).is_none()));
        }
        let bytes = encode_groups_of_user(&[1, 2, 3]);
        assert_eq!(decode_groups_of_user(&bytes), Some(vec![1, 2, 3]));
        assert!((0..bytes.len()).all(|end| decode_groups_of_user(&bytes[..end]).is_none()));
    }

    #[test]
    fn a_nul_in_a_text_cuts_it_and_shifts_nothing() {
        let odd = Passwd {
            gecos: "Bob\0:root".into(),
            ..bob()
        };
        assert_eq!(Passwd::decode(&odd.encode()), Some(bob()));
    }

    #[test]
    fn absence_is_no_record() {
        for query in [Query::UserByName, Query::GroupById, Query::GroupsOfUser] {
            for known in [true, false] {
                let bytes = absent(query, known);
                assert_eq!(i32_at(&bytes, 4), Some(if known { 0 } else { -1 }));
                assert_eq!(Passwd::decode(&bytes), None);
                assert_eq!(Group::decode(&bytes), None);
                assert_eq!(decode_groups_of_user(&bytes), None);
            }
        }
    }
}
