//! Numbers for users and groups: taken from the counter entry without races, never given twice.
//! One row of numbers serves both, so that a user's own group can have the user's number.

use crate::directory::Directory;
use crate::entry::Entry;
use crate::error::AdminError;
use crate::holders::{LocalAccounts, holders};
use crate::plan::{Change, Kind, Step};
use crate::schema::Offers;
use crate::settings::Settings;

/// The attributes of the counter entry; each that is there holds the next free number.
const COUNTED: [&str; 2] = ["uidNumber", "gidNumber"];
/// Begins a `description` of the counter entry: a number above the counter that was used and freed.
const RETIRED: &str = "retired ";
/// Blocks tried before giving up; numbers in use are passed over by ever larger blocks.
const TRIES: u32 = 1000;
/// Largest block, in numbers; one search asks whether any of it is in use.
const BLOCK: u32 = 64;

/// Why nobody may have this number, whatever the configuration says.
///
/// Below 1000 are the system's own accounts (Debian policy 9.2.2); 61184 to 65519 are made up by
/// systemd on the fly, 65534 and 65535 stand for "nobody" and "none" (systemd, UIDS-GIDS).
pub fn forbidden(id: u32) -> Option<&'static str> {
    match id {
        0..1000 => Some("one of the system's own (below 1000)"),
        61_184..=65_535 => Some("one that systems use for themselves (61184 to 65535)"),
        0x7fff_ffff.. => Some("too large"),
        _ => None,
    }
}

/// Checks a number that was asked for by the administrator.
///
/// # Errors
/// [`AdminError::IdRange`].
pub fn judge(id: u32, settings: &Settings, outside_range: bool) -> Result<(), AdminError> {
    if let Some(why) = forbidden(id) {
        return Err(AdminError::IdRange {
            id,
            why: why.into(),
        });
    }
    let range = &settings.id_range;
    if !outside_range && !range.contains(&id) {
        let why = format!("outside {} to {}", range.start(), range.end());
        return Err(AdminError::IdRange { id, why });
    }
    Ok(())
}

/// The counter entry.
pub struct Counter<'a> {
    settings: &'a Settings,
    /// Whether the server increments by itself.
    increment: bool,
}

impl<'a> Counter<'a> {
    /// The counter of this configuration on a server that offers this.
    pub fn new(settings: &'a Settings, offers: &Offers, compare_and_set: bool) -> Self {
        Self {
            settings,
            increment: offers.increment && !compare_and_set,
        }
    }

    /// Takes a number that nobody has, had or will get again.
    ///
    /// # Errors
    /// [`AdminError::IdsUsedUp`], [`AdminError::Counter`], or that of an operation.
    pub async fn take(
        &self,
        directory: &mut Directory,
        local: &LocalAccounts,
    ) -> Result<u32, AdminError> {
        let (min, max) = (
            *self.settings.id_range.start(),
            *self.settings.id_range.end(),
        );
        let mut block = 1;
        for _ in 0..TRIES {
            let first = self.advance(directory, block).await?;
            if first > u64::from(max) {
                return Err(self.used_up(first));
            }
            let last = (first + u64::from(block) - 1).min(u64::from(max)) as u32;
            if last < min {
                self.raise(directory, min).await?;
                continue;
            }
            let ids: Vec<u32> = (min.max(first as u32)..=last).collect();
            let taken = holders(directory, self.settings, local, &ids).await?;
            let (_, entry) = self.read(directory).await?;
            let free = |id: &u32| {
                forbidden(*id).is_none()
                    && taken.iter().all(|holder| holder.id != *id)
                    && !is_retired(&entry, *id)
            };
            if let Some(id) = ids.into_iter().find(free) {
                return Ok(id);
            }
            block = (block * 2).min(BLOCK);
        }
        Err(self.unusable("gave only numbers that are in use; is it far below them?"))
    }

    /// The number that would come next, without taking it.
    ///
    /// # Errors
    /// [`AdminError::Counter`].
    pub async fn peek(&self, directory: &mut Directory) -> Result<u32, AdminError> {
        let (next, _) = self.read(directory).await?;
        if next > u64::from(*self.settings.id_range.end()) {
            return Err(self.used_up(next));
        }
        Ok((next as u32).max(*self.settings.id_range.start()))
    }

    /// The step that keeps a number from coming back once its owner is gone: needed only where the
    /// counter has not passed it, since it never goes down.
    ///
    /// # Errors
    /// [`AdminError`] of reading the counter.
    pub async fn retire(
        &self,
        directory: &mut Directory,
        id: u32,
    ) -> Result<Option<Step>, AdminError> {
        if !self.settings.id_range.contains(&id) {
            return Ok(None);
        }
        let (next, entry) = self.read(directory).await?;
        if u64::from(id) < next || is_retired(&entry, id) {
            return Ok(None);
        }
        let change = Change::new(Kind::Add, "description", &[&format!("{RETIRED}{id}")]);
        Ok(Some(Step::modify(&self.settings.id_counter, change)))
    }

