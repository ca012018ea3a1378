//! The environment of the user's programs, as sshd(8) "LOGIN PROCESS" has it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gateway_wire::policy::listed;
use gateway_wire::session::Setup;

/// All variables. Later ones win: what PAM sets, then what the client may set, then what names the
/// user and the connection.
pub fn of(
    setup: &Setup,
    from_client: &[(String, String)],
    terminal: Option<(&str, &Path)>,
) -> Vec<(OsString, OsString)> {
    let (source, destination) = (setup.endpoints.source, setup.endpoints.destination);
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let mut vars: Vec<(OsString, OsString)> =
        vec![("PATH".into(), setup.policy.path.clone().into())];
    vars.extend(setup.pam_env.iter().cloned());
    vars.extend(
        from_client
            .iter()
            .filter(|(name, _)| listed(&setup.policy.accept_env, name))
            .map(|(name, value)| (name.into(), value.into())),
    );
    let mut set = |name: &str, value: OsString| vars.push((name.into(), value));
    set("USER", setup.user.as_str().into());
    set("LOGNAME", setup.user.as_str().into());
    set("HOME", setup.home.clone().into());
    set("SHELL", setup.shell.clone().into());
    set("MAIL", format!("/var/mail/{}", setup.user).into());
    set(
        "SSH_CLIENT",
        format!("{from} {} {}", source.port(), destination.port()).into(),
    );
    set(
        "SSH_CONNECTION",
        format!("{from} {} {to} {}", source.port(), destination.port()).into(),
    );
    if let Some((term, path)) = terminal {
        if !term.is_empty() {
            set("TERM", term.into());
        }
        set("SSH_TTY", path.into());
    }
    // A NUL would make the start of the program fail; nobody can have meant it.
    vars.retain(|(name, value)| !name.as_bytes().contains(&0) && !value.as_bytes().contains(&0));
    vars
}
