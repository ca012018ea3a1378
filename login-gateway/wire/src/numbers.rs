//! What is counted while logins come and go. Every list of labels is fixed here, so neither a client
//! nor a user can make the metrics grow.

use serde::{Deserialize, Serialize};

use crate::doors::Failure;
use crate::monitor::Method;
use crate::timeout::kind;

/// How one attempt at a method went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It completed a way in.
    Accepted,
    /// It was good, and another factor must follow.
    Partial,
    /// It was not.
    Refused,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Partial, Self::Refused];

    /// Its name in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Partial => "partial",
            Self::Refused => "refused",
        }
    }
}

/// A step of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// From the connection to the first question: greetings and keys, most of it the client's time.
    KeyExchange,
    /// Looking the account up, in the directory and by NSS.
    Lookup,
    /// From the first question to the last factor: keys, passwords, what people type.
    Authentication,
    /// PAM's account step.
    Account,
    /// PAM's session step, the home, the start of the session program.
    Session,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [
        Self::KeyExchange,
        Self::Lookup,
        Self::Authentication,
        Self::Account,
        Self::Session,
    ];

    /// Its name in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyExchange => "key-exchange",
            Self::Lookup => "lookup",
            Self::Authentication => "authentication",
            Self::Account => "account",
            Self::Session => "session",
        }
    }
}

/// A kind of channel on which something runs or is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// A login shell.
    Shell,
    /// A command.
    Command,
    /// A subsystem, `sftp` above all.
    Subsystem,
    /// `ssh -L`, `ssh -D`.
    DirectTcp,
    /// `ssh -L` to a Unix socket.
    DirectUnix,
    /// `ssh -R`.
    ForwardedTcp,
    /// `ssh -R` from a Unix socket.
    ForwardedUnix,
    /// The client's agent.
    Agent,
    /// The client's display.
    X11,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Shell,
        Self::Command,
        Self::Subsystem,
        Self::DirectTcp,
        Self::DirectUnix,
        Self::ForwardedTcp,
        Self::ForwardedUnix,
        Self::Agent,
        Self::X11,
    ];

    /// Its name in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Command => "command",
            Self::Subsystem => "subsystem",
            Self::DirectTcp => "direct-tcpip",
            Self::DirectUnix => "direct-streamlocal",
            Self::ForwardedTcp => "forwarded-tcpip",
            Self::ForwardedUnix => "forwarded-streamlocal",
            Self::Agent => "agent",
            Self::X11 => "x11",
        }
    }

    /// The one of a kind as `channel-timeout` names it; `None` for a session on which nothing runs.
    pub fn of(of_kind: &str) -> Option<Self> {
        Some(match of_kind {
            kind::SHELL => Self::Shell,
            kind::COMMAND => Self::Command,
            kind::DIRECT_TCP => Self::DirectTcp,
            kind::DIRECT_UNIX => Self::DirectUnix,
            kind::FORWARDED_TCP => Self::ForwardedTcp,
            kind::FORWARDED_UNIX => Self::ForwardedUnix,
            kind::AGENT => Self::Agent,
            kind::X11 => Self::X11,
            other if other.starts_with(kind::SUBSYSTEM) => Self::Subsystem,
            _ => return None,
        })
    }
}

/// Why a connection did not become a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLogin {
    /// As the penalties have it.
    Failed(Failure),
    /// Who it is was proved, and PAM or `max-logins` said no.
    Denied,
    /// The session could not be opened.
    Session,
    /// It was ended from our side: a drain's end, `sessions kick`.
    Ended,
}

impl NoLogin {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Failed(Failure::Crash),
        Self::Failed(Failure::AuthFail),
        Self::Failed(Failure::InvalidUser),
        Self::Failed(Failure::NoAuth),
        Self::Failed(Failure::GraceExceeded),
        Self::Failed(Failure::RefuseConnection),
        Self::Denied,
        Self::Session,
        Self::Ended,
    ];

    /// Its name in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.name(),
            Self::Denied => "denied",
            Self::Session => "session",
            Self::Ended => "ended",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Failed(failure) => failure as usize,
            Self::Denied => 6,
            Self::Session => 7,
            Self::Ended => 8,
        }
    }
}

/// What a monitor has counted of its connection since it last said so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    attempts: [[u32; Verdict::ALL.len()]; Method::ALL.len()],
    /// In microseconds.
    steps: [Option<u64>; Step::ALL.len()],
}

impl Tally {
    /// Counts an attempt.
    pub fn tried(&mut self, method: Method, verdict: Verdict) {
        let number = &mut self.attempts[method as usize][verdict as usize];
        *number = number.saturating_add(1);
    }

    /// Adds to the time of a step; one that is taken twice counts once, with both times.
    pub fn took(&mut self, step: Step, time: std::time::Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let so_far = &mut self.steps[step as usize];
        *so_far = Some(so_far.unwrap_or(0).saturating_add(micros));
    }
}

/// What a connection has carried since it was opened, and what is open on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Bytes received for the user's programs.
    pub bytes_in: u64,
    /// Bytes sent by the user's programs.
    pub bytes_out: u64,
    /// Channels that were opened, in the order of [`Channel::ALL`].
    pub opened: [u32; Channel::ALL.len()],
    /// Channels that are open.
    pub open: [u32; Channel::ALL.len()],
}