    /// The step that makes the counter, above every number in use inside the range; none where it is
    /// there.
    ///
    /// # Errors
    /// [`AdminError`] of the searches, or [`AdminError::Value`] where its DN cannot be made.
    pub async fn creation(&self, directory: &mut Directory) -> Result<Option<Step>, AdminError> {
        let settings = self.settings;
        if directory
            .read(&settings.id_counter, &COUNTED)
            .await?
            .is_some()
        {
            self.read(directory).await?;
            return Ok(None);
        }
        let mut next = *settings.id_range.start();
        for (base, class, attribute) in [
            (&settings.user_base, "posixAccount", "uidNumber"),
            (&settings.group_base, "posixGroup", "gidNumber"),
        ] {
            let filter = format!("(objectClass={class})");
            let used = directory.search(base, &filter, &[attribute]).await?;
            let used = used.iter().filter_map(|entry| entry.number(attribute));
            next = used
                .filter(|id| settings.id_range.contains(id))
                .map(|id| id + 1)
                .fold(next, u32::max);
        }
        let name = settings
            .id_counter
            .strip_prefix("cn=")
            .and_then(|rest| rest.split(',').next())
            .filter(|name| !name.contains(['\\', '+', '"']))
            .ok_or_else(|| self.unusable("has no plain 'cn=...' name; make that entry yourself"))?;
        let text = |value: &str| value.as_bytes().to_vec();
        let attributes = vec![
            (
                "objectClass",
                vec![text("device"), text("extensibleObject")],
            ),
            ("cn", vec![text(name)]),
            (
                "description",
                vec![text("next free ids of login-admin; only ever incremented")],
            ),
            ("uidNumber", vec![text(&next.to_string())]),
            ("gidNumber", vec![text(&next.to_string())]),
        ];
        Ok(Some(Step::Add {
            dn: settings.id_counter.clone(),
            attributes,
        }))
    }

    /// Reads the counter: the next number, and the entry.
    async fn read(&self, directory: &mut Directory) -> Result<(u64, Entry), AdminError> {
        let attributes = [COUNTED[0], COUNTED[1], "description"];
        let entry = directory
            .read(&self.settings.id_counter, &attributes)
            .await?;
        let entry = entry.ok_or_else(|| self.unusable("is not there or may not be read"))?;
        Ok((self.next(&entry)?, entry))
    }

    /// Moves the counter on by `block` and returns the first number of that block.
    async fn advance(&self, directory: &mut Directory, block: u32) -> Result<u64, AdminError> {
        if !self.increment {
            return self.set(directory, |next| next + u64::from(block)).await;
        }
        let (_, before) = self.read(directory).await?;
        let attributes = counted(&before);
        let after = directory
            .increment(&self.settings.id_counter, &attributes, block)
            .await?;
        let after = after
            .ok_or_else(|| self.unusable("was incremented, but the server did not say to what"))?;
        Ok(self.next(&after)?.saturating_sub(u64::from(block)))
    }

    async fn raise(&self, directory: &mut Directory, to: u32) -> Result<(), AdminError> {
        self.set(directory, |next| next.max(u64::from(to)))
            .await
            .map(drop)
    }

    /// Compare and set: the old values are deleted by value, which fails where somebody was faster.
    /// Returns the number from before.
    async fn set(
        &self,
        directory: &mut Directory,
        new: impl Fn(u64) -> u64,
    ) -> Result<u64, AdminError> {
        const NO_SUCH_ATTRIBUTE: u32 = 16;
        for _ in 0..TRIES {
            let (next, entry) = self.read(directory).await?;
            let goal = new(next).to_string();
            let changes = counted(&entry)
                .into_iter()
                .flat_map(|attribute| {
                    let old = entry.text(attribute).unwrap_or_default();
                    let change = |kind, value: &str| Change::new(kind, attribute, &[value]);
                    [change(Kind::Delete, old), change(Kind::Add, &goal)]
                })
                .collect();
            let step = Step::Modify {
                dn: self.settings.id_counter.clone(),
                changes,
            };
            match directory.make(&step).await {
                Ok(()) => return Ok(next),
                Err(error) if error.code() == Some(NO_SUCH_ATTRIBUTE) => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.unusable("is changed by others all the time"))
    }

    fn next(&self, entry: &Entry) -> Result<u64, AdminError> {
        counted(entry)
            .into_iter()
            .map(|attribute| {
                entry
                    .text(attribute)
                    .and_then(|text| text.parse::<u64>().ok())
            })
            .try_fold(None, |most, number| {
                number.map(|number| Some(number.max(most.unwrap_or(0))))
            })
            .flatten()
            .ok_or_else(|| self.unusable("has no number in 'uidNumber' or 'gidNumber'"))
    }

    fn unusable(&self, problem: &'static str) -> AdminError {
        AdminError::Counter {
            counter: self.settings.id_counter.clone(),
            problem,
        }
    }

    fn used_up(&self, next: u64) -> AdminError {
        AdminError::IdsUsedUp {
            counter: self.settings.id_counter.clone(),
            min: *self.settings.id_range.start(),
            max: *self.settings.id_range.end(),
            next,
        }
    }
}

/// Which of the counted attributes this entry has.
fn counted(entry: &Entry) -> Vec<&'static str> {
    COUNTED
        .into_iter()
        .filter(|attribute| !entry.bytes(attribute).is_empty())
        .collect()
}

fn is_retired(entry: &Entry, id: u32) -> bool {
    let number = |text: &str| text.strip_prefix(RETIRED)?.trim().parse::<u32>().ok();
    entry
        .texts("description")
        .any(|text| number(text) == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_are_nobodys() {
        for id in [
            0,
            1,
            999,
            61_184,
            65_534,
            65_535,
            u32::MAX,
            u32::MAX - 1,
            0x7fff_ffff,
        ] {
            assert!(forbidden(id).is_some(), "{id}");
        }
        for id in [1000, 2000, 61_183, 65_536, 0x7fff_fffe] {
            assert!(forbidden(id).is_none(), "{id}");
        }
    }
}
