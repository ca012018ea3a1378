//! Logouts of logins whose monitor was killed before it could enter them itself, in utmp and wtmp.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use sys::login_records::{Entry, Kind, UTMP, WTMP, append, put_current};

use crate::monitors::Login;

/// Logs the terminals out that the monitor with this process id had entered.
pub fn log_out(pid: i32, login: &Login) {
    let Ok(pid) = u32::try_from(pid) else {
        return;
    };
    for number in &login.terminals {
        let line = format!("pts/{number}");
        let entry = Entry {
            kind: Kind::Logout,
            pid,
            line: &line,
            user: "",
            source: login.source.ip(),
            time: SystemTime::now(),
        };
        // Another login may have the terminal by now, which utmp knows by the process.
        tried(UTMP, put_current(Path::new(UTMP), &entry));
        tried(WTMP, append(Path::new(WTMP), &entry));
    }
}

fn tried(path: &str, done: io::Result<()>) {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(event = "login_records.failed", path, %error);
        }
        _ => {}
    }
}
