//! A forwarded display on the user's side: its name and the cookie that `xauth` keeps for it,
//! RFC 4254 section 6.3.1. Connections to the display are `forwards`' matter.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_wire::session::X11;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use sys::spawn::Spawn;

use crate::stage::complain;

/// TCP port of display 0.
pub const PORTS: u16 = 6000;

/// What `xauth` may take: it waits for its lock, and the home may hang.
const TIME: Duration = Duration::from_secs(10);

/// Longest cookie and name of its protocol, in characters.
const MAX_WORD: usize = 1024;

/// A display that a program is to find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Display {
    xauth: PathBuf,
    number: u16,
    screen: u32,
    protocol: String,
    cookie: String,
}

impl Display {
    /// The display behind this port; `None` if the client's words are none that `xauth` may hear.
    pub fn new(xauth: PathBuf, port: u16, x11: &X11) -> Option<Self> {
        let word = |text: &str| {
            !text.is_empty()
                && text.len() <= MAX_WORD
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.:/".contains(c))
        };
        (word(&x11.protocol) && word(&x11.cookie)).then(|| Self {
            xauth,
            number: port.saturating_sub(PORTS),
            screen: x11.screen,
            protocol: x11.protocol.clone(),
            cookie: x11.cookie.clone(),
        })
    }

    /// For `DISPLAY`.
    pub fn name(&self) -> OsString {
        format!("localhost:{}.{}", self.number, self.screen).into()
    }

    /// Puts the cookie where the user's X programs look for it.
    pub fn authorise(&self, env: &[(OsString, OsString)]) {
        if let Err(error) = self.add(env) {
            complain(&format!(
                "X11 forwarding may not work: {}: {error}",
                self.xauth.display()
            ));
        }
    }

    fn add(&self, env: &[(OsString, OsString)]) -> io::Result<()> {
        let (reader, mut writer) = io::pipe()?;
        let mut child = Spawn::new(&self.xauth)
            .args(["-q", "-"])
            .env(env.iter().cloned())
            .fd(0, OwnedFd::from(reader))
            .start()?;
        // X programs look a display on this host up as a local one.
        let name = format!("unix:{}.{}", self.number, self.screen);
        let (protocol, cookie) = (&self.protocol, &self.cookie);
        let lines = format!("remove {name}\nadd {name} {protocol} {cookie}\n");
        // Two lines are smaller than any pipe.
        writer.write_all(lines.as_bytes())?;
        drop(writer);
        let ended = sys::process::end_of(&child)?;
        let mut ready = [PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(TIME).unwrap_or(PollTimeout::MAX);
        if poll(&mut ready, limit)? == 0 {
            let _ = child.kill();
            return Err(io::ErrorKind::TimedOut.into());
        }
        let status = child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(status.to_string()))
        }
    }
}

/// `xauth`, as a program with this search path finds it.
pub fn xauth(path: &str) -> Option<PathBuf> {
    path.split(':')
        .map(|folder| Path::new(folder).join("xauth"))
        .find(|file| file.is_absolute() && file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(protocol: &str, cookie: &str, xauth: PathBuf) -> Option<Display> {
        let x11 = X11 {
            listener: 1,
            protocol: protocol.into(),
            cookie: cookie.into(),
            screen: 1,
        };
        Display::new(xauth, 6012, &x11)
    }

    #[test]
    fn xauth_hears_no_other_commands() {
        let good = display("MIT-MAGIC-COOKIE-1", "00ff", "x".into()).unwrap();
        assert_eq!(good.name(), "localhost:12.1");
        for (protocol, cookie) in [
            ("", "00"),
            ("MIT", ""),
            ("MIT 00\nremove x", "00"),
            ("MIT", "00\n"),
            ("MIT", "0 0"),
        ] {
            assert!(display(protocol, cookie, "x".into()).is_none());
        }
    }

    #[test]
    fn the_cookie_is_where_x_programs_look() {
        let Some(xauth) = xauth("/usr/bin:/usr/X11R6/bin") else {
            println!("skipped: the_cookie_is_where_x_programs_look needs xauth");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authority");
        let env = [("XAUTHORITY".into(), file.clone().into_os_string())];
        let display = display("MIT-MAGIC-COOKIE-1", "00ff00ff", xauth.clone()).unwrap();
        display.add(&env).unwrap();
        let list = std::process::Command::new(&xauth)
            .args(["-f", file.to_str().unwrap(), "list"])
            .output()
            .unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        assert!(
            list.contains("unix:12") && list.contains("00ff00ff"),
            "{list}"
        );
    }
}
