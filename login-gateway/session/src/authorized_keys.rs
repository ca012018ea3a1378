//! `authorized_keys` and files of principals, as sshd(8) and sshd_config(5) describe them: which
//! line is good for this login, and what it takes away. Where the text comes from is the caller's
//! matter; nothing is read here.

mod line;
mod options;

use gateway_wire::policy::Restrictions;
use gateway_wire::session::KeyQuestion;

use self::line::Entry;
use self::options::Options;

/// What the lines that were read so far say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Search {
    /// Restrictions of the first line that is good.
    pub found: Option<Restrictions>,
    /// Whether some line has `cert-authority`.
    pub authority: bool,
}

impl Search {
    /// Looks through the lines of `text`. `now` is in seconds since 1970; `say` is told why a line
    /// that has the key counts for nothing, with its number from 1.
    pub fn read(
        &mut self,
        question: &KeyQuestion,
        text: &str,
        now: u64,
        mut say: impl FnMut(usize, String),
    ) {
        for (number, line) in text.lines().enumerate() {
            let Some(entry) = Entry::parse(line) else {
                continue;
            };
            let same = entry.key == question.key;
            // A line of another key is read only for whether it names an authority.
            if !same && (self.authority || !entry.options.contains_authority()) {
                continue;
            }
            match Options::parse(entry.options.text()) {
                Ok(options) => {
                    self.authority |= options.cert_authority;
                    if !same || self.found.is_some() {
                        continue;
                    }
                    match usable(question, entry.kind, options, now) {
                        Ok(found) => self.found = Some(found),
                        Err(why) => say(number + 1, why),
                    }
                }
                Err(why) if same => say(number + 1, why),
                Err(_) => {}
            }
        }
    }
}

/// The restrictions of a line with the right key, or why it counts for nothing.
fn usable(
    question: &KeyQuestion,
    kind: &str,
    options: Options,
    now: u64,
) -> Result<Restrictions, String> {
    match (&question.principals, options.cert_authority) {
        (None, true) => return Err("it is for certificates alone".into()),
        (Some(_), false) => return Err("it is not an authority of certificates".into()),
        (None, false) => {}
        (Some(carried), true) => {
            let user = [question.user.as_str().to_owned()];
            let wanted = options.principals.as_deref().unwrap_or(&user);
            if !carried.iter().any(|name| wanted.contains(name)) {
                return Err("the certificate has none of its principals".into());
            }
        }
    }
    if options.verify_required && (kind.starts_with("sk-") || question.principals.is_some()) {
        return Err("verify-required cannot be checked here".into());
    }
    options.hold(question.source, now)
}

