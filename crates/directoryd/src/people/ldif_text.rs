//! The text of LDIF (RFC 2849): lines, folded or not, and the values in them.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};

/// One entry as it stands there.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// Where in the file it begins.
    pub offset: usize,
    /// Its DN; empty in a record that is only a version.
    pub dn: String,
    /// Values by name in lower case.
    pub values: HashMap<String, Vec<Vec<u8>>>,
}

/// The records in their order, or where something is wrong and what.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record, (usize, &'static str)>> {
    let mut lines = lines(bytes).into_iter().peekable();
    std::iter::from_fn(move || {
        while lines.next_if(|(_, line)| line.is_empty()).is_some() {}
        let (offset, _) = lines.peek()?;
        let offset = *offset;
        let mut record = Vec::new();
        while let Some(line) = lines.next_if(|(_, line)| !line.is_empty()) {
            record.push(line);
        }
        Some(self::record(offset, &record))
    })
}

fn record(offset: usize, lines: &[(usize, Vec<u8>)]) -> Result<Record, (usize, &'static str)> {
    let mut dn = None;
    let mut values: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
    for (at, line) in lines {
        let (name, value) = attribute(line).map_err(|why| (*at, why))?;
        match name.as_str() {
            "version" if dn.is_none() => {}
            "dn" if dn.is_none() => {
                let text = String::from_utf8(value).map_err(|_| (*at, "the dn is not UTF-8"))?;
                dn = Some(text);
            }
            "dn" => return Err((*at, "a second dn without an empty line before it")),
            "changetype" => return Err((*at, "a change is no entry")),
            _ if dn.is_none() => return Err((*at, "expected 'dn:'")),
            _ => values.entry(name).or_default().push(value),
        }
    }
    // A version stands alone.
    Ok(Record {
        offset,
        dn: dn.unwrap_or_default(),
        values,
    })
}

/// Name in lower case without options, and value.
fn attribute(line: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, rest) = line.split_at(colon.ok_or("expected 'name: value'")?);
    let name = std::str::from_utf8(name).map_err(|_| "the attribute's name is not UTF-8")?;
    let name = name.split(';').next().unwrap_or_default();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if name.is_empty() || !name.bytes().all(good) {
        return Err("expected 'name: value'");
    }
    let value = match rest {
        [b':', b':', code @ ..] => STANDARD
            .decode(code.trim_ascii())
            .map_err(|_| "the value is not base64")?,
        [b':', b'<', ..] => return Err("values by URL are not read"),
        [b':', plain @ ..] => plain.trim_ascii_start().to_vec(),
        _ => Vec::new(),
    };
    Ok((name.to_ascii_lowercase(), value))
}

/// Lines with where they begin: folded ones made whole, comments left out.
fn lines(bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut lines: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut offset = 0;
    let mut in_comment = false;
    for raw in bytes.split(|byte| *byte == b'\n') {
        let at = offset;
        offset += raw.len() + 1;
        let line = raw.strip_suffix(b"\r").unwrap_or(raw);
        match line {
            [b' ', ..] if in_comment => {}
            [b' ', rest @ ..] if lines.last().is_some_and(|(_, last)| !last.is_empty()) => {
                if let Some((_, last)) = lines.last_mut() {
                    last.extend_from_slice(rest);
                }
            }
            [b'#', ..] => in_comment = true,
            line => {
                in_comment = false;
                lines.push((at, line.to_vec()));
            }
        }
    }
    lines
}
