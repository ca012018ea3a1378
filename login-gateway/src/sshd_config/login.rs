//! AllowUsers, DenyUsers, AllowGroups, DenyGroups as blocks with `allow-login`.
//!
//! sshd asks in this order: DenyUsers, AllowUsers, DenyGroups, AllowGroups; each must let the user
//! pass. Of our blocks the first that fits counts, so refusals stand first, then whoever is in both
//! lists of the allowed, then nobody.

use toml::Table;

use super::blocks::{Block, Line};
use super::criteria::{Criteria, is_any, networks};
use super::notes::{Kind, Note, Notes};

const KEYWORDS: [&str; 4] = ["denyusers", "allowusers", "denygroups", "allowgroups"];

/// The lists above all blocks.
pub struct Logins<'a> {
    global: &'a Block,
}

impl<'a> Logins<'a> {
    /// Those of this block.
    pub fn of(global: &'a Block) -> Self {
        Self { global }
    }

    /// Blocks that decide for everybody whom no block of [`Logins::in_block`] is about, and whether
    /// the rest may log in.
    pub fn everywhere(&self, notes: &mut Vec<Note>) -> (bool, Vec<Table>) {
        let lists = KEYWORDS.map(|k| self.global.all(k).collect::<Vec<_>>());
        let closed = !lists[1].is_empty() || !lists[3].is_empty();
        (!closed, decide(&Criteria::default(), &lists, notes))
    }

    /// Blocks that decide for logins that fit a `Match` block with lists of its own.
    pub fn in_block(&self, block: &Block, about: &Criteria, notes: &mut Vec<Note>) -> Vec<Table> {
        if KEYWORDS.iter().all(|k| block.get(k).is_none()) {
            return Vec::new();
        }
        let lists = KEYWORDS.map(|k| {
            let own: Vec<&Line> = block.all(k).collect();
            if own.is_empty() {
                self.global.all(k).collect()
            } else {
                own
            }
        });
        let closed = !lists[1].is_empty() || !lists[3].is_empty();
        let mut tables = decide(about, &lists, notes);
        tables.push(entry(about, !closed));
        tables
    }
}

/// Refusals, then permissions.
fn decide(about: &Criteria, lists: &[Vec<&Line>; 4], notes: &mut Vec<Note>) -> Vec<Table> {
    let [deny_users, allow_users, deny_groups, allow_groups] = lists;
    let mut tables = Vec::new();
    for (criteria, _) in users(deny_users, true, notes) {
        push(&mut tables, about, &criteria, false, deny_users, notes);
    }
    let refused = groups(deny_groups, notes);
    if let Some(group) = refused {
        let criteria = Criteria {
            group,
            ..Criteria::default()
        };
        push(&mut tables, about, &criteria, false, deny_groups, notes);
    }
    let group = groups(allow_groups, notes).unwrap_or_default();
    if !allow_groups.is_empty() && group.is_empty() {
        return tables;
    }
    if allow_users.is_empty() {
        if !group.is_empty() {
            let criteria = Criteria {
                group,
                ..Criteria::default()
            };
            push(&mut tables, about, &criteria, true, allow_groups, notes);
        }
        return tables;
    }
    for (mut criteria, _) in users(allow_users, false, notes) {
        criteria.group.clone_from(&group);
        push(&mut tables, about, &criteria, true, allow_users, notes);
    }
    tables
}

fn entry(criteria: &Criteria, allow: bool) -> Table {
    let mut table = criteria.to_table();
    table.insert("allow-login".into(), allow.into());
    table
}

/// Adds a block for logins that fit both. A refusal that cannot be said that way refuses all of the
/// block's.
fn push(
    tables: &mut Vec<Table>,
    about: &Criteria,
    criteria: &Criteria,
    allow: bool,
    lines: &[&Line],
    notes: &mut Vec<Note>,
) {
    match about.and(criteria) {
        Some(both) => tables.push(entry(&both, allow)),
        // Names that are all plain and differ exclude each other: nothing to say.
        None if plain(&about.user) && plain(&criteria.user) && criteria.group.is_empty() => {}
        None => {
            if let Some(line) = lines.first() {
                notes.note(
                    Kind::Closed,
                    line,
                    "the names of the Match block and of this list cannot be said together; write one \
                     [[match]] block with the names that are meant",
                );
            }
            if !allow {
                tables.push(entry(about, false));
            }
        }
    }
}

fn plain(names: &[String]) -> bool {
    !names.is_empty() && names.iter().all(|n| !n.contains(['*', '?', '!']))
}

/// The users of a list: those without a host together, each `user@host` apart.
fn users<'a>(
    lines: &[&'a Line],
    refuse: bool,
    notes: &mut Vec<Note>,
) -> Vec<(Criteria, Option<&'a Line>)> {
    let mut together = Vec::new();
    let mut apart = Vec::new();
    for line in lines {
        for word in &line.arguments {
            let (user, host) = match word.rsplit_once('@') {
                Some((user, host)) => (user, Some(host)),
                None => (word.as_str(), None),
            };
            if user.starts_with('!') {
                let kind = Kind::Changed;
                notes.note(
                    kind,
                    line,
                    format!("'{word}' names nobody: sshd takes the '!' as a letter"),
                );
                continue;
            }
            let host = host.filter(|host| !is_any(host));
            let Some(host) = host else {
                together.push(user.to_owned());
                continue;
            };
            let list: Vec<String> = host.split(',').map(str::to_owned).collect();
            match networks(&list) {
                Ok(source) => {
                    let user = vec![user.to_owned()];
                    apart.push((
                        Criteria {
                            user,
                            source,
                            ..Criteria::default()
                        },
                        Some(*line),
                    ));
                }
                Err(why) if refuse => {
                    notes.note(
                        Kind::Closed,
                        line,
                        format!("'{word}': {why}; refused from everywhere"),
                    );
                    together.push(user.to_owned());
                }
                Err(why) => {
                    notes.note(
                        Kind::Closed,
                        line,
                        format!("'{word}': {why}; name its network"),
                    );
                }
            }
        }
    }
    let mut all = apart;
    if !together.is_empty() {
        let user = if together.iter().any(|u| is_any(u)) {
            Vec::new()
        } else {
            together
        };
        all.insert(
            0,
            (
                Criteria {
                    user,
                    ..Criteria::default()
                },
                lines.first().copied(),
            ),
        );
    }
    all
}

/// Patterns of a list of groups; `None` without one.
fn groups(lines: &[&Line], notes: &mut Vec<Note>) -> Option<Vec<String>> {
    let mut patterns = Vec::new();
    for line in lines {
        for word in &line.arguments {
            if word.starts_with('!') {
                let kind = Kind::Changed;
                notes.note(
                    kind,
                    line,
                    format!("'{word}' names nothing: sshd takes the '!' as a letter"),
                );
            } else {
                patterns.push(word.clone());
            }
        }
    }
    (!patterns.is_empty()).then_some(patterns)
}
