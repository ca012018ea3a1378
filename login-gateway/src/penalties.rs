//! Which sources are kept out, and until when. Memory is bounded by `max-sources4` and
//! `max-sources6`; what has faded is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use gateway_wire::doors::{Failure, NetBlockSize, Overflow, Penalties as Rules};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// All penalties.
#[derive(Debug)]
pub struct Penalties {
    rules: Rules,
    size: NetBlockSize,
    v4: Table,
    v6: Table,
    totals: [u64; Failure::ALL.len()],
}

/// What became of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// The source.
    pub source: IpNet,
    /// What has come together, the new penalty included.
    pub left: Duration,
    /// Whether connections of the source are closed from now on, and were not before.
    pub begins: bool,
}

/// Why a source is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptOut {
    /// It has failed; for so long.
    Penalty(Duration),
    /// Too many others have.
    Overflow,
}

/// All penalties on their way to the program that takes this one's place.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Carried {
    sources: Vec<CarriedSource>,
    totals: [u64; Failure::ALL.len()],
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct CarriedSource {
    source: IpNet,
    /// Milliseconds.
    left: u64,
    active: bool,
}

impl Penalties {
    /// Those of the program before, by the rules that hold now: what is exempt, or no longer told apart
    /// from others, is forgotten, and nobody is kept out for longer than the new `max`.
    pub fn new(rules: Rules, size: NetBlockSize, carried: Carried, now: Instant) -> Self {
        let mut all = Self {
            v4: Table::new(rules.max_sources4, rules.overflow),
            v6: Table::new(rules.max_sources6, rules.overflow6),
            rules,
            size,
            totals: carried.totals,
        };
        for CarriedSource {
            source,
            left,
            active,
        } in carried.sources
        {
            let block = size.block(source.addr());
            if all.is_exempt(source.addr()) || source.prefix_len() < block.prefix_len() {
                continue;
            }
            let ends = now + Duration::from_millis(left).min(all.rules.max);
            let table = all.table(source.addr());
            let before = table.take(&block);
            table.put(
                block,
                Entry {
                    ends: before.map_or(ends, |entry| entry.ends.max(ends)),
                    active: active || before.is_some_and(|entry| entry.active),
                },
            );
        }
        all
    }

    /// For [`Penalties::new`] of the next program.
    pub fn carried(&self, now: Instant) -> Carried {
        let all = self.v4.sources.iter().chain(&self.v6.sources);
        let sources = all.map(|(source, entry)| CarriedSource {
            source: *source,
            left: u64::try_from(entry.ends.saturating_duration_since(now).as_millis())
                .unwrap_or(u64::MAX),
            active: entry.active,
        });
        Carried {
            sources: sources.filter(|source| source.left > 0).collect(),
            totals: self.totals,
        }
    }

    fn table(&mut self, address: IpAddr) -> &mut Table {
        match address.to_canonical() {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        }
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !self.rules.enabled || self.rules.exempt.iter().any(|net| net.contains(&address))
    }

    /// Whether the source is kept out now.
    pub fn keep_out(&mut self, source: IpAddr, now: Instant) -> Option<KeptOut> {
        if self.is_exempt(source) {
            return None;
        }
        let block = self.size.block(source);
        let table = self.table(source);
        table.forget(now);
        match table.sources.get(&block) {
            Some(entry) if entry.active => Some(KeptOut::Penalty(entry.ends - now)),
            Some(_) => None,
            None => table.is_overflowing().then_some(KeptOut::Overflow),
        }
    }

    /// Adds what a failure costs; `None` if it costs this source nothing.
    pub fn add(&mut self, source: IpAddr, failure: Failure, now: Instant) -> Option<Noted> {
        let cost = self.rules.of(failure);
        if self.is_exempt(source) || cost.is_zero() {
            return None;
        }
        self.totals[failure as usize] += 1;
        let (min, max) = (self.rules.min, self.rules.max);
        let block = self.size.block(source);
        let table = self.table(source);
        table.forget(now);
        let before = table.take(&block);
        let (ends, was_active) = before.map_or((now, false), |entry| (entry.ends, entry.active));
        let ends = (ends + cost).min(now + max);
        let left = ends - now;
        let active = was_active || left > min;
        table.put(block, Entry { ends, active });
        Some(Noted {
            source: block,
            left,
            begins: active && !was_active,
        })
    }

