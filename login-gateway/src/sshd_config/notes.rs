//! What the administrator must know about the result.

use super::blocks::Line;

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The line has no equal and is not in the result.
    LeftOut,
    /// It has no equal, and the logins it is about are refused, since they would get more.
    Closed,
    /// It is in the result, in another form or with another number.
    Changed,
}

impl Kind {
    /// The word in front of a printed note.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeftOut => "left out",
            Self::Closed => "closed",
            Self::Changed => "changed",
        }
    }
}

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What happened to it.
    pub kind: Kind,
    /// The file; empty if nothing was written about it anywhere.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The keyword as written.
    pub keyword: String,
    /// Why, and what to do.
    pub text: String,
    /// Place among all lines read.
    pub(super) order: usize,
}

/// Adds notes about lines.
pub(super) trait Notes {
    fn note(&mut self, kind: Kind, line: &Line, text: impl Into<String>);
}

impl Notes for Vec<Note> {
    fn note(&mut self, kind: Kind, line: &Line, text: impl Into<String>) {
        self.push(Note {
            kind,
            file: line.file.clone(),
            line: line.number,
            keyword: line.name.clone(),
            text: text.into(),
            order: line.order,
        });
    }
}

/// A note about what the file does not say.
pub(super) fn unsaid(keyword: &str, text: &str) -> Note {
    Note {
        kind: Kind::Changed,
        file: String::new(),
        line: 0,
        keyword: keyword.into(),
        text: text.into(),
        order: usize::MAX,
    }
}
