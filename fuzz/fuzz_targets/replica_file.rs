//! The copy on disk behind its checksum: whatever it holds, no panic, and reading it ends.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/directoryd/src/dn.rs"]
mod dn;
#[path = "../../crates/directoryd/src/key.rs"]
mod key;
#[path = "../../crates/directoryd/src/marks.rs"]
mod marks;
#[path = "../../crates/directoryd/src/replica.rs"]
mod replica;

use libfuzzer_sys::fuzz_target;
use replica::{Part, Replica};

fuzz_target!(|data: &[u8]| {
    let Ok(mut replica) = postcard::from_bytes::<Replica>(data) else {
        return;
    };
    let names: Vec<String> = replica
        .people()
        .map(|(key, person)| {
            let _ = replica.user(replica.keys().text(key));
            person.name.to_owned()
        })
        .collect();
    for (_, team) in replica.teams() {
        for member in &team.members {
            let _ = (replica.team_of(*member), replica.is_entry(*member));
            let _ = replica.keys().text(*member);
        }
    }
    let mut other = replica.clone();
    assert!(replica.says_the_same(&mut other));
    for name in names {
        replica.put_user(&name, None);
        assert!(replica.named(&name).is_empty());
    }
    let all: Vec<_> = replica.step(Part::Users).entries.keys().copied().collect();
    replica.take_away(Part::Users, &all);
});
