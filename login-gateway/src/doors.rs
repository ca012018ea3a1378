//! Who gets in at all: limits of connections that have not yet authenticated, and penalties. A source
//! is what the PROXY header or the socket says; load balancers themselves are nobody's source.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use gateway_wire::Settings;
use gateway_wire::accept::TurnedAway;
use gateway_wire::doors::{Failure, NetBlockSize};

use crate::penalties::{Carried, KeptOut, Penalties};

/// Least time between two log lines about connections that were turned away for one reason.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What was decided about a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// `max-startups`.
    Full,
    /// `early-drop`.
    Early,
    /// `per-source-max-startups`.
    Source,
    /// A penalty.
    Penalty,
    /// `overflow`.
    Overflow,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Full => "max-startups",
            Self::Early => "early-drop",
            Self::Source => "per-source-max-startups",
            Self::Penalty => "penalty",
            Self::Overflow => "penalty overflow",
        }
    }
}

/// The limits, and what is known of sources.
#[derive(Debug)]
pub struct Doors {
    penalties: Penalties,
    /// When a refusal was logged last, and how many have not been since.
    logged: BTreeMap<Refusal, (Instant, u64)>,
}

impl Doors {
    /// By these settings, with the penalties of the program before.
    pub fn new(settings: &Settings, carried: Carried, now: Instant) -> Self {
        let (rules, size) = (&settings.penalties, settings.per_source_net_block_size);
        Self {
            penalties: Penalties::new(rules.clone(), size, carried, now),
            logged: BTreeMap::new(),
        }
    }

    /// The penalties, for the program that takes this one's place.
    pub fn carried(&self, now: Instant) -> Carried {
        self.penalties.carried(now)
    }

    /// Whether a connection from there is refused. `waiting` are the sources of all connections that
    /// have not yet authenticated; `chance` is a number from 0 to 99.
    pub fn refuse(
        &mut self,
        settings: &Settings,
        source: IpAddr,
        waiting: &[IpAddr],
        chance: u32,
        now: Instant,
    ) -> Option<Refusal> {
        let balancer = is_balancer(settings, source);
        if !balancer && let Some(why) = self.penalties.keep_out(source, now) {
            return Some(match why {
                KeptOut::Penalty(_) => Refusal::Penalty,
                KeptOut::Overflow => Refusal::Overflow,
            });
        }
        if waiting.len() >= settings.max_startups {
            return Some(Refusal::Full);
        }
        let most = settings
            .per_source_max_startups
            .unwrap_or((settings.max_startups / 3 * 2).max(64));
        if !balancer && most > 0 && of_source(settings, source, waiting) >= most {
            return Some(Refusal::Source);
        }
        let percentage = settings
            .early_drop
            .percentage(waiting.len(), settings.max_startups);
        (chance < percentage).then_some(Refusal::Early)
    }

    /// Writes a refusal down. Strangers make these lines, so there is a limit to them.
    pub fn refused(&mut self, why: Refusal, source: IpAddr, now: Instant) {
        let last = self.logged.get_mut(&why);
        if let Some((at, unlogged)) = last
            && now < *at + LOG_INTERVAL
        {
            *unlogged += 1;
            return;
        }
        let unlogged = self.logged.insert(why, (now, 0)).map_or(0, |(_, n)| n);
        let reason = why.reason();
        tracing::warn!(target: "audit", event = "connection.refused", %source, reason, unlogged);
    }

    /// Takes in that a connection has failed.
    pub fn failed(
        &mut self,
        settings: &Settings,
        login: &str,
        source: IpAddr,
        failure: Failure,
        now: Instant,
    ) {
        if is_balancer(settings, source) {
            return;
        }
        let Some(noted) = self.penalties.add(source, failure, now) else {
            return;
        };
        let seconds = noted.left.as_secs();
        let (kind, network) = (failure.name(), noted.source);
        if noted.begins {
            tracing::warn!(
                target: "audit",
                event = "penalty.begins",
                login,
                %network,
                kind,
                seconds,
            );
        } else {
            tracing::debug!(event = "penalty.added", login, %network, kind, seconds);
        }
    }

    /// Penalties so far by kind, and the number of sources that are kept out now.
    pub fn numbers(&mut self, now: Instant) -> ([u64; 6], usize) {
        (self.penalties.totals(), self.penalties.kept_out(now))
    }

    /// When the numbers change by themselves.
    pub fn due(&self) -> Option<Instant> {
        self.penalties.due()
    }
}

/// Its connections are other people's, or health checks.
fn is_balancer(settings: &Settings, source: IpAddr) -> bool {
    let source = source.to_canonical();
    let mut networks = settings.proxy_protocol.from.iter();
    networks.any(|net| net.contains(&source))
}

fn of_source(settings: &Settings, source: IpAddr, waiting: &[IpAddr]) -> usize {
    let size: NetBlockSize = settings.per_source_net_block_size;
    let block = size.block(source);
    let same = waiting
        .iter()
        .filter(|other| block.contains(&other.to_canonical()));
    same.count()
}

/// Adds one to the number of a refusal that has one.
pub fn count(away: &mut TurnedAway, full: &mut u64, why: Refusal) {
    *match why {
        Refusal::Full => full,
        Refusal::Early => &mut away.early,
        Refusal::Source => &mut away.source,
        Refusal::Penalty => &mut away.penalty,
        Refusal::Overflow => &mut away.overflow,
    } += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_does_not_take_all_places() {
        let mut settings = Settings {
            max_startups: 10,
            per_source_max_startups: Some(3),
            ..Settings::default()
        };
        settings.proxy_protocol.from = vec!["10.0.0.0/8".parse().unwrap()];
        settings.early_drop.start = 8;
        let mut doors = Doors::new(&settings, Carried::default(), Instant::now());
        let mut check = |source: &str, waiting: &[&str], chance, expected| {
            let waiting: Vec<IpAddr> = waiting.iter().map(|s| s.parse().unwrap()).collect();
            let found = doors.refuse(
                &settings,
                source.parse().unwrap(),
                &waiting,
                chance,
                Instant::now(),
            );
            assert_eq!(found, expected, "{source} {waiting:?}");
        };
        let (me, other) = ("192.0.2.7", "192.0.2.8");
        check(me, &[me, me], 0, None);
        check(me, &[me, me, me], 99, Some(Refusal::Source));
        check(other, &[me, me, me], 0, None);
        let nets = ["2001:db8::1", "2001:db8::2", "2001:db8::3"];
        check("2001:db8::4", &nets, 0, Some(Refusal::Source));
        check("2001:db8:0:1::4", &nets, 0, None);
        check("10.0.0.1", &["10.0.0.1"; 7], 0, None);
        check(other, &["10.0.0.1"; 8], 29, Some(Refusal::Early));
        check(other, &["10.0.0.1"; 8], 30, None);
        check(other, &["10.0.0.1"; 10], 99, Some(Refusal::Full));
    }
}