    /// How many sources are kept out.
    pub fn kept_out(&mut self, now: Instant) -> usize {
        self.v4.forget(now);
        self.v6.forget(now);
        self.v4.active + self.v6.active
    }

    /// Penalties so far, in the order of [`Failure::ALL`].
    pub fn totals(&self) -> [u64; Failure::ALL.len()] {
        self.totals
    }

    /// When the next one is over.
    pub fn due(&self) -> Option<Instant> {
        let ends = [&self.v4, &self.v6].map(|t| t.by_end.first().map(|(end, _)| *end));
        ends.into_iter().flatten().min()
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    ends: Instant,
    /// Connections are closed.
    active: bool,
}

/// Sources of one family.
#[derive(Debug)]
struct Table {
    most: usize,
    overflow: Overflow,
    sources: BTreeMap<IpNet, Entry>,
    by_end: BTreeSet<(Instant, IpNet)>,
    /// How many entries are active.
    active: usize,
}

impl Table {
    fn new(most: usize, overflow: Overflow) -> Self {
        Self {
            most,
            overflow,
            sources: BTreeMap::new(),
            by_end: BTreeSet::new(),
            active: 0,
        }
    }

    fn take(&mut self, source: &IpNet) -> Option<Entry> {
        let entry = self.sources.remove(source)?;
        self.by_end.remove(&(entry.ends, *source));
        self.active -= usize::from(entry.active);
        Some(entry)
    }

    fn put(&mut self, source: IpNet, entry: Entry) {
        if self.sources.len() >= self.most {
            match self.overflow {
                Overflow::DenyAll => return,
                Overflow::Permissive => self.forget_first(),
            }
        }
        if self.sources.len() < self.most {
            self.sources.insert(source, entry);
            self.by_end.insert((entry.ends, source));
            self.active += usize::from(entry.active);
        }
    }

    fn is_overflowing(&self) -> bool {
        self.overflow == Overflow::DenyAll && self.sources.len() >= self.most
    }

