//! Who gets tokens at all. Rules over what the kernel says of the caller (uid, gid, its groups) and
//! what NSS says (names, further groups). How often somebody may ask is not decided here.

use std::ops::RangeInclusive;

use sys::peer::PeerCredentials;

use crate::error::ShimError;
use crate::file::AccessTable;
use crate::identity::Answer;

/// Accounts that distributions give to daemons (`SYS_UID_MAX` of login.defs); Slurm's "nobody", 99,
/// is among them.
const SYSTEM: RangeInclusive<u32> = 1..=999;
/// What the kernel shows for users that our user namespace does not know.
const OVERFLOW: u32 = 65534;
/// No user.
const INVALID: u32 = u32::MAX;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Uid(RangeInclusive<u32>),
    Gid(RangeInclusive<u32>),
    User(String),
    Group(String),
}

/// The rules of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    system: Option<RangeInclusive<u32>>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// From the kernel.
    pub peer: PeerCredentials,
    /// Supplementary groups, from the kernel.
    pub groups: &'a [u32],
    /// From NSS.
    pub answer: &'a Answer,
}

/// Why somebody gets no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A rule of `deny` fits.
    #[error("'access.deny' names the caller")]
    Named,
    /// No rule of `allow` fits.
    #[error("'access.allow' does not name the caller")]
    NotNamed,
    /// An account of the system.
    #[error("an account of the system, which 'access.allow' does not name")]
    System,
    /// A user of a namespace that is not ours.
    #[error("the caller's uid means nothing here: another user namespace")]
    Foreign,
    /// A rule asks for groups or a name, and NSS does not answer.
    #[error("the caller's name and groups are not available")]
    Unknown,
}

impl Access {
    /// Checks what the file says.
    ///
    /// # Errors
    /// [`ShimError::Setting`] for a rule that is none.
    pub fn new(table: &AccessTable) -> Result<Self, ShimError> {
        let rules = |list: &[String]| -> Result<Vec<Rule>, ShimError> {
            list.iter().map(|text| rule(text)).collect()
        };
        let system = match table.system_uids.as_deref() {
            None => Some(SYSTEM),
            Some("") => None,
            Some(text) => Some(range(text).ok_or_else(|| bad(text))?),
        };
        Ok(Self {
            allow: rules(&table.allow)?,
            deny: rules(&table.deny)?,
            system,
        })
    }

    /// Whether the kernel must be asked for the caller's groups.
    pub fn asks_for_groups(&self) -> bool {
        self.allow
            .iter()
            .chain(&self.deny)
            .any(|rule| matches!(rule, Rule::Gid(_)))
    }

    /// Decides. `slurm_user` is never refused: it holds the key as it is, and its own requests keep
    /// the configuration fresh. Root is refused only by a rule of `deny`.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn judge(&self, caller: &Caller<'_>, slurm_user: u32) -> Result<(), Denied> {
        let uid = caller.peer.uid;
        if uid == slurm_user {
            return Ok(());
        }
        for rule in &self.deny {
            match rule.fits(caller) {
                Some(false) => {}
                Some(true) => return Err(Denied::Named),
                None => return Err(Denied::Unknown),
            }
        }
        if uid == 0 {
            return Ok(());
        }
        let fits: Vec<_> = self.allow.iter().map(|rule| rule.fits(caller)).collect();
        if fits.contains(&Some(true)) {
            return Ok(());
        }
        if fits.contains(&None) {
            return Err(Denied::Unknown);
        }
        if !self.allow.is_empty() {
            return Err(Denied::NotNamed);
        }
        if uid == OVERFLOW || uid == INVALID {
            return Err(Denied::Foreign);
        }
        match &self.system {
            Some(range) if range.contains(&uid) => Err(Denied::System),
            _ => Ok(()),
        }
    }
}

impl Rule {
    /// `None` if only NSS could say and it does not answer.
    fn fits(&self, caller: &Caller<'_>) -> Option<bool> {
        let known = match caller.answer {
            Answer::Found(identity) => Some(Some(identity)),
            Answer::Absent => Some(None),
            Answer::Unavailable => None,
        };
        match self {
            Self::Uid(range) => Some(range.contains(&caller.peer.uid)),
            Self::User(name) => known.map(|id| id.is_some_and(|id| id.name == *name)),
            Self::Group(name) => known.map(|id| id.is_some_and(|id| id.groups.contains_key(name))),
            Self::Gid(range) => {
                let kernel = range.contains(&caller.peer.gid)
                    || caller.groups.iter().any(|gid| range.contains(gid));
                let nss = known
                    .map(|id| id.is_some_and(|id| id.groups.values().any(|g| range.contains(g))));
                if kernel { Some(true) } else { nss }
            }
        }
    }
}

