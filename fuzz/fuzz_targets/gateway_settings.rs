//! The gateway's own configuration: no panic, and the policy of any login is found in bounded time.
#![no_main]

use gateway_wire::Settings;
use gateway_wire::policy::Who;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(settings) = service::config::parse::<Settings>("fuzz".as_ref(), data) else {
        return;
    };
    let groups = [
        "staff".to_owned(),
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
    ];
    for source in ["192.0.2.1", "::ffff:10.1.2.3", "2001:db8::1"] {
        if let Ok(source) = source.parse() {
            for destination in [None, "10.0.0.1:22".parse().ok()] {
                let _ = settings.policy(&Who {
                    user: "alice",
                    groups: &groups,
                    source,
                    destination,
                });
            }
        }
    }
});
