//! `~/.ssh/rc`, else `/etc/ssh/sshrc`: which of them runs before a program, and running it, as
//! sshd(8) "SSHRC" has it. What a forwarded display needs beyond its cookie does not live here.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gateway_wire::session::{Program, Setup};
use serde::{Deserialize, Serialize};
use sys::spawn::Spawn;

use crate::stage::complain;
use crate::start::Wanted;

/// The administrator's file.
const SYSTEM: &str = "/etc/ssh/sshrc";

/// A file that runs before the program.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Rc {
    file: PathBuf,
    /// Whether it is the user's own, which their login shell starts.
    own: bool,
    /// Its standard input: protocol and cookie of a forwarded display.
    input: Option<String>,
}

/// The file for this program, if there is one. The user's does not run for subsystems nor before
/// the administrator's own command; one that a key forces leaves it alone.
pub fn of(setup: &Setup, wanted: &Wanted<'_>) -> Option<Rc> {
    choose(setup, wanted, Path::new(SYSTEM))
}

fn choose(setup: &Setup, wanted: &Wanted<'_>, system: &Path) -> Option<Rc> {
    let policy = &setup.policy;
    let by_key = setup.restrictions.command.as_ref() == Some(&policy.force_command);
    let forced = !policy.force_command.is_empty() && !by_key;
    let subsystem = matches!(wanted.program, Program::Subsystem(_));
    let input = wanted
        .x11
        .map(|x11| format!("{} {}\n", x11.protocol, x11.cookie));
    let own = setup.home.join(".ssh/rc");
    if policy.permit_user_rc && !forced && !subsystem && own.exists() {
        return Some(Rc {
            file: own,
            own: true,
            input,
        });
    }
    system.exists().then(|| Rc {
        file: system.into(),
        own: false,
        input,
    })
}

impl Rc {
    /// Runs it to its end, on the program's own terminal or pipes. Its failure stops nothing.
    pub fn run(&self, shell: &Path, env: &[(OsString, OsString)]) {
        if let Err(error) = self.start(shell, env) {
            complain(&format!("Could not run {}: {error}", self.file.display()));
        }
    }

    fn start(&self, shell: &Path, env: &[(OsString, OsString)]) -> io::Result<()> {
        let spawn = if self.own {
            // By the login shell, so that one that lets nobody in runs nothing here either. The
            // name is passed beside the script: a home may be called anything.
            let name = shell.file_name().unwrap_or(shell.as_os_str());
            let mut line = OsString::from("/bin/sh ");
            line.push(quoted(&self.file));
            Spawn::new(shell)
                .arg0(name)
                .args([OsString::from("-c"), line])
        } else {
            Spawn::new(Path::new("/bin/sh")).args([&self.file])
        };
        let (reader, mut writer) = io::pipe()?;
        let mut child = spawn
            .env(env.iter().cloned())
            .inherit_outputs()
            .fd(0, OwnedFd::from(reader))
            .start()?;
        if let Some(input) = &self.input {
            // It may not want to know; a cookie is smaller than any pipe.
            let _ = writer.write_all(input.as_bytes());
        }
        drop(writer);
        child.wait()?;
        Ok(())
    }
}

/// The path as one word for a shell.
fn quoted(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut word = vec![b'\''];
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'\'' => word.extend_from_slice(b"'\\''"),
            other => word.push(*other),
        }
    }
    word.push(b'\'');
    OsString::from_vec(word)
}

#[cfg(test)]
mod tests {
    use gateway_wire::session::X11;

    use super::*;
    use crate::environment::tests::setup;

    #[test]
    fn which_file_runs_before_what() {
        let home = tempfile::tempdir().unwrap();
        let system = home.path().join("sshrc");
        let mut setup = setup();
        setup.home = home.path().into();
        let check = |setup: &Setup, program: &Program, expected: Option<&str>| {
            let wanted = Wanted {
                program,
                pty: None,
                env: &[],
                x11: None,
                display: None,
                extra: &[],
            };
            let file = choose(setup, &wanted, &system).map(|rc| rc.file);
            let expected = expected.map(|name| home.path().join(name));
            assert_eq!(file, expected, "{program:?}");
        };
        let exec = Program::Exec(b"id".to_vec());
        let sftp = Program::Subsystem("sftp".into());
        check(&setup, &exec, None);
        std::fs::write(&system, "").unwrap();
        check(&setup, &Program::Shell, Some("sshrc"));
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/rc"), "").unwrap();
        check(&setup, &Program::Shell, Some(".ssh/rc"));
        check(&setup, &exec, Some(".ssh/rc"));
        check(&setup, &sftp, Some("sshrc"));
        setup.policy.force_command = "date".into();
        check(&setup, &exec, Some("sshrc"));
        setup.restrictions.command = Some("date".into());
        check(&setup, &exec, Some(".ssh/rc"));
        setup.policy.permit_user_rc = false;
        check(&setup, &exec, Some("sshrc"));
    }

    #[test]
    fn a_cookie_is_its_input() {
        let home = tempfile::tempdir().unwrap();
        let rc = home.path().join("rc");
        std::fs::write(&rc, "").unwrap();
        let x11 = X11 {
            listener: 1,
            protocol: "MIT-MAGIC-COOKIE-1".into(),
            cookie: "00ff".into(),
            screen: 0,
        };
        let wanted = Wanted {
            program: &Program::Shell,
            pty: None,
            env: &[],
            x11: Some(&x11),
            display: None,
            extra: &[],
        };
        let chosen = choose(&setup(), &wanted, &rc).unwrap();
        assert_eq!(chosen.input.as_deref(), Some("MIT-MAGIC-COOKIE-1 00ff\n"));
    }

    #[test]
    fn a_home_may_be_called_anything() {
        assert_eq!(quoted(Path::new("/h/a b'c$d")), "'/h/a b'\\''c$d'");
    }
}
