//! Lines of authorized_keys and of principals: no panic, and what is found holds no option that
//! would widen a login.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_wire::session::KeyQuestion;
use libfuzzer_sys::fuzz_target;
use login_gateway_session::authorized_keys::{Search, principal};

fuzz_target!(|data: &str| {
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    for principals in [None, Some(vec!["alice".to_owned()])] {
        let question = KeyQuestion {
            home: "/home/alice".into(),
            files: Vec::new(),
            lines: Vec::new(),
            key: STANDARD.decode(key).expect("a key"),
            principals,
            output: None,
            principals_files: Vec::new(),
            user: "alice".to_owned().try_into().expect("a name"),
            source: [192, 0, 2, 7].into(),
        };
        let mut search = Search::default();
        let mut last = 0;
        search.read(&question, data, 1_800_000_000, |number, _| {
            assert!(number > last);
            last = number;
        });
        if let Some(found) = search.found {
            assert_ne!(found.command.as_deref(), Some(""));
        }
        let _ = principal(&question, data, 1_800_000_000, |_, _| {});
    }
});
