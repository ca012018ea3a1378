//! What is kept of one password: an Argon2id tag (RFC 9106) that is worth nothing without the secret.
//!
//! Password, salt, secret and everything that the tag is bound to go into it, so that a record in the file
//! can be neither tried out without the secret, nor lent to another user, nor made to count for longer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use argon2::{Algorithm, Argon2, AssociatedData, Block, ParamsBuilder, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::{core::Subject, replica::Uuid};

/// The second choice of RFC 9106, section 4: 64 MiB, three passes, four lanes.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Our clock may have been set back by so much since the password was taken.
const CLOCK: Duration = Duration::from_secs(300);

/// A salt, in bytes.
pub type Salt = [u8; 16];
/// What Argon2id makes, in bytes.
pub type Tag = [u8; 32];

/// Why a kept password does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// It was taken too long ago, or the directory lets it count no longer.
    Old,
    /// Its user is gone, or another one.
    Gone,
    /// It has been changed since.
    Changed,
    /// It is to be changed.
    MustChange,
}

impl Stale {
    /// For the log.
    pub fn words(self) -> &'static str {
        match self {
            Self::Old => "it is too old",
            Self::Gone => "its user is gone",
            Self::Changed => "the password has been changed",
            Self::MustChange => "the password is to be changed",
        }
    }
}

/// What a tag is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bond {
    /// Login name.
    pub user: String,
    /// The domain; empty for the only one.
    pub domain: String,
    /// The entry, as the server spells its DN.
    pub dn: String,
    /// Its UUID, if the server tells.
    pub uuid: Option<Uuid>,
    /// When the password had last been changed, if the server tells.
    pub changed: Option<i64>,
    /// When a server took it, in seconds since 1970.
    pub since: u64,
    /// Until when it counts, in seconds since 1970.
    pub until: u64,
}

/// What is kept of one password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// What the tag is bound to.
    pub bond: Bond,
    /// Random.
    pub salt: Salt,
    /// The tag.
    pub tag: Tag,
}

impl Bond {
    /// The bond of a password that was taken at `since` and counts for `valid_for`.
    pub fn new(user: &str, subject: Subject, since: SystemTime, valid_for: Duration) -> Self {
        Self {
            user: user.to_owned(),
            domain: subject.domain,
            dn: subject.dn,
            uuid: subject.uuid,
            changed: subject.changed,
            since: seconds(since),
            until: seconds(since).saturating_add(valid_for.as_secs()),
        }
    }

    /// Why it does not count now; `subject` is what the replica says of the user.
    ///
    /// # Errors
    /// [`Stale`].
    pub fn judge(
        &self,
        subject: Option<&Subject>,
        valid_for: Duration,
        now: SystemTime,
    ) -> Result<(), Stale> {
        let Some(subject) = subject else {
            return Err(Stale::Gone);
        };
        if (&subject.domain, &subject.dn, subject.uuid) != (&self.domain, &self.dn, self.uuid) {
            return Err(Stale::Gone);
        }
        if subject.must_change {
            return Err(Stale::MustChange);
        }
        // Not "later than": the server's clock is not ours.
        if subject.changed != self.changed {
            return Err(Stale::Changed);
        }
        let now = seconds(now);
        let until = self.since.saturating_add(valid_for.as_secs());
        if now >= self.until.min(until) || now.saturating_add(CLOCK.as_secs()) < self.since {
            return Err(Stale::Old);
        }
        Ok(())
    }

    /// All of it as 32 bytes, for Argon2's associated data.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for text in [&self.user, &self.domain, &self.dn] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
        digest.update([u8::from(self.uuid.is_some())]);
        digest.update(self.uuid.unwrap_or_default());
        digest.update([u8::from(self.changed.is_some())]);
        digest.update(self.changed.unwrap_or_default().to_le_bytes());
        digest.update(self.since.to_le_bytes());
        digest.update(self.until.to_le_bytes());
        digest.finalize().into()
    }
}

impl Verifier {
    /// What is to be kept of a password. Takes 64 MiB of memory and some 0.2 s of a processor.
    ///
    /// # Errors
    /// Without randomness or memory.
    pub fn make(bond: Bond, secret: &[u8], password: &[u8]) -> Result<Self, &'static str> {
        let salt = random()?;
        let tag = tag(secret, password, &salt, bond.digest())?;
        Ok(Self { bond, salt, tag })
    }

    /// Whether this is the password; the same work whatever the answer.
    ///
    /// # Errors
    /// Without memory.
    pub fn is_of(&self, secret: &[u8], password: &[u8]) -> Result<bool, &'static str> {
        let tag = tag(secret, password, &self.salt, self.bond.digest())?;
        Ok(same(&tag, &self.tag))
    }
}

/// What an empty password with no bond becomes: two secrets can be told apart by it, at the price of one
/// guess each.
///
/// # Errors
/// Without memory.
pub fn mark_of(secret: &[u8], salt: &Salt) -> Result<Tag, &'static str> {
    tag(secret, b"", salt, [0; 32])
}

/// As many random bytes as a salt has.
///
/// # Errors
/// If the system has none.
pub fn random() -> Result<Salt, &'static str> {
    let mut salt = Salt::default();
    getrandom::fill(&mut salt).map_err(|_| "there is no randomness")?;
    Ok(salt)
}

