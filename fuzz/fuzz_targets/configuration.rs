//! Configurations: no panic, and what is read packs to the same configuration again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slurm_wire::configuration::Configuration;

fuzz_target!(|data: &[u8]| {
    if let Ok(configuration) = Configuration::decode(data) {
        assert_eq!(
            Configuration::decode(&configuration.encode()),
            Ok(configuration)
        );
    }
});
