//! Changes to be made, in order: shown as LDIF, made one by one, undone where one fails. Why they
//! are made does not live here.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::directory::Directory;
use crate::error::AdminError;

/// One change to one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A new entry.
    Add {
        /// Where.
        dn: String,
        /// Attributes, each with at least one value.
        attributes: Vec<(&'static str, Vec<Vec<u8>>)>,
    },
    /// Values of an entry.
    Modify {
        /// Where.
        dn: String,
        /// All or none of these are made.
        changes: Vec<Change>,
    },
    /// An entry goes.
    Delete {
        /// Where.
        dn: String,
    },
}

/// Values that come or go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which way.
    pub kind: Kind,
    /// Of what.
    pub attribute: &'static str,
    /// The values, at least one.
    pub values: Vec<Vec<u8>>,
}

/// Which way values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They come.
    Add,
    /// They go.
    Delete,
}

impl Change {
    /// A change of text values.
    pub fn new(kind: Kind, attribute: &'static str, values: &[&str]) -> Self {
        let values = values
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect();
        Self {
            kind,
            attribute,
            values,
        }
    }
}

impl Step {
    /// A change of one attribute.
    pub fn modify(dn: &str, change: Change) -> Self {
        Self::Modify {
            dn: dn.into(),
            changes: vec![change],
        }
    }

    /// What takes it back, where that can be known.
    fn undo(&self) -> Option<Self> {
        match self {
            Self::Add { dn, .. } => Some(Self::Delete { dn: dn.clone() }),
            Self::Delete { .. } => None,
            Self::Modify { dn, changes } => {
                let back = |change: &Change| {
                    let kind = match change.kind {
                        Kind::Add => Kind::Delete,
                        Kind::Delete => Kind::Add,
                    };
                    Change {
                        kind,
                        ..change.clone()
                    }
                };
                Some(Self::Modify {
                    dn: dn.clone(),
                    changes: changes.iter().rev().map(back).collect(),
                })
            }
        }
    }

    /// The change as a record of RFC 2849, with an empty line after it.
    pub fn ldif(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Add { dn, attributes } => {
                line(&mut text, "dn", dn.as_bytes());
                text.push_str("changetype: add\n");
                for (name, values) in attributes {
                    values.iter().for_each(|value| line(&mut text, name, value));
                }
            }
            Self::Modify { dn, changes } => {
                line(&mut text, "dn", dn.as_bytes());
                text.push_str("changetype: modify\n");
                for change in changes {
                    let kind = match change.kind {
                        Kind::Add => "add",
                        Kind::Delete => "delete",
                    };
                    let _ = writeln!(text, "{kind}: {}", change.attribute);
                    change
                        .values
                        .iter()
                        .for_each(|v| line(&mut text, change.attribute, v));
                    text.push_str("-\n");
                }
            }
            Self::Delete { dn } => {
                line(&mut text, "dn", dn.as_bytes());
                text.push_str("changetype: delete\n");
            }
        }
        text.push('\n');
        text
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { dn, .. } => write!(f, "add '{dn}'"),
            Self::Modify { dn, .. } => write!(f, "modify '{dn}'"),
            Self::Delete { dn } => write!(f, "delete '{dn}'"),
        }
    }
}

/// `name: value`, or `name:: base64` where the value is no SAFE-STRING (RFC 2849).
fn line(text: &mut String, name: &str, value: &[u8]) {
    let safe = value.iter().all(|byte| matches!(byte, 0x20..=0x7e))
        && !matches!(value.first(), Some(b' ' | b':' | b'<'))
        && value.last() != Some(&b' ');
    let _ = match std::str::from_utf8(value) {
        Ok(value) if safe => writeln!(text, "{name}: {value}"),
        _ => writeln!(text, "{name}:: {}", STANDARD.encode(value)),
    };
}

/// Makes the steps in order. Where one fails, those before it are undone, last first.
///
/// # Errors
/// [`AdminError::RolledBack`] where nothing of it is left, [`AdminError::HalfDone`] where something
/// is or may be; both name the step that failed.
pub async fn make_or_undo(directory: &mut Directory, steps: &[Step]) -> Result<(), AdminError> {
    for (index, step) in steps.iter().enumerate() {
        let Err(error) = directory.make(step).await else {
            continue;
        };
        // Without an answer it may have been made; "refused" means that it was not.
        let perhaps = error.code().is_none().then_some(step);
        return Err(take_back(directory, &steps[..index], perhaps, error).await);
    }
    Ok(())
}

/// Takes the steps back, last first, because of `cause`; returns the error that says what is left.
/// `perhaps` names a step of which it is not known whether it was made.
pub async fn take_back(
    directory: &mut Directory,
    steps: &[Step],
    perhaps: Option<&Step>,
    cause: AdminError,
) -> AdminError {
    let mut left = Vec::new();
    for step in steps.iter().rev() {
        let undone = match step.undo() {
            Some(undo) => directory.make(&undo).await.is_ok(),
            None => false,
        };
        if !undone {
            left.push(step.to_string());
        }
    }
    left.extend(perhaps.map(|step| format!("perhaps {step}")));
    let source = Box::new(cause);
    match left.is_empty() {
        true => AdminError::RolledBack(source),
        false => AdminError::HalfDone {
            left: left.join(", "),
            source,
        },
    }
}

/// Makes the steps in order and stops at the first that fails, leaving those before it: for removals,
/// where running the same command again goes on from there.
///
/// # Errors
/// [`AdminError::Unfinished`] naming what was done, or the first step's own error.
pub async fn make_as_far_as_possible(
    directory: &mut Directory,
    steps: &[Step],
) -> Result<(), AdminError> {
    for (index, step) in steps.iter().enumerate() {
        if let Err(error) = directory.make(step).await {
            let done: Vec<String> = steps[..index].iter().map(Step::to_string).collect();
            return Err(if done.is_empty() {
                error
            } else {
                AdminError::Unfinished {
                    done: done.join(", "),
                    source: Box::new(error),
                }
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_is_the_opposite_in_reverse() {
        let step = Step::Modify {
            dn: "cn=g".into(),
            changes: vec![
                Change::new(Kind::Delete, "member", &["cn=nobody"]),
                Change::new(Kind::Add, "member", &["uid=a"]),
            ],
        };
        let undo = step.undo().unwrap();
        assert_eq!(
            undo,
            Step::Modify {
                dn: "cn=g".into(),
                changes: vec![
                    Change::new(Kind::Delete, "member", &["uid=a"]),
                    Change::new(Kind::Add, "member", &["cn=nobody"]),
                ],
            }
        );
        assert_eq!(undo.undo().unwrap(), step);
        assert_eq!(Step::Delete { dn: "cn=g".into() }.undo(), None);
    }

    #[test]
    fn ldif_encodes_what_is_not_safe() {
        let step = Step::Add {
            dn: "uid=a".into(),
            attributes: vec![
                ("cn", vec!["Jos\u{e9}".into()]),
                ("gecos", vec![b"plain".to_vec()]),
                (
                    "sn",
                    vec![
                        b" lead".to_vec(),
                        b"trail ".to_vec(),
                        b":x".to_vec(),
                        b"\n".to_vec(),
                    ],
                ),
            ],
        };
        assert_eq!(
            step.ldif(),
            "dn: uid=a\nchangetype: add\ncn:: Sm9zw6k=\ngecos: plain\nsn:: IGxlYWQ=\n\
             sn:: dHJhaWwg\nsn:: Ong=\nsn:: Cg==\n\n"
        );
    }
}
