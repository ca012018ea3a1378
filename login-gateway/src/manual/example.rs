//! The example: every key with its default, ready to be changed.

use std::fmt::Write as _;

use toml::ser::Error;

use super::keys::{all, sample};

const HEAD: &str = "\
# login-gateway.toml: every key with its meaning and its default; see login-gateway.toml(5). A key that
# is left out has the value shown; one that is commented out has none. Unknown keys are refused. Check
# with: login-gateway check
#
# Made by: login-gateway example-config
";

/// Blocks are nobody's default, so they are shown as comments.
const BLOCKS: &str = "
# Keys from allow-login on may also stand in blocks that hold for some logins only. For each key the
# first block that fits and names it counts, then the value above.
#
# [[match]]
# group = [\"robots\"]
# source = [\"192.0.2.0/24\"]
# authentication-methods = [\"publickey\"]
# permit-tty = false
# tcp-forwarding = \"no\"
#
# [[match]]
# user = [\"*\", \"!root\"]
# pool = [\"gpu*\"]
# max-sessions = 20
";

/// The text of the file.
///
/// # Errors
/// As [`all`].
pub fn text() -> Result<String, Error> {
    let mut text = HEAD.to_owned();
    for key in all()? {
        text.push('\n');
        for line in key.meaning.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let name = key.name;
        let _ = match key.default {
            Some(value) => writeln!(text, "{name} = {value}"),
            None => writeln!(text, "# {name} = {}", sample(&name)),
        };
    }
    text += BLOCKS;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use gateway_wire::Settings;

    use super::*;

    #[test]
    fn the_example_in_the_repository_is_this_one() {
        let kept = include_str!("../../login-gateway.example.toml");
        assert!(
            text().unwrap() == kept,
            "run: login-gateway example-config > login-gateway/login-gateway.example.toml"
        );
        assert_eq!(
            toml::from_str::<Settings>(kept).unwrap(),
            Settings::default()
        );
    }

    #[test]
    fn what_is_commented_out_is_right_too() {
        let uncommented: Vec<String> = text()
            .unwrap()
            .lines()
            .filter_map(|line| {
                let bare = line.strip_prefix("# ").unwrap_or(line);
                let code = bare.contains(" = ") || bare.starts_with("[[");
                (code && (line.starts_with("# ") || !line.starts_with('#')))
                    .then(|| bare.to_owned())
            })
            .collect();
        let settings: Settings = toml::from_str(&uncommented.join("\n")).unwrap();
        assert_eq!(settings.r#match.len(), 2);
        assert!(settings.break_glass.is_some() && settings.umask.is_some());
    }
}