    fn forget_first(&mut self) {
        if let Some((_, source)) = self.by_end.first().copied() {
            self.take(&source);
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.by_end.first().is_some_and(|(ends, _)| *ends <= now) {
            self.forget_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_secs;

    fn penalties(change: impl FnOnce(&mut Rules)) -> Penalties {
        let mut rules = Rules {
            exempt: vec!["192.0.2.128/25".parse().unwrap()],
            ..Rules::default()
        };
        change(&mut rules);
        let (size, now) = (NetBlockSize::default(), Instant::now());
        Penalties::new(rules, size, Carried::default(), now)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn they_grow_and_fade() {
        let start = Instant::now();
        let mut all = penalties(|_| ());
        let me = ip("192.0.2.7");
        for (failure, left) in [
            (Failure::AuthFail, 5),
            (Failure::AuthFail, 10),
            (Failure::InvalidUser, 15),
        ] {
            let noted = all.add(me, failure, start).unwrap();
            assert_eq!((noted.left, noted.begins), (AT(left), false));
            assert_eq!(all.keep_out(me, start), None, "not more than min");
        }
        let noted = all.add(me, Failure::NoAuth, start + AT(1)).unwrap();
        assert_eq!((noted.left, noted.begins), (AT(15), false), "it has faded");
        let noted = all.add(me, Failure::NoAuth, start + AT(1)).unwrap();
        assert_eq!((noted.left, noted.begins), (AT(16), true));
        let out = Some(KeptOut::Penalty(AT(1)));
        assert_eq!(all.keep_out(me, start + AT(16)), out);
        assert_eq!(all.keep_out(ip("192.0.2.8"), start + AT(16)), None);
        assert_eq!(all.kept_out(start + AT(16)), 1);
        assert_eq!(all.keep_out(me, start + AT(17)), None);
        assert_eq!((all.kept_out(start + AT(17)), all.due()), (0, None));
        for _ in 0..20 {
            all.add(me, Failure::Crash, start);
        }
        assert_eq!(all.keep_out(me, start), Some(KeptOut::Penalty(AT(600))));
        assert_eq!(all.totals(), [20, 2, 1, 2, 0, 0]);
    }

    #[test]
    fn who_has_none() {
        let now = Instant::now();
        let mut all = penalties(|rules| rules.no_auth = Duration::ZERO);
        assert_eq!(all.add(ip("192.0.2.129"), Failure::Crash, now), None);
        assert_eq!(all.add(ip("::ffff:192.0.2.129"), Failure::Crash, now), None);
        assert_eq!(all.add(ip("192.0.2.7"), Failure::NoAuth, now), None);
        let mut none = penalties(|rules| rules.enabled = false);
        assert_eq!(none.add(ip("192.0.2.7"), Failure::Crash, now), None);
    }

    #[test]
    fn ipv6_counts_by_prefix() {
        let now = Instant::now();
        let mut all = penalties(|_| ());
        all.add(ip("2001:db8::1"), Failure::Crash, now);
        assert!(all.keep_out(ip("2001:db8::2:3"), now).is_some());
        assert_eq!(all.keep_out(ip("2001:db8:0:1::1"), now), None);
    }

    #[test]
    fn the_next_program_goes_on_with_them() {
        let now = Instant::now();
        let mut before = penalties(|_| ());
        for source in ["192.0.2.7", "192.0.2.8", "192.0.2.200", "2001:db8::1"] {
            before.add(ip(source), Failure::Crash, now);
        }
        before.add(ip("192.0.2.9"), Failure::AuthFail, now);
        let text = serde_json::to_vec(&before.carried(now + AT(30))).unwrap();
        let later = now + AT(31);
        let after = |size: NetBlockSize, change: fn(&mut Rules)| {
            let mut rules = Rules::default();
            change(&mut rules);
            let carried = serde_json::from_slice(&text).unwrap();
            Penalties::new(rules, size, carried, later)
        };
        let mut all = after(NetBlockSize::default(), |_| ());
        let left = |left| Some(KeptOut::Penalty(AT(left)));
        assert_eq!(all.keep_out(ip("192.0.2.7"), later), left(60));
        assert_eq!(all.keep_out(ip("2001:db8::2"), later), left(60));
        assert_eq!(all.keep_out(ip("192.0.2.9"), later), None);
        assert_eq!(all.totals(), [3, 1, 0, 0, 0, 0]);
        assert_eq!(all.kept_out(later), 3);
        assert_eq!(all.kept_out(later + AT(60)), 0);

        // By the new rules.
        let size = NetBlockSize::default();
        let mut all = after(size, |rules| rules.max = AT(10));
        assert_eq!(all.keep_out(ip("192.0.2.7"), later), left(10));
        let mut all = after(size, |r| r.exempt = vec!["192.0.2.7/32".parse().unwrap()]);
        assert_eq!(all.keep_out(ip("192.0.2.7"), later), None);
        assert_eq!(all.kept_out(later), 2);
        assert_eq!(after(size, |r| r.enabled = false).kept_out(later), 0);
        assert_eq!(after(size, |r| r.max_sources4 = 1).kept_out(later), 2);
        let coarse = NetBlockSize { ipv4: 24, ipv6: 64 };
        let mut all = after(coarse, |_| ());
        assert_eq!(all.keep_out(ip("192.0.2.77"), later), left(60));
        let fine = NetBlockSize {
            ipv4: 32,
            ipv6: 128,
        };
        assert_eq!(after(fine, |_| ()).kept_out(later), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let source = |n: u8| ip(&format!("198.51.100.{n}"));
        for overflow in [Overflow::Permissive, Overflow::DenyAll] {
            let mut all = penalties(|rules| {
                rules.max_sources4 = 3;
                rules.overflow = overflow;
            });
            for n in 0..5 {
                all.add(source(n), Failure::Crash, now + AT(u64::from(n)));
            }
            assert_eq!(all.kept_out(now + AT(5)), 3);
            let out = |all: &mut Penalties, at| match all.keep_out(at, now + AT(5)) {
                Some(KeptOut::Penalty(_)) => 'p',
                Some(KeptOut::Overflow) => 'o',
                None => '-',
            };
            let all: String = (0..6).map(|n| out(&mut all, source(n))).collect();
            let expected = match overflow {
                Overflow::Permissive => "--ppp-",
                Overflow::DenyAll => "pppooo",
            };
            assert_eq!(all, expected);
        }
        let mut all = penalties(|rules| rules.max_sources4 = 0);
        all.add(source(1), Failure::Crash, now);
        assert_eq!(all.keep_out(source(1), now), None);
    }
}
