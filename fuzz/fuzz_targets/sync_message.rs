//! What a server says while it keeps a copy in step: no panic, nothing lost that it did not name, and a copy that
//! is written and read is the same.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/directoryd/src/content.rs"]
mod content;
#[path = "../../crates/directoryd/src/dn.rs"]
mod dn;
#[path = "../../crates/directoryd/src/key.rs"]
mod key;
#[path = "../../crates/directoryd/src/marks.rs"]
mod marks;
#[path = "../../crates/directoryd/src/replica.rs"]
mod replica;
#[path = "../../crates/directoryd/src/ldap"]
mod ldap {
    pub mod policy;
    pub mod sync_info;
}

use content::{Event, Message, Refresh};
use ldap::{
    policy::Policy,
    sync_info::{parse_info, parse_state},
};
use libfuzzer_sys::fuzz_target;
use replica::{Group, Part, Replica, Seen, User, Uuid, What};

/// An entry made of what is at hand: few names, so that they meet.
fn seen(part: Part, uuid: Uuid) -> Seen {
    let (entry, other) = (uuid[0] % 8, uuid[1] % 8);
    let what = match (part, uuid[2] % 4) {
        (_, 0) => What::Unusable("poor".to_owned()),
        (_, 1) => What::Nothing,
        (Part::Users, _) => {
            let user = User {
                dn: format!("UID=u{entry}"),
                name: format!("u{other}"),
                ..User::default()
            };
            What::User(format!("uid=u{entry}"), Box::new(user))
        }
        (Part::Groups, _) => {
            let group = Group {
                name: format!("g{other}"),
                gid: Some(u32::from(uuid[3])),
                members: [format!("uid=u{other}"), format!("cn=g{other}")].into(),
            };
            What::Group(format!("cn=g{entry}"), group)
        }
    };
    let dn = match part {
        Part::Users => format!("UID=u{entry}"),
        Part::Groups => format!("CN=g{entry}"),
    };
    Seen {
        dn,
        uuid: Some(uuid),
        what,
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = Policy::parse(data);
    let mut replica = Replica::empty();
    let mut refreshes = [Refresh::default(), Refresh::default()];
    let mut rest = data;
    // A length, then so many bytes of a message; the lowest bits say about what.
    while let Some((&[length, kind], more)) = rest.split_first_chunk() {
        let (value, after) = more.split_at(more.len().min(usize::from(length)));
        rest = after;
        let part = [Part::Users, Part::Groups][usize::from(kind & 1)];
        let message = if kind & 2 == 0 {
            parse_info(value)
        } else {
            parse_state(value).and_then(|(state, uuid, cookie)| {
                let event = match state {
                    0 => Event::Present(vec![uuid]),
                    1 | 2 => Event::Put(uuid, seen(part, uuid)),
                    3 => Event::Gone(vec![uuid]),
                    _ => return None,
                };
                Some(Message { event, cookie })
            })
        };
        let Some(message) = message else { continue };
        let before = replica.user_count();
        let keeps = matches!(message.event, Event::Present(_) | Event::Nothing);
        let said = refreshes[usize::from(kind & 1)].hear(&mut replica, part, message);
        if keeps {
            assert_eq!((said, replica.user_count()), (Ok(false), before));
        }
        if let Err(count) = said {
            assert_eq!((count, replica.user_count()), (before, before));
        }
    }
    let bytes = postcard::to_stdvec(&replica).expect("into memory");
    let mut again: Replica = postcard::from_bytes(&bytes).expect("what was written");
    assert_eq!(again, replica);
    assert!(again.says_the_same(&mut replica));
    for (key, _) in again.people() {
        assert!(again.user(again.keys().text(key)).is_some());
    }
});
