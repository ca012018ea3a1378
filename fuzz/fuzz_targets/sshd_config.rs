//! sshd_config files: no panic, and whatever is made of one loads.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use login_gateway::sshd_config::{Files, ImportError, import};

struct Nothing;

impl Files for Nothing {
    fn matching(&self, _pattern: &str) -> io::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn exists(&self, _path: &str) -> bool {
        false
    }
}

fuzz_target!(|text: &str| {
    let imported = import("sshd_config", text, &Nothing);
    assert!(!matches!(
        imported,
        Err(ImportError::Result(_) | ImportError::Text(_))
    ));
});
