//! Methods and ways in: several keywords of sshd's are one key of ours.

use gateway_wire::policy::Way;

use super::blocks::{Block, Line};
use super::notes::{Kind, Note, Notes};

/// What sshd does with one scope's lines and, where it says nothing, those above all blocks.
pub struct Ways<'a> {
    pub own: Option<&'a Block>,
    pub global: &'a Block,
}

const KEYWORDS: [&str; 4] = [
    "pubkeyauthentication",
    "passwordauthentication",
    "kbdinteractiveauthentication",
    "authenticationmethods",
];

impl<'a> Ways<'a> {
    /// Whether the scope says anything of its own.
    pub fn touched(&self) -> bool {
        let set = |block: &Block| KEYWORDS.iter().any(|k| block.get(k).is_some());
        self.own.is_none_or(set)
    }

    fn line(&self, keyword: &str) -> Option<&'a Line> {
        let own = self.own.and_then(|block| block.get(keyword));
        own.or_else(|| self.global.get(keyword))
    }

    /// The value of `authentication-methods`; `None` if nobody could get in.
    pub fn methods(&self, notes: &mut Vec<Note>) -> Option<Vec<String>> {
        let on = |keyword: &str| self.line(keyword).is_none_or(|l| l.yes() != Some(false));
        let pam = self
            .global
            .get("usepam")
            .is_some_and(|l| l.yes() == Some(true));
        let mut enabled = Vec::new();
        for (keyword, name) in
            KEYWORDS
                .into_iter()
                .zip(["publickey", "password", "keyboard-interactive"])
        {
            if !on(keyword) {
                continue;
            }
            if name == "publickey" || pam {
                enabled.push(name);
            } else if let Some(line) = self.line(keyword).filter(|_| name == "password") {
                notes.note(
                    Kind::LeftOut,
                    line,
                    "passwords are checked by PAM alone: set pam-service and add \"password\" to \
                     authentication-methods",
                );
            }
        }
        let Some(line) = self
            .line("authenticationmethods")
            .filter(|l| l.arguments != ["any"])
        else {
            return (!enabled.is_empty()).then(|| enabled.into_iter().map(str::to_owned).collect());
        };
        let mut ways = Vec::new();
        for list in &line.arguments {
            let methods: Vec<&str> = list
                .split(',')
                .map(|m| m.split(':').next().unwrap_or(m))
                .collect();
            match methods.iter().find(|m| !enabled.contains(m)) {
                None => match Way::try_from(methods.join(",")) {
                    Ok(way) => ways.push(String::from(way)),
                    Err(why) => notes.note(Kind::LeftOut, line, why),
                },
                Some(missing)
                    if ["publickey", "password", "keyboard-interactive"].contains(missing) =>
                {
                    notes.note(
                        Kind::LeftOut,
                        line,
                        format!("'{list}' needs {missing}, which the file switches off"),
                    );
                }
                Some(missing) => {
                    notes.note(Kind::LeftOut, line, format!("no method '{missing}' here"));
                }
            }
        }
        (!ways.is_empty()).then_some(ways)
    }
}
