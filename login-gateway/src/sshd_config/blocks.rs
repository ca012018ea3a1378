//! The file as blocks: what stands above every `Match`, and each `Match` with its lines, included
//! files in their place.

use std::collections::BTreeSet;

use super::notes::{Kind, Note, Notes};
use super::words::{self, Words};
use super::{Files, ImportError};

/// Most bytes of all files together; sshd itself stops at 256 KiB.
pub const MAX_TEXT: usize = 1 << 20;
/// Deepest inclusion, as sshd has it.
const MAX_DEPTH: usize = 16;
/// Most lines that say something.
const MAX_LINES: usize = 20_000;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub file: String,
    pub number: usize,
    /// In lower case, aliases resolved.
    pub keyword: String,
    /// As written.
    pub name: String,
    pub arguments: Vec<String>,
    /// All behind the keyword, quotes included.
    pub rest: String,
    /// Place among all lines.
    pub order: usize,
}

impl Line {
    /// The first argument.
    pub fn first(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    /// Whether the first argument is `yes`, if it is `yes` or `no`.
    pub fn yes(&self) -> Option<bool> {
        match self.first().to_ascii_lowercase().as_str() {
            "yes" | "true" => Some(true),
            "no" | "false" => Some(false),
            _ => None,
        }
    }
}

/// Lines that hold for the same connections. The first block has no `Match` line.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// The `Match` line and, in an included file, those around it.
    pub matches: Vec<Line>,
    pub lines: Vec<Line>,
}

impl Block {
    /// The line that counts: the first.
    pub fn get(&self, keyword: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.keyword == keyword)
    }

    /// All lines of a keyword that adds up.
    pub fn all<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines
            .iter()
            .filter(move |line| line.keyword == keyword)
    }

    /// Arguments of all of them.
    pub fn words(&self, keyword: &str) -> Vec<String> {
        self.all(keyword)
            .flat_map(|line| line.arguments.clone())
            .collect()
    }
}

/// Keywords that together make one key of ours: two blocks that each set one of them do not add up
/// as sshd adds them.
const SHARED: [&[&str]; 2] = [
    &[
        "pubkeyauthentication",
        "passwordauthentication",
        "kbdinteractiveauthentication",
        "authenticationmethods",
    ],
    &["allowusers", "denyusers", "allowgroups", "denygroups"],
];

/// Says where two blocks would not add up.
pub fn shared_keys(blocks: &[Block], notes: &mut Vec<Note>) {
    for group in SHARED {
        let setting: Vec<(&Block, BTreeSet<&str>)> = blocks[1..]
            .iter()
            .map(|b| {
                (
                    b,
                    group
                        .iter()
                        .copied()
                        .filter(|k| b.get(k).is_some())
                        .collect(),
                )
            })
            .filter(|(_, set): &(_, BTreeSet<&str>)| !set.is_empty())
            .collect();
        for (at, (block, set)) in setting.iter().enumerate() {
            let before = setting[..at].iter().find(|(_, earlier)| earlier != set);
            if let (Some((earlier, _)), Some(line)) = (before, block.matches.last()) {
                let first = earlier.matches.last().map_or(0, |l| l.number);
                notes.note(
                    Kind::Changed,
                    line,
                    format!(
                        "a login that fits this block and the one of line {first} gets {} from that one \
                         alone; say in both what is to hold",
                        group[0]
                    ),
                );
            }
        }
    }
}

/// Reads a file and what it includes.
pub fn read(file: &str, text: &str, files: &dyn Files) -> Result<Vec<Block>, ImportError> {
    let mut reader = Reader {
        files,
        blocks: vec![Block::default()],
        order: 0,
        bytes: 0,
    };
    reader.file(file, text, 0, 0)?;
    Ok(reader.blocks)
}

struct Reader<'a> {
    files: &'a dyn Files,
    blocks: Vec<Block>,
    order: usize,
    bytes: usize,
}

impl Reader<'_> {
    /// `around` is the block that includes the file: after the file it goes on, and a `Match` in the
    /// file holds for connections that fit both.
    fn file(
        &mut self,
        file: &str,
        text: &str,
        around: usize,
        depth: usize,
    ) -> Result<(), ImportError> {
        let mut current = around;
        self.bytes += text.len();
        for (number, text) in (1..).zip(text.split('\n')) {
            let syntax = |what: &str| ImportError::Syntax {
                file: file.into(),
                line: number,
                what: what.into(),
            };
            if self.bytes > MAX_TEXT || self.order > MAX_LINES {
                return Err(syntax("the configuration is too long"));
            }
            let Some(Words {
                keyword,
                name,
                arguments,
                rest,
            }) = words::split(text).map_err(syntax)?
            else {
                continue;
            };
            self.order += 1;
            if arguments.is_empty() {
                return Err(syntax(&format!("{name} without a value")));
            }
            let line = Line {
                file: file.into(),
                number,
                keyword: alias(&keyword).into(),
                name,
                arguments,
                rest,
                order: self.order,
            };
            match line.keyword.as_str() {
                "include" if depth >= MAX_DEPTH => return Err(syntax("included too deep")),
                "include" => {
                    for pattern in &line.arguments {
                        let included = self.files.matching(pattern).map_err(|source| {
                            ImportError::Include {
                                file: file.into(),
                                line: number,
                                pattern: pattern.clone(),
                                source,
                            }
                        })?;
                        for (path, text) in included {
                            self.file(&path, &text, current, depth + 1)?;
                        }
                    }
                }
                "match" => {
                    if let Some(why) = super::criteria::misread(&line) {
                        return Err(syntax(&why));
                    }
                    let mut matches = self.blocks[around].matches.clone();
                    matches.push(line);
                    current = self.blocks.len();
                    self.blocks.push(Block {
                        matches,
                        lines: Vec::new(),
                    });
                }
                _ => self.blocks[current].lines.push(line),
            }
        }
        Ok(())
    }
}

/// Older names of keywords.
fn alias(keyword: &str) -> &str {
    match keyword {
        "challengeresponseauthentication" | "skeyauthentication" => "kbdinteractiveauthentication",
        "dsaauthentication" => "pubkeyauthentication",
        "pubkeyacceptedkeytypes" => "pubkeyacceptedalgorithms",
        "hostbasedacceptedkeytypes" => "hostbasedacceptedalgorithms",
        "hostdsakey" => "hostkey",
        "keepalive" => "tcpkeepalive",
        other => other,
    }
}
