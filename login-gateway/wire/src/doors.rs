//! What the settings say about strangers at the door: how many may wait, how many of one source, and
//! how long a source that has failed is kept out. The listener does it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Connections that are closed at random before `max-startups` closes all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EarlyDrop {
    /// Unfinished connections from which on it begins; 0 for never.
    pub start: usize,
    /// Percentage that is closed there; it grows evenly to all of them at `max-startups`.
    pub rate: u32,
}

impl Default for EarlyDrop {
    fn default() -> Self {
        Self { start: 0, rate: 30 }
    }
}

impl EarlyDrop {
    /// Percentage of new connections that is closed while `startups` wait; at `full` all are.
    pub fn percentage(&self, startups: usize, full: usize) -> u32 {
        if startups >= full {
            return 100;
        }
        if self.start == 0 || startups < self.start {
            return 0;
        }
        let rate = self.rate.min(100) as usize;
        let grown = (100 - rate) * (startups - self.start) / (full - self.start);
        (rate + grown) as u32
    }
}

/// How long the prefix is, in bits, that counts as one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NetBlockSize {
    /// Of IPv4 addresses, at most 32.
    pub ipv4: u8,
    /// Of IPv6 addresses, at most 128.
    pub ipv6: u8,
}

impl Default for NetBlockSize {
    /// Whoever has one IPv6 address has 2^64 of them.
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 64 }
    }
}

impl NetBlockSize {
    /// The network that counts as the source of an address.
    pub fn block(&self, address: IpAddr) -> IpNet {
        let address = address.to_canonical();
        let length = match address {
            IpAddr::V4(_) => self.ipv4.min(32),
            IpAddr::V6(_) => self.ipv6.min(128),
        };
        IpNet::new(address, length).map_or_else(|_| address.into(), |net| net.trunc())
    }
}

/// How a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Failure {
    /// A process that serves it ended as none should.
    Crash,
    /// Nothing that was tried was good.
    AuthFail,
    /// A user was named who does not exist.
    InvalidUser,
    /// Nothing was tried.
    NoAuth,
    /// The login grace time was over.
    GraceExceeded,
    /// `refuse-connection` held for it.
    RefuseConnection,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Crash,
        Self::AuthFail,
        Self::InvalidUser,
        Self::NoAuth,
        Self::GraceExceeded,
        Self::RefuseConnection,
    ];

    /// Its name in the settings, the log and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::AuthFail => "auth-fail",
            Self::InvalidUser => "invalid-user",
            Self::NoAuth => "no-auth",
            Self::GraceExceeded => "grace-exceeded",
            Self::RefuseConnection => "refuse-connection",
        }
    }
}

/// What happens when more sources are penalised than are remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The one whose penalty ends first is forgotten.
    #[default]
    Permissive,
    /// Nobody but `exempt` gets in until one ends.
    DenyAll,
}

/// Time for which connections of a source are closed that has failed before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Penalties {
    /// Whether there are any.
    pub enabled: bool,
    /// Each failure adds its own time.
    #[serde(with = "service::config::duration")]
    pub crash: Duration,
    #[allow(missing_docs)]
    #[serde(with = "service::config::duration")]
    pub auth_fail: Duration,
    #[allow(missing_docs)]
    #[serde(with = "service::config::duration")]
    pub invalid_user: Duration,
    #[allow(missing_docs)]
    #[serde(with = "service::config::duration")]
    pub no_auth: Duration,
    #[allow(missing_docs)]
    #[serde(with = "service::config::duration")]
    pub grace_exceeded: Duration,
    #[allow(missing_docs)]
    #[serde(with = "service::config::duration")]
    pub refuse_connection: Duration,
    /// Time that must have come together before connections are closed.
    #[serde(with = "service::config::duration")]
    pub min: Duration,
    /// Most of it.
    #[serde(with = "service::config::duration")]
    pub max: Duration,
    /// Sources that are remembered.
    pub max_sources4: usize,
    #[allow(missing_docs)]
    pub max_sources6: usize,
    /// What happens above that.
    pub overflow: Overflow,
    #[allow(missing_docs)]
    pub overflow6: Overflow,
    /// Networks that have no penalties.
    pub exempt: Vec<IpNet>,
}

impl Default for Penalties {
    /// As sshd_config(5) has them, and this machine itself is exempt.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            enabled: true,
            crash: seconds(90),
            auth_fail: seconds(5),
            invalid_user: seconds(5),
            no_auth: seconds(1),
            grace_exceeded: seconds(10),
            refuse_connection: seconds(10),
            min: seconds(15),
            max: seconds(600),
            max_sources4: 65_536,
            max_sources6: 65_536,
            overflow: Overflow::Permissive,
            overflow6: Overflow::Permissive,
            exempt: loopback(),
        }
    }
}

fn loopback() -> Vec<IpNet> {
    let networks = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().ok());
    networks.into_iter().flatten().collect()
}

impl Penalties {
    /// What a failure costs.
    pub fn of(&self, failure: Failure) -> Duration {
        match failure {
            Failure::Crash => self.crash,
            Failure::AuthFail => self.auth_fail,
            Failure::InvalidUser => self.invalid_user,
            Failure::NoAuth => self.no_auth,
            Failure::GraceExceeded => self.grace_exceeded,
            Failure::RefuseConnection => self.refuse_connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_grows_from_the_rate_to_all() {
        let drop = EarlyDrop {
            start: 10,
            rate: 30,
        };
        for (startups, percentage) in [(0, 0), (9, 0), (10, 30), (55, 65), (99, 99), (100, 100)] {
            assert_eq!(drop.percentage(startups, 100), percentage, "{startups}");
        }
        for (startups, percentage) in [(0, 0), (99, 0), (100, 100), (101, 100)] {
            assert_eq!(EarlyDrop::default().percentage(startups, 100), percentage);
        }
    }

    #[test]
    fn blocks() {
        let size = NetBlockSize { ipv4: 24, ipv6: 64 };
        let check = |address: &str, block: &str| {
            assert_eq!(size.block(address.parse().unwrap()), block.parse().unwrap());
        };
        check("192.0.2.77", "192.0.2.0/24");
        check("::ffff:192.0.2.77", "192.0.2.0/24");
        check("2001:db8:0:1:2::3", "2001:db8:0:1::/64");
    }
}