fn rule(text: &str) -> Result<Rule, ShimError> {
    let (kind, value) = text.split_once(':').ok_or_else(|| bad(text))?;
    let name = || (!value.is_empty()).then(|| value.to_owned());
    match kind {
        "uid" => range(value).map(Rule::Uid),
        "gid" => range(value).map(Rule::Gid),
        "user" => name().map(Rule::User),
        "group" => name().map(Rule::Group),
        _ => None,
    }
    .ok_or_else(|| bad(text))
}

/// `N` or `N-M`.
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

fn bad(text: &str) -> ShimError {
    ShimError::Setting(format!(
        "'access': '{text}' is not a rule such as \"uid:1000-59999\", \"gid:100\", \"user:alice\", \
         \"group:staff\""
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use slurm_auth::UserIdentity;

    use super::*;

    const SLURM: u32 = 401;

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        let list = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
        Access::new(&AccessTable {
            allow: list(allow),
            deny: list(deny),
            system_uids: None,
        })
        .unwrap()
    }

    fn alice() -> Answer {
        Answer::Found(Arc::new(UserIdentity {
            dir: "/".to_owned(),
            gecos: String::new(),
            groups: [("users".to_owned(), 100), ("staff".to_owned(), 2001)].into(),
            name: "alice".to_owned(),
            shell: "/bin/sh".to_owned(),
        }))
    }

    fn judge(access: &Access, uid: u32, gid: u32, answer: &Answer) -> Result<(), Denied> {
        let caller = Caller {
            peer: PeerCredentials { uid, gid, pid: 1 },
            groups: &[3000],
            answer,
        };
        access.judge(&caller, SLURM)
    }

    #[test]
    fn without_rules_only_the_system_is_kept_out() {
        let none = access(&[], &[]);
        for uid in [0, SLURM, 1000, 65533, 65535, 4_000_000_000] {
            assert_eq!(judge(&none, uid, 1, &Answer::Absent), Ok(()), "{uid}");
        }
        for uid in [1, 99, 999] {
            assert_eq!(
                judge(&none, uid, 1, &Answer::Unavailable),
                Err(Denied::System)
            );
        }
        for uid in [65534, u32::MAX] {
            assert_eq!(judge(&none, uid, 1, &Answer::Absent), Err(Denied::Foreign));
        }
        let open = Access::new(&AccessTable {
            system_uids: Some(String::new()),
            ..AccessTable::default()
        })
        .unwrap();
        assert_eq!(judge(&open, 99, 1, &Answer::Absent), Ok(()));
    }

    #[test]
    fn rules() {
        let check = |allow: &[&str], deny: &[&str], expected: Result<(), Denied>| {
            let judged = judge(&access(allow, deny), 1001, 7, &alice());
            assert_eq!(judged, expected, "{allow:?} {deny:?}");
        };
        for fits in [
            "uid:1001",
            "uid:1000-1001",
            "gid:7",
            "gid:2001",
            "gid:2990-3000",
            "user:alice",
            "group:staff",
        ] {
            check(&[fits], &[], Ok(()));
            check(&["uid:1", fits], &[], Ok(()));
            check(&[], &[fits], Err(Denied::Named));
            check(&[fits], &[fits], Err(Denied::Named));
        }
        for other in ["uid:1002-9999", "gid:8", "user:bob", "group:admins"] {
            check(&[other], &[], Err(Denied::NotNamed));
            check(&[], &[other], Ok(()));
        }
        // Root and SlurmUser need no rule; SlurmUser can have none against it.
        let narrow = access(&["uid:5"], &["uid:0", "uid:401"]);
        assert_eq!(
            judge(&narrow, 0, 0, &Answer::Unavailable),
            Err(Denied::Named)
        );
        assert_eq!(judge(&narrow, SLURM, 0, &Answer::Unavailable), Ok(()));
        assert_eq!(judge(&narrow, 5, 0, &Answer::Unavailable), Ok(()));
        assert_eq!(
            judge(&access(&["uid:9"], &[]), 0, 0, &Answer::Absent),
            Ok(())
        );
    }

    #[test]
    fn when_nss_is_silent_nobody_slips_through() {
        let silent = Answer::Unavailable;
        for rule in ["user:bob", "group:staff", "gid:2001"] {
            assert_eq!(
                judge(&access(&[], &[rule]), 1001, 7, &silent),
                Err(Denied::Unknown)
            );
            assert_eq!(
                judge(&access(&[rule], &[]), 1001, 7, &silent),
                Err(Denied::Unknown)
            );
            assert_eq!(
                judge(&access(&[rule, "uid:1001"], &[]), 1001, 7, &silent),
                Ok(())
            );
        }
    }

    #[test]
    fn what_is_no_rule() {
        for bad in [
            "", "1000", "uid", "uid:", "uid:x", "uid:2-1", "uid:-1", "user:", "colour:1", "uid:1-",
        ] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}