/// Upper bounds of [`Times`], in milliseconds; one more bucket has all above.
pub const BOUNDS: [u32; 13] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000, 60_000,
];

/// How long something took, by [`BOUNDS`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// How often within each bound and above the one before; the last is above all bounds.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All times together, in microseconds.
    pub micros: u64,
}

impl Times {
    fn add(&mut self, micros: u64) {
        let within = |bound: &u32| micros <= u64::from(*bound) * 1000;
        let place = BOUNDS.iter().position(within).unwrap_or(BOUNDS.len());
        self.buckets[place] += 1;
        self.micros = self.micros.wrapping_add(micros);
    }
}

/// All counts of a gateway since its first start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Numbers {
    /// Attempts by [`Method::ALL`] and [`Verdict::ALL`].
    pub attempts: [[u64; Verdict::ALL.len()]; Method::ALL.len()],
    /// Connections without a login by [`NoLogin::ALL`].
    pub no_logins: [u64; NoLogin::ALL.len()],
    /// Times by [`Step::ALL`].
    pub steps: [Times; Step::ALL.len()],
    /// Channels by [`Channel::ALL`].
    pub channels: [u64; Channel::ALL.len()],
    /// Bytes received for users' programs.
    pub bytes_in: u64,
    /// Bytes sent by users' programs.
    pub bytes_out: u64,
    /// How often a drain began.
    pub drains: u64,
}

impl Numbers {
    /// Adds what a monitor has counted.
    pub fn add(&mut self, tally: &Tally) {
        let all = self.attempts.iter_mut().flatten();
        for (sum, number) in all.zip(tally.attempts.iter().flatten()) {
            *sum += u64::from(*number);
        }
        for (times, taken) in self.steps.iter_mut().zip(tally.steps) {
            if let Some(micros) = taken {
                times.add(micros);
            }
        }
    }

    /// Adds what a connection has carried since it said `before`. net says it, and is not believed
    /// further than that its own numbers grow.
    pub fn carried(&mut self, before: &Traffic, now: &Traffic) {
        let more = |sum: &mut u64, before: u64, now: u64| {
            *sum = sum.wrapping_add(now.saturating_sub(before));
        };
        more(&mut self.bytes_in, before.bytes_in, now.bytes_in);
        more(&mut self.bytes_out, before.bytes_out, now.bytes_out);
        for (at, sum) in self.channels.iter_mut().enumerate() {
            more(sum, before.opened[at].into(), now.opened[at].into());
        }
    }

    /// Counts a connection that did not become a login.
    pub fn no_login(&mut self, why: NoLogin) {
        self.no_logins[why.place()] += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn places_are_those_of_the_lists() {
        for (at, why) in NoLogin::ALL.into_iter().enumerate() {
            assert_eq!(why.place(), at);
        }
        for (at, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, at);
        }
        for (at, channel) in Channel::ALL.into_iter().enumerate() {
            assert_eq!(channel as usize, at);
        }
        assert_eq!(
            Channel::of("session:subsystem:sftp"),
            Some(Channel::Subsystem)
        );
        assert_eq!(Channel::of(kind::SESSION), None);
    }

    #[test]
    fn a_tally_is_added_up() {
        let mut tally = Tally::default();
        tally.tried(Method::Password, Verdict::Refused);
        tally.tried(Method::Password, Verdict::Refused);
        tally.tried(Method::PublicKey, Verdict::Accepted);
        tally.took(Step::Lookup, Duration::from_micros(700));
        tally.took(Step::Lookup, Duration::from_micros(300));
        tally.took(Step::Session, Duration::from_secs(3600));
        let mut numbers = Numbers::default();
        numbers.add(&tally);
        numbers.add(&Tally::default());
        assert_eq!(numbers.attempts, [[1, 0, 0], [0, 0, 2], [0, 0, 0]]);
        let lookup = numbers.steps[Step::Lookup as usize];
        assert_eq!((lookup.buckets[0], lookup.micros), (1, 1000));
        let session = numbers.steps[Step::Session as usize];
        assert_eq!(session.buckets[BOUNDS.len()], 1);
        assert_eq!(numbers.steps[Step::Account as usize], Times::default());
        let bytes = crate::encode(&tally).unwrap();
        assert!(bytes.len() < 200, "{}", bytes.len());
    }

    #[test]
    fn traffic_counts_once_and_never_backwards() {
        let mut numbers = Numbers::default();
        let none = Traffic::default();
        let mut first = Traffic {
            bytes_in: 10,
            ..none
        };
        first.opened[0] = 2;
        first.open[0] = 1;
        numbers.carried(&none, &first);
        numbers.carried(&first, &first);
        assert_eq!((numbers.bytes_in, numbers.channels[0]), (10, 2));
        numbers.carried(&first, &none);
        assert_eq!((numbers.bytes_in, numbers.channels[0]), (10, 2));
        let most = Traffic {
            bytes_in: u64::MAX,
            ..none
        };
        numbers.carried(&none, &most);
        assert_eq!(numbers.bytes_in, 9, "a counter that begins anew");
    }
}
