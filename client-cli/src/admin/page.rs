//! The manual page and shell completions, made from the definition of the command line.

use std::io;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::arguments::Arguments;

/// The whole manual as one roff page: the program, then each command with its options.
///
/// # Errors
/// Only what writing to memory could give.
pub fn manual() -> io::Result<String> {
    let mut command = Arguments::command();
    command.build();
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).section("8");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    commands(&command, "", &mut page)?;
    page.extend_from_slice(FILES.as_bytes());
    String::from_utf8(page).map_err(io::Error::other)
}

const FILES: &str = "\
.SH FILES
.TP
\\fI/etc/login\\-admin/login\\-admin.toml\\fR, \\fI~/.config/login\\-admin.toml\\fR
Configuration; every key is explained in the example that is shipped with the program.
.SH EXIT STATUS
.TP
0
done, or nothing was to be done
.TP
1
not found, exists already, not reachable, and every other failure
.TP
64
the command line is wrong
.TP
77
the server refuses
.TP
78
the configuration is wrong
";

fn commands(of: &clap::Command, above: &str, page: &mut Vec<u8>) -> io::Result<()> {
    for command in of
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && c.get_name() != "help")
    {
        let path = format!("{above} {}", command.get_name());
        if command.has_subcommands() {
            commands(command, &path, page)?;
            continue;
        }
        let arguments = |list: Vec<&clap::Arg>| -> Vec<clap::Arg> {
            list.into_iter()
                .filter(|a| !a.is_global_set() && a.get_id() != "help")
                .cloned()
                .collect()
        };
        let own = arguments(command.get_arguments().collect());
        let name: &'static str = path.trim().to_owned().leak();
        let alone = clap::Command::new(name).disable_help_flag(true).args(own);
        let man = clap_mangen::Man::new(alone);
        page.extend_from_slice(
            format!(".SS login\\-admin {}\n", name.replace('-', "\\-")).as_bytes(),
        );
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        page.extend_from_slice(format!("{about}.\n").as_bytes());
        let mut options = Vec::new();
        man.render_options_section(&mut options)?;
        let options = String::from_utf8_lossy(&options);
        page.extend_from_slice(options.replace(".SH OPTIONS\n", "").as_bytes());
    }
    Ok(())
}

/// Completions for a shell.
pub fn completion(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "login-admin", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_command() {
        let page = manual().unwrap();
        for command in ["user add", "key del", "group member add", "check", "init"] {
            assert!(
                page.contains(&format!(".SS login\\-admin {command}\n")),
                "{command}\n{page}"
            );
        }
        for option in ["uid", "outside\\-range", "json", "key"] {
            assert!(page.contains(&format!("\\-\\-{option}")), "{option}");
        }
    }
}
