//! Who must go when it is full: those who hold connections without asking for anything, the
//! greediest user's first. Nobody who asks is turned away for somebody who does not.

use std::collections::{BTreeMap, HashMap};

use crate::config::Limits;
use crate::connection::Connection;

/// Connections by age: the smaller number came earlier.
pub type Connections = BTreeMap<u64, Connection>;

/// What to do with a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is room.
    Admit,
    /// There is room once this one is closed.
    Evict(u64),
    /// There is none.
    TurnAway,
}

/// Decides about a new connection of `uid`.
pub fn judge(connections: &Connections, uid: u32, limits: Limits) -> Verdict {
    let of_uid = connections.values().filter(|c| c.peer.uid == uid).count();
    if of_uid >= limits.connections_per_user {
        return oldest_idle(connections, uid);
    }
    if connections.len() < limits.connections {
        return Verdict::Admit;
    }
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for connection in connections.values().filter(|c| c.is_idle()) {
        *counts.entry(connection.peer.uid).or_default() += 1;
    }
    match counts.into_iter().max_by_key(|(_, count)| *count) {
        Some((greediest, _)) => oldest_idle(connections, greediest),
        None => Verdict::TurnAway,
    }
}

fn oldest_idle(connections: &Connections, uid: u32) -> Verdict {
    connections
        .iter()
        .find(|(_, c)| c.peer.uid == uid && c.is_idle())
        .map_or(Verdict::TurnAway, |(number, _)| Verdict::Evict(*number))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::connection::State;

    const LIMITS: Limits = Limits {
        connections: 4,
        connections_per_user: 2,
        request_timeout: Duration::from_secs(5),
    };

    /// `(uid, idle)` in order of age.
    fn connections(list: &[(u32, bool)]) -> Connections {
        let make = |(uid, idle): &(u32, bool)| {
            let (stream, _) = UnixStream::pair().unwrap();
            let mut connection = Connection::new(stream, Duration::from_secs(5)).unwrap();
            connection.peer.uid = *uid;
            if !idle {
                connection.state = State::Writing(vec![1]);
            }
            connection
        };
        list.iter()
            .map(make)
            .enumerate()
            .map(|(n, c)| (n as u64, c))
            .collect()
    }

    #[test]
    fn verdicts() {
        for (open, uid, expected) in [
            (&[][..], 1, Verdict::Admit),
            (&[(1, true)], 1, Verdict::Admit),
            (&[(1, true), (1, true)], 1, Verdict::Evict(0)),
            (&[(1, false), (1, true)], 1, Verdict::Evict(1)),
            (&[(1, false), (1, false)], 1, Verdict::TurnAway),
            (&[(1, true), (1, true)], 2, Verdict::Admit),
            (
                &[(3, true), (1, true), (1, true), (2, false)],
                4,
                Verdict::Evict(1),
            ),
            (
                &[(1, false), (1, false), (2, false), (2, false)],
                4,
                Verdict::TurnAway,
            ),
        ] {
            assert_eq!(
                judge(&connections(open), uid, LIMITS),
                expected,
                "{open:?} {uid}"
            );
        }
    }
}
