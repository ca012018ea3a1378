//! A damaged map: the reader comes back from every chain and never reads outside.
#![no_main]

use directory_map::{
    Map,
    protocol::Query,
    record::{Group, Passwd, decode_groups_of_user},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(map) = Map::parse(bytes) else { return };
    for key in [&b"bob"[..], b"1501", b""] {
        let record = |query| map.find(query, key).unwrap_or_default();
        let _ = Passwd::decode(record(Query::UserByName));
        let _ = Passwd::decode(record(Query::UserById));
        let _ = Group::decode(record(Query::GroupByName));
        let _ = Group::decode_name(record(Query::GroupById));
        let _ = decode_groups_of_user(record(Query::GroupsOfUser));
    }
});
