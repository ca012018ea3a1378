//! What is printed and nothing else: the manual page, completions and an example, all made from what the program is
//! made from.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::Arguments;

/// Every key with its meaning.
pub const EXAMPLE: &str = include_str!("../directoryd.example.toml");

const END: &str = r#".SH SIGNALS
.TP
SIGHUP
Read the configuration again, and everything from the directory. If the configuration is another, the program begins anew
in the same process, and nobody is turned away. One with a mistake is named in the log and changes nothing.
.TP
SIGTERM, SIGINT
End. Programs that run go on with what they know for two minutes.
.SH FILES
.TP
\fI/etc/directoryd/directoryd.toml\fR
The configuration; \fBdirectoryd example\-config\fR prints every key with its meaning.
.TP
\fI/run/nscd/socket\fR, \fI/run/nscd/passwd.map\fR, \fI/run/nscd/group.map\fR
What libc and libnss_directory.so.2 ask.
.TP
\fI/run/directoryd/control.sock\fR
What the commands ask, for root and control\-users.
.TP
\fI/var/lib/directoryd/\fR
The copy of the directory, from which a start without a server serves everybody.
.SH EXIT STATUS
.TP
0
All is well; the user may log in; the whole directory is held.
.TP
1
It is not, or the daemon does not answer; the reason stands on standard error.
.TP
64
The command line is wrong.
.TP
77
It needs a right that the caller does not have.
.TP
78
The configuration is wrong.
.SH SEE ALSO
nsswitch.conf(5), getent(1), pam(7), login\-gateway(8)
"#;

/// directoryd(8), each command included.
///
/// # Errors
/// Only what writing to memory could give.
pub fn manual() -> io::Result<Vec<u8>> {
    let mut command = Arguments::command();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).section("8");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    let commands = command.get_subcommands();
    for command in commands.filter(|command| command.get_name() != "help") {
        let about = command.get_about().map(ToString::to_string);
        let head = format!(
            ".SS {}\n{}.\n",
            command.get_name().replace('-', "\\-"),
            about.unwrap_or_default()
        );
        page.extend_from_slice(head.as_bytes());
        let own = command.get_arguments();
        let own = own.filter(|one| !one.is_global_set() && one.get_id() != "help");
        let alone = clap::Command::new("directoryd").disable_help_flag(true);
        let mut options = Vec::new();
        Man::new(alone.args(own.cloned())).render_options_section(&mut options)?;
        let options = String::from_utf8_lossy(&options);
        page.extend_from_slice(options.replace(".SH OPTIONS\n", "").as_bytes());
    }
    page.extend_from_slice(END.as_bytes());
    Ok(page)
}

/// A completion script.
pub fn completion(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "directoryd", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_explained() {
        let page = String::from_utf8(manual().unwrap()).unwrap();
        for text in [
            ".SS import\\-sssd\\-conf\n",
            ".SS explain\n",
            "SIGHUP",
            "\\-\\-domain",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        let script = String::from_utf8(completion(Shell::Bash)).unwrap();
        assert!(script.contains("import-sssd-conf"));
    }
}
