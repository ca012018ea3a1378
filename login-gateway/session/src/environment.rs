//! The environment of the user's programs, as sshd(8) "LOGIN PROCESS" has it. What lies in files of
//! the user's is read here; what the daemons' own environment holds stays out, but for the time zone.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use gateway_wire::policy::listed;
use gateway_wire::session::Setup;
use service::regular_file;

/// Largest `~/.ssh/environment`, in bytes, and the lines of it that count.
const MAX_FILE: u64 = 256 * 1024;
const MAX_LINES: usize = 1000;

/// Name of a login in the audit log, in the environment of all its programs. Slurm hands variables
/// of this prefix on to jobs, whatever `--export` says.
pub const LOGIN_ID: &str = "SLURM_LOGIN_ID";

/// What a program's environment depends on besides its login.
#[derive(Default)]
pub struct Facts<'a> {
    /// Variables that the client wants.
    pub from_client: &'a [(String, String)],
    /// `TERM` and the terminal's path.
    pub terminal: Option<(&'a str, &'a Path)>,
    /// What the client asked for, when something else runs.
    pub original: Option<&'a OsStr>,
    /// `SSH_AUTH_SOCK`, `DISPLAY`, `SSH_USER_AUTH`.
    pub extra: &'a [(OsString, OsString)],
}

/// All variables, each once. Later ones win: what the client may set; what names the user; what
/// their key and their file may set; what PAM sets; what the administrator sets; the connection.
pub fn of(setup: &Setup, facts: &Facts<'_>) -> Vec<(OsString, OsString)> {
    let policy = &setup.policy;
    let mut vars = Variables::default();
    for (name, value) in facts.from_client {
        if listed(&policy.accept_env, name) {
            vars.set(name, value);
        }
    }
    vars.set("USER", setup.user.as_str());
    vars.set("LOGNAME", setup.user.as_str());
    vars.set("HOME", &setup.home);
    vars.set("PATH", &policy.path);
    vars.set("MAIL", format!("/var/mail/{}", setup.user));
    vars.set("SHELL", &setup.shell);
    if let Some(zone) = std::env::var_os("TZ") {
        vars.set("TZ", zone);
    }
    if let Some((term, _)) = facts.terminal
        && !term.is_empty()
    {
        vars.set("TERM", term);
    }
    let permitted = &policy.permit_user_environment;
    for (name, value) in &setup.restrictions.environment {
        if listed(permitted, name) {
            vars.set(name, value);
        }
    }
    if !permitted.is_empty() {
        for (name, value) in of_file(&setup.home.join(".ssh/environment")) {
            if name.to_str().is_some_and(|name| listed(permitted, name)) {
                vars.set(name, value);
            }
        }
    }
    for (name, value) in &setup.pam_env {
        // What modules tell each other about the connection is not for the user: sshd(8) hides it.
        let internal = [&b"SSH_AUTH_INFO"[..], b"SSH_CONNECTION"];
        if !internal.iter().any(|p| name.as_bytes().starts_with(p)) {
            vars.set(name, value);
        }
    }
    for (name, value) in &policy.set_env {
        vars.set(name, value);
    }
    for (name, value) in facts.extra {
        vars.set(name, value);
    }
    let (source, destination) = (setup.endpoints.source, setup.endpoints.destination);
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let (port, here) = (source.port(), destination.port());
    vars.set("SSH_CLIENT", format!("{from} {port} {here}"));
    vars.set("SSH_CONNECTION", format!("{from} {port} {to} {here}"));
    if let Some((_, path)) = facts.terminal {
        vars.set("SSH_TTY", path);
    }
    if let Some(command) = facts.original {
        vars.set("SSH_ORIGINAL_COMMAND", command);
    }
    vars.set(LOGIN_ID, &setup.login);
    vars.0
}

#[derive(Default)]
struct Variables(Vec<(OsString, OsString)>);

impl Variables {
    /// Sets one, in the place of an earlier one of that name. A NUL would make the start of the
    /// program fail, and no name holds `=`; nobody can have meant them.
    fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        let bad = name.is_empty()
            || name.as_bytes().iter().any(|b| matches!(b, 0 | b'='))
            || value.as_bytes().contains(&0);
        if bad {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(&value.to_owned()),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}

/// Variables of a file of the user's, `name=value` in lines; `#` starts a comment.
fn of_file(path: &Path) -> Vec<(OsString, OsString)> {
    match read(path) {
        Ok(text) => parse(&text),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                eprintln!("info: environment '{}': {error}", path.display());
            }
            Vec::new()
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let (file, _) = regular_file::open(path)?;
    regular_file::whole(file, MAX_FILE)
}

fn parse(text: &[u8]) -> Vec<(OsString, OsString)> {
    let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    text.split(|b| *b == b'\n')
        .take(MAX_LINES)
        .map(<[u8]>::trim_ascii_start)
        .filter(|line| !line.starts_with(b"#"))
        .filter_map(|line| {
            let at = line.iter().position(|b| *b == b'=')?;
            Some((owned(&line[..at]), owned(&line[at + 1..])))
        })
        .collect()
}

#[cfg(test)]
pub mod tests {
    use std::net::SocketAddr;

