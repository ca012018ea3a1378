//! What a server says while it keeps us in step (RFC 4533), and what that does to the replica.
//!
//! In a refresh, a server tells what is new and then either what is still there (what it leaves out is gone)
//! or what is gone. After it, it tells of each change. How that looks in bytes is [`crate::ldap`]'s matter.

use std::collections::HashSet;

use crate::replica::{Part, Replica, Seen, Uuid};

/// One message.
#[derive(Debug)]
pub struct Message {
    /// What it says.
    pub event: Event,
    /// The server's word for the state after it.
    pub cookie: Option<Vec<u8>>,
}

/// What a message says.
#[derive(Debug)]
pub enum Event {
    /// An entry is new or another than before.
    Put(Uuid, Seen),
    /// Entries are as they were.
    Present(Vec<Uuid>),
    /// Entries are gone.
    Gone(Vec<Uuid>),
    /// A phase of the refresh is over: the one that told what is present (so all else is gone), or the
    /// one that told what is gone. `last`: from now on changes come as they happen.
    Phase {
        /// Which of the two.
        present: bool,
        /// Whether it was the last.
        last: bool,
    },
    /// Nothing but the cookie.
    Nothing,
}

/// How far a refresh is.
#[derive(Debug, Default)]
pub struct Refresh {
    seen: HashSet<Uuid>,
    /// It is over.
    pub live: bool,
}

impl Refresh {
    /// Does to `replica` what `message` says about `part`; true if that is news.
    ///
    /// # Errors
    /// How many users there were, if all of them would be gone at once: more likely a right was lost. The
    /// replica stays.
    pub fn hear(
        &mut self,
        replica: &mut Replica,
        part: Part,
        message: Message,
    ) -> Result<bool, usize> {
        let news = match message.event {
            Event::Put(uuid, seen) => {
                if !self.live {
                    self.seen.insert(uuid);
                }
                replica.put(part, seen)
            }
            Event::Present(uuids) => {
                self.seen.extend(uuids);
                false
            }
            Event::Gone(uuids) => replica.take_away(part, &uuids),
            Event::Phase { present, last } => {
                let entries = replica.step(part).entries.keys();
                let left_out: Vec<Uuid> = match present {
                    true => entries
                        .filter(|uuid| !self.seen.contains(*uuid))
                        .copied()
                        .collect(),
                    false => Vec::new(),
                };
                let all = left_out.len() == replica.step(part).entries.len();
                if present && all && part == Part::Users && replica.user_count() > 0 {
                    return Err(replica.user_count());
                }
                self.seen.clear();
                self.live |= last;
                replica.take_away(part, &left_out)
            }
            Event::Nothing => false,
        };
        if let Some(cookie) = message.cookie {
            replica.step_mut(part).cookie = cookie;
        }
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{User, What};

    fn put(uuid: u8, name: &str) -> Event {
        let user = User {
            name: name.into(),
            ..User::default()
        };
        let dn = format!("uid={name}");
        let what = What::User(dn.clone(), Box::new(user));
        let seen = Seen {
            dn,
            uuid: Some([uuid; 16]),
            what,
        };
        Event::Put([uuid; 16], seen)
    }

    fn phase(present: bool, last: bool) -> Event {
        Event::Phase { present, last }
    }

    struct Told {
        replica: Replica,
        refresh: Refresh,
    }

    impl Told {
        fn hear(&mut self, event: Event) -> bool {
            let cookie = Some(b"c".to_vec());
            let message = Message { event, cookie };
            self.refresh
                .hear(&mut self.replica, Part::Users, message)
                .unwrap()
        }

        fn names(&self) -> Vec<&str> {
            let people = self.replica.people();
            let mut names: Vec<&str> = people.map(|(_, person)| person.name).collect();
            names.sort_unstable();
            names
        }
    }

    fn started(people: &[(u8, &str)]) -> Told {
        let mut told = Told {
            replica: Replica::empty(),
            refresh: Refresh::default(),
        };
        for (uuid, name) in people {
            told.hear(put(*uuid, name));
        }
        told.hear(phase(true, true));
        // As after a new connection.
        told.refresh = Refresh::default();
        told
    }

    #[test]
    fn what_a_present_phase_leaves_out_is_gone() {
        let mut told = started(&[(1, "ann"), (2, "ben"), (3, "cid")]);
        assert!(!told.hear(Event::Present(vec![[1; 16]])));
        assert!(told.hear(put(3, "cyd")));
        assert_eq!(told.names(), ["ann", "ben", "cyd"]);
        assert!(told.hear(phase(true, true)));
        assert_eq!(told.names(), ["ann", "cyd"]);
        assert!(told.refresh.live);
        assert_eq!(told.replica.step(Part::Users).cookie, b"c");
    }

    #[test]
    fn a_delete_phase_takes_only_what_it_names() {
        let mut told = started(&[(1, "ann"), (2, "ben")]);
        told.hear(Event::Gone(vec![[2; 16], [9; 16]]));
        assert!(!told.hear(phase(false, false)));
        assert!(!told.refresh.live);
        told.hear(phase(false, true));
        assert_eq!(told.names(), ["ann"]);
        // And from then on, one by one.
        assert!(told.refresh.live);
        assert!(told.hear(put(4, "dan")));
        assert!(!told.hear(put(4, "dan")));
        assert!(told.hear(put(4, "don")));
        assert!(told.hear(Event::Gone(vec![[1; 16]])));
        assert_eq!(told.names(), ["don"]);
    }

    #[test]
    fn a_name_that_was_given_anew_stays() {
        // Another entry of the same name, then that the old one is gone.
        let mut told = started(&[(1, "ann"), (2, "ben")]);
        told.hear(put(3, "ben"));
        told.hear(Event::Gone(vec![[2; 16]]));
        assert_eq!(told.names(), ["ann", "ben"]);
        // Two that change places.
        told.hear(put(1, "ben"));
        told.hear(put(3, "ann"));
        assert_eq!(told.names(), ["ann", "ben"]);
        told.hear(Event::Gone(vec![[3; 16]]));
        assert_eq!(told.names(), ["ben"]);
    }

    #[test]
    fn nobody_at_all_is_not_believed() {
        let mut told = started(&[(1, "ann"), (2, "ben")]);
        let message = Message {
            event: phase(true, true),
            cookie: Some(b"d".to_vec()),
        };
        let said = told.refresh.hear(&mut told.replica, Part::Users, message);
        assert_eq!(said, Err(2));
        assert_eq!(told.names(), ["ann", "ben"]);
        assert_eq!(told.replica.step(Part::Users).cookie, b"c");
    }

    #[test]
    fn an_entry_can_become_useless_and_useful_again() {
        let mut told = started(&[(1, "ann"), (2, "ben")]);
        let useless = |what| Seen {
            dn: "uid=ben".into(),
            uuid: Some([2; 16]),
            what,
        };
        let poor = What::Unusable("poor".into());
        assert!(told.hear(Event::Put([2; 16], useless(poor))));
        assert_eq!(told.names(), ["ann"]);
        assert!(told.replica.unusable.contains_key("uid=ben"));
        assert!(told.hear(put(2, "ben")));
        assert!(told.replica.unusable.is_empty());
        assert!(told.hear(Event::Put([2; 16], useless(What::Nothing))));
        assert_eq!(told.names(), ["ann"]);
    }
}
