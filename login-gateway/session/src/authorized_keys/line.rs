//! One line of `authorized_keys` taken apart: options, type, key. What the options mean is told in
//! `options`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// `[options] type base64 [comment]`.
pub struct Entry<'a> {
    pub options: OptionText<'a>,
    pub kind: &'a str,
    pub key: Vec<u8>,
}

/// The options as they stand in the line; empty if there are none.
#[derive(Clone, Copy)]
pub struct OptionText<'a>(&'a str);

impl<'a> OptionText<'a> {
    pub fn text(self) -> &'a str {
        self.0
    }

    /// Whether it is worth parsing to learn of a `cert-authority`.
    pub fn contains_authority(self) -> bool {
        const NAME: &[u8] = b"cert-authority";
        let mut places = self.0.as_bytes().windows(NAME.len());
        places.any(|place| place.eq_ignore_ascii_case(NAME))
    }
}

impl<'a> Entry<'a> {
    /// `None` for comments and lines that are no key.
    pub fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim();
        if line.starts_with('#') {
            return None;
        }
        let (first, rest) = split_word(line)?;
        let (options, kind, rest) = if is_key_type(first) {
            ("", first, rest)
        } else {
            let (kind, rest) = split_word(rest)?;
            (first, kind, rest)
        };
        let (encoded, _comment) = split_word(rest)?;
        let key = STANDARD.decode(encoded).ok()?;
        (is_key_type(kind) && names_itself(&key, kind)).then_some(Self {
            options: OptionText(options),
            kind,
            key,
        })
    }
}

/// The wire form starts with the type as a string, RFC 4253 section 6.6.
fn names_itself(key: &[u8], kind: &str) -> bool {
    let length = u32::try_from(kind.len()).map(u32::to_be_bytes);
    let (Ok(length), Some((start, rest))) = (length, key.split_first_chunk::<4>()) else {
        return false;
    };
    *start == length && rest.starts_with(kind.as_bytes())
}

fn is_key_type(word: &str) -> bool {
    [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ]
    .contains(&word)
}

/// The first word, where quotes keep blanks together, and what follows.
fn split_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = outside_quotes(text, |c| c == ' ' || c == '\t').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Position of the first character outside double quotes that matches; `\"` neither begins nor
/// ends a quote.
pub fn outside_quotes(text: &str, matches: impl Fn(char) -> bool) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(at, c)| {
        let plain = !std::mem::take(&mut escaped);
        match c {
            '\\' if text[at + 1..].starts_with('"') => escaped = true,
            '"' if plain => quoted = !quoted,
            c if !quoted && matches(c) => return Some(at),
            _ => {}
        }
        None
    })
}