/// Time is the same wherever they differ.
pub fn same(left: &Tag, right: &Tag) -> bool {
    left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn tag(secret: &[u8], password: &[u8], salt: &Salt, data: [u8; 32]) -> Result<Tag, &'static str> {
    let params = AssociatedData::new(&data).and_then(|data| {
        ParamsBuilder::new()
            .m_cost(MEMORY_KIB)
            .t_cost(PASSES)
            .p_cost(LANES)
            .output_len(Tag::default().len())
            .data(data)
            .build()
    });
    let argon = params.and_then(|params| {
        Argon2::new_with_secret(secret, Algorithm::Argon2id, Version::V0x13, params)
    });
    let argon = argon.map_err(|_| "the secret does not suit Argon2")?;
    let mut memory: Vec<Block> = Vec::new();
    let count = argon.params().block_count();
    memory
        .try_reserve_exact(count)
        .map_err(|_| "there is no memory for Argon2")?;
    memory.resize(count, Block::new());
    let mut tag = Tag::default();
    let made = argon.hash_password_into_with_memory(password, salt, &mut tag, &mut memory);
    memory.iter_mut().for_each(Zeroize::zeroize);
    made.map_err(|_| "Argon2 failed").map(|()| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            at: 0,
            domain: String::new(),
            dn: "uid=bob".into(),
            uuid: Some([7; 16]),
            changed: Some(5),
            must_change: false,
            lenient: false,
        }
    }

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn bond() -> Bond {
        Bond::new("bob", subject(), at(1000), DAY)
    }

    #[test]
    fn a_tag_is_bound_to_secret_user_entry_and_time() {
        let made = Verifier::make(bond(), b"secret", b"right").unwrap();
        let check = |verifier: &Verifier, secret: &[u8], password: &[u8], good| {
            assert_eq!(verifier.is_of(secret, password), Ok(good), "{verifier:?}");
        };
        check(&made, b"secret", b"right", true);
        check(&made, b"secret", b"wrong", false);
        check(&made, b"secreT", b"right", false);
        let with = |change: fn(&mut Bond)| {
            let mut other = made.clone();
            change(&mut other.bond);
            other
        };
        let others = [
            with(|bond| bond.user = "eve".into()),
            with(|bond| bond.dn = "uid=eve".into()),
            with(|bond| bond.domain = "other".into()),
            with(|bond| bond.uuid = None),
            with(|bond| bond.changed = Some(6)),
            with(|bond| bond.changed = None),
            with(|bond| bond.since += 1),
            with(|bond| bond.until += 1),
            // What is taken from one field and given to the next is not the same.
            with(|bond| {
                bond.user = "bobu".into();
                bond.dn = "id=bob".into();
            }),
        ];
        for other in others {
            check(&other, b"secret", b"right", false);
        }
        let again = Verifier::make(bond(), b"secret", b"right").unwrap();
        assert!(made.salt != again.salt && made.tag != again.tag);
    }

    #[test]
    fn argon2id_with_secret_and_data_is_that_of_rfc_9106() {
        // Section 5.3: its parameters are smaller, its way of putting secret and data in is ours.
        let params = ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(AssociatedData::new(&[4; 12]).unwrap())
            .build()
            .unwrap();
        let secret = [3; 8];
        let argon =
            Argon2::new_with_secret(&secret, Algorithm::Argon2id, Version::V0x13, params).unwrap();
        let mut tag = Tag::default();
        argon
            .hash_password_into(&[1; 32], &[2; 16], &mut tag)
            .unwrap();
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
        assert_eq!(hex, expected);
    }

    #[test]
    fn for_an_hour_after_a_change_windows_takes_the_old_one() {
        let check = |lenient, changed, now, expected| {
            let subject = Subject {
                lenient,
                changed,
                ..subject()
            };
            assert_eq!(subject.is_unsettled(at(now)), expected, "{subject:?} {now}");
        };
        check(true, Some(10_000), 10_000, true);
        check(true, Some(10_000), 13_899, true);
        check(true, Some(10_000), 13_900, false);
        check(true, Some(10_000), 9_000, true);
        check(true, None, 100_000, false);
        check(false, Some(10_000), 10_000, false);
    }

    #[test]
    fn what_counts_and_for_how_long() {
        let check = |subject: Option<Subject>, now, valid_for, expected| {
            let judged = bond().judge(subject.as_ref(), valid_for, at(now));
            assert_eq!(judged, expected, "{subject:?} {now}");
        };
        let with = |change: fn(&mut Subject)| {
            let mut subject = subject();
            change(&mut subject);
            Some(subject)
        };
        let day = DAY.as_secs();
        check(Some(subject()), 1000, DAY, Ok(()));
        check(Some(subject()), 999 + day, DAY, Ok(()));
        check(Some(subject()), 1000 + day, DAY, Err(Stale::Old));
        check(Some(subject()), 1000 + day, 2 * DAY, Err(Stale::Old));
        check(Some(subject()), 999 + day / 2, DAY / 2, Ok(()));
        check(Some(subject()), 1000 + day / 2, DAY / 2, Err(Stale::Old));
        check(Some(subject()), 700, DAY, Ok(()));
        check(Some(subject()), 699, DAY, Err(Stale::Old));
        check(None, 1000, DAY, Err(Stale::Gone));
        check(
            with(|s| s.uuid = Some([8; 16])),
            1000,
            DAY,
            Err(Stale::Gone),
        );
        check(with(|s| s.uuid = None), 1000, DAY, Err(Stale::Gone));
        check(with(|s| s.domain.push('x')), 1000, DAY, Err(Stale::Gone));
        check(with(|s| s.dn.push('x')), 1000, DAY, Err(Stale::Gone));
        check(
            with(|s| s.changed = Some(6)),
            1000,
            DAY,
            Err(Stale::Changed),
        );
        check(
            with(|s| s.changed = Some(4)),
            1000,
            DAY,
            Err(Stale::Changed),
        );
        check(with(|s| s.changed = None), 1000, DAY, Err(Stale::Changed));
        check(
            with(|s| s.must_change = true),
            1000,
            DAY,
            Err(Stale::MustChange),
        );
    }
}
