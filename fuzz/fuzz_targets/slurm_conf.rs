//! slurm.conf as an administrator, or whoever answers a fetch, wrote it. Includes read itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slurm_wire::slurm_conf::SlurmConf;

fuzz_target!(|text: &str| {
    let mut left = 16;
    SlurmConf::parse(text, &mut |_| {
        left -= 1;
        (left > 0).then(|| text.to_owned())
    });
});