/// The restrictions of the first line of a file of principals that names one which the certificate
/// carries: `[options] name`, sshd_config(5) `AuthorizedPrincipalsFile`.
pub fn principal(
    question: &KeyQuestion,
    text: &str,
    now: u64,
    mut say: impl FnMut(usize, String),
) -> Option<Restrictions> {
    let carried = question.principals.as_deref().unwrap_or_default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The name is the last word; what stands before it are options.
        let (options, name) = line
            .rsplit_once([' ', '\t'])
            .map_or(("", line), |(options, name)| (options.trim_end(), name));
        if !carried.iter().any(|known| known == name) {
            continue;
        }
        let held = Options::parse(options).and_then(|options| options.hold(question.source, now));
        match held {
            Ok(found) => return Some(found),
            Err(why) => say(number + 1, why),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    const NOW: u64 = 1_800_000_000;

    fn question(principals: Option<&[&str]>) -> KeyQuestion {
        KeyQuestion {
            home: "/home/alice".into(),
            files: Vec::new(),
            lines: Vec::new(),
            key: STANDARD.decode(KEY).unwrap(),
            output: None,
            principals: principals.map(|names| names.iter().map(|n| (*n).to_owned()).collect()),
            principals_files: Vec::new(),
            user: "alice".to_owned().try_into().unwrap(),
            source: [192, 0, 2, 7].into(),
        }
    }

    fn search(text: &str, principals: Option<&[&str]>) -> (Search, Vec<(usize, String)>) {
        let mut search = Search::default();
        let mut said = Vec::new();
        let text = text.replace("KEY", KEY);
        search.read(&question(principals), &text, NOW, |number, why| {
            said.push((number, why));
        });
        (search, said)
    }

    #[test]
    fn lines() {
        let check = |line: &str, expected: bool| {
            let (found, said) = search(line, None);
            assert_eq!(found.found.is_some(), expected, "{line}: {said:?}");
        };
        check("ssh-ed25519 KEY", true);
        check("ssh-ed25519 KEY alice@laptop with words", true);
        check("  \tssh-ed25519\tKEY\r", true);
        check("# ssh-ed25519 KEY", false);
        check("no-port-forwarding,no-X11-forwarding ssh-ed25519 KEY", true);
        check("command=\"echo a, \\\" b\" ssh-ed25519 KEY", true);
        check("command=\"a\\\\\" ssh-ed25519 KEY", false);
        check("from=\"192.0.2.0/24\",no-user-rc ssh-ed25519 KEY", true);
        check("from=\"10.0.0.0/8\",no-user-rc ssh-ed25519 KEY", false);
        check("from=\"192.0.2.7/8\" ssh-ed25519 KEY", false);
        check("restrict ssh-ed25519 KEY", true);
        check("cert-authority ssh-ed25519 KEY", false);
        check("verify-required ssh-ed25519 KEY", true);
        check("expiry-time=\"20200101\" ssh-ed25519 KEY", false);
        check("expiry-time=\"20991231\" ssh-ed25519 KEY", true);
        check("colour=\"red\" ssh-ed25519 KEY", false);
        check("pty=\"x\" ssh-ed25519 KEY", false);
        check("restrict, ssh-ed25519 KEY", false);
        check("tunnel=\"0\" ssh-ed25519 KEY", true);
        check("ssh-rsa KEY", false);
        check("ssh-ed25519 KEYx", false);
        check("ssh-ed25519", false);
        check("\"unclosed ssh-ed25519 KEY", false);
        check("", false);
        check("garbage\nssh-ed25519 KEY", true);
    }

    #[test]
    fn the_first_line_that_is_good_counts() {
        let text = "colour=\"red\" ssh-ed25519 KEY\n\
                    from=\"10.0.0.0/8\",command=\"a\" ssh-ed25519 KEY\n\
                    command=\"b\" ssh-ed25519 KEY\n\
                    ssh-ed25519 KEY\n";
        let (search, said) = search(text, None);
        assert_eq!(search.found.unwrap().command.as_deref(), Some("b"));
        let numbers: Vec<usize> = said.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2]);
        assert!(said[0].1.contains("'colour=\"red\"'"), "{said:?}");
    }

    #[test]
    fn authorities() {
        let check = |line: &str, principals: Option<&[&str]>, expected: (bool, bool)| {
            let (found, said) = search(line, principals);
            let found = (found.found.is_some(), found.authority);
            assert_eq!(found, expected, "{line} {principals:?} {said:?}");
        };
        let line = "cert-authority ssh-ed25519 KEY";
        check(line, None, (false, true));
        check(line, Some(&["alice"]), (true, true));
        check(line, Some(&["bob"]), (false, true));
        check(line, Some(&[]), (false, true));
        let line = "cert-authority,principals=\"staff,bob\" ssh-ed25519 KEY";
        check(line, Some(&["bob"]), (true, true));
        check(line, Some(&["alice"]), (false, true));
        check("ssh-ed25519 KEY", Some(&["alice"]), (false, false));
        let other = KEY.replace("AIOMq", "AIOMr");
        let line = format!("CERT-authority ssh-ed25519 {other}");
        check(&line, None, (false, true));
        check(&format!("x{line}"), None, (false, false));
    }

    #[test]
    fn files_of_principals() {
        let check = |text: &str, expected: Option<Option<&str>>| {
            let found = principal(&question(Some(&["staff", "web"])), text, NOW, |_, _| {});
            let found = found.map(|restrictions| restrictions.command);
            assert_eq!(found, expected.map(|c| c.map(str::to_owned)), "{text}");
        };
        check("staff\n", Some(None));
        check("# staff\n\n  web  \n", Some(None));
        check("other\nstaf\n", None);
        check("command=\"date +%s\" web\n", Some(Some("date +%s")));
        check("from=\"10.0.0.0/8\" web\n", None);
        check("from=\"10.0.0.0/8\" web\nstaff", Some(None));
        check("colour web", None);
    }
}
