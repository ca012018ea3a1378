//! The part of the list that other suites hold: each names the case that does. A name that is no longer
//! there fails the run.

use std::fs;
use std::path::Path;

/// Number in the list, what must hold, file, and the words in it that begin the case.
const HELD: &[(&str, &str, &str, &str)] = &[
    (
        "1",
        "request and reply bytes, HMAC, of 24.11",
        "crates/slurm-auth/src/vectors.rs",
        "fn slurm_24_11_5",
    ),
    (
        "1",
        "request and reply bytes, HMAC, of 26.05",
        "crates/slurm-auth/src/vectors.rs",
        "fn slurm_26_05_5",
    ),
    (
        "1",
        "K12",
        "crates/slurm-auth/src/message_hash.rs",
        "fn vectors",
    ),
    (
        "1",
        "auth/jwt",
        "crates/slurm-auth/src/jwt.rs",
        "auth-jwt.json",
    ),
    ("1", "MUNGE", "crates/slurm-wire/src/munge.rs", "munge.json"),
    (
        "6",
        "sinfo",
        "tests/lab/sack.sh",
        "sinfo works for a user whom the controller does not know",
    ),
    (
        "6",
        "sbatch",
        "tests/lab/sack.sh",
        "no sbatch fails while the key is rotated",
    ),
    (
        "6",
        "srun",
        "tests/lab/sack.sh",
        "a job knows the login that submitted it",
    ),
    (
        "7",
        "fetch, the version stepped down",
        "sackd-shim/config/tests/fetching.rs",
        "fn steps_down_until_the_version_is_spoken",
    ),
    (
        "7",
        "register",
        "sackd-shim/config/tests/keeping.rs",
        "fn an_order_fetches_and_a_missed_push_is_noticed",
    ),
    (
        "7",
        "a push of SlurmUser",
        "sackd-shim/config/tests/pushing.rs",
        "fn slurm_users_push_is_taken_whole",
    ),
    (
        "7",
        "a push of root, of a user, with a bad key, with a bad hash",
        "sackd-shim/config/tests/pushing.rs",
        "fn others_pushes_change_nothing",
    ),
    (
        "7",
        "a push of the real slurmctld",
        "tests/lab/sack.sh",
        "a push is seen within a second after the command",
    ),
    (
        "7",
        "a name with ../",
        "sackd-shim/config/tests/fetching.rs",
        "fn what_is_refused_never_reaches_the_disk",
    ),
    (
        "7",
        "a stale file",
        "sackd-shim/config/src/cache.rs",
        "fn installs_swaps_and_drops_stale_files",
    ),
    (
        "7",
        "a controller that is down, then up",
        "sackd-shim/config/tests/fetching.rs",
        "fn a_controller_may_come_up_late",
    ),
    (
        "7",
        "a standby",
        "sackd-shim/config/tests/fetching.rs",
        "fn a_standby_sends_to_the_next",
    ),
    (
        "7",
        "a real standby, and a take-over",
        "tests/lab/sack.sh",
        "the backup takes over, clients go on",
    ),
    (
        "7",
        "registered again after a push that failed",
        "sackd-shim/config/tests/keeping.rs",
        "fn a_damaged_push_is_made_up_for",
    ),
    (
        "8",
        "1,000 idle connections, half requests, a megabyte",
        "sackd-shim/tests/several_users.rs",
        "fn a_thousand_idle_connections_hold_nobody_up",
    ),
    (
        "8",
        "1,000 idle connections while another runs sbatch",
        "tests/lab/sack.sh",
        "1000 idle connections of one user, and another submits",
    ),
    (
        "9",
        "slurm.key: good, bad mode, empty, removed",
        "sackd-shim/tests/keys_and_conf.rs",
        "fn keys_are_rotated_and_bad_ones_are_not_taken",
    ),
];

/// Every case that is named is there.
pub fn check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (number, what, file, words) in HELD {
        let text = fs::read_to_string(root.join(file)).expect(file);
        assert!(
            text.contains(words),
            "{number}, {what}: '{file}' has no '{words}'"
        );
    }
}
