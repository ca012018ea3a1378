//! The words of one line, as sshd splits it: quotes, backslashes and comments.

/// What a line says.
#[derive(Debug, PartialEq)]
pub struct Words {
    /// In lower case.
    pub keyword: String,
    /// As written.
    pub name: String,
    pub arguments: Vec<String>,
    /// All behind the keyword, quotes and comments included.
    pub rest: String,
}

/// The words of a line; `None` for one that says nothing.
///
/// # Errors
/// What is wrong with the line.
pub fn split(line: &str) -> Result<Option<Words>, &'static str> {
    let line = line.trim_matches([' ', '\t', '\r', '\n', '\x0c']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.contains('\0') {
        return Err("a zero byte");
    }
    let (keyword, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
        None => line.split_at(line.find([' ', '\t', '=']).unwrap_or(line.len())),
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Ok(Some(Words {
        keyword: keyword.to_ascii_lowercase(),
        name: keyword.to_owned(),
        arguments: arguments(rest)?,
        rest: rest.trim_start_matches([' ', '\t']).to_owned(),
    }))
}

fn arguments(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| [' ', '\t'].contains(c)).is_some() {}
        match chars.peek() {
            None | Some('#') => return Ok(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('\\', _) => match chars.peek() {
                    Some(next @ ('"' | '\'' | '\\')) => {
                        word.push(*next);
                        chars.next();
                    }
                    Some(' ') if quote.is_none() => {
                        word.push(' ');
                        chars.next();
                    }
                    _ => word.push('\\'),
                },
                (' ' | '\t', None) => break,
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed");
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_line() {
        let check = |line: &str, keyword: &str, expected: &[&str]| {
            let words = split(line).unwrap().unwrap();
            assert_eq!(
                (words.keyword.as_str(), words.arguments),
                (keyword, expected.iter().map(|w| (*w).to_owned()).collect()),
                "{line}"
            );
        };
        check("Port 22", "port", &["22"]);
        check("\tPORT=22 # why", "port", &["22"]);
        check("Port = 22", "port", &["22"]);
        check("\"Port\" 22", "port", &["22"]);
        check(
            "AllowUsers a\t'b c' \"d e\" f\\ g",
            "allowusers",
            &["a", "b c", "d e", "f g"],
        );
        check("Match User=a,b", "match", &["User=a,b"]);
        check("SetEnv A=\"x y\" B=#1", "setenv", &["A=x y", "B=#1"]);
        check(
            "ForceCommand echo \\\"hi\\\"",
            "forcecommand",
            &["echo", "\"hi\""],
        );
        check("UsePAM", "usepam", &[]);
        for empty in ["", "  ", "# Port 22", "\t#", "\r"] {
            assert_eq!(split(empty), Ok(None));
        }
        assert!(split("Banner 'x").is_err() && split("\"Port 22").is_err());
    }
}