    use gateway_wire::Settings;
    use gateway_wire::accept::Endpoints;
    use gateway_wire::policy::{Restrictions, Who};

    use super::*;

    /// A login of alice's.
    pub fn setup() -> Setup {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        Setup {
            user: "alice".to_owned().try_into().unwrap(),
            home: "/nonexistent/alice".into(),
            shell: "/bin/bash".into(),
            endpoints: Endpoints {
                source: at("[::ffff:192.0.2.7]:40000"),
                destination: at("[::ffff:10.0.0.1]:22"),
            },
            login: "0123abcd".into(),
            pam_env: Vec::new(),
            skel: None,
            policy: Settings::default().policy(&Who {
                user: "alice",
                groups: &[],
                source: [192, 0, 2, 7].into(),
                destination: None,
            }),
            restrictions: Restrictions::default(),
            last_login: None,
            notices: Vec::new(),
            factors: Vec::new(),
        }
    }

    fn get(vars: &[(OsString, OsString)], name: &str) -> Option<String> {
        let found: Vec<_> = vars.iter().filter(|(n, _)| n == name).collect();
        assert!(found.len() < 2, "{name} twice");
        found.first().map(|(_, v)| v.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_everybody_has() {
        let facts = Facts {
            terminal: Some(("xterm", Path::new("/dev/pts/3"))),
            original: Some(OsStr::new("ls -l")),
            ..Facts::default()
        };
        let vars = of(&setup(), &facts);
        for (name, value) in [
            ("USER", "alice"),
            ("LOGNAME", "alice"),
            ("HOME", "/nonexistent/alice"),
            ("SHELL", "/bin/bash"),
            ("MAIL", "/var/mail/alice"),
            ("TERM", "xterm"),
            ("SSH_CLIENT", "192.0.2.7 40000 22"),
            ("SSH_CONNECTION", "192.0.2.7 40000 10.0.0.1 22"),
            ("SSH_TTY", "/dev/pts/3"),
            ("SSH_ORIGINAL_COMMAND", "ls -l"),
            ("SLURM_LOGIN_ID", "0123abcd"),
        ] {
            assert_eq!(get(&vars, name).as_deref(), Some(value), "{name}");
        }
        let plain = of(&setup(), &Facts::default());
        assert!(get(&plain, "SSH_TTY").is_none() && get(&plain, "TERM").is_none());
    }

    #[test]
    fn who_stands_above_whom() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        let file = "# no\n A=file\nB=file\n\nnonsense\nLD_PRELOAD=x\nC=a=b \n=x\nHOME=/f\n";
        std::fs::write(home.path().join(".ssh/environment"), file).unwrap();
        let mut setup = setup();
        setup.home = home.path().into();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        setup.policy.accept_env = vec!["A".into(), "B".into(), "USER".into(), "SSH_*".into()];
        setup.restrictions.environment = vec![pair("A", "key"), pair("K", "key"), pair("NO", "1")];
        setup.policy.set_env = [pair("S", "set"), pair("P", "set"), pair("SSH_TTY", "x")].into();
        setup.pam_env = [("P", "pam"), ("B", "pam"), ("SSH_AUTH_INFO_0", "k")]
            .map(|(n, v)| (n.into(), v.into()))
            .into();
        let client = [
            pair("A", "client"),
            pair("USER", "root"),
            pair("SSH_CLIENT", "1"),
            pair("OTHER", "1"),
        ];
        let facts = Facts {
            from_client: &client,
            terminal: Some(("", Path::new("/dev/pts/3"))),
            ..Facts::default()
        };
        let check = |setup: &Setup, expected: &[(&str, Option<&str>)]| {
            let vars = of(setup, &facts);
            for (name, value) in expected {
                assert_eq!(get(&vars, name).as_deref(), *value, "{name}");
            }
        };
        let always = [
            ("USER", Some("alice")),
            ("P", Some("set")),
            ("B", Some("pam")),
            ("S", Some("set")),
            ("SSH_TTY", Some("/dev/pts/3")),
            ("SSH_CLIENT", Some("192.0.2.7 40000 22")),
            ("SSH_AUTH_INFO_0", None),
            ("OTHER", None),
            ("LD_PRELOAD", None),
            ("NO", None),
        ];
        check(&setup, &always);
        check(&setup, &[("A", Some("client")), ("K", None), ("C", None)]);
        setup.policy.permit_user_environment = ["?", "HOME", "!S"].map(Into::into).into();
        check(&setup, &always);
        check(
            &setup,
            &[
                ("A", Some("file")),
                ("K", Some("key")),
                ("C", Some("a=b ")),
                ("HOME", Some("/f")),
            ],
        );
    }

    #[test]
    fn what_no_program_could_be_given_is_left_out() {
        let mut setup = setup();
        setup.policy.accept_env = vec!["*".into()];
        let client = [("A".into(), "a\0b".into()), (String::new(), "x".into())];
        let facts = Facts {
            from_client: &client,
            ..Facts::default()
        };
        let vars = of(&setup, &facts);
        assert!(get(&vars, "A").is_none() && get(&vars, "").is_none());
    }
}
