//! login-gateway.toml(5).

use toml::ser::Error;

use super::keys::{Described, all};
use super::roff::Page;

/// Criteria of a block: they are no keys of their own.
const CRITERIA: [(&str, &str); 6] = [
    ("user", "Patterns of user names."),
    (
        "group",
        "Patterns of names of groups; one of the user's groups must fit, and none may be excluded.",
    ),
    (
        "source",
        "Networks of clients, such as 192.0.2.0/24. An address alone is a network of one.",
    ),
    (
        "destination",
        "Networks of the address that the client connected to, a load balancer's where there is one.",
    ),
    (
        "destination-port",
        "Ports that the client connected to, such as [22].",
    ),
    (
        "pool",
        "Patterns of the name in the key pool, for files that several pools share.",
    ),
];

const EXAMPLE: &str = r#"listen = ["0.0.0.0:22", "[::]:22"]
authentication-methods = ["publickey", "password,keyboard-interactive"]
banner = "/etc/issue.net"

[proxy-protocol]
from = ["10.0.0.0/8"]

# Robots come from one network, with keys, and get no terminal.
[[match]]
user = ["svc-*"]
source = ["192.0.2.0/24"]
authentication-methods = ["publickey"]
permit-tty = false

[[match]]
user = ["svc-*"]
allow-login = false

# People of this group move files and do nothing else.
[[match]]
group = ["transfer"]
force-command = "sftp-server"
tcp-forwarding = "no"
agent-forwarding = false
x11-forwarding = false
"#;

/// The page.
///
/// # Errors
/// As [`all`].
pub fn page() -> Result<Vec<u8>, Error> {
    let mut page = Page::new("login-gateway.toml", 5);
    page.section("name");
    page.paragraph("login-gateway.toml - configuration of login-gateway(8)");
    page.section("description");
    page.paragraph(
        "A file in TOML, by default /etc/login-gateway/login-gateway.toml. Every key may be left out.\n\
         Unknown keys and wrong values are refused with file and line, and so is a file that group or\n\
         others may write. \"login-gateway check\" prints the effective configuration and every\n\
         problem; \"login-gateway example-config\" prints a file with all keys.",
    );
    page.paragraph(
        "A duration is a number and a unit in a text: \"250ms\", \"30s\", \"5m\", \"2h\", \"7d\". In\n\
         patterns * stands for any characters and ? for one; a pattern that starts with ! excludes.\n\
         SIGHUP makes the gateway read the file again; connections that are open keep what they have.",
    );
    let keys = all()?;
    page.section("keys of the service");
    keys.iter()
        .filter(|key| !key.login)
        .for_each(|key| item(&mut page, key));
    page.section("keys of a login");
    page.paragraph("These may also stand in [[match]] blocks.");
    keys.iter()
        .filter(|key| key.login)
        .for_each(|key| item(&mut page, key));
    page.section("match blocks");
    page.paragraph(
        "A [[match]] block holds for a login that fits every criterion it names; a block without\n\
         criteria holds for all. For each key the first block that fits and names it counts, then the\n\
         value above all blocks. What a login gets in the end is printed by \"login-gateway check\n\
         --user NAME --source ADDRESS\". The criteria:",
    );
    for (name, meaning) in CRITERIA {
        page.item(name, meaning);
    }
    page.section("example");
    page.example(EXAMPLE);
    page.section("files");
    page.item("/etc/login-gateway/login-gateway.toml", "The file.");
    page.section("see also");
    page.paragraph("login-gateway(8), ssh(1), ssh-keygen(1), sshd_config(5), pam.d(5)");
    Ok(page.finish())
}

fn item(page: &mut Page, key: &Described) {
    page.item(&key.name, &key.meaning);
    let default = key.default.as_deref().unwrap_or("none");
    page.more(&format!("Value: {}; default: {default}", key.kind));
}

#[cfg(test)]
mod tests {
    use gateway_wire::Settings;
    use toml::Table;

    use super::*;

    #[test]
    fn every_key_stands_in_the_page() {
        let text = String::from_utf8(page().unwrap()).unwrap();
        for key in Table::try_from(Settings::default()).unwrap().keys() {
            let shown = format!("\\fB{}\\fR", key.replace('-', "\\-"));
            assert!(key == "match" || text.contains(&shown), "{key}");
        }
        assert!(toml::from_str::<Settings>(EXAMPLE).is_ok());
    }

    #[test]
    fn the_criteria_are_all_named() {
        let block = format!(
            "[[match]]\n{}",
            CRITERIA.map(|(name, _)| format!("{name} = []\n")).concat()
        );
        assert!(toml::from_str::<Settings>(&block).is_ok());
        let wrong = toml::from_str::<Settings>("[[match]]\ncolour = 1\n").unwrap_err();
        for (name, _) in CRITERIA {
            assert!(
                wrong.message().contains(&format!("`{name}`")),
                "{}",
                wrong.message()
            );
        }
    }
}
