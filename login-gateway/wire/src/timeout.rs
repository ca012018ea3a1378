//! Times after which what nobody uses is closed: `unused-connection-timeout` and `channel-timeout`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::duration;

use crate::policy::fits;

/// Kinds of channels as sshd_config(5) names them in `ChannelTimeout`; `session:subsystem:` has the
/// subsystem's name behind it.
pub mod kind {
    /// A session before anything runs on it.
    pub const SESSION: &str = "session";
    /// A shell.
    pub const SHELL: &str = "session:shell";
    /// A command.
    pub const COMMAND: &str = "session:command";
    /// A subsystem, without its name.
    pub const SUBSYSTEM: &str = "session:subsystem:";
    /// `ssh -L`, `ssh -D`.
    pub const DIRECT_TCP: &str = "direct-tcpip";
    /// `ssh -L` to a Unix socket.
    pub const DIRECT_UNIX: &str = "direct-streamlocal@openssh.com";
    /// `ssh -R`.
    pub const FORWARDED_TCP: &str = "forwarded-tcpip";
    /// `ssh -R` from a Unix socket.
    pub const FORWARDED_UNIX: &str = "forwarded-streamlocal@openssh.com";
    /// The client's agent.
    pub const AGENT: &str = "agent-connection";
    /// The client's display.
    pub const X11: &str = "x11-connection";
    /// All channels together; no pattern fits it.
    pub const GLOBAL: &str = "global";
}

/// A time of which none at all says "never".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(pub Option<Duration>);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let time = duration::parse(&text).ok_or_else(|| {
            format!("'{text}' is not a duration such as \"250ms\", \"30s\", \"5m\"")
        })?;
        Ok(Self((!time.is_zero()).then_some(time)))
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        duration::text(time.0.unwrap_or_default())
    }
}

/// Silence after which channels of a kind are closed, as `KIND=TIME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelTimeout {
    /// A kind, or a pattern of kinds.
    pub kind: String,
    /// The time.
    pub time: Time,
}

impl TryFrom<String> for ChannelTimeout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (kind, time) = text
            .split_once('=')
            .filter(|(kind, _)| !kind.is_empty())
            .ok_or_else(|| format!("'{text}' is not a kind of channel, '=' and a time"))?;
        Ok(Self {
            kind: kind.to_owned(),
            time: Time::try_from(time.to_owned())?,
        })
    }
}

impl From<ChannelTimeout> for String {
    fn from(timeout: ChannelTimeout) -> Self {
        format!("{}={}", timeout.kind, String::from(timeout.time))
    }
}

/// The time of a kind: that of the first entry that fits.
pub fn of(timeouts: &[ChannelTimeout], kind: &str) -> Option<Duration> {
    let entry = timeouts.iter().find(|entry| match kind {
        kind::GLOBAL => entry.kind == kind,
        _ => fits(&entry.kind, kind),
    });
    entry.and_then(|entry| entry.time.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_that_fits_counts() {
        let list: Vec<ChannelTimeout> = [
            "session:subsystem:sftp=0s",
            "session:*=5m",
            "*=1h",
            "global=1d",
        ]
        .map(|text| text.to_owned().try_into().unwrap())
        .into();
        let check = |kind: &str, seconds: u64| {
            let expected = (seconds > 0).then_some(Duration::from_secs(seconds));
            assert_eq!(of(&list, kind), expected, "{kind}");
        };
        check(kind::SHELL, 300);
        check("session:subsystem:sftp", 0);
        check("session:subsystem:netconf", 300);
        check(kind::SESSION, 3600);
        check(kind::DIRECT_UNIX, 3600);
        check(kind::GLOBAL, 86_400);
        assert_eq!(of(&list[..3], kind::GLOBAL), None);
        assert_eq!(of(&[], kind::SHELL), None);
    }

    #[test]
    fn texts() {
        for good in ["session:*=5m", "*=0s", "a=1d"] {
            let timeout = ChannelTimeout::try_from(good.to_owned()).unwrap();
            assert_eq!(String::from(timeout), good);
        }
        for bad in ["", "session", "=5m", "session=5", "session=", "x=-1s"] {
            assert!(ChannelTimeout::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert_eq!(String::from(Time::default()), "0s");
    }
}
