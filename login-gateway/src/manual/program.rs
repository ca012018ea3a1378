//! login-gateway(8): what clap knows, subcommands included, and what it cannot know.

use std::io;

use clap::{Command, CommandFactory};

use super::roff::Page;
use crate::arguments::Arguments;

const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGHUP",
        "Read the configuration again and start the program anew in the same process, with its\n\
         listening sockets and its children: a new binary is picked up, logins live on. A broken\n\
         configuration is logged and changes nothing.",
    ),
    (
        "SIGTERM, SIGINT",
        "Take no more connections and end when the last login has ended. The second one ends the\n\
         logins too. With inetd the first one ends the connection.",
    ),
];

const EXITS: [(&str, &str); 7] = [
    ("0", "All is well."),
    (
        "1",
        "Something failed; the reason stands on standard error.",
    ),
    ("64", "The command line is wrong."),
    ("70", "A fault of this program's."),
    ("77", "It needs a right that the caller does not have."),
    (
        "78",
        "The configuration is wrong, or check has found a problem.",
    ),
    (
        "255",
        "With inetd: the connection ended before a login, or failed.",
    ),
];

const FILES: [(&str, &str); 4] = [
    (
        "/etc/login-gateway/login-gateway.toml",
        "The configuration, login-gateway.toml(5).",
    ),
    (
        "/etc/login-gateway/keys/",
        "Host keys, readable by root alone.",
    ),
    (
        "/etc/pam.d/login-gateway",
        "Account and session of every login; authentication for passwords.",
    ),
    (
        "~/.ssh/authorized_keys",
        "Keys that may log in, sshd(8) has the format.",
    ),
];

/// The page.
///
/// # Errors
/// Those of writing to memory, which do not happen.
pub fn page() -> io::Result<Vec<u8>> {
    let mut command = Arguments::command();
    command.build();
    let man = clap_mangen::Man::new(command.clone()).section("8");
    let mut begun = Vec::new();
    man.render_title(&mut begun)?;
    man.render_name_section(&mut begun)?;
    man.render_synopsis_section(&mut begun)?;
    man.render_description_section(&mut begun)?;
    man.render_options_section(&mut begun)?;
    let mut page = Page::continued(String::from_utf8_lossy(&begun).into_owned());
    page.section("commands");
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        describe(&mut page, sub);
    }
    page.section("inetd");
    page.paragraph(
        "Standard input and output may be one TCP or Unix socket, which is served as it is, or anything\n\
         else, between which and the connection bytes are relayed. The client's address is that of a TCP\n\
         socket's peer, else 0.0.0.0 with port 65535. A PROXY protocol header is not read. Log lines go\n\
         to standard error, or nowhere if that is the client's socket too, or to the file of --log-file.",
    );
    for (title, entries) in [
        ("signals", &SIGNALS[..]),
        ("exit status", &EXITS[..]),
        ("files", &FILES[..]),
    ] {
        page.section(title);
        for (words, meaning) in entries {
            page.item(words, meaning);
        }
    }
    page.section("see also");
    page.paragraph("login-gateway.toml(5), ssh(1), sshd(8), sftp-server(8), pam(7)");
    Ok(page.finish())
}

fn describe(page: &mut Page, sub: &Command) {
    let mut title = sub.get_name().to_owned();
    for argument in sub.get_positionals().filter(|a| !a.is_hide_set()) {
        let name = argument
            .get_value_names()
            .and_then(|n| n.first())
            .map(ToString::to_string);
        let name = name.unwrap_or_else(|| argument.get_id().to_string().to_uppercase());
        title += &if argument.is_required_set() {
            format!(" {name}")
        } else {
            format!(" [{name}]")
        };
    }
    page.part(&title);
    let about = sub.get_long_about().or_else(|| sub.get_about());
    for paragraph in about
        .map(ToString::to_string)
        .unwrap_or_default()
        .split("\n\n")
    {
        page.paragraph(paragraph);
    }
    for argument in sub.get_arguments() {
        let global =
            argument.is_global_set() || ["help", "version"].contains(&argument.get_id().as_str());
        if global || argument.is_hide_set() {
            continue;
        }
        let value = argument.get_num_args().is_some_and(|n| n.takes_values());
        let value_name = argument
            .get_value_names()
            .and_then(|names| names.first())
            .map_or_else(
                || argument.get_id().to_string().to_uppercase(),
                ToString::to_string,
            );
        let mut words: Vec<String> = argument
            .get_short()
            .map(|c| format!("-{c}"))
            .into_iter()
            .collect();
        words.extend(argument.get_long().map(|long| format!("--{long}")));
        let mut words = words.join(", ");
        if words.is_empty() {
            words = value_name;
        } else if value {
            words += &format!(" {value_name}");
        }
        let help = argument.get_long_help().or_else(|| argument.get_help());
        page.item(&words, &help.map(ToString::to_string).unwrap_or_default());
        let defaults: Vec<_> = argument
            .get_default_values()
            .iter()
            .map(|v| v.to_string_lossy())
            .collect();
        if value && !defaults.is_empty() {
            page.more(&format!("Default: {}", defaults.join(" ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_stands_in_the_page() {
        let text = String::from_utf8(page().unwrap()).unwrap();
        let has = |what: &str| assert!(text.contains(&what.replace('-', "\\-")), "{what}");
        for sub in Arguments::command().get_subcommands() {
            has(sub.get_name());
            for argument in sub.get_arguments().filter(|a| !a.is_hide_set()) {
                argument
                    .get_long()
                    .into_iter()
                    .for_each(|long| has(&format!("--{long}")));
            }
        }
        for section in ["FILES", "EXIT STATUS", "SIGNALS", "SEE ALSO", "COMMANDS"] {
            assert!(text.contains(&format!(".SH {section}")), "{section}");
        }
    }
}
