//! What a terminal has shown, as text that can be shown again on another one: lines, colours and what
//! edits within a line. Everything else is left out, above all questions that the new terminal would
//! answer into the shell, and whole screens, which their programs draw anew.

use std::collections::{BTreeSet, VecDeque};

/// Bytes that are kept.
const MOST: usize = 128 * 1024;
/// Longest sequence of control characters that is understood.
const MAX_SEQUENCE: usize = 64;

/// Modes of a terminal (DECSET) that a program relies on when it is shown on another terminal: keys,
/// line wrap, cursor, mouse, the other screen, pastes in brackets.
const MODES: [u16; 12] = [1, 7, 12, 25, 1000, 1002, 1003, 1004, 1006, 1047, 1049, 2004];
/// Of these, on unless a program says otherwise.
const ON: [u16; 2] = [7, 25];

/// The text, and where the terminal stands.
#[derive(Debug)]
pub struct Scrollback {
    text: VecDeque<u8>,
    cut: bool,
    state: State,
    sequence: Vec<u8>,
    set: BTreeSet<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// Behind ESC.
    Escape,
    /// ECMA-48 control sequence.
    Control,
    /// Operating system command, device control string and the like, up to their end.
    String,
    /// The same, behind ESC.
    StringEscape,
}

impl Default for Scrollback {
    fn default() -> Self {
        Self {
            text: VecDeque::new(),
            cut: false,
            state: State::Text,
            sequence: Vec::new(),
            set: ON.into(),
        }
    }
}

impl Scrollback {
    /// Takes what the terminal is being shown.
    pub fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.one(*byte);
        }
        if self.text.len() > MOST {
            self.text.drain(..self.text.len() - MOST);
            self.cut = true;
        }
    }

    /// What brings a new terminal to where the old one was.
    pub fn replay(&self) -> Vec<u8> {
        let mut text: Vec<u8> = self.text.iter().copied().collect();
        if self.cut {
            // The first line is not whole.
            let line = text.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
            text.drain(..line);
        }
        text.extend_from_slice(b"\x1b[m");
        for mode in MODES {
            if self.set.contains(&mode) != ON.contains(&mode) {
                let to = if self.set.contains(&mode) { 'h' } else { 'l' };
                text.extend_from_slice(format!("\x1b[?{mode}{to}").as_bytes());
            }
        }
        text
    }

    /// A program has the whole screen.
    fn whole_screen(&self) -> bool {
        self.set.contains(&1049) || self.set.contains(&1047)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.whole_screen() {
            self.text.extend(bytes);
        }
    }

    fn one(&mut self, byte: u8) {
        match (self.state, byte) {
            (State::Text, 0x1b) => self.state = State::Escape,
            (State::Text, b'\n' | b'\r' | b'\t' | 0x08 | 0x20..=0x7e | 0x80..) => {
                self.keep(&[byte])
            }
            // The bell is heard once, and ENQ is a question.
            (State::Text, _) => {}
            (State::Escape, b'[') => {
                self.sequence.clear();
                self.state = State::Control;
            }
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => self.state = State::String,
            (State::Escape, 0x1b) => {}
            // Sequences of two characters, and those with something between.
            (State::Escape, 0x20..=0x2f) => {}
            (State::Escape, _) => self.state = State::Text,
            (State::Control, 0x40..=0x7e) => {
                self.state = State::Text;
                self.control(byte);
            }
            (State::Control, 0x1b) => self.state = State::Escape,
            (State::Control, _) if self.sequence.len() < MAX_SEQUENCE => self.sequence.push(byte),
            (State::Control, _) => {}
            (State::String, 0x07) => self.state = State::Text,
            (State::String, 0x1b) => self.state = State::StringEscape,
            (State::String, _) => {}
            (State::StringEscape, b'\\') => self.state = State::Text,
            (State::StringEscape, 0x1b) => {}
            (State::StringEscape, _) => self.state = State::String,
        }
    }

    fn control(&mut self, last: u8) {
        let sequence = std::mem::take(&mut self.sequence);
        let plain = sequence
            .iter()
            .all(|b| b.is_ascii_digit() || matches!(b, b';' | b':'));
        match last {
            // Colours; erasing and moving within a line; characters put in and taken out.
            b'm' | b'K' | b'C' | b'D' | b'P' | b'@' if plain => {
                self.keep(b"\x1b[");
                self.keep(&sequence);
                self.keep(&[last]);
            }
            b'h' | b'l' => {
                let Some(modes) = sequence.strip_prefix(b"?") else {
                    return;
                };
                for mode in String::from_utf8_lossy(modes).split(';') {
                    let known = mode.parse().ok().filter(|mode| MODES.contains(mode));
                    if let Some(mode) = known {
                        if last == b'h' {
                            self.set.insert(mode);
                        } else {
                            self.set.remove(&mode);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replayed(parts: &[&[u8]]) -> String {
        let mut scrollback = Scrollback::default();
        for part in parts {
            scrollback.take(part);
        }
        String::from_utf8_lossy(&scrollback.replay()).into_owned()
    }

    #[test]
    fn text_and_colours_stay_and_questions_do_not() {
        let check = |bytes: &[u8], expected: &str| {
            let all = replayed(&[bytes]);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(all, replayed(&single), "in one piece and in many");
            assert_eq!(all, format!("{expected}\x1b[m"));
        };
        check("a\r\n\tü\x08".as_bytes(), "a\r\n\tü\x08");
        check(b"\x1b[1;31mred\x1b[0m\x1b[K", "\x1b[1;31mred\x1b[0m\x1b[K");
        check(b"a\x1b[6nb\x1b[cc\x1b[>cd\x05\x07e\x1bZ", "abcde");
        check(
            b"a\x1b]11;?\x07b\x1b]0;title\x1b\\c\x1bP+q544e\x1b\\d",
            "abcd",
        );
        check(b"a\x1b[2J\x1b[H\x1b[10;5Hb\x1b(Bc\x1b7\x1b8", "abc");
        check(b"ls\x1b[2Cx\x1b[?6nq", "ls\x1b[2Cxq");
        let endless = [&b"a\x1b["[..], &b"1;".repeat(1000), b"mb"].concat();
        let seen = replayed(&[&endless]);
        assert!(seen.len() < 200 && seen.contains('b'), "{seen}");
    }

    #[test]
    fn whole_screens_are_left_to_their_programs() {
        let screen = b"before\r\n\x1b[?1049h\x1b[?25lscreen";
        assert_eq!(replayed(&[screen]), "before\r\n\x1b[m\x1b[?25l\x1b[?1049h");
        let after = replayed(&[screen, b"\x1b[?25h\x1b[?1049lafter"]);
        assert_eq!(after, "before\r\nafter\x1b[m");
        assert_eq!(
            replayed(&[b"\x1b[?1;2004;4711h"]),
            "\x1b[m\x1b[?1h\x1b[?2004h"
        );
    }

    #[test]
    fn memory_is_bounded_and_begins_with_a_line() {
        let mut scrollback = Scrollback::default();
        for n in 0..100_000 {
            scrollback.take(format!("line {n}\r\n").as_bytes());
        }
        let text = scrollback.replay();
        assert!(text.len() <= MOST + 10 && text.len() > MOST - 100);
        assert!(text.starts_with(b"line ") && text.ends_with(b"line 99999\r\n\x1b[m"));
    }
}
