//! What a request for a shell, a command or a subsystem becomes: whose program, with which
//! arguments. The policy's own command stands in place of all of them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use gateway_wire::session::{Program, Setup};

/// Bare names that mean our own `sftp-server`, which lies beside this program; the second is
/// OpenSSH's name for one without a path.
const SFTP_SERVERS: [&str; 2] = ["sftp-server", "internal-sftp"];

/// Where another one is, in a build without ours.
const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";

/// A program to execute.
#[derive(Debug, PartialEq)]
pub struct Command {
    /// Its file.
    pub program: PathBuf,
    /// The name that it sees as its own.
    pub arg0: OsString,
    /// Its other arguments.
    pub args: Vec<OsString>,
    /// What the client asked for, if the policy put another command in its place:
    /// `SSH_ORIGINAL_COMMAND`.
    pub original: Option<OsString>,
    /// Whether it is our file server and tells what it does, on its descriptor [`RECORD`].
    pub records: bool,
}

/// Descriptor of a file server's socket to the session.
pub const RECORD: i32 = 3;

/// The command for a request; `None` for a subsystem that the policy does not name.
///
/// As sshd(8) does: `-bash` for a login shell; `bash -c command` for everything else.
pub fn of(setup: &Setup, program: &Program) -> Option<Command> {
    let asked = match program {
        Program::Shell => None,
        Program::Exec(command) => Some(OsString::from_vec(command.clone())),
        Program::Subsystem(name) => Some(OsString::from(setup.policy.subsystems.get(name)?)),
    };
    let forced = &setup.policy.force_command;
    let (command, original) = if forced.is_empty() {
        (asked, None)
    } else {
        (Some(OsString::from(forced)), asked)
    };
    let ours = !forced.is_empty() || matches!(program, Program::Subsystem(_));
    if let Some(sftp) = command
        .as_deref()
        .filter(|_| ours)
        .and_then(|command| sftp_server(command, setup.policy.record_sftp))
    {
        return Some(Command { original, ..sftp });
    }
    let name = setup.shell.file_name().unwrap_or(OsStr::new("sh"));
    let (arg0, args) = match command {
        Some(command) => (name.to_owned(), vec!["-c".into(), command]),
        None => {
            let mut arg0 = OsString::from("-");
            arg0.push(name);
            (arg0, Vec::new())
        }
    };
    Some(Command {
        program: setup.shell.clone(),
        arg0,
        args,
        original,
        records: false,
    })
}

/// Our own file server, if the administrator's command starts with its bare name. It needs no login
/// shell of the user's; `/bin/sh` reads the quotes of its arguments.
fn sftp_server(command: &OsStr, record: bool) -> Option<Command> {
    let command = command.to_str()?.trim();
    let (name, arguments) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    if !SFTP_SERVERS.contains(&name) {
        return None;
    }
    let ours = service::sibling("sftp-server")
        .ok()
        .filter(|path| path.is_file());
    let records = record && ours.is_some();
    let path = ours.unwrap_or_else(|| SFTP_SERVER.into());
    let option = if records {
        format!("--record {RECORD} ")
    } else {
        String::new()
    };
    Some(Command {
        program: Path::new("/bin/sh").into(),
        arg0: "sh".into(),
        args: vec![
            "-c".into(),
            format!("exec \"$0\" {option}{arguments}").into(),
            path.into(),
        ],
        original: None,
        records,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_wire::Settings;
    use gateway_wire::accept::Endpoints;
    use gateway_wire::policy::{Restrictions, Who};

    fn setup(config: &str) -> Setup {
        let settings: Settings = toml::from_str(config).unwrap();
        let source = "192.0.2.1:1".parse().unwrap();
        let who = Who {
            user: "carol",
            groups: &[],
            source: "192.0.2.1".parse().unwrap(),
            destination: None,
        };
        Setup {
            user: "carol".to_owned().try_into().unwrap(),
            home: "/home/carol".into(),
            shell: "/bin/bash".into(),
            endpoints: Endpoints {
                source,
                destination: source,
            },
            login: "00000000".into(),
            pam_env: Vec::new(),
            skel: None,
            policy: settings.policy(&who),
            restrictions: Restrictions::default(),
            last_login: None,
            notices: Vec::new(),
            factors: Vec::new(),
        }
    }

    /// arg0, arguments, original.
    fn check(config: &str, program: Program, expected: (&str, &[&str], Option<&str>)) {
        let command = of(&setup(config), &program).unwrap();
        let args: Vec<_> = command.args.iter().map(|a| a.to_str().unwrap()).collect();
        let original = command.original.as_deref().map(|o| o.to_str().unwrap());
        assert_eq!(
            (command.arg0.to_str().unwrap(), &args[..], original),
            expected,
            "{config} {program:?}"
        );
    }

    #[test]
    fn what_is_asked_for_or_forced() {
        let exec = || Program::Exec(b"ls -l".to_vec());
        let sftp = || Program::Subsystem("sftp".into());
        check("", Program::Shell, ("-bash", &[], None));
        check("", exec(), ("bash", &["-c", "ls -l"], None));
        let server = "/usr/lib/openssh/sftp-server";
        let config = format!("subsystems = {{ sftp = \"{server}\" }}");
        check(&config, sftp(), ("bash", &["-c", server], None));
        let forced = format!("force-command = \"date\"\n{config}");
        check(&forced, Program::Shell, ("bash", &["-c", "date"], None));
        check(&forced, exec(), ("bash", &["-c", "date"], Some("ls -l")));
        check(&forced, sftp(), ("bash", &["-c", "date"], Some(server)));
        assert_eq!(of(&setup(&config), &Program::Subsystem("x".into())), None);
    }

    #[test]
    fn a_bare_sftp_server_is_our_own() {
        let lies_here = service::sibling("sftp-server").unwrap();
        let path = if lies_here.is_file() {
            lies_here.to_str().unwrap().to_owned()
        } else {
            SFTP_SERVER.to_owned()
        };
        for name in SFTP_SERVERS {
            let expected = ("sh", &["-c", "exec \"$0\" -R -d '/a b'", &*path][..], None);
            let arguments = format!("{name} -R -d '/a b'");
            let forced = format!("force-command = \"{arguments}\"");
            check(&forced, Program::Shell, expected);
            let subsystem = format!("[subsystems]\nsftp = \"{arguments}\"");
            check(&subsystem, Program::Subsystem("sftp".into()), expected);
        }
        // The user's own command of that name is what the user's PATH says.
        let exec = Program::Exec(b"sftp-server".to_vec());
        check("", exec, ("bash", &["-c", "sftp-server"], None));
    }
}
