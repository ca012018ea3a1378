//! Who must go when it is full: those who hold connections without asking for anything, then those
//! who wait because they asked too fast or for somebody unknown; the greediest user's first. Nobody who
//! asks is turned away for somebody who does not.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::config::Limits;
use crate::connection::Connection;

/// A client sends at once, but on a busy machine it may be stopped between its connection and its
/// request: up to this age, silence is no sign of ill will.
const GRACE: Duration = Duration::from_secs(1);

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

/// Decides about a new connection of `uid`. Above its own limit a user makes room for itself,
/// first from what has been silent for a while, above half of all connections from anything
/// silent; when all connections are in use, the user who holds
/// most of them silently makes room, or else the one who has most of them waiting.
pub fn judge(connections: &Connections, uid: u32, limits: Limits) -> Verdict {
    let of_uid = connections.values().filter(|c| c.peer.uid == uid).count();
    let too_many = of_uid >= limits.connections / 2;
    if too_many || of_uid >= limits.connections_per_user {
        match oldest_idle(connections, uid) {
            Verdict::Evict(number) if too_many || is_old(connections, number) => {
                return Verdict::Evict(number);
            }
            _ if too_many => return Verdict::TurnAway,
            _ => {}
        }
    }
    if connections.len() < limits.connections {
        return Verdict::Admit;
    }
    dispensable(connections).map_or(Verdict::TurnAway, Verdict::Evict)
}

/// Who makes way when all are in use.
pub fn dispensable(connections: &Connections) -> Option<u64> {
    oldest_of_greediest(connections, Connection::is_idle)
        .or_else(|| oldest_of_greediest(connections, Connection::is_waiting))
}

fn oldest_of_greediest(
    connections: &Connections,
    counts: impl Fn(&Connection) -> bool,
) -> Option<u64> {
    let mut users: HashMap<u32, usize> = HashMap::new();
    for connection in connections.values().filter(|c| counts(c)) {
        *users.entry(connection.peer.uid).or_default() += 1;
    }
    let (greediest, _) = users.into_iter().max_by_key(|(_, count)| *count)?;
    let mut all = connections.iter();
    all.find(|(_, c)| c.peer.uid == greediest && counts(c))
        .map(|(number, _)| *number)
}

fn is_old(connections: &Connections, number: u64) -> bool {
    connections
        .get(&number)
        .is_some_and(|connection| connection.opened.elapsed() >= GRACE)
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
    use crate::pace::Rate;

    const NO_RATE: Rate = Rate {
        per_second: 0,
        burst: 0,
    };
    const LIMITS: Limits = Limits {
        connections: 6,
        connections_per_user: 1,
        request_timeout: Duration::from_secs(5),
        user_rate: NO_RATE,
        system_rate: NO_RATE,
    };

    /// `(uid, what it does)` in order of age: `o`ld and silent, `n`ew and silent, `w`aiting, `b`usy.
    fn connections(list: &[(u32, char)]) -> Connections {
        let make = |(uid, what): &(u32, char)| {
            let (stream, _) = UnixStream::pair().unwrap();
            let mut connection = Connection::new(stream, 0, Duration::from_secs(5)).unwrap();
            connection.peer.uid = *uid;
            match what {
                'o' => connection.opened -= GRACE,
                'b' => connection.state = State::Writing(vec![1]),
                'w' => {
                    connection.state = State::Waiting(crate::signer::Create {
                        version: slurm_wire::ProtocolVersion::V24_11,
                        ruid: 0,
                        payload: vec![],
                    });
                }
                _ => {}
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
            // Above its own limit: the old and silent go, the new and the busy stay.
            (&[(1, 'o')], 1, Verdict::Evict(0)),
            (&[(1, 'b'), (1, 'o')], 1, Verdict::Evict(1)),
            (&[(1, 'n'), (1, 'n')], 1, Verdict::Admit),
            (&[(1, 'b'), (1, 'b')], 1, Verdict::Admit),
            (&[(1, 'o'), (1, 'o')], 2, Verdict::Admit),
            // Above half of all.
            (&[(1, 'b'), (1, 'n'), (1, 'n')], 1, Verdict::Evict(1)),
            (&[(1, 'b'), (1, 'b'), (1, 'b')], 1, Verdict::TurnAway),
            // All in use.
            (
                &[(3, 'n'), (1, 'n'), (1, 'n'), (2, 'b'), (2, 'b'), (2, 'b')],
                4,
                Verdict::Evict(1),
            ),
            (
                &[(1, 'b'), (1, 'b'), (1, 'b'), (2, 'b'), (2, 'b'), (2, 'b')],
                4,
                Verdict::TurnAway,
            ),
            // Two users who ask too fast keep nobody out.
            (
                &[(1, 'w'), (1, 'b'), (1, 'w'), (2, 'w'), (2, 'w'), (2, 'w')],
                4,
                Verdict::Evict(3),
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
