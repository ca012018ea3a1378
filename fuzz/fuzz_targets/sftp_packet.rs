//! What a client of sftp-server sends: no panic, bytes of a write lie inside their packet, and no
//! path holds a zero byte, whatever follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sftp_server::request::{Opening, Request, open};

fuzz_target!(|packet: &[u8]| {
    let Some(Opening::Request(entry, _, fields)) = open(packet) else {
        return;
    };
    let Ok(request) = Request::decode(entry.operation, fields, packet) else {
        return;
    };
    match &request {
        Request::Write { data, .. } => assert!(packet.get(data.clone()).is_some()),
        Request::Rename { old, new } | Request::Hardlink { old, new } => {
            assert!(!old.contains(&0) && !new.contains(&0));
        }
        Request::Open { path, .. } | Request::Stat { path } => assert!(!path.contains(&0)),
        _ => {}
    }
    // What follows the fields is not looked at.
    let longer = [packet, b"more"].concat();
    let Some(Opening::Request(_, _, fields)) = open(&longer) else {
        panic!("a longer packet begins the same");
    };
    assert_eq!(
        Request::decode(entry.operation, fields, &longer),
        Ok(request)
    );
});
